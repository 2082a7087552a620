/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_registry.c - user/registry.c with the kernel part: what handlers see
 * of relayed connections, and one entry for each while it lives.
 */
#include "registry.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <cmocka.h>

#include "connection.h"
#include "relayed.h"

#define V2                                                               \
	"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc0\0\x02\x01" \
	"\x15\xb3\0P"
#define V2_LEN	28
#define V6_LINE "PROXY TCP6 2001:db8::7 2001:db8::1 5555 80\r\n"

static char directory[64];
static struct datapath *datapath;
static struct relayed test;

static void bring_loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &request), 0);
	request.ifr_flags |= IFF_UP;
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
	close(fd);
}

static int group_setup(void **state)
{
	struct datapath_features features;

	(void)state;
	snprintf(directory, sizeof(directory), "/sys/fs/bpf/rp-registry-%d",
		 getpid());
	setenv("REALPEER_BPFFS", directory, 1);
	if (unshare(CLONE_NEWNET))
		return -1;
	bring_loopback_up();
	datapath_probe(&features);
	if (features.offload < RP_OFFLOAD_PEEK)
		return -1;
	return datapath_open(&features, &datapath);
}

static int group_teardown(void **state)
{
	(void)state;
	datapath_close(datapath, true);
	return 0;
}

static size_t count_in(const char *name)
{
	uint8_t key[sizeof(struct rp_tuple)], next[sizeof(key)];
	void *from = NULL;
	char path[128];
	size_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = bpf_obj_get(path);
	assert_true(fd >= 0);
	for (; bpf_map_get_next_key(fd, from, next) == 0; n++)
		from = memcpy(key, next, sizeof(key));
	close(fd);
	return n;
}

static size_t count_entries(void)
{
	return count_in("connections");
}

/* Every record has left with its connection, and what led to it as well. */
static bool is_empty(void *argument)
{
	(void)argument;
	return count_entries() == 0 && count_in("outgoing") == 0 &&
	       count_in("announced") == 0;
}

static void start(const char *settings)
{
	test.datapath = datapath;
	relayed_start(&test, settings);
}

static int teardown(void **state)
{
	(void)state;
	wait_until(is_empty, NULL);
	relayed_stop(&test);
	return 0;
}

static void expect_peer(int fd, const char *ip, uint16_t port)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	char text[ENDPOINT_TEXT_MAX], expected[ENDPOINT_TEXT_MAX];
	uint8_t peer[16];
	uint16_t peer_port;

	assert_int_equal(getpeername(fd, (struct sockaddr *)&address, &len), 0);
	address_split((struct sockaddr *)&address, peer, &peer_port);
	snprintf(expected, sizeof(expected),
		 strchr(ip, ':') ? "[%s]:%u" : "%s:%u", ip, port);
	assert_string_equal(endpoint_format(peer, peer_port, text), expected);
}

/* The entry of the handler's socket, or of the daemon's. */
static void expect_entry(uint64_t cookie, const char *client, bool shown)
{
	struct rp_connection record;
	char text[ENDPOINT_TEXT_MAX];

	assert_int_equal(count_entries(), 1);
	assert_int_equal(datapath_lookup(datapath, cookie, &record), 0);
	assert_string_equal(endpoint_format(record.client, record.client_port,
					    text),
			    client);
	assert_int_equal(record.listener, test.number);
	assert_string_equal(record.listener_name, "test");
	assert_int_equal(record.delivery, RP_DELIVERY_RELAY);
	assert_int_equal(record.shown, shown);
}

static void take_cookie(uint64_t cookie, const struct rp_connection *record,
			const struct rp_tlvs *tlvs, void *argument)
{
	(void)record;
	(void)tlvs;
	*(uint64_t *)argument = cookie;
}

static uint64_t listed_cookie(void)
{
	uint64_t cookie = 0;

	server_connections(test.server, take_cookie, &cookie);
	assert_true(cookie != 0);
	return cookie;
}

static void shown_to_the_handler(void)
{
	int client = tcp_connect(test.port), handler;

	stream_text(client, RELAYED_V1);
	handler = stream_accept(test.handler);
	expect_peer(handler, RELAYED_CLIENT, 5555);
	expect_entry(socket_cookie(handler), RELAYED_CLIENT ":5555", true);
	stream_text(client, "question");
	expect_text(handler, "question");
	close(client);
	expect_end(handler);
	close(handler);
	wait_until(is_empty, NULL);
}

static void getpeername_without_peek(void **state)
{
	(void)state;
	start("client_address = getpeername\noffload = off");
	shown_to_the_handler();
	expect_stat(&test, RP_STAT_PEEKED, 0);
}

/* The kernel's record of the daemon's socket gives way to the handler's. */
static void getpeername_with_peek(void **state)
{
	(void)state;
	start("client_address = getpeername\noffload = peek");
	shown_to_the_handler();
	expect_stat(&test, RP_STAT_PEEKED, 1);
	expect_stat(&test, RP_STAT_PEEK_MISMATCH, 0);
}

static void without_a_header(void **state)
{
	int client, handler;

	(void)state;
	start("client_address = getpeername\nproxy_protocol = enabled\n"
	      "offload = peek\nuntrusted = direct");
	client = tcp_connect_from("127.0.0.9", test.port);
	handler = stream_accept(test.handler);
	expect_peer(handler, "127.0.0.9", local_port(client));
	assert_int_equal(count_entries(), 1);
	close(client);
	close(handler);
	wait_until(is_empty, NULL);
	client = tcp_connect(test.port);
	stream_text(client, "plain");
	handler = stream_accept(test.handler);
	expect_peer(handler, "127.0.0.1", local_port(client));
	assert_int_equal(count_entries(), 1);
	close(client);
	close(handler);
}

