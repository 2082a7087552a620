/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_ini_file.c - user/ini_file.c */
#include "ini_file.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "temp_dir.h"

/* What was told: "LINE[section]", "LINEkey=value", "LINE+more", "LINE!error".
 */
static FILE *transcript;

static void on_section(const char *name, unsigned int line, void *arg)
{
	(void)arg;
	fprintf(transcript, "%u[%s]\n", line, name ? name : "(none)");
}

static void on_setting(const char *key, const char *value, unsigned int line,
		       bool more, void *arg)
{
	(void)arg;
	if (more)
		fprintf(transcript, "%u+%s\n", line, value);
	else
		fprintf(transcript, "%u%s=%s\n", line, key, value);
}

static void on_error(unsigned int line, const char *text, void *arg)
{
	(void)arg;
	fprintf(transcript, "%u!%s\n", line, text);
}

static const struct ini_events events = {on_section, on_setting, on_error};

static void check_bytes(void **state, const void *bytes, size_t len,
			const char *expected)
{
	const char *path = temp_write(state, "test.ini", bytes, len);
	size_t told_len;
	char *told;

	transcript = open_memstream(&told, &told_len);
	assert_non_null(transcript);
	assert_int_equal(ini_file_read(path, &events, NULL), 0);
	assert_int_equal(fclose(transcript), 0);
	assert_string_equal(told, expected);
	free(told);
}

static void check(void **state, const char *text, const char *expected)
{
	check_bytes(state, text, strlen(text), expected);
}

static void ordinary(void **state)
{
	check(state,
	      "# comment\n"
	      "; comment = no\n"
	      "\n"
	      "[one]\n"
	      "a=1\n"
	      "  b  =  two words \t\n"
	      "\tc = x = y\n"
	      "[ two ]\n"
	      "a = [::]:1\n",
	      "4[one]\n5a=1\n6b=two words\n7c=x = y\n8[two]\n9a=[::]:1\n");
}

static void comments(void **state)
{
	check(state,
	      "[a] ; one\n"
	      "b = c ; d\n"
	      "e = f\t# g\n"
	      "h = i;j#k\n"
	      "   ; indented = comment\n"
	      "l = ; nothing\n",
	      "1[a]\n2b=c\n3e=f\n4h=i;j#k\n6l=\n");
}

static void line_ends(void **state)
{
	check(state, "[a]\r\nb = c\r\n\r\nd = e", "1[a]\n2b=c\n4d=e\n");
	check(state, "", "");
	check(state, "\n\n", "");
	check(state, "[a]", "1[a]\n");
}

/* Empty sections count, and repeated ones are told each time. */
static void sections(void **state)
{
	check(state, "[a]\n[a]\n[]\n[a b\tc]\n[a]b]\n",
	      "1[a]\n2[a]\n3[]\n4[a b\tc]\n5[a]b]\n");
	check(state, "[a]\nb=1\n[broken\nc=2\n[d]\n",
	      "1[a]\n2b=1\n3[(none)]\n3!section without ']'\n4c=2\n5[d]\n");
	check(state, "[\n", "1[(none)]\n1!section without ']'\n");
	check(state, "a = 1\n[b]\n", "1a=1\n2[b]\n");
}

static void continuation(void **state)
{
	check(state,
	      "[a]\n"
	      "list = 10.0.0.0/8,\n"
	      "       fd00::/8,   ; comment\n"
	      "\n"
	      "  # comment\n"
	      "       192.0.2.1\n"
	      "next = 1\n"
	      "  indented = 2\n"
	      "  more\n",
	      "1[a]\n2list=10.0.0.0/8,\n3+fd00::/8,\n6+192.0.2.1\n"
	      "7next=1\n8indented=2\n9+more\n");
	/* It continues a key, not a section and not a mistake. */
	check(state, "[a]\n  b\n", "1[a]\n2!missing '=' (key = value)\n");
	/* An IPv6 address is no section; found by a seed of tests/fuzz. */
	check(state, "[a]\nb = 0.0.0.0:1,\n  [::]:1,\n\t[::1]:2\n  [c]\n",
	      "1[a]\n2b=0.0.0.0:1,\n3+[::]:1,\n4+[::1]:2\n5[c]\n");
	check(state, "[a]\n  [::]:1\n",
	      "1[a]\n2[(none)]\n2!section without ']'\n");
	check(state, "[a]\nb = 1\n[c]\n  d\n",
	      "1[a]\n2b=1\n3[c]\n4!missing '=' (key = value)\n");
}

static void mistakes(void **state)
{
	check(state, "[a]\nb\nc = 1\nd: 2\n= 3\n",
	      "1[a]\n2!missing '=' (key = value)\n3c=1\n"
	      "4!missing '=' (key = value)\n5!missing '=' (key = value)\n");
	check(state, "[a]\nlisten 0.0.0.0:80 = x\n",
	      "1[a]\n2!missing '=' (key = value)\n");
}

