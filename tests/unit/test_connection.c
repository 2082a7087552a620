/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_connection.c - user/connection.c: whole connections, from accept() to
 * close(), large and idle, closed and reset.
 */
#include "connection.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "relayed.h"

#define LARGE (64ull << 20)

static struct relayed test;

static int setup(void **state)
{
	(void)state;
	relayed_start(&test, "proxy_protocol = required");
	return 0;
}

static int setup_one_thread(void **state)
{
	(void)state;
	relayed_start(&test, "[global]\nthreads = 1");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	expect_idle(&test);
	relayed_stop(&test);
	return 0;
}

/* The handler's socket is a unix one; what connections do is the same. */
static int setup_unix(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char text[128];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path),
		 "/tmp/realpeer-test-%d.sock", getpid());
	snprintf(text, sizeof(text), "handler = unix:%s", address.sun_path);
	unlink(address.sun_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)),
			 0);
	assert_int_equal(listen(fd, 100), 0);
	relayed_start(&test, text);
	close(test.handler);
	test.handler = fd;
	return 0;
}

static int teardown_unix(void **state)
{
	char path[64];

	snprintf(path, sizeof(path), "/tmp/realpeer-test-%d.sock", getpid());
	unlink(path);
	return teardown(state);
}

static void pair(int *client, int *handler)
{
	*client = tcp_connect(test.port);
	stream_text(*client, RELAYED_V1);
	*handler = stream_accept(test.handler);
}

static void half_close(void **state)
{
	int client, handler;

	(void)state;
	pair(&client, &handler);
	stream_text(client, "question");
	shutdown(client, SHUT_WR);
	expect_text(handler, "question");
	expect_end(handler);
	expect_silence(client, 30);
	stream_text(handler, "answer");
	expect_text(client, "answer");
	close(handler);
	expect_end(client);
	close(client);
}

/* TCP's urgent data, within a header, and both ways: no byte is missing. */
static void urgent_data(void **state)
{
	int client = tcp_connect(test.port), handler;

	(void)state;
	stream_text(client, "PROXY TCP4 203.0.113.");
	assert_int_equal(send(client, "7", 1, MSG_OOB), 1);
	stream_text(client, "7 192.0.2.1 5555 80\r\nab");
	handler = stream_accept(test.handler);
	expect_text(handler, "ab");
	expect_stat(&test, RP_STAT_HEADER_V1, 1);
	assert_int_equal(send(client, "c", 1, MSG_OOB), 1);
	stream_text(client, "d");
	expect_text(handler, "cd");
	assert_int_equal(send(handler, "e", 1, MSG_OOB), 1);
	stream_text(handler, "f");
	expect_text(client, "ef");
	close(handler);
	close(client);
}

/*
 * A handler whose queue is full is asked again and again, and then it is gone.
 * Fails without fail() behind attempt() in handler_timeout(): the client would
 * wait for ever.
 */
static void handler_gone_meanwhile(void **state)
{
	struct sockaddr_un address;
	socklen_t len = sizeof(address);
	int filler = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), client;

	(void)state;
	assert_int_equal(getsockname(test.handler, (struct sockaddr *)&address,
				     &len),
			 0);
	assert_int_equal(listen(test.handler, 0), 0);
	assert_int_equal(connect(filler, (struct sockaddr *)&address, len), 0);
	client = tcp_connect(test.port);
	stream_text(client, RELAYED_V1);
	expect_stat(&test, RP_STAT_HEADER_V1, 1);
	expect_silence(client, 50);
	close(test.handler);
	test.handler = -1;
	expect_stat(&test, RP_STAT_HANDLER_FAILED, 1);
	expect_reset(client);
	close(client);
	close(filler);
}

/* A transfer that was cut off doesn't look complete, on neither side. */
static void resets(void **state)
{
	int client, handler;

	(void)state;
	pair(&client, &handler);
	stream_text(client, "half a mess");
	expect_text(handler, "half a mess");
	stream_reset(client);
	expect_reset(handler);
	close(handler);
	pair(&client, &handler);
	stream_text(handler, "half an ans");
	expect_text(client, "half an ans");
	stream_reset(handler);
	expect_reset(client);
	close(client);
}

/* Bytes that were there before the reset are still delivered. */
static void answer_then_reset(void **state)
{
	int client, handler;

	(void)state;
	pair(&client, &handler);
	stream_text(client, "too much");
	stream_text(handler, "go away");
	assert_true(stream_waiting(handler, LOOPBACK_LIMIT_MS));
	close(handler); /* with "too much" unread, so it is a reset */
	expect_text(client, "go away");
	expect_reset(client);
	close(client);
}

struct stream {
	int fd;
	unsigned int seed;
	bool slow;
	bool exact; /* receiver: everything came as it was sent */
};

