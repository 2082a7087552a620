/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_view.c - user/view.c: the JSON that others read */
#include "view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "address.h"

static void put_ip(uint8_t out[16], const char *text)
{
	struct prefix prefix;

	assert_int_equal(prefix_parse(text, &prefix), 0);
	memcpy(out, prefix.address, 16);
}

static struct rp_connection example(void)
{
	struct rp_connection record = {
		.client_port = 50000,
		.proxy_port = 40000,
		.destination_port = 1883,
		.version = 2,
		.command = RP_COMMAND_PROXY,
		.delivery = RP_DELIVERY_RELAY,
		.offload = RP_OFFLOAD_PEEK,
		.listener_name = "mqtt",
	};

	put_ip(record.client, "203.0.113.7");
	put_ip(record.proxy, "10.0.0.2");
	put_ip(record.destination, "198.51.100.1");
	return record;
}

/* The connection as compact JSON, its time replaced by "T". */
static char *shown(uint64_t cookie, const struct rp_connection *record)
{
	json_t *json = view_connection(cookie, record, NULL);
	char *text;

	assert_non_null(json);
	assert_int_equal(
		strlen(json_string_value(json_object_get(json, "since"))),
		strlen("2026-01-01T00:00:00.000Z"));
	assert_int_equal(json_object_set_new(json, "since", json_string("T")),
			 0);
	text = json_dumps(json, JSON_COMPACT);
	json_decref(json);
	assert_non_null(text);
	return text;
}

static void connection(void **state)
{
	struct rp_connection record = example();
	char *text = shown(281474976710656, &record);

	(void)state;
	assert_string_equal(
		text,
		"{\"cookie\":281474976710656,\"listener\":\"mqtt\","
		"\"client\":\"203.0.113.7\",\"client_port\":50000,"
		"\"proxy\":\"10.0.0.2\",\"proxy_port\":40000,"
		"\"destination\":\"198.51.100.1\",\"destination_port\":1883,"
		"\"family\":\"ipv4\",\"version\":2,\"command\":\"proxy\","
		"\"delivery\":\"relay\",\"offload\":\"peek\",\"since\":\"T\","
		"\"tlvs\":{}}");
	free(text);
}

static void other_values(void **state)
{
	struct rp_connection record = example();
	json_t *json;

	(void)state;
	put_ip(record.client, "2001:db8::1");
	record.version = 0;
	record.command = RP_COMMAND_DIRECT;
	record.delivery = RP_DELIVERY_INLINE;
	record.offload = RP_OFFLOAD_ACCEPT;
	memset(record.listener_name, 'x', RP_NAME_LEN);
	json = view_connection(1, &record, NULL);
	assert_string_equal(json_string_value(json_object_get(json, "client")),
			    "2001:db8::1");
	assert_string_equal(json_string_value(json_object_get(json, "family")),
			    "ipv6");
	assert_string_equal(json_string_value(json_object_get(json, "command")),
			    "direct");
	assert_string_equal(
		json_string_value(json_object_get(json, "delivery")), "inline");
	assert_string_equal(json_string_value(json_object_get(json, "offload")),
			    "accept");
	/* A name without NUL ends with its field. */
	assert_int_equal(json_string_length(json_object_get(json, "listener")),
			 RP_NAME_LEN);
	json_decref(json);

	record.command = RP_COMMAND_LOCAL;
	record.offload = RP_OFFLOAD_OFF;
	json = view_connection(1, &record, NULL);
	assert_string_equal(json_string_value(json_object_get(json, "command")),
			    "local");
	assert_string_equal(json_string_value(json_object_get(json, "offload")),
			    "off");
	json_decref(json);

	/* Bytes of a map that some other version wrote. */
	record.command = record.delivery = record.offload = 99;
	json = view_connection(1, &record, NULL);
	assert_string_equal(json_string_value(json_object_get(json, "command")),
			    "?");
	json_decref(json);
}

static void since(void **state)
{
	struct rp_connection record = example();
	struct timespec boot, now;
	struct tm tm = {0};
	const char *text;
	double shown_at;
	char *end;
	json_t *json;

	(void)state;
	clock_gettime(CLOCK_BOOTTIME, &boot);
	clock_gettime(CLOCK_REALTIME, &now);
	/* 1.5 s ago */
	record.since = (uint64_t)boot.tv_sec * 1000000000 +
		       (uint64_t)boot.tv_nsec - 1500000000;
	json = view_connection(1, &record, NULL);
	text = json_string_value(json_object_get(json, "since"));
	end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	assert_non_null(end);
	assert_int_equal(strlen(end), 5);
	assert_int_equal(end[0], '.');
	assert_int_equal(end[4], 'Z');
	shown_at = (double)timegm(&tm) + strtod(end, NULL);
	shown_at -= (double)now.tv_sec + (double)now.tv_nsec / 1e9 - 1.5;
	assert_true(shown_at > -0.1 && shown_at < 0.1);
	json_decref(json);
	/* What is not yet is now. */
	record.since = UINT64_MAX;
	json = view_connection(1, &record, NULL);
	assert_non_null(json);
	assert_int_equal(json_string_length(json_object_get(json, "since")),
			 24);
	json_decref(json);
}

