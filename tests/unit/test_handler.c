/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_handler.c - user/handler.c: handlers that answer, that don't, and what
 * they are told of the client.
 */
#include "handler.h"

#include <dirent.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "relayed.h"

#define V2_START "\r\n\r\n\0\r\nQUIT\n"

/* Client 203.0.113.7:5555 to 192.0.2.1:80. */
#define V2_BLOCK "\xcb\0\x71\x07\xc0\0\x02\x01\x15\xb3\0P"

#define AUTHORITY    \
	"\x02\0\x0b" \
	"example.net"
#define UNIQUE_ID    \
	"\x05\0\x04" \
	"id42"
#define NOOP         \
	"\x04\0\x02" \
	"zz"

static struct relayed test;

static int teardown(void **state)
{
	(void)state;
	relayed_stop(&test);
	return 0;
}

static void check_first(int client, const char *expected, size_t len)
{
	int handler = stream_accept(test.handler);

	expect_bytes(handler, expected, len);
	stream_text(handler, "answer");
	expect_text(client, "answer");
	stream_text(client, "more");
	expect_text(handler, "more");
	expect_silence(handler, 10);
	close(handler);
	expect_end(client);
	close(client);
}

/* Sends `input`; the handler must read exactly `expected`. */
static void check(const char *input, size_t input_len, const char *expected,
		  size_t len)
{
	int client = tcp_connect(test.port);

	stream_send(client, input, input_len);
	check_first(client, expected, len);
}

#define CHECK(input, expected) \
	check(input, sizeof(input) - 1, expected, sizeof(expected) - 1)

static int setup_v1(void **state)
{
	(void)state;
	relayed_start(&test, "client_address = proxy-v1\n"
			     "proxy_protocol = enabled\n"
			     "untrusted = direct");
	return 0;
}

static void proxy_v1(void **state)
{
	char line[128];
	int client;

	(void)state;
	CHECK(RELAYED_V1 "payload", RELAYED_V1 "payload");
	CHECK(V2_START "\x21\x11\0\x0c" V2_BLOCK "payload",
	      RELAYED_V1 "payload");
	CHECK(V2_START "\x20\0\0\0"
		       "payload",
	      "PROXY UNKNOWN\r\npayload");
	CHECK("PROXY UNKNOWN anything\r\npayload", "PROXY UNKNOWN\r\npayload");
	CHECK("PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\npayload",
	      "PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\npayload");
	/* A client without a header is told as what it is. */
	client = tcp_connect(test.port);
	stream_text(client, "payload");
	snprintf(line, sizeof(line),
		 "PROXY TCP4 127.0.0.1 127.0.0.1 %u %u\r\n"
		 "payload",
		 local_port(client), test.port);
	check_first(client, line, strlen(line));
	/* So is one that is not trusted, before it says anything. */
	client = tcp_connect_from("127.0.0.9", test.port);
	snprintf(line, sizeof(line), "PROXY TCP4 127.0.0.9 127.0.0.1 %u %u\r\n",
		 local_port(client), test.port);
	check_first(client, line, strlen(line));
}

static int setup_v2(void **state)
{
	(void)state;
	relayed_start(&test, "client_address = proxy-v2\n"
			     "proxy_protocol = enabled");
	return 0;
}

static void proxy_v2(void **state)
{
	(void)state;
	CHECK(RELAYED_V1 "payload",
	      V2_START "\x21\x11\0\x0c" V2_BLOCK "payload");
	CHECK(V2_START "\x21\x11\0\x26" V2_BLOCK AUTHORITY UNIQUE_ID NOOP
		       "payload",
	      V2_START "\x21\x11\0\x0c" V2_BLOCK "payload");
	CHECK(V2_START "\x20\x11\0\x07" UNIQUE_ID "payload",
	      V2_START "\x20\0\0\0"
		       "payload");
}

static int setup_tlvs(void **state)
{
	(void)state;
	relayed_start(&test, "client_address = proxy-v2\n"
			     "forward_tlvs = unique_id");
	return 0;
}

static void proxy_v2_tlvs(void **state)
{
	(void)state;
	CHECK(V2_START "\x21\x11\0\x26" V2_BLOCK AUTHORITY UNIQUE_ID NOOP
		       "payload",
	      V2_START "\x21\x11\0\x13" V2_BLOCK UNIQUE_ID "payload");
	CHECK(RELAYED_V1 "payload",
	      V2_START "\x21\x11\0\x0c" V2_BLOCK "payload");
}

