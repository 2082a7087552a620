/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_pipes.c - user/pipes.c: pipes that are lent and given back */
#include "pipes.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static void used_again(void **state)
{
	struct pipes pipes = {0};
	struct pipe *first = pipes_take(&pipes), *second = pipes_take(&pipes);
	char byte = 'x';

	(void)state;
	assert_non_null(first);
	assert_non_null(second);
	assert_ptr_not_equal(first, second);
	assert_true(first->size >= 4096);
	assert_int_equal(write(first->in, &byte, 1), 1);
	assert_int_equal(read(first->out, &byte, 1), 1);
	assert_int_equal(fcntl(first->in, F_GETFD), FD_CLOEXEC);
	assert_true(fcntl(first->out, F_GETFL) & O_NONBLOCK);
	pipes_put(&pipes, first, true);
	assert_ptr_equal(pipes_take(&pipes), first);
	pipes_put(&pipes, first, true);
	pipes_put(&pipes, second, true);
	pipes_put(&pipes, NULL, true);
	assert_int_equal(pipes.n_idle, 2);
	pipes_close(&pipes);
	assert_int_equal(pipes.n_open, 0);
	assert_null(pipes.idle);
}

/* What is still in a pipe is never given to another connection. */
static void not_empty(void **state)
{
	struct pipes pipes = {0};
	struct pipe *pipe = pipes_take(&pipes);
	int fd;

	(void)state;
	assert_non_null(pipe);
	fd = pipe->in;
	assert_int_equal(write(fd, "x", 1), 1);
	pipes_put(&pipes, pipe, false);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(pipes.n_open, 0);
	assert_int_equal(pipes.n_idle, 0);
}

static void limits(void **state)
{
	struct pipe *taken[PIPES_MAX];
	struct pipes pipes = {0};

	(void)state;
	for (int i = 0; i < PIPES_MAX; i++) {
		taken[i] = pipes_take(&pipes);
		assert_non_null(taken[i]);
	}
	assert_null(pipes_take(&pipes));
	for (int i = 0; i < PIPES_MAX; i++)
		pipes_put(&pipes, taken[i], true);
	assert_int_equal(pipes.n_idle, PIPES_IDLE_MAX);
	assert_int_equal(pipes.n_open, PIPES_IDLE_MAX);
	pipes_close(&pipes);
}

static void no_descriptors(void **state)
{
	struct rlimit before, none;
	struct pipes pipes = {0};
	struct pipe *pipe;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	pipe = pipes_take(&pipes);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_null(pipe);
	assert_int_equal(pipes.n_open, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(used_again),
		cmocka_unit_test(not_empty),
		cmocka_unit_test(limits),
		cmocka_unit_test(no_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
