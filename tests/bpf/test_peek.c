// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * test_peek.c - the TC program of offload peek, on packets that are built
 * here: every vector as the first segment of a connection, and every reason
 * for which a segment is none of its business.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cmocka.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>

#include "vectors.h"
#include "realpeer.skel.h"

#define LISTENER   7
#define PORT	   1883
#define PEER_PORT  40000
#define COOKIE	   0x1122334455667788ull
#define SEQ	   0xfffffffeu
#define PEER	   "198.51.100.9"
#define LOCAL_ADDR "192.0.2.1"

static struct realpeer *realpeer;

static void put(struct bpf_map *map, const void *key, size_t key_size,
		const void *value, size_t value_size)
{
	assert_int_equal(bpf_map__update_elem(map, key, key_size, value,
					      value_size, BPF_ANY),
			 0);
}

static void put_stat(enum rp_stat stat)
{
	struct rp_stat_key key = {.listener = LISTENER, .stat = stat};
	int cpus = libbpf_num_possible_cpus();
	__u64 *zeros = calloc(cpus, sizeof(*zeros));

	put(realpeer->maps.stats, &key, sizeof(key), zeros,
	    cpus * sizeof(*zeros));
	free(zeros);
}

static __u64 stat_of(enum rp_stat stat)
{
	struct rp_stat_key key = {.listener = LISTENER, .stat = stat};
	int cpus = libbpf_num_possible_cpus();
	__u64 *values = calloc(cpus, sizeof(*values)), sum = 0;

	assert_int_equal(bpf_map__lookup_elem(realpeer->maps.stats, &key,
					      sizeof(key), values,
					      cpus * sizeof(*values), 0),
			 0);
	for (int i = 0; i < cpus; i++)
		sum += values[i];
	free(values);
	return sum;
}

static void trust(const char *address, unsigned int length)
{
	struct rp_trusted key = {.prefixlen = 32 + length,
				 .listener = LISTENER};
	__u32 yes = 1;

	vector_address(address, key.address);
	put(realpeer->maps.trusted, &key, sizeof(key), &yes, sizeof(yes));
}

static void configure(__u32 header_max)
{
	struct rp_listener listener = {
		.name = "mqtt",
		.mode = RP_MODE_REQUIRED,
		.delivery = RP_DELIVERY_RELAY,
		.offload = RP_OFFLOAD_PEEK,
		.header_max = header_max,
	};
	__u32 number = LISTENER;

	put(realpeer->maps.listeners, &number, sizeof(number), &listener,
	    sizeof(listener));
}

static int load(void **state)
{
	struct rp_endpoint any4 = {.port = PORT}, any6 = {.port = PORT};
	__u32 number = LISTENER, word = PORT / 64;
	__u64 bits = 1ull << PORT % 64;

	(void)state;
	realpeer = realpeer__open();
	if (!realpeer)
		return -1;
	bpf_program__set_autoload(realpeer->progs.rp_ingress_accept, false);
	if (realpeer__load(realpeer)) {
		fprintf(stderr, "programs not loaded: %s\n", strerror(errno));
		return -1;
	}
	configure(VECTOR_HEADER_MAX);
	vector_address("0.0.0.0", any4.address);
	put(realpeer->maps.endpoints, &any4, sizeof(any4), &number,
	    sizeof(number));
	put(realpeer->maps.endpoints, &any6, sizeof(any6), &number,
	    sizeof(number));
	put(realpeer->maps.ports, &word, sizeof(word), &bits, sizeof(bits));
	trust("198.51.100.0", 96 + 24);
	trust("2001:db8:1::", 48);
	put_stat(RP_STAT_PEEK_RECORDED);
	put_stat(RP_STAT_PEEK_UNDECIDED);
	put_stat(RP_STAT_PEEK_MALFORMED);
	return 0;
}

static int unload(void **state)
{
	(void)state;
	realpeer__destroy(realpeer);
	return 0;
}

struct packet {
	__u16 pad; /* aligns what follows the Ethernet header */
	__u8 bytes[14 + 40 + 60 + RP_KERNEL_HEADER_MAX + 16];
	size_t len;
	struct tcphdr *tcp;
	struct rp_tuple tuple;
};

static void add_tcp(struct packet *packet, size_t at, const void *payload,
		    size_t len)
{
	struct tcphdr *tcp = (struct tcphdr *)(packet->bytes + at);

	tcp->source = htons(PEER_PORT);
	tcp->dest = htons(PORT);
	tcp->seq = htonl(SEQ);
	tcp->ack = 1;
	tcp->doff = 8; /* with 12 bytes of options, all NOP */
	memset(tcp + 1, 1, 12);
	memcpy(packet->bytes + at + 32, payload, len);
	packet->len = at + 32 + len;
	packet->tcp = tcp;
	packet->tuple.peer_port = PEER_PORT;
	packet->tuple.local_port = PORT;
}

