/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * log.c - see log.h. Owns the level; must not allocate, so that a line can
 * always be written.
 */
#include "log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_LEN 1024 /* longer ones are cut; less than PIPE_BUF */

static atomic_int current_level = LOG_LEVEL_INFO;

static const struct {
	const char *name;
	int priority; /* of syslog(3) */
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", 3},
	[LOG_LEVEL_WARNING] = {"warning", 4},
	[LOG_LEVEL_NOTICE] = {"notice", 5},
	[LOG_LEVEL_INFO] = {"info", 6},
	[LOG_LEVEL_DEBUG] = {"debug", 7},
};

void log_set_level(enum log_level level)
{
	atomic_store(&current_level, (int)level);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load(&current_level);
}

int log_level_parse(const char *name, enum log_level *ret_level)
{
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (strcmp(name, levels[i].name) == 0) {
			*ret_level = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* The level, as whoever reads the line wants it. */
static int put_prefix(enum log_level level, char *line, size_t size)
{
	if (getenv("JOURNAL_STREAM"))
		return snprintf(line, size, "<%d>", levels[level].priority);
	return snprintf(line, size, "%s: ", levels[level].name);
}

/*
 * Waits for nobody: the threads that log also relay. A pipe or a socket that
 * is writable at all has room for a line, and a file always has.
 */
static bool try_write(const char *line, size_t len)
{
	struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};

	return poll(&out, 1, 0) > 0 &&
	       write(STDERR_FILENO, line, len) == (ssize_t)len;
}

/* One at a time, so that two lines don't count on the same room. */
static void put_line(const char *line, size_t len)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static unsigned long lost;
	char report[96];
	int have;

	pthread_mutex_lock(&lock);
	if (lost) {
		have = put_prefix(LOG_LEVEL_WARNING, report, sizeof(report));
		have += snprintf(report + have, sizeof(report) - have,
				 "msg=\"log lines were lost, nobody took "
				 "them\" lost=%lu\n",
				 lost);
		if (try_write(report, have))
			lost = 0;
	}
	if (lost || !try_write(line, len))
		lost++;
	pthread_mutex_unlock(&lock);
}

/* `have` characters stand in it, or would if it were longer. */
static void end_line(char line[static LINE_MAX_LEN], int have)
{
	if (have > LINE_MAX_LEN - 2)
		have = LINE_MAX_LEN - 2;
	line[have++] = '\n';
	put_line(line, have);
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[LINE_MAX_LEN];
	va_list args;
	int n, have;

	if (!log_enabled(level))
		return;
	have = put_prefix(level, line, sizeof(line));
	va_start(args, format);
	n = vsnprintf(line + have, sizeof(line) - have - 1, format, args);
	va_end(args);
	if (n >= 0)
		end_line(line, have + n);
}

void log_mistake(const char *text)
{
	char line[LINE_MAX_LEN];
	int n, have = 0;

	if (getenv("JOURNAL_STREAM"))
		have = put_prefix(LOG_LEVEL_ERROR, line, sizeof(line));
	n = snprintf(line + have, sizeof(line) - have - 1, "%s", text);
	if (n >= 0)
		end_line(line, have + n);
}

bool log_limit_pass(struct log_limit *limit, unsigned int *ret_suppressed)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct timespec now;
	bool pass;

	clock_gettime(CLOCK_MONOTONIC, &now);
	pthread_mutex_lock(&lock);
	if (limit->window != (unsigned long long)now.tv_sec) {
		limit->window = now.tv_sec;
		limit->used = 0;
	}
	pass = limit->used < limit->burst;
	if (pass) {
		limit->used++;
		*ret_suppressed = limit->suppressed;
		limit->suppressed = 0;
	} else {
		limit->suppressed++;
	}
	pthread_mutex_unlock(&lock);
	return pass;
}

const char *log_escape(const void *text, size_t len, char *out, size_t size)
{
	static const char hex[] = "0123456789abcdef";
	const uint8_t *p = text;
	size_t have = 0, cut = 0; /* cut: the last place with room for "..." */

	for (size_t i = 0; i < len; i++) {
		bool plain = p[i] >= 0x20 && p[i] < 0x7f && p[i] != '"' &&
			     p[i] != '\\';

		if (have + (plain ? 1 : 4) >= size) {
			for (have = cut; have < cut + 3 && have + 1 < size;)
				out[have++] = '.';
			break;
		}
		if (plain) {
			out[have++] = (char)p[i];
		} else {
			out[have++] = '\\';
			out[have++] = 'x';
			out[have++] = hex[p[i] >> 4];
			out[have++] = hex[p[i] & 15];
		}
		if (have + 3 < size)
			cut = have;
	}
	out[have] = '\0';
	return out;
}