static void *accept_later(void *argument)
{
	(void)argument;
	sleep_ms(200);
	close(stream_accept(test.handler));
	return NULL;
}

/*
 * A unix handler that has no room at first is tried again, and what the kernel
 * read is compared once. Fails without c->recorded in registry_add().
 */
static void handler_busy(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const struct sockaddr *to = (struct sockaddr *)&address;
	pthread_t thread;
	int client, filler, handler;
	char text[160];

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path),
		 "/tmp/realpeer-test-%d.sock", getpid());
	snprintf(text, sizeof(text),
		 "client_address = none\noffload = peek\nhandler = unix:%s",
		 address.sun_path);
	unlink(address.sun_path);
	start(text);
	close(test.handler);
	test.handler = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	filler = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(test.handler, to, sizeof(address)), 0);
	assert_int_equal(listen(test.handler, 0), 0);
	assert_int_equal(connect(filler, to, sizeof(address)), 0);
	client = tcp_connect(test.port);
	stream_text(client, RELAYED_V1 "hello");
	pthread_create(&thread, NULL, accept_later, NULL);
	expect_stat(&test, RP_STAT_CONNECTIONS, 1);
	pthread_join(thread, NULL);
	handler = stream_accept(test.handler);
	expect_text(handler, "hello");
	expect_entry(listed_cookie(), RELAYED_CLIENT ":5555", false);
	expect_stat(&test, RP_STAT_PEEKED, 1);
	expect_stat(&test, RP_STAT_PEEK_MISMATCH, 0);
	close(client);
	close(handler);
	close(filler);
	unlink(address.sun_path);
}

/* The entry is the daemon's socket's, and the handler sees the daemon. */
static void check_not_shown(const char *header, size_t len, const char *client)
{
	int fd = tcp_connect(test.port), handler;
	struct sockaddr_in address;
	socklen_t address_len = sizeof(address);

	stream_send(fd, header, len);
	handler = stream_accept(test.handler);
	expect_stat(&test, RP_STAT_CONNECTIONS, 1);
	assert_int_equal(getpeername(handler, (struct sockaddr *)&address,
				     &address_len),
			 0);
	assert_int_equal(address.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	expect_entry(listed_cookie(), client, false);
	close(fd);
	close(handler);
	wait_until(is_empty, NULL);
}

static void not_shown(void **state)
{
	(void)state;
	start("client_address = none\noffload = off");
	check_not_shown(V2, V2_LEN, RELAYED_CLIENT ":5555");
	relayed_stop(&test);
	start("client_address = none\noffload = peek");
	check_not_shown(V2, V2_LEN, RELAYED_CLIENT ":5555");
	expect_stat(&test, RP_STAT_PEEKED, 1);
}

/* An IPv4 handler cannot be shown an IPv6 client, but the record has it. */
static void other_family(void **state)
{
	(void)state;
	start("client_address = getpeername\noffload = peek");
	check_not_shown(V6_LINE, strlen(V6_LINE), "[2001:db8::7]:5555");
	expect_stat(&test, RP_STAT_FAMILY_MISMATCH, 1);
}

/* Too many pieces for the kernel: the daemon's record counts. */
static void header_in_pieces(void **state)
{
	int client, handler;

	(void)state;
	start("client_address = getpeername\noffload = peek");
	client = tcp_connect(test.port);
	stream_send(client, V2, 10);
	sleep_ms(20);
	stream_send(client, V2 + 10, V2_LEN - 10);
	handler = stream_accept(test.handler);
	expect_peer(handler, RELAYED_CLIENT, 5555);
	expect_entry(socket_cookie(handler), RELAYED_CLIENT ":5555", true);
	expect_stat(&test, RP_STAT_PEEKED, 0);
	close(client);
	close(handler);
}

/* Nothing stays behind of connections that came to nothing. */
static void handler_down(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		int client;

		start(i ? "client_address = none\noffload = peek"
			: "client_address = getpeername\noffload = peek");
		close(test.handler);
		client = tcp_connect(test.port);
		stream_text(client, RELAYED_V1);
		expect_reset(client);
		close(client);
		expect_stat(&test, RP_STAT_HANDLER_FAILED, 1);
		wait_until(is_empty, NULL);
		test.handler = tcp_listen(&test.handler_port);
		if (i == 0)
			relayed_stop(&test);
	}
}

/* However they end, all at once and in any order. */
static void many(void **state)
{
	(void)state;
	start("client_address = none\noffload = peek");
	for (int i = 0; i < 200; i++) {
		int client = tcp_connect(test.port), handler;

		stream_text(client, RELAYED_V1);
		if (i % 5 == 0) {
			stream_reset(client);
			close(stream_accept(test.handler));
			continue;
		}
		handler = stream_accept(test.handler);
		if (i % 3 == 0)
			stream_reset(handler);
		else
			close(handler);
		if (i % 2)
			stream_reset(client);
		else
			close(client);
	}
	expect_idle(&test);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(getpeername_without_peek, teardown),
		cmocka_unit_test_teardown(getpeername_with_peek, teardown),
		cmocka_unit_test_teardown(without_a_header, teardown),
		cmocka_unit_test_teardown(not_shown, teardown),
		cmocka_unit_test_teardown(other_family, teardown),
		cmocka_unit_test_teardown(header_in_pieces, teardown),
		cmocka_unit_test_teardown(handler_down, teardown),
		cmocka_unit_test_teardown(handler_busy, teardown),
		cmocka_unit_test_teardown(many, teardown),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
