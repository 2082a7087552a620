/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_prefix_set.c - user/prefix_set.c: one address, many prefixes */
#include "prefix_set.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool contains(const struct prefix_set *set, const char *text)
{
	struct prefix one;

	/* An address is a prefix of full length. */
	assert_int_equal(prefix_parse(text, &one), 0);
	assert_int_equal(one.length, 128);
	return prefix_set_contains(set, one.address);
}

static struct prefix_set make(const char *const *texts, size_t n)
{
	struct prefix *prefixes = calloc(n + 1, sizeof(*prefixes));
	struct prefix_set set;

	assert_non_null(prefixes);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(prefix_parse(texts[i], &prefixes[i]), 0);
	assert_int_equal(prefix_set_make(prefixes, n, &set), 0);
	free(prefixes);
	return set;
}

static void empty(void **state)
{
	struct prefix_set set = make(NULL, 0);

	(void)state;
	assert_false(contains(&set, "127.0.0.1"));
	assert_false(contains(&set, "::"));
	prefix_set_free(&set);
}

static void several(void **state)
{
	static const char *const texts[] = {"192.0.2.128/25", "10.0.0.0/8",
					    "fd00::/8", "198.51.100.7"};
	struct prefix_set set = make(texts, 4);

	(void)state;
	assert_true(contains(&set, "10.0.0.0"));
	assert_true(contains(&set, "10.255.255.255"));
	assert_true(contains(&set, "192.0.2.128"));
	assert_true(contains(&set, "192.0.2.255"));
	assert_true(contains(&set, "198.51.100.7"));
	assert_true(contains(&set, "fd00::1"));
	assert_true(contains(&set, "fdff::"));
	assert_false(contains(&set, "9.255.255.255"));
	assert_false(contains(&set, "11.0.0.0"));
	assert_false(contains(&set, "192.0.2.127"));
	assert_false(contains(&set, "192.0.3.0"));
	assert_false(contains(&set, "198.51.100.6"));
	assert_false(contains(&set, "198.51.100.8"));
	assert_false(contains(&set, "fe00::"));
	assert_false(contains(&set, "::10.0.0.1"));
	prefix_set_free(&set);
}

/* A narrow one within a wide one must not hide the wide one. */
static void nested(void **state)
{
	static const char *const texts[] = {
		"10.1.2.3",   "10.0.0.0/8",  "10.1.0.0/16",
		"10.0.0.0/8", "10.1.2.0/24", "10.0.0.0/9",
	};
	struct prefix_set set = make(texts, 6);

	(void)state;
	assert_int_equal(set.n, 1);
	assert_true(contains(&set, "10.1.2.4"));
	assert_true(contains(&set, "10.200.0.0"));
	assert_false(contains(&set, "11.0.0.1"));
	prefix_set_free(&set);
}

static void everything(void **state)
{
	static const char *const texts[] = {"10.0.0.0/8", "::/0"};
	struct prefix_set set = make(texts, 2);

	(void)state;
	assert_int_equal(set.n, 1);
	assert_true(contains(&set, "::"));
	assert_true(contains(&set, "255.255.255.255"));
	assert_true(contains(&set, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
	prefix_set_free(&set);
}

/* Against one comparison after the other, for pseudo-random prefixes. */
static void like_a_list(void **state)
{
	struct prefix prefixes[300];
	struct prefix_set set;
	unsigned int seed = 1;

	(void)state;
	for (int i = 0; i < 300; i++) {
		char text[32];

		snprintf(text, sizeof(text), "10.%d.%d.0/%d", rand_r(&seed) % 4,
			 rand_r(&seed) % 256, 16 + rand_r(&seed) % 17);
		assert_int_equal(prefix_parse(text, &prefixes[i]), 0);
	}
	assert_int_equal(prefix_set_make(prefixes, 300, &set), 0);
	for (uint32_t i = 0; i < 4 * 65536; i += 37) {
		uint8_t address[16] = {[10] = 0xff, 0xff,   10,
				       i >> 16,	    i >> 8, i};
		bool listed = false;

		for (int j = 0; j < 300; j++)
			listed |= prefix_contains(&prefixes[j], address);
		assert_int_equal(prefix_set_contains(&set, address), listed);
	}
	prefix_set_free(&set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty),       cmocka_unit_test(several),
		cmocka_unit_test(nested),      cmocka_unit_test(everything),
		cmocka_unit_test(like_a_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
