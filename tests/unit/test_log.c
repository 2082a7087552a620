/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_log.c - user/log.c */
#include "log.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char captured[1 << 16];

/* Standard error goes into a pipe until captured_end(). */
static int saved_stderr, reading_end;

static void capture_begin(void)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	saved_stderr = dup(STDERR_FILENO);
	assert_true(saved_stderr >= 0);
	assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
	close(ends[1]);
	reading_end = ends[0];
}

static const char *capture_end(void)
{
	size_t len = 0;
	ssize_t n;

	assert_int_equal(dup2(saved_stderr, STDERR_FILENO), STDERR_FILENO);
	close(saved_stderr);
	while ((n = read(reading_end, captured + len,
			 sizeof(captured) - 1 - len)) > 0)
		len += (size_t)n;
	close(reading_end);
	captured[len] = '\0';
	return captured;
}

static int setup(void **state)
{
	(void)state;
	log_set_level(LOG_LEVEL_INFO);
	return unsetenv("JOURNAL_STREAM");
}

static void names(void **state)
{
	static const char *const good[] = {"error", "warning", "notice", "info",
					   "debug"};
	static const char *const bad[] = {"", "Error", "err", "info ", "6"};
	enum log_level level = LOG_LEVEL_DEBUG;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(log_level_parse(bad[i], &level), -EINVAL);
		assert_int_equal(level, LOG_LEVEL_DEBUG);
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(log_level_parse(good[i], &level), 0);
		assert_int_equal(level, i);
	}
}

/* Each level at each setting. */
static void levels(void **state)
{
	(void)state;
	for (int set = LOG_LEVEL_ERROR; set <= LOG_LEVEL_DEBUG; set++) {
		for (int line = LOG_LEVEL_ERROR; line <= LOG_LEVEL_DEBUG;
		     line++) {
			log_set_level((enum log_level)set);
			assert_int_equal(log_enabled((enum log_level)line),
					 line <= set);
			capture_begin();
			log_line((enum log_level)line, "x=%d", line);
			assert_int_equal(*capture_end() != '\0', line <= set);
		}
	}
}

static void terminal_form(void **state)
{
	(void)state;
	capture_begin();
	log_error("peer=%s", "192.0.2.1:1");
	log_info("msg=started");
	assert_string_equal(capture_end(),
			    "error: peer=192.0.2.1:1\ninfo: msg=started\n");
}

static void journal_form(void **state)
{
	(void)state;
	assert_int_equal(setenv("JOURNAL_STREAM", "9:1", 1), 0);
	log_set_level(LOG_LEVEL_DEBUG);
	capture_begin();
	log_error("a=1");
	log_warning("a=2");
	log_notice("a=3");
	log_info("a=4");
	log_debug("a=5");
	log_mistake("a.conf:1: a=6");
	assert_string_equal(capture_end(),
			    "<3>a=1\n<4>a=2\n<5>a=3\n<6>a=4\n<7>a=5\n"
			    "<3>a.conf:1: a=6\n");
}

/* However long, a line ends with a newline and loses only its end. */
static void long_lines(void **state)
{
	char text[2000];
	const char *line;

	(void)state;
	for (size_t len = 1000; len < 1040; len++) {
		memset(text, 'x', len);
		text[len] = '\0';
		capture_begin();
		log_error("%s", text);
		line = capture_end();
		assert_true(strlen(line) > 1000);
		assert_memory_equal(line, "error: xxx", 10);
		assert_int_equal(line[strlen(line) - 1], '\n');
		assert_memory_equal(line + 7, text, strlen(line) - 8);
		assert_true(strlen(line) == len + 8 || strlen(line) > 1015);
	}
}

static void limit(void **state)
{
	struct log_limit limiter = {.burst = 3};
	unsigned int suppressed = 99, passed = 0, all = 0;

	(void)state;
	/* At most two windows, as long as this takes less than a second. */
	for (int i = 0; i < 100; i++)
		passed += log_limit_pass(&limiter, &suppressed);
	assert_in_range(passed, 3, 6);
	assert_int_equal(suppressed <= 97, 1);
	/* As if the second were over. */
	limiter.window--;
	all = limiter.suppressed;
	assert_true(log_limit_pass(&limiter, &suppressed));
	assert_int_equal(suppressed, all);
	assert_true(log_limit_pass(&limiter, &suppressed));
	assert_int_equal(suppressed, 0);
}

struct shared {
	struct log_limit limiter;
	unsigned int passed;
};

static void *pass_often(void *arg)
{
	struct shared *shared = arg;
	unsigned int suppressed;

	for (int i = 0; i < 1000; i++) {
		if (log_limit_pass(&shared->limiter, &suppressed))
			__atomic_add_fetch(&shared->passed, 1,
					   __ATOMIC_RELAXED);
	}
	return NULL;
}

static void limit_over_threads(void **state)
{
	struct shared shared = {.limiter = {.burst = 10}};
	pthread_t threads[4];

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, pass_often,
						&shared),
				 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	/* Four seconds would be a very slow machine. */
	assert_in_range(shared.passed, 10, 40);
}

static void escapes(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		const char *escaped;
	} cases[] = {
		{"", 0, ""},
		{"plain text ~", 12, "plain text ~"},
		{"a\"b\\c", 5, "a\\x22b\\x5cc"},
		{"a\nb\r", 4, "a\\x0ab\\x0d"},
		{"\0", 1, "\\x00"},
		{"\x1b[31m", 5, "\\x1b[31m"},
		{"\x7f\x80\xff", 3, "\\x7f\\x80\\xff"},
	};
	char out[64];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(log_escape(cases[i].text, cases[i].len, out,
					       sizeof(out)),
				    cases[i].escaped);
}

/* For every size: terminated, inside, and whole if it fits. */
static void escape_sizes(void **state)
{
	static const char text[] = "ab\ncd\"efg";
	static const char whole[] = "ab\\x0acd\\x22efg";

	(void)state;
	for (size_t size = 1; size < sizeof(whole) + 4; size++) {
		/* On the heap, so that ASan sees a byte too many. */
		char *out = malloc(size);
		size_t len;

		assert_non_null(out);
		assert_ptr_equal(log_escape(text, strlen(text), out, size),
				 out);
		len = strlen(out);
		assert_true(len < size);
		if (size >= sizeof(whole)) {
			assert_string_equal(out, whole);
		} else if (size > 3) {
			assert_string_equal(out + len - 3, "...");
			assert_memory_equal(out, whole, len - 3);
		} else {
			assert_int_equal(strspn(out, "."), size - 1);
		}
		free(out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(names, setup),
		cmocka_unit_test_setup(levels, setup),
		cmocka_unit_test_setup(terminal_form, setup),
		cmocka_unit_test_setup(journal_form, setup),
		cmocka_unit_test_setup(long_lines, setup),
		cmocka_unit_test_setup(limit, setup),
		cmocka_unit_test_setup(limit_over_threads, setup),
		cmocka_unit_test_setup(escapes, setup),
		cmocka_unit_test_setup(escape_sizes, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
