/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_config_file.c - user/config_file.c: files, sections, keys' places */
#include "config_file.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "temp_dir.h"

static struct config_files files;
static char *told;

/* Reads and keeps what was told, the directory's name in it as "@". */
static void read_files(void **state, const char *path)
{
	size_t len, directory_len = strlen(*state);
	char *found;

	config_files_clear(&files);
	memset(&files, 0, sizeof(files));
	free(told);
	files.place.errors = open_memstream(&told, &len);
	assert_non_null(files.place.errors);
	config_files_read(&files, path);
	assert_int_equal(fclose(files.place.errors), 0);
	assert_false(files.no_memory);
	while ((found = strstr(told, *state))) {
		*found = '@';
		memmove(found + 1, found + directory_len,
			strlen(found + directory_len) + 1);
	}
}

static void check(void **state, const char *text, const char *expected)
{
	read_files(state, temp_text(state, "a.conf", text));
	assert_string_equal(told, expected);
	assert_int_equal(files.place.n_errors > 0, *expected != '\0');
}

static int teardown(void **state)
{
	config_files_clear(&files);
	memset(&files, 0, sizeof(files));
	free(told);
	told = NULL;
	return temp_dir_teardown(state);
}

static void assert_setting(const struct section *section, enum config_key key,
			   const char *text, unsigned int line)
{
	assert_non_null(section->settings[key].text);
	assert_string_equal(section->settings[key].text, text);
	assert_int_equal(section->settings[key].line, line);
}

static void everything(void **state)
{
	check(state,
	      "[global]\n"
	      "trusted = 10.0.0.0/8,\n"
	      "          fd00::/8\n"
	      "  192.0.2.1 , 192.0.2.2\n"
	      "[listener one]\n"
	      "listen = 0.0.0.0:1\n"
	      "[listener\ttwo.2_B-]\n"
	      "handler = 5\n"
	      "[global]\n"
	      "threads = 2\n",
	      "");
	assert_setting(&files.global, KEY_TRUSTED,
		       "10.0.0.0/8,fd00::/8,192.0.2.1 , 192.0.2.2", 2);
	assert_setting(&files.global, KEY_THREADS, "2", 10);
	assert_int_equal(files.global.line, 1);
	assert_int_equal(files.n_listeners, 2);
	assert_string_equal(files.listeners[0].name, "one");
	assert_int_equal(files.listeners[0].line, 5);
	assert_setting(&files.listeners[0], KEY_LISTEN, "0.0.0.0:1", 6);
	assert_null(files.listeners[0].settings[KEY_HANDLER].text);
	assert_string_equal(files.listeners[1].name, "two.2_B-");
	assert_setting(&files.listeners[1], KEY_HANDLER, "5", 8);
}

static void sections(void **state)
{
	check(state,
	      "[Global]\n[listeners a]\n[listener]\n[listener  ]\n"
	      "[LISTENER a]\n[]\n[gobal]\n[globall x]\n[listenera]\n"
	      "[mqtt]\n[\033]\n[listener a\n",
	      "@/a.conf:1: unknown section [Global]; did you mean [global]?\n"
	      "@/a.conf:2: unknown section [listeners a]; there are [global] "
	      "and [listener NAME]\n"
	      "@/a.conf:3: listener name '' is not 1 to 23 of letters, digits, "
	      "'_', '.' and '-'\n"
	      "@/a.conf:4: listener name '' is not 1 to 23 of letters, digits, "
	      "'_', '.' and '-'\n"
	      "@/a.conf:5: unknown section [LISTENER a]; there are [global] "
	      "and [listener NAME]\n"
	      "@/a.conf:6: unknown section []; there are [global] and "
	      "[listener NAME]\n"
	      "@/a.conf:7: unknown section [gobal]; did you mean [global]?\n"
	      "@/a.conf:8: unknown section [globall x]; there are [global] "
	      "and [listener NAME]\n"
	      "@/a.conf:9: unknown section [listenera]; there are [global] and "
	      "[listener NAME]\n"
	      "@/a.conf:10: unknown section [mqtt]; there are [global] and "
	      "[listener NAME]\n"
	      "@/a.conf:11: unknown section [\\x1b]; there are [global] and "
	      "[listener NAME]\n"
	      "@/a.conf:12: section without ']'\n");
}

static void names(void **state)
{
	check(state, "[listener abcdefghijklmnopqrstuvw]\n", "");
	assert_string_equal(files.listeners[0].name, "abcdefghijklmnopqrstuvw");
	check(state, "[listener abcdefghijklmnopqrstuvwx]\n",
	      "@/a.conf:1: listener name 'abcdefghijklmnopqrstuvwx' is not 1 "
	      "to 23 of letters, digits, '_', '.' and '-'\n");
	check(state, "[listener a b]\n[listener a/b]\n[listener \xc3\xa4]\n",
	      "@/a.conf:1: listener name 'a b' is not 1 to 23 of letters, "
	      "digits, '_', '.' and '-'\n"
	      "@/a.conf:2: listener name 'a/b' is not 1 to 23 of letters, "
	      "digits, '_', '.' and '-'\n"
	      "@/a.conf:3: listener name '\\xc3\\xa4' is not 1 to 23 of "
	      "letters, digits, '_', '.' and '-'\n");
	assert_int_equal(files.n_listeners, 0);
}

