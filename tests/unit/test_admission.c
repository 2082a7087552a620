/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_admission.c - user/admission.c: headers in every number of pieces,
 * clients without one, and everybody who must not come in.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "event.h"
#include "relayed.h"
#include "vectors.h"

#define V2                                                               \
	"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc0\0\x02\x01" \
	"\x15\xb3\0P"
#define V2_LEN	     28
#define V2_SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static struct relayed test;

#define SETUP(name, settings)                   \
	static int name(void **state)           \
	{                                       \
		(void)state;                    \
		relayed_start(&test, settings); \
		return 0;                       \
	}
#define UNTRUSTED_DIRECT "proxy_protocol = required\nuntrusted = direct"

SETUP(required, "proxy_protocol = required")
SETUP(enabled, "proxy_protocol = enabled")
SETUP(disabled, "proxy_protocol = disabled")
SETUP(untrusted_direct, UNTRUSTED_DIRECT)

/* With a deadline that a test may wait for. */
#define SOON_MS 300
#define SOON	"header_timeout = 300ms\n"

SETUP(required_soon, SOON "proxy_protocol = required")
SETUP(enabled_soon, SOON "proxy_protocol = enabled")
SETUP(untrusted_direct_soon, SOON UNTRUSTED_DIRECT)

static int teardown(void **state)
{
	(void)state;
	relayed_stop(&test);
	return 0;
}

static void nobody_at_the_handler(void)
{
	assert_false(stream_waiting(test.handler, 0));
}

/* Sends `input` at once; the handler must get `payload` and an end. */
static void check_whole(const void *input, size_t len, const void *payload,
			size_t payload_len)
{
	int client = tcp_connect(test.port), handler;

	stream_send(client, input, len);
	shutdown(client, SHUT_WR);
	handler = stream_accept(test.handler);
	expect_bytes(handler, payload, payload_len);
	expect_end(handler);
	close(handler);
	expect_end(client);
	close(client);
}

/*
 * All at once: connection i sends the first i bytes, then there is a pause,
 * then it sends the rest. The payload tells them apart.
 */
static void check_splits(const uint8_t *header, size_t len)
{
	char seen[256] = {0}, payload[64];
	int clients[256];

	assert_true(len < 256);
	for (size_t i = 0; i <= len; i++) {
		clients[i] = tcp_connect(test.port);
		if (i > 0)
			stream_send(clients[i], header, i);
	}
	sleep_ms(40);
	for (size_t i = 0; i <= len; i++) {
		size_t n =
			snprintf(payload, sizeof(payload), "payload %03zu", i);
		uint8_t rest[512];

		memcpy(rest, header + i, len - i);
		memcpy(rest + len - i, payload, n);
		stream_send(clients[i], rest, len - i + n);
		shutdown(clients[i], SHUT_WR);
	}
	for (size_t i = 0; i <= len; i++) {
		int handler = stream_accept(test.handler);
		unsigned int which;

		assert_int_equal(recv(handler, payload, 11, MSG_WAITALL), 11);
		payload[11] = '\0';
		assert_int_equal(sscanf(payload, "payload %u", &which), 1);
		assert_true(which <= len && !seen[which]);
		seen[which] = 1;
		expect_end(handler);
		close(handler);
	}
	for (size_t i = 0; i <= len; i++)
		close(clients[i]);
}

static void header_in_two_pieces(void **state)
{
	static const uint8_t v2[] = V2;
	static const uint8_t v1[] = RELAYED_V1;

	(void)state;
	check_splits(v1, sizeof(v1) - 1);
	expect_stat(&test, RP_STAT_HEADER_V1, sizeof(v1));
	check_splits(v2, V2_LEN);
	expect_stat(&test, RP_STAT_HEADER_V2, V2_LEN + 1);
	expect_stat(&test, RP_STAT_CONNECTIONS, sizeof(v1) + V2_LEN + 1);
	expect_idle(&test);
}

/* With TLVs, until the buffer for what is held has to grow. */
static void long_header_in_two_pieces(void **state)
{
	uint8_t header[240] = V2;

	(void)state;
	header[15] = 240 - 16;
	header[V2_LEN] = 0x04; /* NOOP */
	header[V2_LEN + 2] = 240 - V2_LEN - 3;
	check_splits(header, 240);
	expect_stat(&test, RP_STAT_HEADER_V2, 241);
}

