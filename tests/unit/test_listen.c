/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_listen.c - user/listen.c: sockets that share an address */
#include "listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "loopback.h"

static struct address make(const char *host, uint16_t port)
{
	struct address address;
	char text[64];

	snprintf(text, sizeof(text), "%s:%u", host, port);
	assert_int_equal(address_parse(text, &address), 0);
	return address;
}

static int option(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int value = -1;

	assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static int accept_any(const int *fds, size_t n)
{
	for (int tries = 0; tries < LOOPBACK_LIMIT_MS; tries++) {
		for (size_t i = 0; i < n; i++) {
			int fd = accept(fds[i], NULL, NULL);

			if (fd >= 0)
				return fd;
		}
		sleep_ms(1);
	}
	fail();
	return -1;
}

static void sockets(void **state)
{
	uint16_t port = port_free();
	struct address address = make("127.0.0.1", port);
	int fds[3], client, fd;

	(void)state;
	assert_int_equal(listen_open(&address, false, false, fds, 3), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
		assert_true(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
		assert_int_equal(option(fds[i], SOL_SOCKET, SO_ACCEPTCONN), 1);
		assert_int_equal(option(fds[i], SOL_SOCKET, SO_REUSEPORT), 1);
	}
	for (int i = 0; i < 20; i++) {
		client = tcp_connect(port);
		fd = accept_any(fds, 3);
		assert_int_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
		assert_int_equal(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
		assert_int_equal(option(fd, SOL_SOCKET, SO_OOBINLINE), 1);
		close(fd);
		close(client);
	}
	listen_close(fds, 3);
	assert_int_equal(tcp_try_connect(port), -1);
}

static int foreign_listener(uint16_t port, bool reuseport)
{
	struct address address = make("127.0.0.1", port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (reuseport)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	assert_int_equal(bind(fd, &address.sa, address.len), 0);
	assert_int_equal(listen(fd, 5), 0);
	return fd;
}

/* No share of another server's connections is ever taken by accident. */
static void foreign_owner(void **state)
{
	uint16_t port = port_free();
	struct address address = make("127.0.0.1", port);
	int fds[2], fd;

	(void)state;
	for (int reuseport = 0; reuseport < 2; reuseport++) {
		fd = foreign_listener(port, reuseport);
		assert_int_equal(listen_open(&address, false, false, fds, 2),
				 -EADDRINUSE);
		close(fd);
	}
	assert_int_equal(listen_open(&address, false, false, fds, 2), 0);
	listen_close(fds, 2);
}

/* A wildcard beside an address of the same port, both ours. */
static void shared(void **state)
{
	uint16_t port = port_free();
	struct address any = make("0.0.0.0", port);
	struct address one = make("127.0.0.1", port);
	int any_fds[2], one_fds[2], client, fd;

	(void)state;
	assert_int_equal(listen_open(&any, false, false, any_fds, 2), 0);
	assert_int_equal(listen_open(&one, false, false, one_fds, 2),
			 -EADDRINUSE);
	assert_int_equal(listen_open(&one, false, true, one_fds, 2), 0);
	client = tcp_connect(port);
	fd = accept_any(one_fds, 2); /* the more specific one has it */
	close(fd);
	close(client);
	listen_close(any_fds, 2);
	listen_close(one_fds, 2);
}

static void dual_stack(void **state)
{
	uint16_t port = port_free();
	struct address any4 = make("0.0.0.0", port);
	struct address any6 = make("[::]", port);
	int fds4[1], fds6[1], client;

	(void)state;
	/* [::] alone takes both. */
	assert_int_equal(listen_open(&any6, false, false, fds6, 1), 0);
	client = tcp_connect(port);
	close(accept_any(fds6, 1));
	close(client);
	client = tcp_connect6(port);
	close(accept_any(fds6, 1));
	close(client);
	listen_close(fds6, 1);
	/* With 0.0.0.0 beside it, each takes its own. */
	assert_int_equal(listen_open(&any4, false, false, fds4, 1), 0);
	assert_int_equal(listen_open(&any6, true, true, fds6, 1), 0);
	client = tcp_connect(port);
	close(accept_any(fds4, 1));
	close(client);
	client = tcp_connect6(port);
	close(accept_any(fds6, 1));
	close(client);
	listen_close(fds4, 1);
	listen_close(fds6, 1);
}

static void not_ours_to_have(void **state)
{
	struct address address = make("192.0.2.77", 1);
	int fds[2];

	(void)state;
	assert_int_equal(listen_open(&address, false, false, fds, 2),
			 -EADDRNOTAVAIL);
}

static void adopted(void **state)
{
	uint16_t port;
	int listener = tcp_listen(&port), fds[2], client;

	(void)state;
	assert_int_equal(listen_adopt(listener, fds, 2), 0);
	close(listener);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
		assert_true(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
	}
	client = tcp_connect(port);
	close(accept_any(fds, 1)); /* whoever comes first */
	assert_int_equal(accept(fds[1], NULL, NULL), -1);
	assert_int_equal(errno, EAGAIN);
	close(client);
	listen_close(fds, 2);
	assert_int_equal(listen_adopt(-1, fds, 2), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sockets),
		cmocka_unit_test(foreign_owner),
		cmocka_unit_test(shared),
		cmocka_unit_test(dual_stack),
		cmocka_unit_test(not_ours_to_have),
		cmocka_unit_test(adopted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