static char *shown_tlvs(const struct rp_tlvs *tlvs)
{
	struct rp_connection record = example();
	json_t *json;
	char *text;

	json = view_connection(1, &record, tlvs);
	assert_non_null(json);
	text = json_dumps(json_object_get(json, "tlvs"), JSON_COMPACT);
	json_decref(json);
	assert_non_null(text);
	return text;
}

static void all_tlvs(void **state)
{
	struct rp_tlvs tlvs = {
		.present = 0xff,
		.authority_len = 11,
		.authority = "example.com",
		.unique_id_len = 4,
		.unique_id = "ID-1",
		.alpn_len = 4,
		.alpn = "mqtt",
		.aws_vpce_id_len = 22,
		.aws_vpce_id = "vpce-08d2bf15fac5001c9",
		.ssl_cn_len = 8,
		.ssl_cn = "client-1",
		.ssl_client = 7,
		.ssl_verify = 0xffffffff,
		.azure_link_id = 0xdeadbeef,
		.gcp_psc_id = UINT64_MAX,
	};
	char *text = shown_tlvs(&tlvs);

	(void)state;
	assert_string_equal(text, "{\"authority\":\"example.com\","
				  "\"unique_id\":\"ID-1\",\"alpn\":\"mqtt\","
				  "\"aws_vpce_id\":\"vpce-08d2bf15fac5001c9\","
				  "\"ssl_cn\":\"client-1\",\"ssl_client\":7,"
				  "\"ssl_verify\":4294967295,"
				  "\"azure_link_id\":3735928559,"
				  "\"gcp_psc_id\":\"18446744073709551615\"}");
	free(text);
}

/* Present and empty is not the same as absent. */
static void empty_tlvs(void **state)
{
	struct rp_tlvs tlvs = {
		.present = RP_TLV_AUTHORITY | RP_TLV_UNIQUE_ID,
		.truncated = RP_TLV_UNIQUE_ID | RP_TLV_SSL_CN,
	};
	char *text = shown_tlvs(&tlvs);

	(void)state;
	assert_string_equal(text, "{\"authority\":\"\",\"unique_id\":\"\","
				  "\"truncated\":[\"unique_id\",\"ssl_cn\"]}");
	free(text);
}

static void unprintable(void **state)
{
	static const struct {
		const char *bytes;
		uint8_t len;
		const char *id, *authority;
	} cases[] = {
		{"\x00\x01\xfe\xff", 4, "0001feff", "\\x00\\x01\\xfe\\xff"},
		{"a b", 3, "612062", "a b"},
		{"caf\xc3\xa9", 5, "636166c3a9", "caf\xc3\xa9"},
		{"\x1b[m", 3, "1b5b6d", "\x1b[m"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rp_connection record = example();
		struct rp_tlvs tlvs = {0};
		json_t *json, *shown_tlv;

		tlvs.present = RP_TLV_AUTHORITY | RP_TLV_UNIQUE_ID;
		tlvs.authority_len = tlvs.unique_id_len = cases[i].len;
		memcpy(tlvs.authority, cases[i].bytes, cases[i].len);
		memcpy(tlvs.unique_id, cases[i].bytes, cases[i].len);
		json = view_connection(1, &record, &tlvs);
		assert_non_null(json);
		shown_tlv = json_object_get(json, "tlvs");
		assert_string_equal(json_string_value(json_object_get(
					    shown_tlv, "unique_id")),
				    cases[i].id);
		assert_string_equal(json_string_value(json_object_get(
					    shown_tlv, "authority")),
				    cases[i].authority);
		json_decref(json);
	}
}

/* Lengths that lie, as in a map that somebody else wrote: no over-read. */
static void lying_lengths(void **state)
{
	struct rp_connection *record = malloc(sizeof(*record));
	struct rp_tlvs *tlvs = malloc(sizeof(*tlvs));
	json_t *json;

	(void)state;
	assert_non_null(record);
	assert_non_null(tlvs);
	memset(record, 0xff, sizeof(*record));
	memset(tlvs, 0xff, sizeof(*tlvs));
	json = view_connection(UINT64_MAX, record, tlvs);
	assert_non_null(json);
	assert_int_equal(json_string_length(json_object_get(
				 json_object_get(json, "tlvs"), "unique_id")),
			 256);
	json_decref(json);
	free(record);
	free(tlvs);
}

static void stats(void **state)
{
	uint64_t counts[RP_STAT_COUNT];
	enum rp_stat stat = 0;
	const char *name;
	json_t *json, *count;

	(void)state;
	for (size_t i = 0; i < RP_STAT_COUNT; i++)
		counts[i] = 1000 + i;
	json = view_stats(counts);
	assert_int_equal(json_object_size(json), RP_STAT_COUNT);
	json_object_foreach(json, name, count)
	{
		assert_string_equal(name, view_stat_name(stat));
		assert_int_equal(json_integer_value(count), 1000 + stat);
		stat++;
	}
	assert_string_equal(view_stat_name(RP_STAT_CONNECTIONS), "connections");
	assert_string_equal(view_stat_name(RP_STAT_BYTES_DOWN), "bytes_down");
	json_decref(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connection),	 cmocka_unit_test(other_values),
		cmocka_unit_test(since),	 cmocka_unit_test(all_tlvs),
		cmocka_unit_test(empty_tlvs),	 cmocka_unit_test(unprintable),
		cmocka_unit_test(lying_lengths), cmocka_unit_test(stats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
