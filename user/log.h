/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * log.h - one line an event, `key=value`, on stderr.
 *
 * Under journald (JOURNAL_STREAM set) each line starts with <N>, the syslog
 * priority; elsewhere with the level's name. Only mains, the connection code
 * and the datapath loader log. Thread-safe: a line is one write(2). A reader
 * that takes no more loses lines, and is told how many; nobody waits for it.
 */
#ifndef REALPEER_LOG_H
#define REALPEER_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_NOTICE,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/* Lines above `level` are dropped. The default is LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* "error", "warning", "notice", "info", "debug"; -EINVAL for another name. */
int log_level_parse(const char *name, enum log_level *ret_level);

void log_line(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* A line in a form of its own: `FILE:LINE: text`. An error's priority. */
void log_mistake(const char *text);

#define log_error(...)	 log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)	 log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)	 log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	 log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/*
 * For lines that a hostile peer can cause: true at most `burst` times a
 * second over all threads for one limiter; the first allowed line after a
 * suppressed stretch gets the number in *ret_suppressed.
 */
struct log_limit {
	unsigned int burst;
	/* private */
	unsigned long long window;
	unsigned int used;
	unsigned int suppressed;
};

bool log_limit_pass(struct log_limit *limit, unsigned int *ret_suppressed);

/*
 * Writes `text` into `out` with everything outside printable ASCII, and
 * quotes and backslashes, as \xNN; cut off with "..." when it does not fit.
 * Returns `out`.
 */
const char *log_escape(const void *text, size_t len, char *out, size_t size);

#endif