static uint32_t next(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

#define CHUNK (256 << 10)

static void *send_large(void *argument)
{
	struct stream *stream = argument;
	uint32_t *chunk = malloc(CHUNK), seed = stream->seed;

	for (uint64_t sent = 0; sent < LARGE; sent += CHUNK) {
		for (int i = 0; i < CHUNK / 4; i++)
			chunk[i] = next(&seed);
		if (send(stream->fd, chunk, CHUNK, MSG_NOSIGNAL) != CHUNK)
			break;
	}
	shutdown(stream->fd, SHUT_WR);
	free(chunk);
	return NULL;
}

static void *receive_large(void *argument)
{
	struct stream *stream = argument;
	uint32_t *chunk = malloc(CHUNK), seed = stream->seed;
	uint64_t received = 0;
	bool same = true;

	while (recv(stream->fd, chunk, CHUNK, MSG_WAITALL) == CHUNK) {
		for (int i = 0; i < CHUNK / 4; i++)
			same &= chunk[i] == next(&seed);
		received += CHUNK;
		if (stream->slow)
			sleep_ms(received < LARGE / 16 ? 10 : 1);
	}
	stream->exact =
		same && received == LARGE && recv(stream->fd, chunk, 1, 0) == 0;
	free(chunk);
	return NULL;
}

/* Both ways at once, one of them with a reader that takes its time. */
static void large(void **state)
{
	struct stream streams[4];
	pthread_t threads[4];
	int client, handler;

	(void)state;
	pair(&client, &handler);
	streams[0] = (struct stream){.fd = client, .seed = 1};
	streams[1] = (struct stream){.fd = handler, .seed = 1, .slow = true};
	streams[2] = (struct stream){.fd = handler, .seed = 2};
	streams[3] = (struct stream){.fd = client, .seed = 2};
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
						i % 2 ? receive_large
						      : send_large,
						&streams[i]),
				 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_true(streams[1].exact);
	assert_true(streams[3].exact);
	expect_stat(&test, RP_STAT_BYTES_UP, LARGE);
	expect_stat(&test, RP_STAT_BYTES_DOWN, LARGE);
	close(client);
	close(handler);
}

