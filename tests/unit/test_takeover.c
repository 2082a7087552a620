/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_takeover.c - user/takeover.c, and server_leave() and server_adopt():
 * connections that one server packs and another takes up, in one process.
 */
#include "takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "relayed.h"

static struct relayed test;

static int setup(void **state)
{
	(void)state;
	relayed_start(&test, "header_timeout = 2s\n"
			     "untrusted = direct\n");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	relayed_stop(&test);
	return 0;
}

static size_t count_fds(void)
{
	size_t n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void pair(int *client, int *handler)
{
	*client = tcp_connect(test.port);
	stream_text(*client, RELAYED_V1);
	*handler = stream_accept(test.handler);
}

static uint32_t leave(int *ret_parcel)
{
	struct takeover takeover;

	assert_int_equal(takeover_begin(&takeover), 0);
	server_leave(test.server, &takeover);
	test.server = NULL;
	return takeover_end(&takeover, ret_parcel);
}

static void start_next(void)
{
	assert_int_equal(server_start(test.config, &test.number, NULL, NULL, 0,
				      &test.server),
			 0);
}

/* All connections go from one server to the next. Returns how many. */
static uint32_t change_servers(void)
{
	int parcel;
	uint32_t n = leave(&parcel);

	start_next();
	if (n) {
		server_adopt(test.server, parcel);
		close(parcel);
	}
	return n;
}

static void note_client(uint64_t cookie, const struct rp_connection *record,
			const struct rp_tlvs *tlvs, void *arg)
{
	(void)cookie;
	(void)tlvs;
	*(struct rp_connection *)arg = *record;
}

static void relayed(void **state)
{
	struct rp_connection before = {0}, after = {0};
	int client, handler;

	(void)state;
	pair(&client, &handler);
	expect_stat(&test, RP_STAT_CONNECTIONS, 1);
	server_connections(test.server, note_client, &before);
	assert_int_equal(change_servers(), 1);
	expect_silence(client, 20);
	expect_silence(handler, 0);
	stream_text(client, "question");
	expect_text(handler, "question");
	stream_text(handler, "answer");
	expect_text(client, "answer");
	server_connections(test.server, note_client, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(server_active(test.server, test.number), 1);
	close(client);
	expect_end(handler);
	close(handler);
	expect_idle(&test);
}

/* What stands at `offset` of a stream without repetitions. */
static void fill(uint8_t *bytes, size_t len, size_t offset)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (offset + i) * 0x9e3779b97f4a7c15ull >> 56;
}

/* As much as all the buffers on the way take: nobody reads. */
static size_t send_until_stuck(int client)
{
	uint8_t bytes[65536];
	size_t sent = 0;

	for (int idle = 0; idle < 50;) {
		ssize_t n;

		fill(bytes, sizeof(bytes), sent);
		n = send(client, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n > 0)
			sent += n;
		else
			sleep_ms(1);
		idle = n > 0 ? 0 : idle + 1;
	}
	return sent;
}

/* Bytes that the daemon holds when it goes arrive, and in order. */
static void stuck(void **state)
{
	uint8_t have[65536], want[sizeof(have)];
	size_t sent, received = 0;
	int client, handler;
	ssize_t n;

	(void)state;
	pair(&client, &handler);
	sent = send_until_stuck(client);
	assert_true(sent > 0);
	assert_int_equal(change_servers(), 1);
	shutdown(client, SHUT_WR);
	while ((n = recv(handler, have, sizeof(have), 0)) > 0) {
		fill(want, n, received);
		assert_memory_equal(have, want, n);
		received += n;
	}
	assert_int_equal(n, 0);
	assert_int_equal(received, sent);
	stream_text(handler, "and back");
	expect_text(client, "and back");
	close(handler);
	close(client);
	expect_idle(&test);
}

static void header_in_pieces(void **state)
{
	int client = tcp_connect(test.port), silent = tcp_connect(test.port);
	int handler;

	(void)state;
	stream_send(client, RELAYED_V1, 9);
	sleep_ms(20);
	assert_int_equal(change_servers(), 2);
	stream_send(client, RELAYED_V1 + 9, strlen(RELAYED_V1) - 9);
	handler = stream_accept(test.handler);
	stream_text(client, "hello");
	expect_text(handler, "hello");
	/* The deadline has gone with them. */
	expect_reset(silent);
	expect_stat(&test, RP_STAT_TIMEOUT, 1);
	close(client);
	close(silent);
	close(handler);
	expect_idle(&test);
}

/* More than one message of descriptors, over all threads. */
/*
 * What a peer that is not trusted began goes along with its deadline. Fails if
 * admission_resume() arms no timer for it.
 */
static void untrusted_prefix(void **state)
{
	int clients[2], handlers[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		clients[i] = tcp_connect_from("127.0.0.9", test.port);
		handlers[i] = stream_accept(test.handler);
		stream_text(clients[i], "PROX");
	}
	expect_stat(&test, RP_STAT_BYTES_UP, 8);
	assert_int_equal(change_servers(), 2);
	stream_text(clients[0], "IMITY");
	expect_text(handlers[0], "PROXIMITY");
	expect_reset(clients[1]); /* after 2 s */
	expect_reset(handlers[1]);
	expect_stat(&test, RP_STAT_UNTRUSTED_HEADER, 1);
	for (int i = 0; i < 2; i++) {
		close(clients[i]);
		close(handlers[i]);
	}
}

static void many(void **state)
{
	int clients[300], handlers[300];

	(void)state;
	for (int i = 0; i < 300; i++)
		pair(&clients[i], &handlers[i]);
	assert_int_equal(change_servers(), 300);
	for (int i = 0; i < 300; i++) {
		stream_text(clients[i], "ping");
		expect_text(handlers[i], "ping");
		close(clients[i]);
		expect_end(handlers[i]);
		close(handlers[i]);
	}
	expect_idle(&test);
}

static void nothing_to_pack(void **state)
{
	int parcel = 7;

	(void)state;
	assert_int_equal(leave(&parcel), 0);
	assert_int_equal(parcel, -1);
	start_next();
}

/* Nobody to send descriptors to: then it must be an end that both see. */
static void cannot_send(void **state)
{
	struct takeover takeover;
	int client, handler, parcel;

	(void)state;
	pair(&client, &handler);
	assert_int_equal(takeover_begin(&takeover), 0);
	shutdown(takeover.queue[1], SHUT_WR);
	server_leave(test.server, &takeover);
	assert_int_equal(takeover_end(&takeover, &parcel), 0);
	expect_reset(client);
	expect_reset(handler);
	close(client);
	close(handler);
	start_next();
}

static void cannot_write(void **state)
{
	struct takeover takeover;
	int client, handler, parcel;

	(void)state;
	pair(&client, &handler);
	assert_int_equal(takeover_begin(&takeover), 0);
	close(takeover.file);
	takeover.file = open("/dev/full", O_RDWR | O_CLOEXEC);
	server_leave(test.server, &takeover);
	assert_int_equal(takeover_end(&takeover, &parcel), 0);
	expect_reset(client);
	expect_reset(handler);
	close(client);
	close(handler);
	start_next();
}

static void reset_it(struct arrival *arrival, void *argument)
{
	unsigned int *n = argument;

	++*n;
	takeover_resume(NULL, arrival);
}

/* The file of a parcel, whose first message it takes. */
static int file_of(int parcel)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec part = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int fd;

	assert_int_equal(recvmsg(parcel, &message, MSG_PEEK), 1);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

/*
 * What was known of both directions goes along: here, as if the handler's
 * reset had been told already. The end that its socket tells after that must
 * not look like an orderly one.
 */
static void states(void **state)
{
	off_t entry = 24; /* behind the head */
	off_t at = entry + offsetof(struct takeover_entry, state);
	int client, handler, parcel, file;
	uint8_t states[2];

	(void)state;
	pair(&client, &handler);
	shutdown(client, SHUT_WR);
	expect_end(handler);
	assert_int_equal(leave(&parcel), 1);
	file = file_of(parcel);
	assert_int_equal(pread(file, states, sizeof(states), at), 2);
	assert_int_equal(states[UP], RELAY_ENDED);
	assert_int_equal(states[DOWN], RELAY_OPEN);
	states[UP] = RELAY_BROKEN;
	assert_int_equal(pwrite(file, states, sizeof(states), at), 2);
	close(file);
	start_next();
	server_adopt(test.server, parcel);
	close(parcel);
	close(handler);
	expect_reset(client);
	close(client);
}

/*
 * A parcel with one connection, changed at `offset` of its file or cut off
 * there: what it gives, while the connection's ends are reset.
 */
static int unpack_changed(off_t offset, bool cut)
{
	int client, handler, parcel, file, error;
	size_t fds = count_fds();
	unsigned int n = 0;
	uint8_t byte;

	pair(&client, &handler);
	assert_int_equal(leave(&parcel), 1);
	file = file_of(parcel);
	if (cut) {
		assert_int_equal(ftruncate(file, offset), 0);
	} else {
		assert_int_equal(pread(file, &byte, 1, offset), 1);
		byte++;
		assert_int_equal(pwrite(file, &byte, 1, offset), 1);
	}
	close(file);
	error = takeover_unpack(parcel, reset_it, &n);
	assert_int_equal(n, 0);
	expect_reset(client);
	expect_reset(handler);
	close(client);
	close(handler);
	close(parcel);
	start_next();
	assert_int_equal(count_fds(), fds);
	return error;
}

/* A server whose handler has no room for another connection. */
static void start_busy(struct sockaddr_un *address, int *filler)
{
	socklen_t len = sizeof(*address);
	char text[160];

	relayed_stop(&test);
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	snprintf(address->sun_path, sizeof(address->sun_path),
		 "/tmp/realpeer-test-%d.sock", getpid());
	snprintf(text, sizeof(text), "header_timeout = 5s\nhandler = unix:%s\n",
		 address->sun_path);
	unlink(address->sun_path);
	relayed_start(&test, text);
	close(test.handler);
	test.handler = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*filler = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(test.handler, (struct sockaddr *)address, len),
			 0);
	assert_int_equal(listen(test.handler, 0), 0);
	assert_int_equal(connect(*filler, (struct sockaddr *)address, len), 0);
}

