// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* test_target.c - listening sockets of this test, as others see them. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "target.h"
#include "temp_dir.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/*
 * A listening socket on that port of the loopback, or on any for 0; -1 without
 * `protocol`.
 */
static int listen_on(int family, int protocol, uint16_t *ret_port)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6,
				       .sin6_port = htons(*ret_port),
				       .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
	socklen_t len = sizeof(address);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		return -1;
	if (family == AF_INET)
		*v4 = (struct sockaddr_in){.sin_family = AF_INET,
					   .sin_port = htons(*ret_port),
					   .sin_addr.s_addr =
						   htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(fd, (struct sockaddr *)&address,
			      family == AF_INET ? sizeof(*v4)
						: sizeof(address)),
			 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	*ret_port = ntohs(address.sin6_port);
	return fd;
}

static void test_plain(void **state)
{
	static const int families[] = {AF_INET, AF_INET6};
	struct target target;

	(void)state;
	for (int i = 0; i < 2; i++) {
		uint16_t port = 0;
		int fd = listen_on(families[i], 0, &port);

		assert_true(fd >= 0);
		assert_int_equal(target_find(port, &target), 0);
		assert_true(target.found);
		assert_false(target.mptcp);
		close(fd);
		assert_int_equal(target_find(port, &target), 0);
		assert_false(target.found);
	}
}

static void test_mptcp(void **state)
{
	struct target target;
	uint16_t port = 0;
	int fd, other;

	(void)state;
	fd = listen_on(AF_INET, IPPROTO_MPTCP, &port);
	if (fd < 0 || geteuid() != 0) {
		print_message("SKIP: needs root and a kernel with MPTCP\n");
		if (fd >= 0)
			close(fd);
		skip();
	}
	assert_int_equal(target_find(port, &target), 0);
	assert_true(target.found);
	assert_true(target.mptcp);
	/* That somebody has the port for IPv6 as well takes nothing back. */
	other = listen_on(AF_INET6, 0, &port);
	assert_int_equal(target_find(port, &target), 0);
	assert_true(target.mptcp);
	close(other);
	close(fd);
}

static void test_below(void **state)
{
	const char *root = *state;
	struct stat below, beside;

	/* Any tree of directories will do: the number is the inode's. */
	temp_text(state, "below/file", "");
	assert_int_equal(stat(temp_path(state, "below"), &below), 0);
	assert_int_equal(stat("/", &beside), 0);
	assert_true(target_is_below(root, below.st_ino));
	assert_false(target_is_below(root, beside.st_ino));
	/* Unknown is no reason for a warning. */
	assert_true(target_is_below(root, 0));
	assert_true(target_is_below("/nonexistent", below.st_ino));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_mptcp),
		cmocka_unit_test_setup_teardown(test_below, temp_dir_setup,
						temp_dir_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
