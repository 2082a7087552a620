/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_activation.c - user/activation.c. Each case runs in a child, since the
 * sockets have fixed numbers from 3 on.
 */
#include "activation.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Puts a socket at descriptor `number`. */
static void place(int fd, int number)
{
	if (fd < 0 || (fd != number && dup2(fd, number) != number))
		_exit(100);
	if (fd != number)
		close(fd);
}

static int listening(int family, const char *text)
{
	struct address address;
	int fd = socket(family, SOCK_STREAM, 0);

	if (address_parse(text, &address) < 0)
		_exit(101);
	/* Any free port: what the text says is only a valid one. */
	address.in.sin_port = 0;
	if (bind(fd, &address.sa, address.len) < 0 || listen(fd, 1) < 0)
		_exit(102);
	return fd;
}

static void set_environment(const char *fds)
{
	char pid[20];

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", fds, 1);
}

static int take_four(void)
{
	struct activation passed;
	const struct inherited *sockets;
	struct sockaddr_in6 name;
	socklen_t len = sizeof(name);
	uint8_t ip[16];
	uint16_t port;

	/* High numbers first, so that none is overwritten. */
	place(fcntl(socket(AF_UNIX, SOCK_STREAM, 0), F_DUPFD, 50), 6);
	place(fcntl(socket(AF_INET, SOCK_STREAM, 0), F_DUPFD, 50), 5);
	place(fcntl(listening(AF_INET6, "[::1]:9"), F_DUPFD, 50), 4);
	place(fcntl(listening(AF_INET, "127.0.0.1:9"), F_DUPFD, 50), 3);
	set_environment("4");
	if (activation_take(&passed) != 0 || passed.n != 4 ||
	    passed.connections != -1)
		return 1;
	sockets = passed.sockets;
	for (int i = 0; i < 4; i++) {
		if (sockets[i].fd != 3 + i || sockets[i].stored)
			return 2;
	}
	/* The two that listen have their addresses. */
	if (sockets[0].address.sa.sa_family != AF_INET ||
	    sockets[0].address.len != sizeof(struct sockaddr_in))
		return 3;
	if (sockets[1].address.sa.sa_family != AF_INET6 ||
	    sockets[1].address.len != sizeof(struct sockaddr_in6))
		return 4;
	getsockname(4, (struct sockaddr *)&name, &len);
	address_split(&sockets[1].address.sa, ip, &port);
	if (port == 0 || port != ntohs(name.sin6_port))
		return 5;
	/* One that does not listen, and one that is no TCP. */
	if (sockets[2].address.len || sockets[3].address.len)
		return 6;
	if (!(fcntl(3, F_GETFL) & O_NONBLOCK) ||
	    !(fcntl(3, F_GETFD) & FD_CLOEXEC))
		return 7;
	if (getenv("LISTEN_FDS"))
		return 8;
	/* Somebody took the second. */
	passed.sockets[1].fd = -1;
	activation_finish(&passed);
	if (fcntl(3, F_GETFD) >= 0 || fcntl(4, F_GETFD) < 0 ||
	    fcntl(5, F_GETFD) >= 0 || fcntl(6, F_GETFD) >= 0)
		return 9;
	return 0;
}

/* What a daemon before has left is told by its name. */
static int take_stored(void)
{
	struct activation passed;

	place(fcntl(socket(AF_UNIX, SOCK_STREAM, 0), F_DUPFD, 50), 5);
	place(fcntl(listening(AF_INET6, "[::1]:9"), F_DUPFD, 50), 4);
	place(fcntl(listening(AF_INET, "127.0.0.1:9"), F_DUPFD, 50), 3);
	set_environment("3");
	setenv("LISTEN_FDNAMES",
	       "realpeer.socket:listen [__1]_9 v6only:connections", 1);
	if (activation_take(&passed) != 0 || passed.n != 2)
		return 1;
	if (passed.sockets[0].stored || !passed.sockets[1].stored)
		return 2;
	/* Which IPv6 addresses other than [::] always are. */
	if (passed.sockets[0].v6only || !passed.sockets[1].v6only)
		return 3;
	if (passed.connections != 5 || getenv("LISTEN_FDNAMES"))
		return 4;
	activation_finish(&passed);
	if (fcntl(5, F_GETFD) >= 0 || passed.connections != -1)
		return 5;
	return 0;
}

/* A .socket unit may have 127.0.0.1 in the form of IPv6. */
static int take_mapped(void)
{
	struct sockaddr_in6 mapped = {.sin6_family = AF_INET6};
	int fd = socket(AF_INET6, SOCK_STREAM, 0), zero = 0;
	struct address expected;
	struct activation passed;
	socklen_t len = sizeof(mapped);

	inet_pton(AF_INET6, "::ffff:127.0.0.1", &mapped.sin6_addr);
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, (struct sockaddr *)&mapped, sizeof(mapped)) < 0 ||
	    listen(fd, 1) < 0)
		return 1;
	getsockname(fd, (struct sockaddr *)&mapped, &len);
	place(fcntl(fd, F_DUPFD, 50), 3);
	set_environment("1");
	if (address_parse("127.0.0.1:9", &expected) < 0 ||
	    activation_take(&passed) != 0 || passed.n != 1)
		return 2;
	expected.in.sin_port = mapped.sin6_port;
	if (!address_equal(&passed.sockets[0].address, &expected))
		return 3;
	activation_finish(&passed);
	return 0;
}

static int take_none(void)
{
	struct activation passed;

	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	if (activation_take(&passed) != 0 || passed.n != 0 || !passed.sockets)
		return 1;
	activation_finish(&passed);
	/* Meant for another process. */
	setenv("LISTEN_PID", "1", 1);
	setenv("LISTEN_FDS", "2", 1);
	if (activation_take(&passed) != 0 || passed.n != 0)
		return 2;
	activation_finish(&passed);
	return 0;
}

static int take_nonsense(void)
{
	struct activation passed = {.n = 99};

	set_environment("many");
	if (activation_take(&passed) >= 0 || passed.sockets || passed.n != 99)
		return 1;
	return 0;
}

static void in_child(int (*function)(void))
{
	pid_t child;
	int status;

	/* exit() rather than _exit(), which `make coverage` would not see. */
	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		exit(function());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void four(void **state)
{
	(void)state;
	in_child(take_four);
}

static void stored(void **state)
{
	(void)state;
	in_child(take_stored);
}

static void none(void **state)
{
	(void)state;
	in_child(take_none);
}

static void mapped(void **state)
{
	(void)state;
	in_child(take_mapped);
}

static void nonsense(void **state)
{
	(void)state;
	in_child(take_nonsense);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(four),	    cmocka_unit_test(stored),
		cmocka_unit_test(mapped),   cmocka_unit_test(none),
		cmocka_unit_test(nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