static size_t sum_fds(void)
{
	size_t n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/*
 * Many that nobody reads from: each holds what it may hold and no more, and
 * the descriptors are those of the connection and one pipe.
 */
static void stalled(void **state)
{
	enum { N = 20 };
	int clients[N], handlers[N];
	static char zeroes[1 << 16];
	size_t fds = sum_fds(), memory;

	(void)state;
	memory = mallinfo2().uordblks;
	for (int i = 0; i < N; i++) {
		pair(&clients[i], &handlers[i]);
		for (int quiet = 0; quiet < 20;) {
			if (send(clients[i], zeroes, sizeof(zeroes),
				 MSG_DONTWAIT) > 0) {
				quiet = 0;
				continue;
			}
			quiet++;
			sleep_ms(1);
		}
	}
	assert_true(sum_fds() - fds <= N * (4 + 2));
	assert_true(mallinfo2().uordblks - memory <=
		    N * (RELAY_BUFFER_SIZE + 1024));
	for (int i = 0; i < N; i++)
		stream_reset(clients[i]);
	expect_idle(&test); /* although the handlers did not read on */
	for (int i = 0; i < N; i++)
		close(handlers[i]);
}

static size_t malloc_used(void)
{
	return mallinfo2().uordblks;
}

/* The limit that is promised: 512 bytes, and nothing but two sockets. */
static void idle(void **state)
{
	enum { N = 100 };
	int clients[N], handlers[N];
	size_t fds, memory;

	(void)state;
	assert_true(sizeof(struct connection) + 16 <= 512);
	pair(&clients[0], &handlers[0]); /* what is made once */
	stream_text(clients[0], "x");
	expect_text(handlers[0], "x");
	fds = sum_fds();
	memory = malloc_used();
	for (int i = 1; i < N; i++) {
		pair(&clients[i], &handlers[i]);
		stream_text(clients[i], "question");
		expect_text(handlers[i], "question");
		stream_text(handlers[i], "answer");
		expect_text(clients[i], "answer");
	}
	assert_int_equal(sum_fds() - fds, 4 * (N - 1));
	assert_true(malloc_used() - memory <= 512 * (N - 1));
	for (int i = 0; i < N; i++) {
		close(clients[i]);
		close(handlers[i]);
	}
}

static void count_one(uint64_t cookie, const struct rp_connection *record,
		      const struct rp_tlvs *tlvs, void *argument)
{
	(void)record;
	(void)tlvs;
	assert_true(cookie != 0);
	++*(unsigned int *)argument;
}

/* More than are listed at once, some of which have no handler yet. */
static void listed(void **state)
{
	enum { N = 150 };
	int clients[N + 1], handlers[N];
	unsigned int n = 0;

	(void)state;
	for (int i = 0; i < N; i++)
		pair(&clients[i], &handlers[i]);
	clients[N] = tcp_connect(test.port);
	expect_stat(&test, RP_STAT_CONNECTIONS, N);
	server_connections(test.server, count_one, &n);
	assert_int_equal(n, N);
	assert_int_equal(server_active(test.server, RELAYED_LISTENER), N);
	for (int i = 0; i < N; i++) {
		close(clients[i]);
		close(handlers[i]);
	}
	close(clients[N]);
}

struct crowd {
	int clients[150], handlers[150];
	unsigned int listed;
};

static void close_all(uint64_t cookie, const struct rp_connection *record,
		      const struct rp_tlvs *tlvs, void *argument)
{
	struct crowd *crowd = argument;

	(void)cookie;
	(void)record;
	(void)tlvs;
	if (crowd->listed++)
		return;
	for (int i = 0; i < 150; i++) {
		close(crowd->clients[i]);
		close(crowd->handlers[i]);
	}
	expect_idle(&test);
}

/* What is to be listed next goes away in between. */
static void closed_while_listed(void **state)
{
	struct crowd crowd = {.listed = 0};

	(void)state;
	for (int i = 0; i < 150; i++)
		pair(&crowd.clients[i], &crowd.handlers[i]);
	expect_stat(&test, RP_STAT_CONNECTIONS, 150);
	server_connections(test.server, close_all, &crowd);
	assert_in_range(crowd.listed, 1, 149);
	assert_int_equal(server_active(test.server, RELAYED_LISTENER), 0);
}

static void check_record(uint64_t cookie, const struct rp_connection *record,
			 const struct rp_tlvs *tlvs, void *argument)
{
	char text[ENDPOINT_TEXT_MAX];

	assert_true(cookie != 0);
	assert_non_null(tlvs);
	assert_string_equal(endpoint_format(record->client, record->client_port,
					    text),
			    RELAYED_CLIENT ":5555");
	assert_string_equal(endpoint_format(record->destination,
					    record->destination_port, text),
			    "192.0.2.1:80");
	endpoint_format(record->proxy, record->proxy_port, text);
	assert_int_equal(strncmp(text, "127.0.0.1:", 10), 0);
	assert_int_equal(record->proxy_port, *(uint16_t *)argument);
	assert_int_equal(record->version, 2);
	assert_int_equal(record->command, RP_COMMAND_PROXY);
	assert_int_equal(record->delivery, RP_DELIVERY_RELAY);
	assert_int_equal(record->offload, RP_OFFLOAD_OFF);
	assert_int_equal(record->listener, RELAYED_LISTENER);
	assert_string_equal(record->listener_name, "test");
	assert_true(record->since > 0);
	assert_int_equal(tlvs->present, RP_TLV_UNIQUE_ID);
	assert_int_equal(tlvs->unique_id_len, 4);
	assert_memory_equal(tlvs->unique_id, "id42", 4);
	*(uint16_t *)argument = 0;
}

static void record(void **state)
{
	int client = tcp_connect(test.port), handler;
	uint16_t port = local_port(client);

	(void)state;
	stream_send(client,
		    "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xcb\0\x71\x07\xc0\0"
		    "\x02\x01\x15\xb3\0P\x05\0\x04id42",
		    35);
	handler = stream_accept(test.handler);
	expect_stat(&test, RP_STAT_CONNECTIONS, 1);
	server_connections(test.server, check_record, &port);
	assert_int_equal(port, 0); /* it was called */
	close(client);
	close(handler);
}

/* One that moves all it can doesn't keep the others of its thread waiting. */
static void fair(void **state)
{
	struct stream streams[2];
	pthread_t threads[2];
	int bulk[2], small[2];

	(void)state;
	pair(&bulk[0], &bulk[1]);
	pair(&small[0], &small[1]);
	streams[0] = (struct stream){.fd = bulk[0], .seed = 3};
	streams[1] = (struct stream){.fd = bulk[1], .seed = 3};
	pthread_create(&threads[0], NULL, send_large, &streams[0]);
	pthread_create(&threads[1], NULL, receive_large, &streams[1]);
	for (int i = 0; i < 50; i++) {
		stream_text(small[0], "ping");
		expect_text(small[1], "ping");
		stream_text(small[1], "pong");
		expect_text(small[0], "pong");
	}
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	assert_true(streams[1].exact);
	close(bulk[0]);
	close(bulk[1]);
	close(small[0]);
	close(small[1]);
}

static void many_short_ones(void **state)
{
	(void)state;
	for (int i = 0; i < 500; i++) {
		int client, handler;

		pair(&client, &handler);
		stream_text(handler, "answer");
		if (i % 3 == 0)
			stream_reset(handler);
		else
			close(handler);
		if (i % 2)
			expect_text(client, "answer");
		close(client);
	}
	expect_stat(&test, RP_STAT_CONNECTIONS, 500);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TEST_UNIX(f)                                           \
	{                                                      \
#f "_unix", f, setup_unix, teardown_unix, NULL \
	}
	const struct CMUnitTest tests[] = {
		TEST(half_close),
		TEST(urgent_data),
		TEST(resets),
		TEST(answer_then_reset),
		TEST(large),
		TEST_UNIX(half_close),
		TEST_UNIX(large),
		TEST_UNIX(handler_gone_meanwhile),
		TEST(stalled),
		TEST(idle),
		TEST(listed),
		cmocka_unit_test_setup_teardown(closed_while_listed,
						setup_one_thread, teardown),
		TEST(record),
		cmocka_unit_test_setup_teardown(fair, setup_one_thread,
						teardown),
		TEST(many_short_ones),
	};

	/* So that mallinfo2() tells of all threads. */
	mallopt(M_ARENA_MAX, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