/*
 * Who waits for a handler cannot be packed. Its client gets a reset, and the
 * others go on. Fails without the -EBUSY of takeover_add().
 */
static void connecting(void **state)
{
	int client, silent, filler;
	struct sockaddr_un address;

	(void)state;
	start_busy(&address, &filler);
	silent = tcp_connect(test.port);
	client = tcp_connect(test.port);
	stream_text(client, RELAYED_V1);
	expect_stat(&test, RP_STAT_HEADER_V1, 1);
	assert_int_equal(change_servers(), 1);
	expect_reset(client);
	expect_silence(silent, 0);
	close(client);
	close(silent);
	close(filler);
	unlink(address.sun_path);
}

static void *accept_soon(void *argument)
{
	int *accepted = argument;

	sleep_ms(100);
	close(stream_accept(test.handler)); /* the filler's */
	*accepted = stream_accept(test.handler);
	return NULL;
}

/* Or it waits no longer. Fails without look_for_connecting(), server.c. */
static void connects_in_time(void **state)
{
	int client, filler, handler;
	struct sockaddr_un address;
	pthread_t thread;

	(void)state;
	start_busy(&address, &filler);
	client = tcp_connect(test.port);
	stream_text(client, RELAYED_V1);
	expect_stat(&test, RP_STAT_HEADER_V1, 1);
	pthread_create(&thread, NULL, accept_soon, &handler);
	assert_int_equal(change_servers(), 1);
	pthread_join(thread, NULL);
	stream_text(client, "hello");
	expect_text(handler, "hello");
	close(client);
	expect_end(handler);
	close(handler);
	close(filler);
	unlink(address.sun_path);
	expect_idle(&test);
}

