/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_setup.c - user/setup.c: what `realpeerd -n` and the start rest on */
#include "setup.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "temp_dir.h"

static const struct attached nothing;

static const struct datapath_features peek = {.bpf = true,
					      .getpeername = true,
					      .offload = RP_OFFLOAD_PEEK,
					      .why = "no kfunc"};

/* Everything in it is written to here. */
static char *told;
static size_t told_len;

static FILE *tell(void)
{
	FILE *out;

	free(told);
	out = open_memstream(&told, &told_len);
	assert_non_null(out);
	return out;
}

static int teardown(void **state)
{
	free(told);
	told = NULL;
	return temp_dir_teardown(state);
}

static struct setup load(void **state, const char *text)
{
	struct setup setup = {0};
	FILE *errors = tell();

	assert_int_equal(setup_load(temp_text(state, "a.conf", text), &nothing,
				    errors, &setup),
			 0);
	assert_int_equal(fclose(errors), 0);
	assert_string_equal(told, "");
	return setup;
}

static void bad_file(void **state)
{
	struct setup setup = {0};
	FILE *errors = tell();

	assert_int_equal(setup_load(temp_text(state, "a.conf", "oops\n"),
				    &nothing, errors, &setup),
			 -EINVAL);
	assert_int_equal(fclose(errors), 0);
	assert_non_null(strstr(told, "/a.conf:1: missing '='"));
	assert_null(setup.config);
	setup_clear(&setup);
}

static void no_listeners(void **state)
{
	struct setup setup = load(state, "");
	FILE *out = tell();

	assert_int_equal(setup_plan(&setup, &peek, out), 0);
	setup_print(&setup, out);
	assert_int_equal(fclose(out), 0);
	assert_string_equal(told, "");
	setup_clear(&setup);
	assert_null(setup.config);
	assert_null(setup.plans);
	assert_null(setup.numbers);
}

static const char example[] = "[listener a]\n"
			      "listen = 0.0.0.0:1, [::]:1\n"
			      "trusted = ::1\n"
			      "delivery = relay\n"
			      "handler = 127.0.0.1:2\n"
			      "client_address = getpeername\n"
			      "[listener b]\n"
			      "listen = 0.0.0.0:3\n"
			      "handler = 4\n"
			      "[listener c]\n"
			      "listen = 0.0.0.0:5\n"
			      "proxy_protocol = disabled\n"
			      "[listener d]\n"
			      "listen = 0.0.0.0:6\n"
			      "delivery = relay\n"
			      "handler = unix:/x\n"
			      "offload = accept\n"
			      "untrusted = direct\n";

/* Every listener that cannot be served is told, with its place. */
static void refused(void **state)
{
	struct setup setup = load(state, example);
	const char *path = setup.config->listeners[0].file;
	FILE *errors = tell();
	char expected[600];

	assert_int_equal(setup_plan(&setup, &peek, errors), -EINVAL);
	assert_int_equal(fclose(errors), 0);
	snprintf(expected, sizeof(expected),
		 "%s:7: listener 'b': delivery = inline needs offload accept: "
		 "no kfunc\n"
		 "%s:13: listener 'd': offload = accept cannot be had: no "
		 "kfunc\n",
		 path, path);
	assert_string_equal(told, expected);
	setup_clear(&setup);
}

static void printed(void **state)
{
	struct setup setup = load(state, example);
	FILE *out = tell();

	setup_plan(&setup, &peek, out);
	fclose(out);
	out = tell();
	setup_print(&setup, out);
	assert_int_equal(fclose(out), 0);
	assert_string_equal(
		told,
		"listener a\n"
		"  listen          0.0.0.0:1,[::]:1\n"
		"  proxy_protocol  required\n"
		"  delivery        relay\n"
		"  handler         127.0.0.1:2, client_address = getpeername\n"
		"  offload         peek: no kfunc\n"
		"listener b\n"
		"  listen          0.0.0.0:3\n"
		"  proxy_protocol  required\n"
		"  delivery        inline\n"
		"  handler         port 4\n"
		"  offload         peek: no kfunc\n"
		"  REFUSED         delivery = inline needs offload accept: no "
		"kfunc\n"
		"  warning         no trusted proxies, every connection is "
		"reset\n"
		"  warning         no server listens on the port yet\n"
		"listener c\n"
		"  listen          0.0.0.0:5\n"
		"  proxy_protocol  disabled\n"
		"  delivery        inline\n"
		"  offload         off: proxy_protocol = disabled, there is no "
		"header to read\n"
		"listener d\n"
		"  listen          0.0.0.0:6\n"
		"  proxy_protocol  required\n"
		"  delivery        relay\n"
		"  handler         unix:/x, client_address = none\n"
		"  offload         peek: no kfunc\n"
		"  REFUSED         offload = accept cannot be had: no kfunc\n"
		"  warning         no trusted proxies, no header is ever "
		"looked for\n");
	setup_clear(&setup);
}

static void listen_cut_off(void **state)
{
	struct setup setup = load(state, example);
	const char *whole = "0.0.0.0:1,[::]:1";

	for (size_t size = 1; size < 20; size++) {
		char *out = malloc(size);

		assert_non_null(out);
		setup_listen_format(&setup.config->listeners[0], out, size);
		assert_int_equal(strlen(out), size <= strlen(whole)
						      ? size - 1
						      : strlen(whole));
		assert_memory_equal(out, whole, strlen(out));
		free(out);
	}
	setup_clear(&setup);
}

int main(void)
{
#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, temp_dir_setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(bad_file), TEST(no_listeners),   TEST(refused),
		TEST(printed),	TEST(listen_cut_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