/* Keys of a section that is refused would only repeat the mistake. */
static void keys_of_no_section(void **state)
{
	check(state, "[oops]\nwhatever = 1\nlisten = x\n[global\nfoo = 1\n",
	      "@/a.conf:1: unknown section [oops]; there are [global] and "
	      "[listener NAME]\n"
	      "@/a.conf:4: section without ']'\n");
	check(state, "listen = 0.0.0.0:1\n  more\n[global]\nthreads = 1\n",
	      "@/a.conf:1: 'listen' stands before the first section\n");
	assert_setting(&files.global, KEY_THREADS, "1", 4);
	/* Found by tests/fuzz/config.c: nothing that a terminal obeys. */
	check(state, "a\033[1m\xff = 1\n",
	      "@/a.conf:1: 'a\\x1b[1m\\xff' stands before the first "
	      "section\n");
}

static void keys(void **state)
{
	check(state,
	      "[global]\nlisten = 0.0.0.0:1\nthread = 4\nrate = 50/s\n"
	      "[listener a]\nlog_level = info\nlisen = 0.0.0.0:1\n"
	      "max_per_client = 1\n\x1b = 2\n",
	      "@/a.conf:2: 'listen' belongs into a [listener NAME] section\n"
	      "@/a.conf:3: unknown key 'thread'; did you mean 'threads'?\n"
	      "@/a.conf:4: unknown key 'rate'\n"
	      "@/a.conf:6: 'log_level' belongs into [global]\n"
	      "@/a.conf:7: unknown key 'lisen'; did you mean 'listen'?\n"
	      "@/a.conf:8: unknown key 'max_per_client'\n"
	      "@/a.conf:9: unknown key '\\x1b'\n");
	assert_int_equal(files.global.doubted, 1 << KEY_THREADS);
	assert_int_equal(files.listeners[0].doubted, 1 << KEY_LISTEN);
}

/* What comes later is not known yet, and so not silently ignored. */
static void later_keys(void **state)
{
	check(state,
	      "[global]\naudit_log = off\nmetrics = off\n"
	      "[listener a]\nallow = ::1\ndeny = ::1\nrate = 1/s\n",
	      "@/a.conf:2: unknown key 'audit_log'\n"
	      "@/a.conf:3: unknown key 'metrics'\n"
	      "@/a.conf:5: unknown key 'allow'\n"
	      "@/a.conf:6: unknown key 'deny'\n"
	      "@/a.conf:7: unknown key 'rate'\n");
}

static void duplicates(void **state)
{
	check(state,
	      "[global]\nthreads = 1\nthreads = 2\n  3\n[listener a]\n"
	      "handler = 1\n[global]\nthreads = 4\n[listener a]\nhandler = 2\n",
	      "@/a.conf:3: 'threads' stands already at @/a.conf:2\n"
	      "@/a.conf:8: 'threads' stands already at @/a.conf:2\n"
	      "@/a.conf:9: listener 'a' stands already at @/a.conf:5\n");
	assert_setting(&files.global, KEY_THREADS, "1", 2);
	assert_int_equal(files.n_listeners, 1);
	assert_setting(&files.listeners[0], KEY_HANDLER, "1", 6);
	/* Which of the two was meant? */
	assert_true(section_doubts(&files.global, KEY_THREADS));
	assert_false(section_doubts(&files.global, KEY_TRUSTED));
	assert_false(section_doubts(&files.listeners[0], KEY_HANDLER));
}

static void mistakes_of_syntax(void **state)
{
	check(state, "[listener a]\nlisten\nhandler = 1\n",
	      "@/a.conf:2: missing '=' (key = value)\n");
	assert_true(section_doubts(&files.listeners[0], KEY_LISTEN));
	assert_true(section_doubts(&files.listeners[0], KEY_DELIVERY));
	assert_false(section_doubts(&files.listeners[0], KEY_HANDLER));
	/* The section before a broken header has done nothing wrong. */
	check(state, "[listener a]\nhandler = 1\n[oops\n",
	      "@/a.conf:3: section without ']'\n");
	assert_false(section_doubts(&files.listeners[0], KEY_LISTEN));
}

static void too_many_listeners(void **state)
{
	char *text = malloc(RP_LISTENERS_MAX * 20 + 100), *end = text;

	assert_non_null(text);
	for (int i = 0; i <= RP_LISTENERS_MAX; i++)
		end += sprintf(end, "[listener n%d]\n", i);
	check(state, text, "@/a.conf:4097: more than 4096 listeners\n");
	assert_int_equal(files.n_listeners, RP_LISTENERS_MAX);
	free(text);
}

