/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_server.c - user/server.c: starting, reloading and stopping, with
 * connections that must not notice.
 */
#include "server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "relayed.h"

static struct relayed test;

static int setup(void **state)
{
	(void)state;
	relayed_start(&test, "");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	relayed_stop(&test);
	return 0;
}

static void pair(uint16_t port, int *client, int *handler)
{
	*client = tcp_connect(port);
	stream_text(*client, RELAYED_V1);
	*handler = stream_accept(test.handler);
}

static void check_works(uint16_t port)
{
	int client, handler;

	pair(port, &client, &handler);
	stream_text(client, "question");
	expect_text(handler, "question");
	stream_text(handler, "answer");
	expect_text(client, "answer");
	close(client);
	close(handler);
}

static void check_still_open(int client, int handler)
{
	stream_text(client, "still");
	expect_text(handler, "still");
	stream_text(handler, "there");
	expect_text(client, "there");
}

#define GLOBAL                                                \
	"[global]\ntrusted = 127.0.0.1, ::1\noffload = off\n" \
	"header_timeout = 1m\n"

/* Reloads with one listener that has the lines of `listener`. */
static int reload(const char *listener, uint32_t number)
{
	struct config *config;
	char text[1024];
	int error;

	snprintf(text, sizeof(text),
		 GLOBAL "[listener %s]\ndelivery = relay\n"
			"handler = %%HANDLER%%\n%s",
		 number == 7 ? "test" : "other", listener);
	config = relayed_config(&test, text);
	error = server_reload(test.server, config, &number);
	if (error) {
		config_unref(config);
	} else {
		server_settle(test.server);
		config_unref(test.config);
		test.config = config;
	}
	return error;
}

static unsigned int count_threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned int n = 0;

	assert_non_null(tasks);
	for (struct dirent *task; (task = readdir(tasks));)
		n += task->d_name[0] != '.';
	closedir(tasks);
	return n;
}

static void threads(void **state)
{
	unsigned int alone = count_threads();
	cpu_set_t before, one;
	int n = 0;

	(void)state;
	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE && !n; cpu++) {
		if (CPU_ISSET(cpu, &before)) {
			CPU_SET(cpu, &one);
			n = 1;
		}
	}
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	relayed_start(&test, "");
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
	assert_int_equal(count_threads(), alone + 1);
	check_works(test.port);
	relayed_stop(&test);
	/* More than there are CPUs, if somebody wants that. */
	relayed_start(&test, "[global]\nthreads = 5");
	assert_int_equal(count_threads(), alone + 5);
	for (int i = 0; i < 20; i++)
		check_works(test.port);
	relayed_stop(&test);
}

