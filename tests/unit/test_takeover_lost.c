/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_takeover_lost.c - user/takeover.c where connections cannot go on: there
 * are not enough descriptors for them, or nobody takes the parcel. Each then
 * ends with a reset, and no bytes get to another.
 */
#include "takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "relayed.h"

/* More than go into one message of the parcel, and into two. */
#define COUNT 300

static struct relayed test;
static int clients[COUNT], handlers[COUNT];

static int setup(void **state)
{
	(void)state;
	relayed_start(&test, "");
	for (int i = 0; i < COUNT; i++) {
		clients[i] = tcp_connect(test.port);
		stream_text(clients[i], RELAYED_V1);
		handlers[i] = stream_accept(test.handler);
	}
	expect_stat(&test, RP_STAT_CONNECTIONS, COUNT);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (int i = 0; i < COUNT; i++) {
		close(clients[i]);
		close(handlers[i]);
	}
	relayed_stop(&test);
	return 0;
}

static int leave(void)
{
	struct takeover takeover;
	int parcel;

	assert_int_equal(takeover_begin(&takeover), 0);
	server_leave(test.server, &takeover);
	assert_int_equal(takeover_end(&takeover, &parcel), COUNT);
	assert_int_equal(server_start(test.config, &test.number, NULL, NULL, 0,
				      &test.server),
			 0);
	return parcel;
}

static rlim_t limit_descriptors(rlim_t most)
{
	struct rlimit limit;
	rlim_t before;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	before = limit.rlim_cur;
	limit.rlim_cur = most;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	return before;
}

/* So that `room` more can be opened, and no others. */
static rlim_t leave_room(int room)
{
	int fd = 0;

	for (; room > 0; fd++)
		room -= fcntl(fd, F_GETFD) < 0;
	return limit_descriptors(fd);
}

/* Were both ends reset? Otherwise each byte gets to the other end. */
static bool is_reset(int i)
{
	struct pollfd end = {.fd = clients[i], .events = POLLIN};
	char text[32];

	if (poll(&end, 1, 0) == 1) {
		expect_reset(clients[i]);
		expect_reset(handlers[i]);
		return true;
	}
	snprintf(text, sizeof(text), "to %d", i);
	stream_text(clients[i], text);
	expect_text(handlers[i], text);
	snprintf(text, sizeof(text), "from %d", i);
	stream_text(handlers[i], text);
	expect_text(clients[i], text);
	return false;
}

/* Adopts with room for that many: the file, and then sockets. */
static void adopt_with(int room)
{
	int parcel = leave(), n = 0, whole;
	rlim_t before = leave_room(room);

	server_adopt(test.server, parcel);
	limit_descriptors(before);
	close(parcel);
	expect_stat(&test, RP_STAT_RESOURCE,
		    COUNT - server_active(test.server, test.number));
	for (int i = 0; i < COUNT; i++)
		n += is_reset(i);
	/* Of the message that was cut none goes on. */
	whole = (room - 1) / TAKEOVER_BATCH;
	assert_int_equal(n, COUNT - whole * TAKEOVER_BATCH / 2);
}

/*
 * Fails without MSG_CTRUNC in receive_fds(): what comes after the missing
 * ones goes on as a connection of two that have nothing to do with each other.
 */
static void half_a_message(void **state)
{
	(void)state;
	adopt_with(TAKEOVER_BATCH + 100);
}

static void half_a_connection(void **state)
{
	(void)state;
	adopt_with(TAKEOVER_BATCH + 101);
}

static void first_message(void **state)
{
	(void)state;
	adopt_with(10);
}

/*
 * Those that go on end in order again: what is still to be sent when one is
 * closed arrives. Fails without connection_reset_on_close() in
 * takeover_resume().
 */
static void none_is_lost(void **state)
{
	struct linger linger;
	socklen_t len = sizeof(linger);
	int parcel = leave();

	(void)state;
	server_adopt(test.server, parcel);
	close(parcel);
	assert_int_equal(server_active(test.server, test.number), COUNT);
	for (int fd = 0; fd < 5 * COUNT; fd++) {
		if (getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len) == 0)
			assert_false(linger.l_onoff);
	}
}

/* Not even for the file. */
static void no_room(void **state)
{
	int parcel = leave();
	rlim_t before = leave_room(0);

	(void)state;
	assert_int_equal(takeover_unpack(parcel, NULL, NULL), -EMFILE);
	limit_descriptors(before);
	close(parcel);
	for (int i = 0; i < COUNT; i++)
		assert_true(is_reset(i));
}

/*
 * Systemd's store has no place for it, or the unit is stopped before the next
 * daemon is ready. Fails without connection_reset_on_close() in move_fd().
 */
static void nobody_takes_it(void **state)
{
	(void)state;
	close(leave());
	for (int i = 0; i < COUNT; i++) {
		expect_reset(clients[i]);
		expect_reset(handlers[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(half_a_message, setup,
						teardown),
		cmocka_unit_test_setup_teardown(half_a_connection, setup,
						teardown),
		cmocka_unit_test_setup_teardown(first_message, setup, teardown),
		cmocka_unit_test_setup_teardown(no_room, setup, teardown),
		cmocka_unit_test_setup_teardown(none_is_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(nobody_takes_it, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
