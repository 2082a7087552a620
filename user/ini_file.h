/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ini_file.h - reads one INI file and tells each section, setting and
 * mistake with its line number. libinih splits the lines; what it would
 * swallow (long lines, empty sections, lines without '=') is told as well.
 *
 *	[section]
 *	key = value		; comments start with ; or #
 *	list = one,
 *	       two		an indented line without '=' goes on
 */
#ifndef REALPEER_INI_FILE_H
#define REALPEER_INI_FILE_H

#include <stdbool.h>

#define INI_FILE_MAX (1 << 20) /* bytes of one file */

struct ini_events {
	/* `name` is NULL for a header that cannot be read (told as error). */
	void (*section)(const char *name, unsigned int line, void *arg);
	/* `more`: the text goes on with the value of the setting before. */
	void (*setting)(const char *key, const char *value, unsigned int line,
			bool more, void *arg);
	void (*error)(unsigned int line, const char *text, void *arg);
};

/*
 * Mistakes in the text are events. Returns -errno when the file cannot be
 * read, -EFBIG above INI_FILE_MAX; then there was no event.
 */
int ini_file_read(const char *path, const struct ini_events *events, void *arg);

#endif