static int setup_down(void **state)
{
	char text[128];

	(void)state;
	snprintf(text, sizeof(text),
		 "handler = 127.0.0.1:%u\n"
		 "proxy_protocol = enabled\n"
		 "untrusted = direct",
		 port_free());
	relayed_start(&test, text);
	return 0;
}

static void down(void **state)
{
	int client = tcp_connect(test.port);

	(void)state;
	stream_text(client, RELAYED_V1 "payload");
	expect_reset(client);
	close(client);
	expect_stat(&test, RP_STAT_HANDLER_FAILED, 1);
	/* Without a byte to send it is noticed as well. */
	client = tcp_connect(test.port);
	stream_text(client, RELAYED_V1);
	expect_reset(client);
	close(client);
	expect_stat(&test, RP_STAT_HANDLER_FAILED, 2);
	client = tcp_connect_from("127.0.0.9", test.port);
	expect_reset(client);
	close(client);
	expect_stat(&test, RP_STAT_HANDLER_FAILED, 3);
	expect_stat(&test, RP_STAT_CONNECTIONS, 0);
}

static char unix_path[64];

static int unix_listen(int backlog)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(unix_path, sizeof(unix_path), "/tmp/realpeer-test-%d.sock",
		 getpid());
	unlink(unix_path);
	strcpy(address.sun_path, unix_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)),
			 0);
	assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static void start_unix(const char *settings)
{
	char text[256];

	snprintf(text, sizeof(text), "handler = unix:%s\n%s", unix_path,
		 settings);
	relayed_start(&test, text);
}

static void unix_handler(void **state)
{
	int listener = unix_listen(10), client, handler;

	(void)state;
	start_unix("client_address = proxy-v1");
	for (int with_payload = 0; with_payload < 2; with_payload++) {
		client = tcp_connect(test.port);
		stream_text(client, RELAYED_V1);
		if (with_payload)
			stream_text(client, "payload");
		handler = stream_accept(listener);
		expect_text(handler, RELAYED_V1);
		if (!with_payload)
			stream_text(client, "payload");
		expect_text(handler, "payload");
		stream_text(handler, "answer");
		shutdown(handler, SHUT_WR);
		expect_text(client, "answer");
		expect_end(client);
		shutdown(client, SHUT_WR);
		expect_end(handler);
		close(handler);
		close(client);
	}
	expect_idle(&test);
	close(listener);
	/* Nobody listens any more. */
	client = tcp_connect(test.port);
	stream_text(client, RELAYED_V1);
	expect_reset(client);
	close(client);
	expect_stat(&test, RP_STAT_HANDLER_FAILED, 1);
	relayed_stop(&test);
	unlink(unix_path);
}

/* A backlog of one takes two; the third waits until there is room. */
static void unix_handler_is_busy(void **state)
{
	int listener = unix_listen(0), clients[4];

	(void)state;
	start_unix("");
	for (int i = 0; i < 4; i++) {
		clients[i] = tcp_connect(test.port);
		stream_text(clients[i], RELAYED_V1 "payload");
	}
	sleep_ms(100);
	assert_true(server_stat(test.server, RELAYED_LISTENER,
				RP_STAT_CONNECTIONS) < 4);
	for (int i = 0; i < 4; i++) {
		int handler = stream_accept(listener);

		expect_text(handler, "payload");
		close(handler);
	}
	expect_stat(&test, RP_STAT_CONNECTIONS, 4);
	expect_stat(&test, RP_STAT_HANDLER_FAILED, 0);
	for (int i = 0; i < 4; i++)
		close(clients[i]);
	close(listener);
	relayed_stop(&test);
	unlink(unix_path);
}

/* So many that a backlog of one is full. */
#define FILLERS 2

static bool is_full(void *listener)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	return getsockopt(*(int *)listener, IPPROTO_TCP, TCP_INFO, &info,
			  &len) == 0 &&
	       info.tcpi_unacked == FILLERS;
}

/*
 * A listener whose queue is full and that ignores the SYN. All fillers are in
 * the queue: one whose SYN was ignored as well would come again later, and
 * take the place that is meant for the daemon.
 */
static int deaf_listener(uint16_t *port, int fillers[static FILLERS])
{
	int listener = tcp_listen(port);

	assert_int_equal(listen(listener, FILLERS - 1), 0);
	for (int i = 0; i < FILLERS; i++)
		fillers[i] = tcp_connect(*port);
	wait_until(is_full, &listener);
	return listener;
}