static void check_bytes(const char *header, size_t len)
{
	int client = tcp_connect(test.port), handler;

	for (size_t i = 0; i < len; i++) {
		stream_send(client, header + i, 1);
		sleep_ms(1);
	}
	stream_text(client, "x");
	handler = stream_accept(test.handler);
	expect_text(handler, "x");
	expect_silence(handler, 20);
	stream_text(handler, "hello");
	expect_text(client, "hello");
	close(handler);
	close(client);
}

static void header_byte_by_byte(void **state)
{
	(void)state;
	check_bytes(RELAYED_V1, strlen(RELAYED_V1));
	check_bytes(V2, V2_LEN);
}

/* Every header that the parser takes, and nothing of the payload lost. */
static void check_vector(const struct vector *vector)
{
	struct rp_header header;
	uint8_t *input;

	if (vector->verdict != RP_HEADER || vector->header_max ||
	    vector->len > 4096)
		return;
	rp_parse(vector->bytes, vector->len, 4096, &header);
	if (header.command == RP_COMMAND_PROXY && !rp_source_usable(&header))
		return;
	input = malloc(vector->len + 3);
	assert_non_null(input);
	memcpy(input, vector->bytes, vector->len);
	memcpy(input + vector->len, "end", 3);
	check_whole(input, vector->len + 3, input + header.length,
		    vector->len + 3 - header.length);
	free(input);
}

static void all_headers(void **state)
{
	(void)state;
	vectors_each(check_vector);
}

static void large_payload_behind_the_header(void **state)
{
	uint8_t *input = malloc(200000);

	(void)state;
	assert_non_null(input);
	memcpy(input, RELAYED_V1, strlen(RELAYED_V1));
	for (size_t i = strlen(RELAYED_V1); i < 200000; i++)
		input[i] = i * 7;
	check_whole(input, 200000, input + strlen(RELAYED_V1),
		    200000 - strlen(RELAYED_V1));
	expect_stat(&test, RP_STAT_BYTES_UP, 200000 - strlen(RELAYED_V1));
	free(input);
}

/* Only one is consumed; AWS NLB leaves what its clients send. */
static void second_header_is_payload(void **state)
{
	(void)state;
	check_whole(RELAYED_V1 RELAYED_V1, 2 * strlen(RELAYED_V1), RELAYED_V1,
		    strlen(RELAYED_V1));
}

static void expect_refused(const void *input, size_t len, enum rp_stat stat)
{
	uint64_t before = server_stat(test.server, RELAYED_LISTENER, stat);
	int client = tcp_connect(test.port);

	stream_send(client, input, len);
	expect_reset(client);
	close(client);
	expect_stat(&test, stat, before + 1);
	nobody_at_the_handler();
}

#define REFUSED(text, stat) expect_refused(text, sizeof(text) - 1, stat)

static void refused(void **state)
{
	(void)state;
	REFUSED("GET / HTTP/1.1\r\n", RP_STAT_NOT_HEADER);
	REFUSED("PROXZ", RP_STAT_NOT_HEADER);
	REFUSED("\r\n\r\nQ", RP_STAT_NOT_HEADER);
	REFUSED("PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n", RP_STAT_MALFORMED);
	REFUSED(V2_SIGNATURE "\x31\x11\0\x0c", RP_STAT_MALFORMED);
	REFUSED(V2_SIGNATURE "\x21\x11\xff\xff", RP_STAT_TOO_LONG);
	REFUSED("PROXY TCP4 127.0.0.1 5.6.7.8 1 2\r\nx", RP_STAT_BAD_SOURCE);
	REFUSED("PROXY TCP6 ff02::1 ::1 1 2\r\nx", RP_STAT_BAD_SOURCE);
}

/* The bytes decide as soon as they can, however few come at a time. */
static void refused_in_pieces(void **state)
{
	int client = tcp_connect(test.port);

	(void)state;
	stream_text(client, "\r\n\r");
	sleep_ms(20);
	stream_text(client, "x");
	expect_reset(client);
	close(client);
	expect_stat(&test, RP_STAT_NOT_HEADER, 1);
	expect_stat(&test, RP_STAT_TIMEOUT, 0);
}

static void refused_in_enabled_mode(void **state)
{
	(void)state;
	REFUSED("PROXY TCP9 ", RP_STAT_MALFORMED);
	REFUSED(V2_SIGNATURE "\x21\x11\xff\xff", RP_STAT_TOO_LONG);
	REFUSED("PROXY TCP4 127.0.0.1 5.6.7.8 1 2\r\nx", RP_STAT_BAD_SOURCE);
}