static size_t count_fds(void)
{
	size_t n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* One address that cannot be had: nothing is left of the others. */
static void address_in_use(void **state)
{
	uint32_t numbers[2] = {7, 8};
	struct server *server = NULL;
	struct config *config;
	size_t fds;

	(void)state;
	test.handler = tcp_listen(&test.handler_port);
	test.port = port_free();
	config = relayed_config(&test, GLOBAL "[listener a]\n"
					      "listen = %LISTEN%\n"
					      "delivery = relay\n"
					      "handler = %HANDLER%\n"
					      "[listener b]\n"
					      "listen = %HANDLER%\n"
					      "delivery = relay\n"
					      "handler = unix:/nowhere\n");
	fds = count_fds();
	assert_int_equal(server_start(config, numbers, NULL, NULL, 0, &server),
			 -EADDRINUSE);
	assert_null(server);
	assert_int_equal(count_fds(), fds);
	assert_int_equal(tcp_try_connect(test.port), -1);
	assert_int_equal(config->references, 1);
	config_unref(config);
	close(test.handler);
}

/* Handed over by systemd: served, by all threads, and no other is opened. */
static void inherited(void **state)
{
	uint32_t number = 7;
	struct inherited socket = {0};
	uint16_t port;
	char text[64];

	(void)state;
	test.handler = tcp_listen(&test.handler_port);
	socket.fd = tcp_listen(&port);
	test.port = port;
	snprintf(text, sizeof(text), "127.0.0.1:%u", port);
	assert_int_equal(address_parse(text, &socket.address), 0);
	test.config = relayed_config(&test, GLOBAL "threads = 3\n"
						   "[listener test]\n"
						   "listen = %LISTEN%\n"
						   "delivery = relay\n"
						   "handler = %HANDLER%\n");
	assert_int_equal(server_start(test.config, &number, NULL, &socket, 1,
				      &test.server),
			 0);
	assert_int_equal(socket.fd, -1);
	for (int i = 0; i < 30; i++)
		check_works(port);
	/* It stays when its listener's settings change. */
	assert_int_equal(reload("listen = %LISTEN%\nheader_timeout = 1s\n", 7),
			 0);
	check_works(port);
	relayed_stop(&test);
	assert_int_equal(tcp_try_connect(port), -1);
}

/* Not matched: it is left to the caller. */
static void not_inherited(void **state)
{
	uint32_t number = 7;
	struct inherited socket = {0};
	uint16_t port;

	(void)state;
	test.handler = tcp_listen(&test.handler_port);
	test.port = port_free();
	socket.fd = tcp_listen(&port);
	assert_int_equal(address_parse("127.0.0.1:1", &socket.address), 0);
	test.config = relayed_config(&test, GLOBAL "[listener test]\n"
						   "listen = %LISTEN%\n"
						   "delivery = relay\n"
						   "handler = %HANDLER%\n");
	assert_int_equal(server_start(test.config, &number, NULL, &socket, 1,
				      &test.server),
			 0);
	assert_true(socket.fd >= 0);
	check_works(test.port);
	relayed_stop(&test);
	close(socket.fd);
}

static bool only_one(void *argument)
{
	(void)argument;
	return server_active(test.server, 7) == 1;
}

/* An address is taken away, another one comes: connections don't care. */
static void reload_moves_addresses(void **state)
{
	uint16_t before = test.port;
	int client, handler;

	(void)state;
	pair(test.port, &client, &handler);
	test.port = port_free();
	assert_int_equal(reload("listen = %LISTEN%\n", 7), 0);
	check_works(test.port);
	assert_int_equal(tcp_try_connect(before), -1);
	check_still_open(client, handler);
	wait_until(only_one, NULL); /* check_works() has just closed one */
	close(client);
	close(handler);
	expect_idle(&test);
}

/* The sockets stay although the listener has another name, and its counts. */
static void reload_renames(void **state)
{
	int waiting = tcp_connect(test.port), client, handler;

	(void)state;
	pair(test.port, &client, &handler);
	assert_int_equal(reload("listen = %LISTEN%\n", 9), 0);
	assert_int_equal(server_stat(test.server, 7, RP_STAT_CONNECTIONS), 1);
	/* Accepted before, so under the settings of before. */
	stream_text(waiting, RELAYED_V1);
	close(stream_accept(test.handler));
	expect_end(waiting);
	close(waiting);
	assert_int_equal(server_stat(test.server, 7, RP_STAT_CONNECTIONS), 2);
	check_works(test.port);
	assert_int_equal(server_stat(test.server, 9, RP_STAT_CONNECTIONS), 1);
	check_still_open(client, handler);
	close(client);
	close(handler);
	expect_idle(&test);
}

static void reload_changes_settings(void **state)
{
	int client, handler;

	(void)state;
	pair(test.port, &client, &handler);
	assert_int_equal(reload("listen = %LISTEN%\n"
				"proxy_protocol = disabled\n",
				7),
			 0);
	check_still_open(client, handler);
	close(client);
	close(handler);
	client = tcp_connect(test.port);
	handler = stream_accept(test.handler);
	stream_text(client, RELAYED_V1);
	expect_text(handler, RELAYED_V1);
	close(client);
	close(handler);
}

/* All or nothing. */
static void reload_fails(void **state)
{
	uint16_t taken;
	int foreign = tcp_listen(&taken);
	char text[128];
	size_t fds;

	(void)state;
	snprintf(text, sizeof(text),
		 "listen = %%LISTEN%%, 127.0.0.1:%u, 127.0.0.1:%u\n"
		 "proxy_protocol = disabled\n",
		 port_free(), taken);
	fds = count_fds();
	assert_int_equal(reload(text, 7), -EADDRINUSE);
	assert_int_equal(count_fds(), fds);
	check_works(test.port); /* a header is still required */
	close(foreign);
}

/* What was listened on is until it is settled, and so can be set back. */
static void reload_set_back(void **state)
{
	const uint32_t number = 7;
	uint16_t before = test.port;
	struct config *config;

	(void)state;
	test.port = port_free();
	config = relayed_config(&test, GLOBAL
				"[listener test]\ndelivery = relay\n"
				"handler = %HANDLER%\nlisten = %LISTEN%\n");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(server_reload(test.server, config, &number),
				 0);
		check_works(before);
		check_works(test.port);
		assert_int_equal(
			server_reload(test.server, test.config, &number), 0);
	}
	server_settle(test.server);
	check_works(before);
	assert_int_equal(tcp_try_connect(test.port), -1);
	test.port = before;
	config_unref(config);
	expect_idle(&test);
}