/* Takes the fillers out of the queue: the next SYN is answered. */
static void make_room(int listener, const int fillers[static FILLERS])
{
	for (int i = 0; i < FILLERS; i++) {
		close(stream_accept(listener));
		close(fillers[i]);
	}
}

/* Has the daemon sent a SYN to this port that was ignored? */
static bool is_connecting(void *port)
{
	FILE *sockets = fopen("/proc/net/tcp", "re");
	unsigned int remote, state;
	bool found = false;
	char line[256];

	assert_non_null(sockets);
	while (!found && fgets(line, sizeof(line), sockets))
		found = sscanf(line, "%*d: %*x:%*x %*x:%x %x", &remote,
			       &state) == 2 &&
			remote == *(uint16_t *)port && state == TCP_SYN_SENT;
	fclose(sockets);
	return found;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

/* A handler that never answers is given up on, and what was held is freed. */
static void deaf_handler(void **state)
{
	uint16_t port;
	int fillers[FILLERS], listener = deaf_listener(&port, fillers), client;
	uint64_t start = now_ms();
	char text[64];

	(void)state;
	snprintf(text, sizeof(text), "handler = 127.0.0.1:%u", port);
	relayed_start(&test, text);
	client = tcp_connect(test.port);
	stream_text(client, RELAYED_V1 "payload");
	expect_silence(client, HANDLER_TIMEOUT_MS / 2);
	expect_reset(client);
	assert_true(now_ms() - start >= HANDLER_TIMEOUT_MS);
	close(client);
	expect_stat(&test, RP_STAT_HANDLER_FAILED, 1);
	make_room(listener, fillers);
	close(listener);
	relayed_stop(&test);
}

/*
 * Held bytes and what comes meanwhile arrive in order when it does answer;
 * our header is not mixed up with what a client that is not trusted says.
 */
static void check_slow(const char *source, const char *header)
{
	uint16_t port;
	int fillers[FILLERS], listener = deaf_listener(&port, fillers);
	int client, handler;
	char text[128];

	snprintf(text, sizeof(text),
		 "handler = 127.0.0.1:%u\n"
		 "client_address = proxy-v1\n"
		 "untrusted = direct",
		 port);
	relayed_start(&test, text);
	client = tcp_connect_from(source, test.port);
	stream_text(client, header);
	stream_text(client, "first, ");
	wait_until(is_connecting, &port);
	stream_text(client, "second");
	shutdown(client, SHUT_WR);
	if (!*header) {
		snprintf(text, sizeof(text),
			 "PROXY TCP4 %s 127.0.0.1 %u %u\r\n", source,
			 local_port(client), test.port);
		header = text;
	}
	/* The SYN comes again after one second. */
	make_room(listener, fillers);
	handler = stream_accept(listener);
	expect_text(handler, header);
	expect_text(handler, "first, second");
	expect_end(handler);
	close(handler);
	expect_end(client);
	close(client);
	close(listener);
	relayed_stop(&test);
}

static void slow_handler(void **state)
{
	(void)state;
	check_slow("127.0.0.1", RELAYED_V1);
	check_slow("127.0.0.9", "");
}

/* No descriptor for the handler: the client is told, nothing hangs. */
static int setup_plain(void **state)
{
	(void)state;
	relayed_start(&test, "");
	return 0;
}

static size_t open_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(directory);
	while (readdir(directory))
		n++;
	closedir(directory);
	return n;
}

/* Both ends have one. */
static bool is_accepted(void *before)
{
	return open_descriptors() >= *(size_t *)before + 2;
}

static void no_descriptors(void **state)
{
	size_t n = open_descriptors();
	struct rlimit before, few;
	int client = tcp_connect(test.port), probe;

	(void)state;
	wait_until(is_accepted, &n);
	probe = dup(0);
	close(probe);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = probe;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	stream_text(client, RELAYED_V1);
	expect_reset(client);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	close(client);
	expect_stat(&test, RP_STAT_RESOURCE, 1);
	expect_stat(&test, RP_STAT_HANDLER_FAILED, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(proxy_v1, setup_v1, teardown),
		cmocka_unit_test_setup_teardown(proxy_v2, setup_v2, teardown),
		cmocka_unit_test_setup_teardown(proxy_v2_tlvs, setup_tlvs,
						teardown),
		cmocka_unit_test_setup_teardown(down, setup_down, teardown),
		cmocka_unit_test(unix_handler),
		cmocka_unit_test(unix_handler_is_busy),
		cmocka_unit_test(deaf_handler),
		cmocka_unit_test(slow_handler),
		cmocka_unit_test_setup_teardown(no_descriptors, setup_plain,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
