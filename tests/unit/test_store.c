/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_store.c - user/store.c: what systemd is told, by a socket in its place
 */
#include "store.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "temp_dir.h"

#define FDS_MAX 300

static int manager;

static int setup(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path;

	temp_dir_setup(state);
	path = temp_path(state, "notify");
	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	assert_int_equal(
		bind(manager, (struct sockaddr *)&address, sizeof(address)), 0);
	setenv("NOTIFY_SOCKET", path, 1);
	setenv("FDSTORE", "4096", 1);
	return 0;
}

static int teardown(void **state)
{
	unsetenv("NOTIFY_SOCKET");
	unsetenv("FDSTORE");
	close(manager);
	return temp_dir_teardown(state);
}

/* The next message, with its descriptors. Their number, -1: no message. */
static int receive(char text[256], int fds[FDS_MAX])
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX)];
	} control;
	struct iovec part = {.iov_base = text, .iov_len = 255};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n = recvmsg(manager, &message, 0);
	struct cmsghdr *header;

	if (n < 0)
		return -1;
	text[n] = '\0';
	header = CMSG_FIRSTHDR(&message);
	if (!header || header->cmsg_type != SCM_RIGHTS)
		return 0;
	n = header->cmsg_len - CMSG_LEN(0);
	memcpy(fds, CMSG_DATA(header), n);
	return n / sizeof(int);
}

static void expect(const char *want, int count, const int *files)
{
	int fds[FDS_MAX];
	char text[256];

	assert_int_equal(receive(text, fds), count);
	assert_string_equal(text, want);
	for (int i = 0; i < count; i++) {
		struct stat have, sent;

		assert_int_equal(fstat(fds[i], &have), 0);
		assert_int_equal(fstat(files[i], &sent), 0);
		assert_int_equal(have.st_ino, sent.st_ino);
		close(fds[i]);
	}
}

static void keeps_and_forgets(void **state)
{
	int files[FDS_MAX];

	(void)state;
	for (int i = 0; i < FDS_MAX; i++)
		files[i] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(store_keep("name", files, 2), 2);
	expect("FDSTORE=1\nFDPOLL=0\nFDNAME=name", 2, files);
	store_forget("name", 2);
	expect("FDSTOREREMOVE=1\nFDNAME=name", 0, NULL);
	/* More than fit into one message. */
	assert_int_equal(store_keep("many", files, FDS_MAX), FDS_MAX);
	expect("FDSTORE=1\nFDPOLL=0\nFDNAME=many", 253, files);
	expect("FDSTORE=1\nFDPOLL=0\nFDNAME=many", FDS_MAX - 253, files + 253);
	store_forget("many", FDS_MAX);
	for (int i = 0; i < FDS_MAX; i++)
		close(files[i]);
}

/*
 * What it has no room for is not sent, and one place waits for connections.
 * Fails without places_left().
 */
static void full(void **state)
{
	const char *name = "FDSTORE=1\nFDPOLL=0\nFDNAME=";
	char want[64], text[256];
	int files[8], fds[FDS_MAX];

	(void)state;
	for (int i = 0; i < 8; i++)
		files[i] = socket(AF_INET, SOCK_STREAM, 0);
	setenv("FDSTORE", "4", 1);
	assert_int_equal(store_keep("one", files, 2), 2);
	assert_int_equal(store_keep("two", files + 2, 3), 1);
	assert_int_equal(store_keep("three", files + 5, 1), 0);
	assert_int_equal(store_keep(STORE_CONNECTIONS, files + 6, 2), 1);
	assert_int_equal(store_keep(STORE_CONNECTIONS, files + 7, 1), 0);
	snprintf(want, sizeof(want), "%sone", name);
	expect(want, 2, files);
	snprintf(want, sizeof(want), "%stwo", name);
	expect(want, 1, files + 2);
	snprintf(want, sizeof(want), "%s" STORE_CONNECTIONS, name);
	expect(want, 1, files + 6);
	assert_int_equal(receive(text, fds), -1);
	/* There is room again. */
	store_forget("one", 2);
	expect("FDSTOREREMOVE=1\nFDNAME=one", 0, NULL);
	assert_int_equal(store_keep("three", files + 4, 3), 1);
	snprintf(want, sizeof(want), "%sthree", name);
	expect(want, 1, files + 4);
	store_forget("two", 1);
	store_forget("three", 1);
	store_forget(STORE_CONNECTIONS, 1);
	/* For connections alone. */
	setenv("FDSTORE", "1", 1);
	assert_int_equal(store_keep("one", files, 1), 0);
	assert_int_equal(store_keep(STORE_CONNECTIONS, files, 1), 1);
	store_forget(STORE_CONNECTIONS, 1);
	for (int i = 0; i < 8; i++)
		close(files[i]);
}

/* Nobody answers: that costs the time, and nothing else. */
static void settles(void **state)
{
	char text[256];
	int fds[FDS_MAX];

	(void)state;
	store_settle(1);
	assert_int_equal(receive(text, fds), 1);
	assert_string_equal(text, "BARRIER=1");
	close(fds[0]);
}

static void not_available(void **state)
{
	char text[256];
	int fds[FDS_MAX];

	(void)state;
	assert_true(store_available());
	setenv("FDSTORE", "0", 1);
	assert_false(store_available());
	unsetenv("FDSTORE");
	assert_false(store_available());
	assert_int_equal(store_keep("name", &manager, 1), 0);
	store_forget("name", 0);
	store_settle(1000);
	assert_int_equal(receive(text, fds), -1);
	setenv("FDSTORE", "1", 1);
	unsetenv("NOTIFY_SOCKET");
	assert_false(store_available());
}

/* The manager is gone: said in the log, and no harm. */
static void nobody_there(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	close(manager);
	assert_int_equal(store_keep("name", &null, 1), 0);
	close(null);
	store_forget("name", 0);
	store_settle(1);
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
}

static void names(void **state)
{
	char name[STORE_NAME_MAX];
	struct address address;

	(void)state;
	assert_int_equal(address_parse("192.0.2.1:80", &address), 0);
	assert_string_equal(store_listen_name(&address, false, name),
			    "listen 192.0.2.1_80");
	assert_int_equal(address_parse("[2001:db8::1]:80", &address), 0);
	assert_string_equal(store_listen_name(&address, true, name),
			    "listen [2001_db8__1]_80 v6only");
	assert_int_equal(address_parse("[::]:80", &address), 0);
	assert_string_equal(store_listen_name(&address, false, name),
			    "listen [__]_80");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(keeps_and_forgets, setup,
						teardown),
		cmocka_unit_test_setup_teardown(full, setup, teardown),
		cmocka_unit_test_setup_teardown(settles, setup, teardown),
		cmocka_unit_test_setup_teardown(not_available, setup, teardown),
		cmocka_unit_test_setup_teardown(nobody_there, setup, teardown),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