/* Own sockets are no obstacle: from a wildcard to one address, and back. */
static void reload_widens_and_narrows(void **state)
{
	char text[64];

	(void)state;
	snprintf(text, sizeof(text), "listen = 0.0.0.0:%u\n", test.port);
	assert_int_equal(reload(text, 7), 0);
	check_works(test.port);
	snprintf(text, sizeof(text), "listen = [::]:%u\n", test.port);
	assert_int_equal(reload(text, 7), 0);
	check_works(test.port);
	snprintf(text, sizeof(text), "listen = 0.0.0.0:%u, [::]:%u\n",
		 test.port, test.port);
	assert_int_equal(reload(text, 7), 0);
	check_works(test.port);
	close(tcp_connect6(test.port));
	assert_int_equal(reload("listen = %LISTEN%\n", 7), 0);
	check_works(test.port);
}

struct traffic {
	uint16_t port;
	bool stop;
	unsigned int failed, done;
};

/* Connects without a pause; each must get through to the handler. */
static void *make_traffic(void *argument)
{
	struct traffic *traffic = argument;

	while (!__atomic_load_n(&traffic->stop, __ATOMIC_RELAXED)) {
		int fd = tcp_try_connect(traffic->port);
		char byte;

		if (fd < 0 ||
		    send(fd, RELAYED_V1, strlen(RELAYED_V1), MSG_NOSIGNAL) <
			    0 ||
		    recv(fd, &byte, 1, 0) != 1)
			traffic->failed++;
		traffic->done++;
		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

static void *greet(void *argument)
{
	struct traffic *traffic = argument;

	while (!__atomic_load_n(&traffic->stop, __ATOMIC_RELAXED)) {
		if (stream_waiting(test.handler, 20)) {
			int fd = accept(test.handler, NULL, NULL);

			send(fd, "!", 1, MSG_NOSIGNAL);
			close(fd);
		}
	}
	return NULL;
}

static unsigned int done(const struct traffic *traffic)
{
	return __atomic_load_n(&traffic->done, __ATOMIC_RELAXED);
}

static void reload_loses_nobody(void **state)
{
	struct traffic traffic = {.port = test.port};
	pthread_t threads[2];

	(void)state;
	log_set_level(LOG_LEVEL_INFO);
	pthread_create(&threads[0], NULL, make_traffic, &traffic);
	pthread_create(&threads[1], NULL, greet, &traffic);
	for (int i = 0; i < 40 || (done(&traffic) <= 100 && i < 4000); i++) {
		uint16_t extra = port_free();
		char text[64];

		snprintf(text, sizeof(text),
			 "listen = %%LISTEN%%, 127.0.0.1:%u\n", extra);
		assert_int_equal(reload(text, i % 2 ? 7 : 9), 0);
		sleep_ms(10);
	}
	__atomic_store_n(&traffic.stop, true, __ATOMIC_RELAXED);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	assert_true(done(&traffic) > 100);
	assert_int_equal(traffic.failed, 0);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

static void *stop_server(void *argument)
{
	server_stop(test.server, *(uint32_t *)argument);
	return NULL;
}

static bool refuses(void *argument)
{
	int fd = tcp_try_connect(test.port);

	(void)argument;
	if (fd >= 0)
		close(fd);
	return fd < 0;
}

/* Stops accepting at once, ends when the last connection does. */
static void drains(void **state)
{
	uint32_t timeout = 4000;
	uint64_t start = now_ms();
	int client, handler;
	pthread_t thread;

	(void)state;
	relayed_start(&test, "");
	pair(test.port, &client, &handler);
	pthread_create(&thread, NULL, stop_server, &timeout);
	wait_until(refuses, NULL);
	check_still_open(client, handler);
	close(client);
	expect_end(handler);
	close(handler);
	pthread_join(thread, NULL);
	assert_true(now_ms() - start < timeout);
	assert_int_equal(test.config->references, 1);
	config_unref(test.config);
	close(test.handler);
}

static void drains_no_longer_than(void **state)
{
	uint32_t timeout = 200;
	uint64_t start;
	int client, handler;

	(void)state;
	relayed_start(&test, "");
	pair(test.port, &client, &handler);
	start = now_ms();
	server_stop(test.server, timeout);
	assert_in_range(now_ms() - start, timeout, timeout + 5000);
	expect_reset(client);
	expect_reset(handler);
	close(client);
	close(handler);
	assert_int_equal(test.config->references, 1);
	config_unref(test.config);
	close(test.handler);
}

/* What waits for accept() when it stops was told that it may come in. */
static void drains_the_queue(void **state)
{
	uint32_t timeout = 2000;
	int clients[20];
	pthread_t thread;

	(void)state;
	relayed_start(&test, "");
	for (int i = 0; i < 20; i++) {
		clients[i] = tcp_connect(test.port);
		stream_text(clients[i], RELAYED_V1 "late");
	}
	pthread_create(&thread, NULL, stop_server, &timeout);
	for (int i = 0; i < 20; i++) {
		int handler = stream_accept(test.handler);

		expect_text(handler, "late");
		close(handler);
		close(clients[i]);
	}
	pthread_join(thread, NULL);
	config_unref(test.config);
	close(test.handler);
}

/* Are the sockets that listen on [::] of this port for IPv6 only? */
static int v6only(uint16_t port)
{
	int only = -1;

	for (int fd = 0; fd < 1024; fd++) {
		struct sockaddr_in6 address;
		socklen_t len = sizeof(address), int_len = sizeof(int);

		if (getsockname(fd, (struct sockaddr *)&address, &len) == 0 &&
		    address.sin6_family == AF_INET6 &&
		    address.sin6_port == htons(port) &&
		    IN6_IS_ADDR_UNSPECIFIED(&address.sin6_addr))
			getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only,
				   &int_len);
	}
	return only;
}

static void dual_stack(void **state)
{
	char text[128];
	uint16_t port = port_free();
	int client;

	(void)state;
	snprintf(text, sizeof(text), "listen = [::]:%u\n", port);
	relayed_start(&test, text);
	assert_int_equal(v6only(port), 0);
	check_works(port);
	client = tcp_connect6(port);
	stream_text(client, RELAYED_V1);
	close(stream_accept(test.handler));
	close(client);
	relayed_stop(&test);
	snprintf(text, sizeof(text), "listen = [::]:%u, 0.0.0.0:%u\n", port,
		 port);
	relayed_start(&test, text);
	assert_int_equal(v6only(port), 1);
	check_works(port);
	client = tcp_connect6(port);
	stream_text(client, RELAYED_V1);
	close(stream_accept(test.handler));
	close(client);
	relayed_stop(&test);
}

static bool is_not_stalled(void *argument)
{
	(void)argument;
	return server_stalled_ms(test.server) < 600;
}

static void not_stalled(void **state)
{
	(void)state;
	sleep_ms(1200);
	wait_until(is_not_stalled, NULL);
}

static void unknown_numbers(void **state)
{
	(void)state;
	assert_int_equal(server_stat(test.server, 4000, RP_STAT_DIRECT), 0);
	assert_int_equal(server_active(test.server, 100000), 0);
	server_stop(NULL, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads),
		cmocka_unit_test(address_in_use),
		cmocka_unit_test(inherited),
		cmocka_unit_test(not_inherited),
		TEST(reload_moves_addresses),
		TEST(reload_renames),
		TEST(reload_changes_settings),
		TEST(reload_fails),
		TEST(reload_set_back),
		TEST(reload_widens_and_narrows),
		TEST(reload_loses_nobody),
		cmocka_unit_test(drains),
		cmocka_unit_test(drains_no_longer_than),
		cmocka_unit_test(drains_the_queue),
		cmocka_unit_test(dual_stack),
		TEST(not_stalled),
		TEST(unknown_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