/* The parcel of one connection, cut off so, is adopted: it must be reset. */
static void adopt_cut(off_t length, off_t wrong_byte)
{
	int client, handler, parcel, file;

	pair(&client, &handler);
	assert_int_equal(leave(&parcel), 1);
	file = file_of(parcel);
	if (length)
		assert_int_equal(ftruncate(file, length), 0);
	else
		assert_int_equal(pwrite(file, "?", 1, wrong_byte), 1);
	close(file);
	start_next();
	server_adopt(test.server, parcel);
	close(parcel);
	expect_reset(client);
	expect_reset(handler);
	close(client);
	close(handler);
	/* And it serves others. */
	pair(&client, &handler);
	stream_text(client, "hello");
	expect_text(handler, "hello");
	close(client);
	expect_end(handler);
	close(handler);
	expect_idle(&test);
}

/*
 * Another version's, and one with its end missing, by the server. Fails if
 * takeover_unpack() keeps the descriptors that are left.
 */
static void adopted_wrong(void **state)
{
	(void)state;
	adopt_cut(0, 8);
	adopt_cut(30, 0);
}

/* Of what a direction held, the last byte is missing. */
static void cut_off_within_held(void **state)
{
	int client, handler, parcel, file;
	size_t fds = count_fds();
	unsigned int n = 0;
	off_t length;

	(void)state;
	pair(&client, &handler);
	send_until_stuck(client);
	assert_int_equal(leave(&parcel), 1);
	file = file_of(parcel);
	length = lseek(file, 0, SEEK_END);
	assert_true(length > (off_t)(24 + sizeof(struct takeover_entry)));
	assert_int_equal(ftruncate(file, length - 1), 0);
	close(file);
	assert_int_equal(takeover_unpack(parcel, reset_it, &n), -EBADMSG);
	assert_int_equal(n, 0);
	close(parcel);
	expect_reset(client);
	close(client);
	close(handler);
	start_next();
	assert_int_equal(count_fds(), fds);
}