/* Read in the order of bytes; a later [global] wins, key by key. */
static void drop_ins(void **state)
{
	temp_text(state, "conf.d/20-b.conf",
		  "[global]\nthreads = 20\nheader_max = 220\n");
	temp_text(state, "conf.d/10-a.conf",
		  "[global]\nthreads = 10\noffload = off\n[listener x]\n");
	temp_text(state, "conf.d/B.conf", "[listener upper]\n");
	temp_text(state, "conf.d/a.conf", "[listener lower]\n");
	temp_text(state, "conf.d/.hidden.conf", "[oops]\n");
	temp_text(state, "conf.d/readme.txt", "[oops]\n");
	temp_text(state, "conf.d/30-c.conf~", "[oops]\n");
	temp_text(state, "conf.d/.conf", "[oops]\n");
	check(state, "[global]\nthreads = 1\nlog_level = debug\n[listener m]\n",
	      "");
	assert_setting(&files.global, KEY_THREADS, "20", 2);
	assert_setting(&files.global, KEY_HEADER_MAX, "220", 3);
	assert_setting(&files.global, KEY_OFFLOAD, "off", 3);
	assert_setting(&files.global, KEY_LOG_LEVEL, "debug", 3);
	assert_int_equal(files.n_listeners, 4);
	assert_string_equal(files.listeners[0].name, "m");
	assert_string_equal(files.listeners[1].name, "x");
	assert_string_equal(files.listeners[2].name, "upper");
	assert_string_equal(files.listeners[3].name, "lower");
}

static void drop_in_errors(void **state)
{
	temp_text(state, "conf.d/1.conf",
		  "[listener m]\nhandler = 1\n[global]\nthreads = 1\n"
		  "threads = 2\n");
	temp_text(state, "conf.d/2.conf", "oops = 1\n");
	check(state, "[global]\nthreads = 9\nxyzzy = 1\n[listener m]\n",
	      "@/a.conf:3: unknown key 'xyzzy'\n"
	      "@/conf.d/1.conf:1: listener 'm' stands already at @/a.conf:4\n"
	      "@/conf.d/1.conf:5: 'threads' stands already at "
	      "@/conf.d/1.conf:4\n"
	      "@/conf.d/2.conf:1: 'oops' stands before the first section\n");
	assert_setting(&files.global, KEY_THREADS, "1", 4);
	assert_null(files.listeners[0].settings[KEY_HANDLER].text);
}

/* A section does not go on in the next file, nor does a value. */
static void file_ends(void **state)
{
	temp_text(state, "conf.d/1.conf", "handler = 1\n");
	temp_text(state, "conf.d/2.conf", "  fd00::/8\n");
	check(state, "[listener a]\ntrusted = 10.0.0.0/8,\n",
	      "@/conf.d/1.conf:1: 'handler' stands before the first section\n"
	      "@/conf.d/2.conf:1: missing '=' (key = value)\n");
	assert_setting(&files.listeners[0], KEY_TRUSTED, "10.0.0.0/8,", 2);
}

static void unreadable(void **state)
{
	const char *directory = temp_path(state, "conf.d/x.conf");

	read_files(state, temp_path(state, "none.conf"));
	assert_string_equal(told,
			    "@/none.conf:0: cannot be read: No such file or "
			    "directory\n");
	temp_text(state, "conf.d/1.conf", "[listener from-drop-in]\n");
	assert_int_equal(mkdir(directory, 0700), 0);
	check(state, "", "@/conf.d/x.conf:0: cannot be read: Is a directory\n");
	assert_int_equal(files.n_listeners, 1);
}

static void directory_that_is_none(void **state)
{
	temp_text(state, "conf.d", "");
	check(state, "", "@/conf.d:0: cannot be read: Not a directory\n");
}

/* Beside the file, also when that is named without a directory. */
static void relative_path(void **state)
{
	char *before = getcwd(NULL, 0);

	assert_non_null(before);
	temp_text(state, "conf.d/1.conf", "[listener drop-in]\n");
	temp_text(state, "a.conf", "[listener main]\n");
	assert_int_equal(chdir(*state), 0);
	read_files(state, "a.conf");
	assert_int_equal(chdir(before), 0);
	free(before);
	assert_string_equal(told, "");
	assert_int_equal(files.n_listeners, 2);
	assert_string_equal(files.listeners[1].file, "conf.d/1.conf");
}

int main(void)
{
#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, temp_dir_setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(everything),
		TEST(sections),
		TEST(names),
		TEST(keys_of_no_section),
		TEST(keys),
		TEST(later_keys),
		TEST(duplicates),
		TEST(mistakes_of_syntax),
		TEST(too_many_listeners),
		TEST(drop_ins),
		TEST(drop_in_errors),
		TEST(file_ends),
		TEST(unreadable),
		TEST(directory_that_is_none),
		TEST(relative_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
