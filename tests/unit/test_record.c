/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_record.c - user/record.c: a header, kept small and made whole again */
#include "record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "loopback.h"
#include "vectors.h"

static const uint8_t proxy[16] = {[10] = 0xff, 0xff, 127, 0, 0, 2};

/* What rp_connection must say of a vector that is a header. */
static void check(const struct vector *vector)
{
	struct rp_connection got, expected = {
					  .proxy_port = 999,
					  .delivery = 0,
				  };
	struct rp_tlvs got_tlvs, expected_tlvs;
	struct rp_header header;
	struct record record;

	if (vector->verdict != RP_HEADER)
		return;
	assert_int_equal(rp_parse(vector->bytes, vector->len,
				  vector_header_max(vector), &header),
			 RP_HEADER);
	record_begin(&record, proxy, 999);
	assert_int_equal(record_fill(&record, -1, &header, vector->bytes), 0);
	assert_int_equal(record_expand(&record, &got, &got_tlvs),
			 header.present != 0);
	expected.since = record.since;
	memcpy(expected.proxy, proxy, 16);
	memcpy(expected.client, proxy, 16);
	expected.client_port = 999;
	if (header.command == RP_COMMAND_PROXY) {
		memcpy(expected.client, header.source, 16);
		memcpy(expected.destination, header.destination, 16);
		expected.client_port = header.source_port;
		expected.destination_port = header.destination_port;
	}
	expected.version = header.version;
	expected.command = header.command;
	assert_memory_equal(&got, &expected, sizeof(got));
	if (header.present) {
		rp_tlvs_fill(&header, vector->bytes, &expected_tlvs);
		assert_memory_equal(&got_tlvs, &expected_tlvs,
				    sizeof(got_tlvs));
	}
	assert_true(record_agrees(&record, &got));
	record_end(&record);
	assert_null(record.tlvs);
}

static void headers(void **state)
{
	(void)state;
	vectors_each(check);
}

/* A LOCAL header and none at all: the socket's own endpoints. */
static void own_endpoints(void **state)
{
	uint16_t port;
	int listener = tcp_listen(&port), client = tcp_connect(port);
	int fd = stream_accept(listener);
	struct rp_header local = {.version = 2, .length = 16};
	uint8_t destination[16] = {[10] = 0xff, 0xff, 127, 0, 0, 1};
	struct record record;

	(void)state;
	for (int i = 0; i < 2; i++) {
		record_begin(&record, proxy, 999);
		assert_int_equal(
			record_fill(&record, fd, i ? &local : NULL, NULL), 0);
		assert_memory_equal(record.client, proxy, 16);
		assert_int_equal(record.client_port, 999);
		assert_memory_equal(record.destination, destination, 16);
		assert_int_equal(record.destination_port, port);
		assert_int_equal(record.command,
				 i ? RP_COMMAND_LOCAL : RP_COMMAND_DIRECT);
		assert_int_equal(record.version, i ? 2 : 0);
		record_end(&record);
	}
	close(fd);
	close(client);
	close(listener);
}

static void since(void **state)
{
	struct timespec now;
	struct record record;
	uint64_t ns;

	(void)state;
	clock_gettime(CLOCK_BOOTTIME, &now);
	ns = now.tv_sec * 1000000000ull + now.tv_nsec;
	record_begin(&record, proxy, 1);
	assert_true(record.since >= ns && record.since < ns + 1000000000ull);
}

static void disagreement(void **state)
{
	static const size_t offsets[] = {
		offsetof(struct rp_connection, client),
		offsetof(struct rp_connection, client) + 15,
		offsetof(struct rp_connection, destination) + 15,
		offsetof(struct rp_connection, client_port),
		offsetof(struct rp_connection, destination_port),
		offsetof(struct rp_connection, version),
		offsetof(struct rp_connection, command),
	};
	struct record record = {.client_port = 1, .version = 2};
	struct rp_connection claim;
	struct rp_tlvs tlvs;

	(void)state;
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		assert_false(record_expand(&record, &claim, &tlvs));
		assert_true(record_agrees(&record, &claim));
		((uint8_t *)&claim)[offsets[i]] ^= 1;
		assert_false(record_agrees(&record, &claim));
	}
}

static void v4(void **state)
{
	uint8_t ip[16] = {[10] = 0xff, 0xff, 1, 2, 3, 4};

	(void)state;
	assert_true(ip_is_v4(ip));
	for (int i = 0; i < 12; i++) {
		ip[i] ^= 1;
		assert_false(ip_is_v4(ip));
		ip[i] ^= 1;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(headers), cmocka_unit_test(own_endpoints),
		cmocka_unit_test(since),   cmocka_unit_test(disagreement),
		cmocka_unit_test(v4),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