/*
 * A daemon that is not root's may not have as large a queue as it likes, but as
 * large as anybody may. Fails without SO_SNDBUF in takeover_begin().
 */
static void without_privileges(void **state)
{
	struct takeover takeover;
	int usual[2], before, now, status;
	socklen_t len = sizeof(int);
	pid_t child;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, usual), 0);
	getsockopt(usual[0], SOL_SOCKET, SO_SNDBUF, &before, &len);
	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (setresuid(65534, 65534, 65534) ||
		    takeover_begin(&takeover) ||
		    getsockopt(takeover.queue[1], SOL_SOCKET, SO_SNDBUF, &now,
			       &len))
			exit(1);
		exit(now > before ? 0 : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(usual[0]);
	close(usual[1]);
}

/* What a parcel whose file is `fd` gives. */
static int unpack_file(int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec part = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	unsigned int n = 0;
	int queue[2], error;

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, queue), 0);
	assert_int_equal(sendmsg(queue[1], &message, 0), 1);
	error = takeover_unpack(queue[0], reset_it, &n);
	assert_int_equal(n, 0);
	close(queue[0]);
	close(queue[1]);
	return error;
}

/* The first descriptor is no file, or none that can be read. */
static void no_file(void **state)
{
	int directory = open("/", O_RDONLY | O_CLOEXEC), pipes[2];

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(unpack_file(pipes[0]), -ESPIPE);
	assert_int_equal(unpack_file(directory), -EISDIR);
	close(directory);
	close(pipes[0]);
	close(pipes[1]);
}

static void other_versions(void **state)
{
	(void)state;
	assert_int_equal(unpack_changed(0, false), -EPROTO);
	assert_int_equal(unpack_changed(8, false), -EPROTO);
	assert_int_equal(unpack_changed(12, false), -EPROTO);
}

static void cut_off(void **state)
{
	(void)state;
	assert_int_equal(unpack_changed(0, true), -EBADMSG);
	assert_int_equal(unpack_changed(30, true), -EBADMSG);
}

/* What is no parcel, and what another next daemon has emptied. */
static void no_parcel(void **state)
{
	int client, handler, parcel, fds[2];
	unsigned int n = 0;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(takeover_unpack(fds[0], reset_it, &n), -EAGAIN);
	stream_text(fds[1], "x");
	assert_int_equal(takeover_unpack(fds[0], reset_it, &n), -ENODATA);
	close(fds[0]);
	close(fds[1]);
	pair(&client, &handler);
	assert_int_equal(leave(&parcel), 1);
	assert_int_equal(takeover_unpack(parcel, reset_it, &n), 0);
	assert_int_equal(n, 1);
	expect_reset(client);
	expect_reset(handler);
	assert_int_equal(takeover_unpack(parcel, reset_it, &n), -ENODATA);
	close(parcel);
	close(client);
	close(handler);
	start_next();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(relayed, setup, teardown),
		cmocka_unit_test_setup_teardown(stuck, setup, teardown),
		cmocka_unit_test_setup_teardown(header_in_pieces, setup,
						teardown),
		cmocka_unit_test_setup_teardown(untrusted_prefix, setup,
						teardown),
		cmocka_unit_test_setup_teardown(many, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_to_pack, setup,
						teardown),
		cmocka_unit_test_setup_teardown(cannot_send, setup, teardown),
		cmocka_unit_test_setup_teardown(cannot_write, setup, teardown),
		cmocka_unit_test_setup_teardown(states, setup, teardown),
		cmocka_unit_test_setup_teardown(other_versions, setup,
						teardown),
		cmocka_unit_test_setup_teardown(cut_off, setup, teardown),
		cmocka_unit_test_setup_teardown(no_parcel, setup, teardown),
		cmocka_unit_test_setup_teardown(connecting, setup, teardown),
		cmocka_unit_test_setup_teardown(connects_in_time, setup,
						teardown),
		cmocka_unit_test_setup_teardown(adopted_wrong, setup, teardown),
		cmocka_unit_test_setup_teardown(cut_off_within_held, setup,
						teardown),
		cmocka_unit_test(without_privileges),
		cmocka_unit_test(no_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