static void unseen_bytes(void **state)
{
	static const char nul[] = "[a]\nb = 1\0 2\nc = 3\n";
	static const char utf16[] = "\xff\xfe[\0a\0]\0";

	check_bytes(state, nul, sizeof(nul) - 1,
		    "0!not a text file: it has a NUL byte\n");
	check_bytes(state, utf16, sizeof(utf16) - 1,
		    "0!not a text file: it has a NUL byte\n");
	check(state, "\xef\xbb\xbf[a]\nb = 1\n",
	      "1!starts with a byte order mark: remove it\n");
	check(state, "[\xc3\xa4]\n\xff\x1b = \x80\n",
	      "1[\xc3\xa4]\n2\xff\x1b=\x80\n");
}

/* libinih cuts lines at its buffer's end; nothing may get lost by that. */
static void long_lines(void **state)
{
	char text[5000], expected[2100];

	for (size_t len = 150; len < 260; len++) {
		char value[300];

		memset(value, 'x', len);
		value[len] = '\0';
		snprintf(text, sizeof(text), "[a]\nk = %s\nz = 1\n", value);
		if (4 + len <= 197)
			snprintf(expected, sizeof(expected),
				 "1[a]\n2k=%s\n3z=1\n", value);
		else
			strcpy(expected, "1[a]\n2!line too long\n3z=1\n");
		check(state, text, expected);
	}
	/* A comment is no part of what has to fit. */
	memset(expected, 'c', 1000);
	expected[1000] = '\0';
	snprintf(text, sizeof(text), "[a]\nb = 1 ; %s\n# %s\n", expected,
		 expected);
	check(state, text, "1[a]\n2b=1\n");
}

/* Joined again, a long list is what it was, wherever it was cut. */
static char *joined;

static void join_setting(const char *key, const char *value, unsigned int line,
			 bool more, void *arg)
{
	(void)key;
	(void)arg;
	assert_int_equal(line, 2);
	assert_int_equal(more, *joined != '\0');
	strcat(joined, value);
}

static void join_error(unsigned int line, const char *text, void *arg)
{
	(void)line;
	(void)arg;
	fail_msg("%s", text);
}

static void long_lists(void **state)
{
	const struct ini_events joining = {on_section, join_setting,
					   join_error};
	char *text = malloc(70000), *list = malloc(60000);
	FILE *null = fopen("/dev/null", "we");

	joined = malloc(60000);
	assert_non_null(text);
	assert_non_null(list);
	assert_non_null(joined);
	assert_non_null(null);
	transcript = null;
	for (int item = 1; item < 60; item++) {
		size_t have = 0;

		while (have < 5000)
			have += (size_t)sprintf(list + have, "%s%.*s",
						have ? "," : "", item,
						"abcdefghijklmnopqrstuvwxyz"
						"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
						"0123456789");
		sprintf(text, "[a]\nlist = %s\n", list);
		joined[0] = '\0';
		assert_int_equal(
			ini_file_read(temp_text(state, "long.ini", text),
				      &joining, NULL),
			0);
		assert_string_equal(joined, list);
	}
	fclose(null);
	free(joined);
	free(list);
	free(text);
}

/* A list whose middle does not fit: told, and the next key is read. */
static void long_item(void **state)
{
	char text[1000], item[301];

	memset(item, 'y', 300);
	item[300] = '\0';
	snprintf(text, sizeof(text), "[a]\nb = 1,2,%s,3\nc = 4\n", item);
	check(state, text, "1[a]\n2b=1,2,\n2!line too long\n3c=4\n");
	snprintf(text, sizeof(text), "[a]\nb = 1\n  %s\n  2\nc = 4\n", item);
	check(state, text, "1[a]\n2b=1\n3!line too long\n4+2\n5c=4\n");
}

static void unreadable(void **state)
{
	char *big = malloc(INI_FILE_MAX + 1);

	assert_int_equal(ini_file_read(temp_path(state, "none"), &events, NULL),
			 -ENOENT);
	assert_int_equal(ini_file_read(*state, &events, NULL), -EISDIR);
	assert_non_null(big);
	memset(big, '\n', INI_FILE_MAX + 1);
	check_bytes(state, big, INI_FILE_MAX, "");
	assert_int_equal(
		ini_file_read(temp_write(state, "big", big, INI_FILE_MAX + 1),
			      &events, NULL),
		-EFBIG);
	free(big);
	assert_int_equal(ini_file_read("/dev/zero", &events, NULL), -EFBIG);
}

int main(void)
{
#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, temp_dir_setup, temp_dir_teardown)
	const struct CMUnitTest tests[] = {
		TEST(ordinary),	    TEST(comments),	TEST(line_ends),
		TEST(sections),	    TEST(continuation), TEST(mistakes),
		TEST(unseen_bytes), TEST(long_lines),	TEST(long_lists),
		TEST(long_item),    TEST(unreadable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
