/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_worker.c - user/worker.c: a thread that answers, beats and ends */
#include "worker.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "loopback.h"

struct answer {
	struct worker *worker;
	pthread_t thread;
	sigset_t blocked;
	unsigned int calls;
};

static void call(struct worker *worker, void *argument)
{
	struct answer *answer = argument;

	answer->worker = worker;
	answer->thread = pthread_self();
	pthread_sigmask(SIG_SETMASK, NULL, &answer->blocked);
	answer->calls++;
}

static void calls(void **state)
{
	struct worker *worker = NULL;
	struct answer answer = {0};

	(void)state;
	assert_int_equal(worker_start(NULL, 5, &worker), 0);
	for (int i = 0; i < 1000; i++)
		worker_call(worker, call, &answer);
	assert_int_equal(answer.calls, 1000);
	assert_ptr_equal(answer.worker, worker);
	assert_true(pthread_equal(answer.thread, worker->thread));
	worker_stop(worker);
}

/* Signals are for the main thread; the name is for ps and top. */
static void thread(void **state)
{
	struct worker *worker = NULL;
	struct answer answer = {0};
	sigset_t mine;
	char name[16];

	(void)state;
	assert_int_equal(worker_start(NULL, 5, &worker), 0);
	worker_call(worker, call, &answer);
	assert_true(sigismember(&answer.blocked, SIGTERM));
	assert_true(sigismember(&answer.blocked, SIGHUP));
	pthread_sigmask(SIG_SETMASK, NULL, &mine);
	assert_false(sigismember(&mine, SIGTERM));
	pthread_getname_np(worker->thread, name, sizeof(name));
	assert_string_equal(name, "relay/5");
	worker_stop(worker);
}

static uint64_t beat(const struct worker *worker)
{
	return __atomic_load_n(&worker->heartbeat, __ATOMIC_RELAXED);
}

struct beats {
	struct worker *worker;
	uint64_t before;
};

static bool beat_twice(void *argument)
{
	const struct beats *beats = argument;

	return beat(beats->worker) >= beats->before + 2 * WORKER_WAIT_MS - 100;
}

static void heartbeat(void **state)
{
	struct beats beats = {0};

	(void)state;
	assert_int_equal(worker_start(NULL, 0, &beats.worker), 0);
	beats.before = beat(beats.worker);
	wait_until(beat_twice, &beats);
	worker_stop(beats.worker);
}

static void no_descriptors(void **state)
{
	struct rlimit before, few;
	struct worker *worker = NULL;
	int probe = dup(0);

	(void)state;
	close(probe);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	/* One is enough for the doorbell, not for the loop. */
	for (int room = 0; room < 2; room++) {
		few = before;
		few.rlim_cur = probe + room;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
		assert_int_equal(worker_start(NULL, 0, &worker), -EMFILE);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
		assert_null(worker);
		assert_int_equal(dup(0), probe); /* nothing left open */
		close(probe);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls),
		cmocka_unit_test(thread),
		cmocka_unit_test(heartbeat),
		cmocka_unit_test(no_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