static void check_deadline(const void *input, size_t len)
{
	uint64_t before =
		server_stat(test.server, RELAYED_LISTENER, RP_STAT_TIMEOUT);
	uint64_t start = clock_ms();
	int client = tcp_connect(test.port);

	if (len)
		stream_send(client, input, len);
	expect_reset(client);
	assert_true(clock_ms() - start >= SOON_MS);
	close(client);
	expect_stat(&test, RP_STAT_TIMEOUT, before + 1);
	nobody_at_the_handler();
}

static void deadline(void **state)
{
	(void)state;
	check_deadline(NULL, 0);
	check_deadline("PROXY TCP4 ", 11);
	check_deadline(V2, V2_LEN - 1);
}

/* Bytes of a header, until there is an answer, which is before its end. */
static void drip(int client)
{
	int i;

	for (i = 0; i < V2_LEN && !stream_waiting(client, 30); i++)
		stream_send(client, V2 + i, 1);
	assert_true(i < V2_LEN);
}

/* A byte now and then does not put it off. */
static void deadline_is_from_accept(void **state)
{
	int client = tcp_connect(test.port);

	(void)state;
	drip(client);
	expect_reset(client);
	close(client);
	expect_stat(&test, RP_STAT_TIMEOUT, 1);
}

/* Runs `action` with the log, errors and warnings only, in a file. */
static size_t count_log(void (*action)(void))
{
	int file = memfd_create("log", MFD_CLOEXEC), before = dup(2);
	size_t len;

	assert_true(file >= 0 && before >= 0);
	log_set_level(LOG_LEVEL_NOTICE);
	fflush(stderr);
	dup2(file, 2);
	action();
	dup2(before, 2);
	log_set_level(LOG_LEVEL_DEBUG);
	len = lseek(file, 0, SEEK_END);
	close(before);
	close(file);
	return len;
}

static void do_health_checks(void)
{
	static const uint8_t local[] = V2_SIGNATURE "\x20\0\0\0";
	int client;

	for (int i = 0; i < 20; i++) { /* connect, close */
		client = tcp_connect(test.port);
		if (i % 2)
			stream_send(client, V2, V2_LEN / 2);
		if (i % 3)
			close(client);
		else
			stream_reset(client);
	}
	expect_stat(&test, RP_STAT_CLOSED_EARLY, 20);
	client = tcp_connect(test.port);
	stream_send(client, local, 16);
	close(stream_accept(test.handler));
	expect_end(client);
	close(client);
	client = tcp_connect(test.port);
	stream_send(client, local, 16);
	stream_reset(client);
	expect_stat(&test, RP_STAT_LOCAL, 2);
	close(stream_accept(test.handler));
	expect_idle(&test);
}

static void health_checks_are_no_news(void **state)
{
	(void)state;
	assert_int_equal(count_log(do_health_checks), 0);
}

static void do_refusals(void)
{
	for (int i = 0; i < 40; i++)
		REFUSED("\xffhello\n", RP_STAT_NOT_HEADER);
}

/* Hostile input is told, but does not fill the disk. */
static void refusals_are_told_sparingly(void **state)
{
	size_t len;

	(void)state;
	len = count_log(do_refusals);
	assert_true(len > 0);
	assert_true(len < 25 * 300); /* two seconds of ten lines each */
}

/* Payload of other protocols; none of it is a header. */
static const struct {
	const char *name, *bytes;
	size_t len;
} plain[] = {
#define PLAIN(name, text)                    \
	{                                    \
		name, text, sizeof(text) - 1 \
	}
	PLAIN("mqtt", "\x10\x0c\0\4MQTT\4\2\0<\0\0"),
	PLAIN("amqp", "AMQP\0\0\x09\x01"),
	PLAIN("stomp", "CONNECT\naccept-version:1.2\n\n\0"),
	PLAIN("stomp, ends of line", "\r\n\r\nCONNECT\n\n\0"),
	PLAIN("stomp, ends of line only", "\r\n\r\n"),
	PLAIN("nats ping", "PING\r\n"),
	PLAIN("nats pub", "PUB a 1\r\nx\r\n"),
	PLAIN("a true prefix", "P"),
	PLAIN("another", "PROXY"),
	PLAIN("binary prefix", "\r\n\r\n\0\r\nQUIT"),
	PLAIN("tls", "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"),
	PLAIN("http", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
	PLAIN("http2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
	PLAIN("post", "POST / HTTP/1.1\r\n\r\n"),
};

#define N_PLAIN (sizeof(plain) / sizeof(plain[0]))

static void plain_clients(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_PLAIN; i++)
		check_whole(plain[i].bytes, plain[i].len, plain[i].bytes,
			    plain[i].len);
	expect_stat(&test, RP_STAT_DIRECT, N_PLAIN);
	expect_stat(&test, RP_STAT_NOT_HEADER, 0);
}

/* The same in two pieces, open to the end: bytes alone decide. */
static void plain_clients_in_two_pieces(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_PLAIN; i++) {
		int client = tcp_connect(test.port), handler;

		stream_send(client, plain[i].bytes, 1);
		sleep_ms(5);
		if (plain[i].len > 1)
			stream_send(client, plain[i].bytes + 1,
				    plain[i].len - 1);
		handler = stream_accept(test.handler);
		expect_bytes(handler, plain[i].bytes, plain[i].len);
		stream_text(handler, "hello");
		expect_text(client, "hello");
		close(handler);
		close(client);
	}
}

