/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_options.c - user/options.c */
#include "options.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "config.h"

#define ARGUMENTS_MAX 8

/* Parses words that are separated by blanks. */
static int parse(const char *line, struct options *ret)
{
	static char words[200];
	char *argv[ARGUMENTS_MAX + 1] = {(char *)"realpeerd"}, *rest = words;
	int argc = 1;

	strcpy(words, line);
	while (*line && argc < ARGUMENTS_MAX &&
	       (argv[argc] = strsep(&rest, " ")))
		argc++;
	argv[argc] = NULL;
	return options_parse(argc, argv, ret);
}

static void good(void **state)
{
	static const struct {
		const char *line;
		enum options_action action;
		const char *path;
		bool verbose;
	} cases[] = {
		{"", OPTIONS_RUN, CONFIG_DEFAULT_FILE, false},
		{"-f", OPTIONS_RUN, CONFIG_DEFAULT_FILE, false},
		{"-c x", OPTIONS_RUN, "x", false},
		{"-cx -v", OPTIONS_RUN, "x", true},
		{"--config=x --verbose", OPTIONS_RUN, "x", true},
		{"--config x --foreground", OPTIONS_RUN, "x", false},
		{"-nc x", OPTIONS_CHECK, "x", false},
		{"--check -fv", OPTIONS_CHECK, CONFIG_DEFAULT_FILE, true},
		{"-V", OPTIONS_VERSION, CONFIG_DEFAULT_FILE, false},
		{"--version", OPTIONS_VERSION, CONFIG_DEFAULT_FILE, false},
		{"-h", OPTIONS_HELP, CONFIG_DEFAULT_FILE, false},
		{"--help", OPTIONS_HELP, CONFIG_DEFAULT_FILE, false},
	};
	struct options options;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(parse(cases[i].line, &options), 0);
		assert_int_equal(options.action, cases[i].action);
		assert_string_equal(options.config_path, cases[i].path);
		assert_int_equal(options.verbose, cases[i].verbose);
	}
}

static void bad(void **state)
{
	static const char *const lines[] = {"-x",	   "-c",     "--config",
					    "--colour",	   "more",   "-n more",
					    "--verbose=1", "-v -- x"};
	struct options options = {.config_path = "before"};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		assert_int_equal(parse(lines[i], &options), -EINVAL);
		assert_string_equal(options.config_path, "before");
	}
}

/* Every option that is taken is in the usage. */
static void usage(void **state)
{
	static const char *const options[] = {
		"-c, --config",	 "-n, --check",	  "-f, --foreground",
		"-v, --verbose", "-V, --version", "-h, --help"};

	(void)state;
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		assert_non_null(strstr(options_usage(), options[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good),
		cmocka_unit_test(bad),
		cmocka_unit_test(usage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
