/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_endpoint.c - user/endpoint.c: sockets that are opened or inherited, and
 * how threads share them. What is stored is test_store.c's.
 */
#include "endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "listen.h"
#include "loopback.h"

static struct address address_of(const char *host, uint16_t port)
{
	struct address address;
	char text[64];

	snprintf(text, sizeof(text), "%s:%u", host, port);
	assert_int_equal(address_parse(text, &address), 0);
	return address;
}

static ino_t file_of(int fd)
{
	struct stat info;

	assert_int_equal(fstat(fd, &info), 0);
	return info.st_ino;
}

static ino_t socket_of(const struct endpoint *endpoint, size_t i)
{
	return file_of(endpoint->acceptors[i]->watch.fd);
}

static void opens(void **state)
{
	struct endpoint endpoint = {
		.address = address_of("127.0.0.1", port_free())};

	(void)state;
	assert_int_equal(endpoint_open(&endpoint, 3, false, NULL, 0), 0);
	assert_int_equal(endpoint.n_acceptors, 3);
	assert_true(endpoint.ours);
	for (size_t i = 0; i < 3; i++) {
		assert_false(endpoint.acceptors[i]->shared);
		assert_true(socket_of(&endpoint, i) !=
			    socket_of(&endpoint, (i + 1) % 3));
	}
	/* Another's acceptors are left alone. */
	endpoint.kept = true;
	endpoint_close(&endpoint);
	assert_int_equal(endpoint.n_acceptors, 3);
	endpoint.kept = false;
	endpoint_close(&endpoint);
	assert_int_equal(endpoint.n_acceptors, 0);
	endpoint_close(&endpoint);
}

static void in_use(void **state)
{
	struct endpoint endpoint = {0};
	uint16_t port;
	int fd = tcp_listen(&port);

	(void)state;
	endpoint.address = address_of("127.0.0.1", port);
	assert_int_equal(endpoint_open(&endpoint, 2, false, NULL, 0),
			 -EADDRINUSE);
	endpoint_close(&endpoint);
	close(fd);
}

/* Fills `inherited` with sockets that all listen on one address. */
static struct endpoint stored(struct inherited *inherited, size_t n)
{
	struct endpoint endpoint = {
		.address = address_of("127.0.0.1", port_free())};
	int fds[8];

	assert_int_equal(listen_open(&endpoint.address, false, false, fds, n),
			 0);
	for (size_t i = 0; i < n; i++)
		inherited[i] = (struct inherited){
			.fd = fds[i],
			.address = endpoint.address,
			.stored = true,
		};
	return endpoint;
}

/* More sockets than threads: each is served; fewer: some are shared. */
static void adopts(size_t n_sockets, size_t n_threads)
{
	size_t n = n_sockets > n_threads ? n_sockets : n_threads;
	struct inherited inherited[8];
	struct endpoint endpoint = stored(inherited, n_sockets);
	ino_t files[8];

	for (size_t i = 0; i < n_sockets; i++)
		files[i] = file_of(inherited[i].fd);
	assert_int_equal(endpoint_open(&endpoint, n_threads, false, inherited,
				       n_sockets),
			 0);
	assert_int_equal(endpoint.n_acceptors, n);
	assert_true(endpoint.ours);
	for (size_t i = 0; i < n_sockets; i++)
		assert_int_equal(inherited[i].fd, -1);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(socket_of(&endpoint, i), files[i % n_sockets]);
		assert_int_equal(endpoint.acceptors[i]->shared,
				 n_sockets < n_threads);
		assert_true(fcntl(endpoint.acceptors[i]->watch.fd, F_GETFD) &
			    FD_CLOEXEC);
	}
	endpoint_close(&endpoint);
}

static void numbers_of_threads(void **state)
{
	(void)state;
	adopts(2, 2);
	adopts(1, 4);
	adopts(2, 3);
	adopts(5, 2);
	adopts(3, 1);
}

/* Another address, another meaning of [::], or taken by somebody. */
static void not_its_own(void **state)
{
	struct inherited inherited[3];
	struct endpoint endpoint = stored(inherited, 3);
	ino_t file = file_of(inherited[2].fd);
	int taken = inherited[1].fd;

	(void)state;
	inherited[0].v6only = true;
	inherited[1].fd = -1;
	assert_int_equal(endpoint_open(&endpoint, 1, false, inherited, 3), 0);
	assert_int_equal(endpoint.n_acceptors, 1);
	assert_int_equal(socket_of(&endpoint, 0), file);
	assert_true(inherited[0].fd >= 0);
	endpoint_close(&endpoint);
	endpoint.address = address_of("127.0.0.1", port_free());
	assert_int_equal(endpoint_open(&endpoint, 1, false, inherited, 3), 0);
	assert_true(inherited[0].fd >= 0);
	endpoint_close(&endpoint);
	close(inherited[0].fd);
	close(taken);
}

/* A .socket unit says itself what its [::] means, and keeps its socket. */
static void of_a_unit(void **state)
{
	struct inherited inherited[1];
	struct endpoint endpoint = stored(inherited, 1);

	(void)state;
	inherited[0].stored = false;
	inherited[0].v6only = true;
	assert_int_equal(endpoint_open(&endpoint, 2, false, inherited, 1), 0);
	assert_int_equal(endpoint.n_acceptors, 2);
	assert_false(endpoint.ours);
	endpoint_close(&endpoint);
}

static void finds(void **state)
{
	struct endpoint all[] = {
		{.address = address_of("127.0.0.1", 80)},
		{.address = address_of("[::]", 80), .v6only = true},
	};
	struct endpoints endpoints = {.all = all, .n = 2};
	struct address wanted = address_of("127.0.0.1", 80);

	(void)state;
	assert_ptr_equal(endpoints_find(&endpoints, &wanted, false), &all[0]);
	wanted = address_of("[::]", 80);
	assert_ptr_equal(endpoints_find(&endpoints, &wanted, true), &all[1]);
	assert_null(endpoints_find(&endpoints, &wanted, false));
	wanted = address_of("127.0.0.1", 81);
	assert_null(endpoints_find(&endpoints, &wanted, false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opens),
		cmocka_unit_test(in_use),
		cmocka_unit_test(numbers_of_threads),
		cmocka_unit_test(not_its_own),
		cmocka_unit_test(of_a_unit),
		cmocka_unit_test(finds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
