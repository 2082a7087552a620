/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_emit.c - user/emit.c: headers that are sent on, read by the parser */
#include "emit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vectors.h"

static uint8_t out[EMIT_V2_MAX];

static struct record make(const char *client, uint16_t client_port,
			  const char *destination, uint16_t destination_port)
{
	struct record record = {
		.command = RP_COMMAND_PROXY,
		.client_port = client_port,
		.destination_port = destination_port,
	};

	vector_address(client, record.client);
	vector_address(destination, record.destination);
	return record;
}

static void expect_v1(const struct record *record, const char *line)
{
	assert_int_equal(emit_v1(record, out), strlen(line));
	assert_memory_equal(out, line, strlen(line));
}

static void v1(void **state)
{
	struct record record = make("203.0.113.7", 1, "192.0.2.1", 65535);

	(void)state;
	expect_v1(&record, "PROXY TCP4 203.0.113.7 192.0.2.1 1 65535\r\n");
	record.command = RP_COMMAND_DIRECT;
	expect_v1(&record, "PROXY TCP4 203.0.113.7 192.0.2.1 1 65535\r\n");
	record.command = RP_COMMAND_LOCAL;
	expect_v1(&record, "PROXY UNKNOWN\r\n");
	record = make("2001:db8::7", 5555, "2001:db8::1", 80);
	expect_v1(&record, "PROXY TCP6 2001:db8::7 2001:db8::1 5555 80\r\n");
	/* Only one of them is IPv4. */
	record = make("203.0.113.7", 5555, "2001:db8::1", 80);
	expect_v1(&record,
		  "PROXY TCP6 ::ffff:203.0.113.7 2001:db8::1 5555 80\r\n");
	record = make("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", 65535,
		      "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", 65535);
	assert_true(emit_v1(&record, out) <= RP_V1_MAX);
}

static void v2(void **state)
{
	static const uint8_t v4[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
				    "\xcb\0\x71\x07\xc0\0\x02\x01\x15\xb3\0P";
	struct record record = make("203.0.113.7", 5555, "192.0.2.1", 80);

	(void)state;
	assert_int_equal(emit_v2(&record, NULL, 0, 0, out), 28);
	assert_memory_equal(out, v4, 28);
	record.command = RP_COMMAND_LOCAL;
	assert_int_equal(emit_v2(&record, NULL, 0, 0, out), 16);
	assert_memory_equal(out, "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 16);
	record = make("2001:db8::7", 5555, "192.0.2.1", 80);
	assert_int_equal(emit_v2(&record, NULL, 0, 0, out), 52);
	assert_int_equal(out[13], 0x21);
}

/* Whatever a header says is said by the one that is sent on. */
static void check_both(const struct vector *vector)
{
	struct rp_header header, again;
	struct record record = {0};
	size_t len;

	if (vector->verdict != RP_HEADER || !vector->source)
		return;
	rp_parse(vector->bytes, vector->len, vector_header_max(vector),
		 &header);
	assert_int_equal(record_fill(&record, -1, &header, vector->bytes), 0);
	for (int version = 1; version <= 2; version++) {
		len = version == 1 ? emit_v1(&record, out)
				   : emit_v2(&record, NULL, 0, 0, out);
		assert_int_equal(rp_parse(out, len, 65535, &again), RP_HEADER);
		assert_int_equal(again.length, len);
		assert_int_equal(again.version, version);
		assert_int_equal(again.command, RP_COMMAND_PROXY);
		assert_memory_equal(again.source, header.source, 16);
		assert_memory_equal(again.destination, header.destination, 16);
		assert_int_equal(again.source_port, header.source_port);
		assert_int_equal(again.destination_port,
				 header.destination_port);
	}
	record_end(&record);
}

static void headers(void **state)
{
	(void)state;
	vectors_each(check_both);
}

/* With all that may be forwarded, and with each alone. */
static void check_tlvs(const struct vector *vector)
{
	static const uint16_t all = RP_TLV_AUTHORITY | RP_TLV_UNIQUE_ID |
				    RP_TLV_AWS_VPCE_ID | RP_TLV_ALPN |
				    RP_TLV_SSL | RP_TLV_AZURE_LINK_ID |
				    RP_TLV_GCP_PSC_ID;
	struct rp_header header, again;
	struct record record = {0};

	if (vector->verdict != RP_HEADER || vector->header.version != 2 ||
	    !vector->source)
		return;
	rp_parse(vector->bytes, vector->len, vector_header_max(vector),
		 &header);
	assert_int_equal(record_fill(&record, -1, &header, vector->bytes), 0);
	for (unsigned int bits = 0; bits <= all; bits = bits ? bits * 2 : 1) {
		uint16_t wanted = bits > all / 2 ? all : bits & all;
		struct rp_tlvs kept;
		size_t len;

		len = emit_v2(&record, vector->bytes, header.length, wanted,
			      out);
		assert_int_equal(rp_parse(out, len, 65535, &again), RP_HEADER);
		assert_int_equal(again.length, len);
		/* The CN is part of the SSL TLV. */
		assert_int_equal(again.present & ~RP_TLV_SSL_CN,
				 header.present & wanted);
		rp_tlvs_fill(&again, out, &kept);
		if (wanted == all) {
			struct rp_tlvs before;

			rp_tlvs_fill(&header, vector->bytes, &before);
			assert_memory_equal(&kept, &before, sizeof(kept));
		}
	}
	record_end(&record);
}

static void tlvs(void **state)
{
	(void)state;
	vectors_each(check_tlvs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(v1),
		cmocka_unit_test(v2),
		cmocka_unit_test(headers),
		cmocka_unit_test(tlvs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