static void make4(struct packet *packet, const char *from, const void *payload,
		  size_t len)
{
	struct iphdr *ip = (struct iphdr *)(packet->bytes + ETH_HLEN);

	memset(packet, 0, sizeof(*packet));
	packet->bytes[12] = ETH_P_IP >> 8;
	ip->version = 4;
	ip->ihl = 5;
	ip->ttl = 64;
	ip->protocol = IPPROTO_TCP;
	ip->tot_len = htons(20 + 32 + len);
	inet_pton(AF_INET, from, &ip->saddr);
	inet_pton(AF_INET, LOCAL_ADDR, &ip->daddr);
	add_tcp(packet, ETH_HLEN + 20, payload, len);
	vector_address(from, packet->tuple.peer);
	vector_address(LOCAL_ADDR, packet->tuple.local);
}

static void make6(struct packet *packet, const char *from, const void *payload,
		  size_t len)
{
	struct ip6_hdr *ip = (struct ip6_hdr *)(packet->bytes + ETH_HLEN);

	memset(packet, 0, sizeof(*packet));
	packet->bytes[12] = ETH_P_IPV6 >> 8;
	packet->bytes[13] = ETH_P_IPV6 & 0xff;
	ip->ip6_vfc = 0x60;
	ip->ip6_nxt = IPPROTO_TCP;
	ip->ip6_plen = htons(32 + len);
	inet_pton(AF_INET6, from, &ip->ip6_src);
	inet_pton(AF_INET6, "2001:db8::1", &ip->ip6_dst);
	add_tcp(packet, ETH_HLEN + 40, payload, len);
	vector_address(from, packet->tuple.peer);
	vector_address("2001:db8::1", packet->tuple.local);
}

/* As sockops does it when the socket is established. */
static void await(const struct packet *packet)
{
	struct rp_awaiting first = {
		.cookie = COOKIE,
		.seq = SEQ,
		.listener = LISTENER,
	};

	put(realpeer->maps.awaiting, &packet->tuple, sizeof(packet->tuple),
	    &first, sizeof(first));
}

/* The packet must come out as it went in, whatever it is. */
static void pass(const struct packet *packet)
{
	__u8 out[sizeof(packet->bytes)];
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet->bytes,
		    .data_size_in = packet->len, .data_out = out,
		    .data_size_out = sizeof(out));
	int program = bpf_program__fd(realpeer->progs.rp_ingress_peek);

	assert_int_equal(bpf_prog_test_run_opts(program, &opts), 0);
	assert_int_equal((int)opts.retval, TC_ACT_UNSPEC);
	assert_int_equal(opts.data_size_out, packet->len);
	assert_memory_equal(out, packet->bytes, packet->len);
}

/* Was a record made for the cookie? It is taken away again. */
static bool recorded(const struct packet *packet, struct rp_connection *ret)
{
	__u64 cookie = COOKIE;
	bool found;

	found = bpf_map__lookup_elem(realpeer->maps.connections, &cookie,
				     sizeof(cookie), ret, sizeof(*ret), 0) == 0;
	bpf_map__delete_elem(realpeer->maps.connections, &cookie,
			     sizeof(cookie), 0);
	bpf_map__delete_elem(realpeer->maps.awaiting, &packet->tuple,
			     sizeof(packet->tuple), 0);
	return found;
}

static void check_addresses(const struct vector *vector,
			    const struct packet *packet,
			    const struct rp_header *expected,
			    const struct rp_connection *record)
{
	if (expected->command == RP_COMMAND_PROXY) {
		assert_memory_equal(record->client, expected->source, 16);
		assert_memory_equal(record->destination, expected->destination,
				    16);
		assert_int_equal(record->client_port, expected->source_port);
		assert_int_equal(record->destination_port,
				 expected->destination_port);
		return;
	}
	print_message("%s: own endpoints\n", vector->name);
	assert_memory_equal(record->client, packet->tuple.peer, 16);
	assert_memory_equal(record->destination, packet->tuple.local, 16);
	assert_int_equal(record->client_port, PEER_PORT);
	assert_int_equal(record->destination_port, PORT);
}