static void silent_client(void **state)
{
	uint64_t start = clock_ms();
	int client = tcp_connect(test.port), handler;

	(void)state;
	handler = stream_accept(test.handler);
	assert_true(clock_ms() - start >= SOON_MS);
	stream_text(handler, "220 hello");
	expect_text(client, "220 hello");
	stream_text(client, "P");
	stream_text(client, "ASS");
	expect_text(handler, "PASS");
	close(handler);
	close(client);
	expect_stat(&test, RP_STAT_DIRECT, 1);
	expect_stat(&test, RP_STAT_TIMEOUT, 0);
}

static void closed_before_a_byte(void **state)
{
	(void)state;
	close(tcp_connect(test.port));
	expect_stat(&test, RP_STAT_CLOSED_EARLY, 1);
	nobody_at_the_handler();
}

static void ends_in_order(void **state)
{
	int client = tcp_connect(test.port);

	(void)state;
	stream_text(client, "PROXY TCP4");
	shutdown(client, SHUT_WR);
	expect_end(client); /* not a reset: nobody did anything wrong */
	close(client);
	expect_stat(&test, RP_STAT_CLOSED_EARLY, 1);
	nobody_at_the_handler();
}

/* Mode disabled: whatever it is, it is payload. */
static void everything_is_payload(void **state)
{
	int client = tcp_connect(test.port), handler;

	(void)state;
	handler = stream_accept(test.handler); /* before the first byte */
	stream_text(handler, "hello");
	expect_text(client, "hello");
	stream_text(client, RELAYED_V1);
	expect_text(handler, RELAYED_V1);
	close(handler);
	close(client);
	check_whole(V2, V2_LEN, V2, V2_LEN);
}

static void untrusted_is_reset(void **state)
{
	int client;

	(void)state;
	client = tcp_connect_from("127.0.0.9", test.port);
	expect_reset(client);
	close(client);
	expect_stat(&test, RP_STAT_UNTRUSTED, 1);
	nobody_at_the_handler();
}

static void untrusted_refused(int client, int handler, uint64_t count)
{
	expect_reset(client);
	expect_reset(handler); /* and not one byte before it */
	close(client);
	close(handler);
	expect_stat(&test, RP_STAT_UNTRUSTED_HEADER, count);
}

static void untrusted_header(void **state)
{
	static const struct {
		const char *bytes;
		size_t first, len;
	} headers[] = {
		{RELAYED_V1, 0, sizeof(RELAYED_V1) - 1},
		{RELAYED_V1, 3, sizeof(RELAYED_V1) - 1},
		{"PROXY nonsense\r\n", 0, 16},
		{V2, 0, V2_LEN},
		{V2, 11, V2_LEN},
		{V2_SIGNATURE "\xff", 0, 13},
		{"PROXY ", 0, 6},
		{V2_SIGNATURE, 0, 12},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		int client = tcp_connect_from("127.0.0.9", test.port), handler;

		handler = stream_accept(test.handler);
		if (headers[i].first) {
			stream_send(client, headers[i].bytes, headers[i].first);
			sleep_ms(20);
		}
		stream_send(client, headers[i].bytes + headers[i].first,
			    headers[i].len - headers[i].first);
		untrusted_refused(client, handler, i + 1);
	}
}

static void untrusted_plain_clients(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_PLAIN; i++) {
		int client = tcp_connect_from("127.0.0.9", test.port), handler;

		handler = stream_accept(test.handler);
		stream_text(handler, "hello");
		expect_text(client, "hello");
		/* Some are no more than the beginning of a signature. */
		stream_send(client, plain[i].bytes, plain[i].len);
		stream_text(client, "more");
		expect_bytes(handler, plain[i].bytes, plain[i].len);
		expect_text(handler, "more");
		shutdown(client, SHUT_WR);
		expect_end(handler);
		close(handler);
		expect_end(client);
		close(client);
	}
	expect_stat(&test, RP_STAT_UNTRUSTED_HEADER, 0);
	expect_stat(&test, RP_STAT_DIRECT, N_PLAIN);
}

