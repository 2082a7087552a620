/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_counters.c - user/counters.c: rows of counts */
#include "counters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static int setup(void **state)
{
	*state = calloc(1, sizeof(struct counters));
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	counters_free(*state);
	free(*state);
	return 0;
}

static void rows(void **state)
{
	struct counters *counters = *state;
	uint64_t *first = counters_take(counters, 0);
	uint64_t *last = counters_take(counters, RP_LISTENERS_MAX - 1);

	assert_non_null(first);
	assert_non_null(last);
	assert_ptr_not_equal(first, last);
	assert_ptr_equal(counters_take(counters, 0), first);
	assert_null(counters_take(counters, RP_LISTENERS_MAX));
}

static void columns(void **state)
{
	struct counters *counters = *state;
	uint64_t *row = counters_take(counters, 5);

	assert_non_null(row);
	for (unsigned int i = 0; i < COUNTERS_COLUMNS; i++)
		counters_add(row, i, i + 1);
	counters_add(row, COUNTERS_ACTIVE, -1);
	counters_add(row, RP_STAT_BYTES_UP, INT64_MAX);
	for (unsigned int i = 0; i < COUNTERS_ACTIVE; i++)
		assert_true(counters_read(counters, 5, i) ==
			    i + 1 + (i == RP_STAT_BYTES_UP ? INT64_MAX : 0ull));
	assert_int_equal(counters_read(counters, 5, COUNTERS_ACTIVE),
			 COUNTERS_ACTIVE);
}

/* Who has taken a number keeps it; the next begins at zero. */
static void users(void **state)
{
	struct counters *counters = *state;
	uint64_t *row = counters_take(counters, 5);

	assert_non_null(row);
	counters_add(row, RP_STAT_DIRECT, 7);
	assert_ptr_equal(counters_take(counters, 5), row);
	counters_release(counters, 5);
	assert_true(counters_in_use(counters, 5));
	counters_release(counters, 5);
	assert_false(counters_in_use(counters, 5));
	assert_int_equal(counters_read(counters, 5, RP_STAT_DIRECT), 7);
	counters_clear(counters, 5);
	assert_int_equal(counters_read(counters, 5, RP_STAT_DIRECT), 0);
	assert_false(counters_in_use(counters, 6));
	assert_false(counters_in_use(counters, RP_LISTENERS_MAX));
	counters_clear(counters, 6);
	counters_clear(counters, RP_LISTENERS_MAX);
}

static void no_row(void **state)
{
	struct counters *counters = *state;

	assert_int_equal(counters_read(counters, 1, RP_STAT_DIRECT), 0);
	assert_int_equal(
		counters_read(counters, RP_LISTENERS_MAX, RP_STAT_DIRECT), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(rows, setup, teardown),
		cmocka_unit_test_setup_teardown(columns, setup, teardown),
		cmocka_unit_test_setup_teardown(users, setup, teardown),
		cmocka_unit_test_setup_teardown(no_row, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