static void check_packet(const struct vector *vector,
			 const struct packet *packet)
{
	struct rp_connection record;
	struct rp_header expected;

	vector_expected(vector, &expected);
	await(packet);
	pass(packet);
	if (vector->verdict != RP_HEADER) {
		if (recorded(packet, &record))
			fail_msg("%s: recorded", vector->name);
		return;
	}
	if (!recorded(packet, &record))
		fail_msg("%s: not recorded", vector->name);
	check_addresses(vector, packet, &expected, &record);
	assert_memory_equal(record.proxy, packet->tuple.peer, 16);
	assert_int_equal(record.proxy_port, PEER_PORT);
	assert_int_equal(record.version, expected.version);
	assert_int_equal(record.command, expected.command);
	assert_int_equal(record.listener, LISTENER);
	assert_int_equal(record.offload, RP_OFFLOAD_PEEK);
	assert_int_equal(record.shown, 0);
	assert_string_equal(record.listener_name, "mqtt");
	assert_int_equal(record.tlvs, 0);
}

static void check_vector(const struct vector *vector)
{
	struct packet packet;

	if (vector->len == 0 || vector->len > RP_KERNEL_HEADER_MAX)
		return;
	configure(vector_header_max(vector));
	make4(&packet, PEER, vector->bytes, vector->len);
	check_packet(vector, &packet);
	make6(&packet, "2001:db8:1::9", vector->bytes, vector->len);
	check_packet(vector, &packet);
}

static void test_vectors(void **state)
{
	(void)state;
	vectors_each(check_vector);
	configure(VECTOR_HEADER_MAX);
	assert_true(stat_of(RP_STAT_PEEK_RECORDED) > 0);
	assert_true(stat_of(RP_STAT_PEEK_UNDECIDED) > 0);
	assert_true(stat_of(RP_STAT_PEEK_MALFORMED) > 0);
}

static const char header[] = "PROXY TCP4 203.0.113.7 192.0.2.1 4711 1883\r\nx";

static bool is_recorded(const struct packet *packet)
{
	struct rp_connection record;

	pass(packet);
	return recorded(packet, &record);
}

static void test_not_first(void **state)
{
	struct packet packet;

	(void)state;
	make4(&packet, PEER, header, sizeof(header) - 1);
	await(&packet);
	packet.tcp->seq = htonl(SEQ + 1);
	assert_false(is_recorded(&packet));
	/* Nobody awaits it, and it has no socket. */
	packet.tcp->seq = htonl(SEQ);
	assert_false(is_recorded(&packet));
	await(&packet);
	assert_true(is_recorded(&packet));
}

static void test_once(void **state)
{
	struct packet packet;

	(void)state;
	make4(&packet, PEER, header, sizeof(header) - 1);
	await(&packet);
	pass(&packet);
	assert_true(is_recorded(&packet));
	/* The retransmission of it finds that it is done. */
	assert_false(is_recorded(&packet));
}

static void test_untrusted(void **state)
{
	struct packet packet;

	(void)state;
	make4(&packet, "198.51.101.9", header, sizeof(header) - 1);
	await(&packet);
	assert_false(is_recorded(&packet));
	make6(&packet, "2001:db8:2::9", header, sizeof(header) - 1);
	await(&packet);
	assert_false(is_recorded(&packet));
}

static void test_flags(void **state)
{
	struct packet packet;

	(void)state;
	make4(&packet, PEER, header, sizeof(header) - 1);
	await(&packet);
	packet.tcp->syn = 1;
	assert_false(is_recorded(&packet));
	packet.tcp->syn = 0;
	packet.tcp->rst = 1;
	await(&packet);
	assert_false(is_recorded(&packet));
}

/* Another port, another station's frame, fragments, other protocols. */
static void test_not_ours(void **state)
{
	struct packet packet, first;

	(void)state;
	make4(&first, PEER, header, sizeof(header) - 1);
	await(&first);
	packet = first;
	((struct tcphdr *)(packet.bytes + ETH_HLEN + 20))->dest = htons(1884);
	pass(&packet);
	packet = first;
	packet.bytes[0] = 2;
	pass(&packet);
	packet = first;
	packet.bytes[ETH_HLEN + 6] = 0x20; /* more fragments */
	pass(&packet);
	packet = first;
	packet.bytes[ETH_HLEN + 9] = IPPROTO_UDP;
	pass(&packet);
	packet = first;
	packet.bytes[12] = 0x88;
	pass(&packet);
	/* After all that the real one is still the first. */
	assert_true(is_recorded(&first));
}

/* Too short for what its own fields say. */
static void test_truncated(void **state)
{
	struct packet packet;

	(void)state;
	make4(&packet, PEER, header, sizeof(header) - 1);
	await(&packet);
	/* The kernel itself refuses to run a packet without an IP header. */
	for (size_t len = ETH_HLEN + 20; len < packet.len; len++) {
		struct packet cut = packet;

		cut.len = len;
		pass(&cut);
	}
	assert_true(is_recorded(&packet));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_not_first),
		cmocka_unit_test(test_once),
		cmocka_unit_test(test_untrusted),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_not_ours),
		cmocka_unit_test(test_truncated),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
