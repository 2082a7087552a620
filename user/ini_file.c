/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ini_file.c - see ini_file.h. Owns the text while it is read; must not know
 * which sections and keys there are.
 */
#include "ini_file.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char blanks[] = " \t\r\v\f";

struct reader {
	const char *next, *end;	     /* what is left of the text */
	const char *part, *part_end; /* what is left of a long line */
	unsigned int line;
	bool have_key; /* a line can go on with its value */
	bool more;     /* the line given out goes on */
	const struct ini_events *events;
	void *arg;
};

static bool is_blank(char c)
{
	return c && strchr(blanks, c);
}

/* The next line without its comment and the blanks around it. */
static bool next_line(struct reader *reader, const char **ret_start,
		      const char **ret_end, bool *ret_indented)
{
	const char *start = reader->next, *end, *line = start;

	if (start == reader->end)
		return false;
	end = memchr(start, '\n', (size_t)(reader->end - start));
	reader->next = end ? end + 1 : reader->end;
	reader->line++;
	if (!end)
		end = reader->end;
	for (const char *p = start; p < end; p++) {
		if ((*p == ';' || *p == '#') &&
		    (p == start || is_blank(p[-1]))) {
			end = p;
			break;
		}
	}
	while (start < end && is_blank(*start))
		start++;
	while (start < end && is_blank(end[-1]))
		end--;
	*ret_start = start;
	*ret_end = end;
	*ret_indented = start > line;
	return true;
}

static void tell_section(struct reader *reader, const char *start,
			 const char *end)
{
	char *name = NULL;

	reader->have_key = false;
	if (end[-1] != ']') {
		reader->events->section(NULL, reader->line, reader->arg);
		reader->events->error(reader->line, "section without ']'",
				      reader->arg);
		return;
	}
	for (start++, end--; start < end && is_blank(*start); start++)
		;
	while (start < end && is_blank(end[-1]))
		end--;
	name = strndup(start, (size_t)(end - start));
	if (!name)
		reader->events->error(reader->line, "out of memory",
				      reader->arg);
	reader->events->section(name, reader->line, reader->arg);
	free(name);
}

/* Is [start, end) "key = ..."? libinih takes ':' for '=' as well. */
static bool is_setting(const char *start, const char *end)
{
	for (const char *p = start; p < end; p++) {
		if (*p == '=')
			return p > start;
		if (*p == ':')
			return false;
	}
	return false;
}

/*
 * Gives libinih what fits its line buffer, the rest as further lines of the
 * same value: a long list may be cut behind a comma, other text may not.
 */
static char *give(struct reader *reader, char *out, size_t size,
		  const char *start, const char *end)
{
	size_t len = (size_t)(end - start), used = 0;

	/* Room for the leading blank, the newline and the NUL. */
	if (len > size - 3) {
		const char *cut = memrchr(start, ',', size - 3);

		if (!cut || cut == start) {
			reader->events->error(reader->line, "line too long",
					      reader->arg);
			return NULL;
		}
		len = (size_t)(cut + 1 - start);
	}
	reader->part = start + len;
	reader->part_end = end;
	while (reader->part < end && is_blank(*reader->part))
		reader->part++;
	if (reader->more)
		out[used++] = ' ';
	memcpy(out + used, start, len);
	used += len;
	memcpy(out + used, "\n", 2);
	return out;
}

/* An ini_reader: fgets() on what the sections and comments leave. */
static char *read_line(char *out, int size, void *arg)
{
	struct reader *reader = arg;
	const char *start, *end;
	bool indented;
	char *given;

	if (reader->part < reader->part_end) {
		reader->more = true;
		given = give(reader, out, (size_t)size, reader->part,
			     reader->part_end);
		if (given)
			return given;
		reader->part = reader->part_end;
	}
	while (next_line(reader, &start, &end, &indented)) {
		if (start == end)
			continue;
		/* "[::]:80" may stand below the address before it. */
		if (*start == '[' &&
		    (end[-1] == ']' || !indented || !reader->have_key)) {
			tell_section(reader, start, end);
			continue;
		}
		if (is_setting(start, end)) {
			reader->more = false;
			reader->have_key = true;
		} else if (indented && reader->have_key) {
			reader->more = true;
		} else {
			reader->events->error(reader->line,
					      "missing '=' (key = value)",
					      reader->arg);
			continue;
		}
		given = give(reader, out, (size_t)size, start, end);
		if (given)
			return given;
		reader->have_key = reader->more;
	}
	return NULL;
}

/* An ini_handler; libinih gives no line number, the reader knows it. */
static int handle(void *arg, const char *section, const char *key,
		  const char *value)
{
	struct reader *reader = arg;

	(void)section;
	reader->events->setting(key, value, reader->line, reader->more,
				reader->arg);
	return 1;
}

static int read_text(const char *path, char **ret_text, size_t *ret_len)
{
	FILE *file = fopen(path, "re");
	char *text;
	size_t len;
	int r = 0;

	if (!file)
		return -errno;
	text = malloc(INI_FILE_MAX + 1);
	if (!text) {
		fclose(file);
		return -ENOMEM;
	}
	errno = 0;
	len = fread(text, 1, INI_FILE_MAX + 1, file);
	if (ferror(file))
		r = errno ? -errno : -EIO;
	else if (len > INI_FILE_MAX)
		r = -EFBIG;
	fclose(file);
	if (r < 0) {
		free(text);
		return r;
	}
	*ret_text = text;
	*ret_len = len;
	return 0;
}

int ini_file_read(const char *path, const struct ini_events *events, void *arg)
{
	struct reader reader = {.events = events, .arg = arg};
	char *text = NULL;
	size_t len = 0;
	int r = read_text(path, &text, &len);

	if (r < 0)
		return r;
	reader.next = text;
	reader.end = text + len;
	/* Bytes that editors do not show would make errors hard to read. */
	if (memchr(text, '\0', len))
		events->error(0, "not a text file: it has a NUL byte", arg);
	else if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		events->error(1, "starts with a byte order mark: remove it",
			      arg);
	else if (ini_parse_stream(read_line, &reader, handle, &reader) == -2)
		r = -ENOMEM;
	free(text);
	return r;
}