/* Its first bytes are looked at whenever they come. */
static void untrusted_header_late(void **state)
{
	int client = tcp_connect_from("127.0.0.9", test.port), handler;

	(void)state;
	handler = stream_accept(test.handler);
	expect_silence(client, 400);
	stream_text(client, RELAYED_V1);
	untrusted_refused(client, handler, 1);
}

/*
 * Nor does it help to wait with the rest of it. Fails if admission_timeout()
 * opens the gate instead.
 */
static void untrusted_prefix(void **state)
{
	static const char *const begun[] = {"P", "PROXY", "\r", "\r\n\r\n"};

	(void)state;
	for (size_t i = 0; i < sizeof(begun) / sizeof(begun[0]); i++) {
		int client = tcp_connect_from("127.0.0.9", test.port), handler;
		uint64_t start = clock_ms();

		handler = stream_accept(test.handler);
		stream_text(client, begun[i]);
		untrusted_refused(client, handler, i + 1);
		assert_true(clock_ms() - start >= SOON_MS);
	}
}

/* From the first byte on: a byte now and then does not put it off. Likewise. */
static void untrusted_prefix_in_pieces(void **state)
{
	int client = tcp_connect_from("127.0.0.9", test.port), handler;

	(void)state;
	handler = stream_accept(test.handler);
	expect_silence(client, 400);
	drip(client);
	untrusted_refused(client, handler, 1);
}

/* Who says nothing may go on so. Fails if admission_begin() starts the time. */
static void untrusted_silence(void **state)
{
	int client = tcp_connect_from("127.0.0.9", test.port), handler;

	(void)state;
	handler = stream_accept(test.handler);
	expect_silence(client, 500);
	expect_silence(handler, 0);
	stream_text(client, "PROXIMITY");
	expect_text(handler, "PROXIMITY");
	/* What was decided once stays decided. */
	expect_silence(client, 400);
	stream_text(client, "P");
	expect_text(handler, "P");
	close(handler);
	close(client);
	expect_stat(&test, RP_STAT_UNTRUSTED_HEADER, 0);
}

/* With the end of the stream, no header can follow. */
static void untrusted_ends(void **state)
{
	int client = tcp_connect_from("127.0.0.9", test.port), handler;

	(void)state;
	stream_text(client, "PRO");
	shutdown(client, SHUT_WR);
	handler = stream_accept(test.handler);
	expect_text(handler, "PRO");
	expect_end(handler);
	close(handler);
	expect_end(client);
	close(client);
}

int main(void)
{
#define TEST(mode, f) cmocka_unit_test_setup_teardown(f, mode, teardown)
	const struct CMUnitTest tests[] = {
		TEST(required, header_in_two_pieces),
		TEST(enabled, header_in_two_pieces),
		TEST(required, long_header_in_two_pieces),
		TEST(required, header_byte_by_byte),
		TEST(enabled, header_byte_by_byte),
		TEST(required, all_headers),
		TEST(required, large_payload_behind_the_header),
		TEST(required, second_header_is_payload),
		TEST(required, refused),
		TEST(required, refused_in_pieces),
		TEST(enabled, refused_in_enabled_mode),
		TEST(required_soon, deadline),
		TEST(required_soon, deadline_is_from_accept),
		TEST(required, health_checks_are_no_news),
		TEST(required, refusals_are_told_sparingly),
		TEST(enabled, plain_clients),
		TEST(enabled_soon, plain_clients_in_two_pieces),
		TEST(enabled_soon, silent_client),
		TEST(enabled, closed_before_a_byte),
		TEST(required, ends_in_order),
		TEST(disabled, everything_is_payload),
		TEST(required, untrusted_is_reset),
		TEST(enabled, untrusted_is_reset),
		TEST(untrusted_direct, header_in_two_pieces),
		TEST(untrusted_direct, untrusted_header),
		TEST(untrusted_direct, untrusted_plain_clients),
		TEST(untrusted_direct_soon, untrusted_header_late),
		TEST(untrusted_direct_soon, untrusted_prefix),
		TEST(untrusted_direct_soon, untrusted_prefix_in_pieces),
		TEST(untrusted_direct_soon, untrusted_silence),
		TEST(untrusted_direct, untrusted_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
