/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_activation.c - user/activation.c. Each case runs in a child, since the
 * sockets have fixed numbers from 3 on.
 */
#include "activation.h"

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
	struct inherited *inherited = NULL;
	struct sockaddr_in6 name;
	socklen_t len = sizeof(name);
	uint8_t ip[16];
	uint16_t port;
	size_t n = 99;

	/* High numbers first, so that none is overwritten. */
	place(fcntl(socket(AF_UNIX, SOCK_STREAM, 0), F_DUPFD, 50), 6);
	place(fcntl(socket(AF_INET, SOCK_STREAM, 0), F_DUPFD, 50), 5);
	place(fcntl(listening(AF_INET6, "[::1]:9"), F_DUPFD, 50), 4);
	place(fcntl(listening(AF_INET, "127.0.0.1:9"), F_DUPFD, 50), 3);
	set_environment("4");
	if (activation_take(&inherited, &n) != 0 || n != 4)
		return 1;
	for (int i = 0; i < 4; i++) {
		if (inherited[i].fd != 3 + i)
			return 2;
	}
	/* The two that listen have their addresses. */
	if (inherited[0].address.sa.sa_family != AF_INET ||
	    inherited[0].address.len != sizeof(struct sockaddr_in))
		return 3;
	if (inherited[1].address.sa.sa_family != AF_INET6 ||
	    inherited[1].address.len != sizeof(struct sockaddr_in6))
		return 4;
	getsockname(4, (struct sockaddr *)&name, &len);
	address_split(&inherited[1].address.sa, ip, &port);
	if (port == 0 || port != ntohs(name.sin6_port))
		return 5;
	/* One that does not listen, and one that is no TCP. */
	if (inherited[2].address.len || inherited[3].address.len)
		return 6;
	if (!(fcntl(3, F_GETFL) & O_NONBLOCK) ||
	    !(fcntl(3, F_GETFD) & FD_CLOEXEC))
		return 7;
	if (getenv("LISTEN_FDS"))
		return 8;
	free(inherited);
	return 0;
}

static int take_none(void)
{
	struct inherited *inherited = NULL;
	size_t n = 99;

	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	if (activation_take(&inherited, &n) != 0 || n != 0 || !inherited)
		return 1;
	free(inherited);
	/* Meant for another process. */
	setenv("LISTEN_PID", "1", 1);
	setenv("LISTEN_FDS", "2", 1);
	if (activation_take(&inherited, &n) != 0 || n != 0)
		return 2;
	free(inherited);
	return 0;
}

static int take_nonsense(void)
{
	struct inherited *inherited = NULL;
	size_t n = 99;

	set_environment("many");
	if (activation_take(&inherited, &n) >= 0 || inherited || n != 99)
		return 1;
	return 0;
}

static void in_child(int (*function)(void))
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0)
		_exit(function());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void four(void **state)
{
	(void)state;
	in_child(take_four);
}

static void none(void **state)
{
	(void)state;
	in_child(take_none);
}

static void nonsense(void **state)
{
	(void)state;
	in_child(take_nonsense);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(four),
		cmocka_unit_test(none),
		cmocka_unit_test(nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
