/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_acceptor.c - user/acceptor.c: queues that are emptied, and what
 * happens when the process has no descriptor left to empty them into.
 */
#include "acceptor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "event.h"
#include "listen.h"
#include "relayed.h"
#include "worker.h"

static struct relayed test;

static int setup(void **state)
{
	(void)state;
	relayed_start(&test, "[global]\nthreads = 1");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	relayed_stop(&test);
	return 0;
}

/* More than one turn of the loop takes, all of them waiting at once. */
static void a_burst(void **state)
{
	enum { N = 3 * ACCEPTOR_BURST_MAX };
	int clients[N];

	(void)state;
	for (int i = 0; i < N; i++)
		clients[i] = tcp_connect(test.port);
	for (int i = 0; i < N; i++)
		stream_text(clients[i], RELAYED_V1);
	expect_stat(&test, RP_STAT_CONNECTIONS, N);
	for (int i = 0; i < N; i++) {
		close(stream_accept(test.handler));
		close(clients[i]);
	}
}

static double cpu_seconds(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static bool has_tried(void *argument)
{
	(void)argument;
	return server_stat(test.server, test.number, RP_STAT_RESOURCE) >= 2;
}

static void no_descriptors(void **state)
{
	uint64_t start = clock_ms();
	struct rlimit before, few;
	int clients[3], probe;
	double cpu;

	(void)state;
	for (int i = 0; i < 3; i++)
		clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	probe = dup(0);
	close(probe);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = probe;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	for (int i = 0; i < 3; i++) {
		struct sockaddr_in address = {
			.sin_family = AF_INET,
			.sin_port = htons(test.port),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		};

		assert_int_equal(connect(clients[i],
					 (struct sockaddr *)&address,
					 sizeof(address)),
				 0);
	}
	cpu = cpu_seconds();
	sleep_ms(4 * ACCEPTOR_PAUSE_MS);
	wait_until(has_tried, NULL);
	cpu = cpu_seconds() - cpu;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	/* It tried now and then, and did not spin meanwhile. */
	assert_in_range(server_stat(test.server, test.number, RP_STAT_RESOURCE),
			2, (clock_ms() - start) / ACCEPTOR_PAUSE_MS + 2);
	assert_true(cpu < 0.2);
	/* Those that waited are served now, and so is the next. */
	for (int i = 0; i < 3; i++)
		stream_text(clients[i], RELAYED_V1);
	for (int i = 0; i < 3; i++) {
		close(stream_accept(test.handler));
		expect_end(clients[i]);
		close(clients[i]);
	}
}

/* A connection that was reset while it waited in the queue. */
static void gone_before_accept(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++)
		stream_reset(tcp_connect(test.port));
	expect_stat(&test, RP_STAT_CLOSED_EARLY, 20);
	assert_int_equal(
		server_stat(test.server, test.number, RP_STAT_RESOURCE), 0);
}

static struct listener_config settings = {.mode = RP_MODE_REQUIRED};
static struct config config = {
	.references = 1,
	.listeners = &settings,
	.n_listeners = 1,
};

/* In the thread: nobody but acceptor_stop() can have taken them. */
static void fill_and_stop(struct worker *worker, void *argument)
{
	struct listener *listener = NULL;
	struct acceptor *acceptor;
	int *clients = argument;
	struct address address;
	char text[64];
	int fd;

	snprintf(text, sizeof(text), "127.0.0.1:%u", port_free());
	assert_int_equal(address_parse(text, &address), 0);
	assert_int_equal(listen_open(&address, false, false, &fd, 1), 0);
	assert_int_equal(listener_new(worker, &config, 0, 1, &listener), 0);
	acceptor = acceptor_new(fd, false);
	acceptor_serve(acceptor, listener);
	for (int i = 0; i < 3; i++)
		clients[i] = tcp_connect(ntohs(address.in.sin_port));
	acceptor_stop(acceptor);
	assert_int_equal(counters_read(&worker->counters, 1, RP_STAT_UNTRUSTED),
			 3);
	listener_unref(listener);
	assert_int_equal(tcp_try_connect(ntohs(address.in.sin_port)), -1);
}

static void stop_empties_the_queue(void **state)
{
	struct worker *worker = NULL;
	int clients[3];

	(void)state;
	assert_int_equal(worker_start(NULL, 0, &worker), 0);
	worker_call(worker, fill_and_stop, clients);
	worker_stop(worker);
	assert_int_equal(config.references, 1);
	for (int i = 0; i < 3; i++) {
		expect_reset(clients[i]);
		close(clients[i]);
	}
}

static void not_started(void **state)
{
	uint16_t port;
	struct acceptor *acceptor = acceptor_new(tcp_listen(&port), false);

	(void)state;
	assert_non_null(acceptor);
	acceptor_free(acceptor);
	assert_int_equal(tcp_try_connect(port), -1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_burst),
		TEST(no_descriptors),
		TEST(gone_before_accept),
		cmocka_unit_test(stop_empties_the_queue),
		cmocka_unit_test(not_started),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
