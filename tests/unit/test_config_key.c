/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_config_key.c - user/config_key.c: each key's good and bad values */
#include "config_key.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Where values go; cleared for each test. */
static struct config config;
static struct listener_config listener;
static char *told;

static int setup(void **state)
{
	(void)state;
	memset(&config, 0, sizeof(config));
	memset(&listener, 0, sizeof(listener));
	told = NULL;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(listener.listen);
	free(listener.trusted);
	free(told);
	return 0;
}

static int apply(enum config_key key, const char *text)
{
	struct config_place place = {.file = "F", .line = 7};
	size_t len;
	int r;

	free(told);
	place.errors = open_memstream(&told, &len);
	assert_non_null(place.errors);
	r = config_key_apply(key, text, &config, &listener, &place);
	assert_int_equal(fclose(place.errors), 0);
	assert_int_equal(place.n_errors > 0, r < 0);
	return r;
}

static void good(enum config_key key, const char *text)
{
	assert_int_equal(apply(key, text), 0);
	assert_string_equal(told, "");
}

/* Refused with exactly these lines, and nothing has changed. */
static void bad(enum config_key key, const char *text, const char *expected)
{
	struct config config_before = config;
	struct listener_config listener_before = listener;

	assert_int_equal(apply(key, text), -EINVAL);
	assert_string_equal(told, expected);
	assert_memory_equal(&config, &config_before, sizeof(config));
	assert_memory_equal(&listener, &listener_before, sizeof(listener));
}

static void names(void **state)
{
	(void)state;
	for (enum config_key key = 0; key < KEY_COUNT; key++) {
		assert_int_equal(config_key_find(config_key_name(key)), key);
		assert_true(config_key_in_global(key) ||
			    config_key_in_listener(key));
	}
	assert_int_equal(config_key_find(""), KEY_NONE);
	assert_int_equal(config_key_find("Listen"), KEY_NONE);
	assert_int_equal(config_key_find("listens"), KEY_NONE);
}

/* Which key may stand where is what realpeer.conf(5) says. */
static void scopes(void **state)
{
	static const char *const both[] = {
		"proxy_protocol", "trusted",   "header_timeout", "header_max",
		"offload",	  "untrusted", "special_source",
	};
	static const char *const global[] = {"log_level", "drain_timeout",
					     "threads", "connections_max"};
	static const char *const listeners[] = {"listen", "delivery", "handler",
						"client_address",
						"forward_tlvs"};
	enum config_key key;

	(void)state;
	assert_int_equal(ARRAY_SIZE(both) + ARRAY_SIZE(global) +
				 ARRAY_SIZE(listeners),
			 KEY_COUNT);
	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		key = config_key_find(both[i]);
		assert_true(config_key_in_global(key));
		assert_true(config_key_in_listener(key));
	}
	for (size_t i = 0; i < ARRAY_SIZE(global); i++)
		assert_false(
			config_key_in_listener(config_key_find(global[i])));
	for (size_t i = 0; i < ARRAY_SIZE(listeners); i++)
		assert_false(
			config_key_in_global(config_key_find(listeners[i])));
}

static void empty(void **state)
{
	char expected[80];

	(void)state;
	for (enum config_key key = 0; key < KEY_COUNT; key++) {
		snprintf(expected, sizeof(expected),
			 "F:7: %s: the value is missing\n",
			 config_key_name(key));
		bad(key, "", expected);
	}
}

static void proxy_protocol(void **state)
{
	enum rp_mode mode = RP_MODE_REQUIRED;

	(void)state;
	good(KEY_PROXY_PROTOCOL, "required");
	assert_int_equal(listener.mode, RP_MODE_REQUIRED);
	good(KEY_PROXY_PROTOCOL, "enabled");
	assert_int_equal(listener.mode, RP_MODE_ENABLED);
	good(KEY_PROXY_PROTOCOL, "disabled");
	assert_int_equal(listener.mode, RP_MODE_DISABLED);
	bad(KEY_PROXY_PROTOCOL, "on",
	    "F:7: proxy_protocol: 'on' is not one of disabled, enabled, "
	    "required\n");
	bad(KEY_PROXY_PROTOCOL, "Required",
	    "F:7: proxy_protocol: 'Required' is not one of disabled, enabled, "
	    "required\n");
	assert_int_equal(config_mode_parse("enabled", &mode), 0);
	assert_int_equal(mode, RP_MODE_ENABLED);
	assert_int_equal(config_mode_parse("", &mode), -EINVAL);
	assert_int_equal(config_mode_parse("enabled ", &mode), -EINVAL);
	assert_int_equal(mode, RP_MODE_ENABLED);
}

static void trusted(void **state)
{
	struct prefix first;

	(void)state;
	good(KEY_TRUSTED, "10.0.0.0/8, fd00::/8 ,192.0.2.1");
	assert_int_equal(listener.n_trusted, 3);
	assert_int_equal(prefix_parse("10.0.0.0/8", &first), 0);
	assert_memory_equal(&listener.trusted[0], &first, sizeof(first));
	assert_int_equal(listener.trusted[1].length, 8);
	assert_int_equal(listener.trusted[2].length, 128);
	/* A second value replaces the first. */
	good(KEY_TRUSTED, "::1");
	assert_int_equal(listener.n_trusted, 1);
	bad(KEY_TRUSTED, "10.0.0.0/8, lb1, 10.0.0.0/99, fd00::/8",
	    "F:7: trusted: 'lb1' is not an IP address or a prefix such as "
	    "10.0.0.0/8\n"
	    "F:7: trusted: '10.0.0.0/99' is not an IP address or a prefix such "
	    "as 10.0.0.0/8\n");
	bad(KEY_TRUSTED, "::1,",
	    "F:7: trusted: '' is not an IP address or a prefix such as "
	    "10.0.0.0/8\n");
	bad(KEY_TRUSTED, "\033[31m",
	    "F:7: trusted: '\\x1b[31m' is not an IP address or a prefix such "
	    "as 10.0.0.0/8\n");
}

static void many_trusted(void **state)
{
	char *text = malloc((CONFIG_TRUSTED_MAX + 1) * 12), *end = text;

	(void)state;
	assert_non_null(text);
	for (int i = 0; i < CONFIG_TRUSTED_MAX; i++)
		end += sprintf(end, "%s10.0.%d.%d", i ? "," : "", i / 256,
			       i % 256);
	good(KEY_TRUSTED, text);
	assert_int_equal(listener.n_trusted, CONFIG_TRUSTED_MAX);
	strcpy(end, ",::1");
	bad(KEY_TRUSTED, text, "F:7: trusted: more than 4096 in the list\n");
	free(text);
}

static void header_timeout(void **state)
{
	static const struct {
		const char *text;
		uint32_t ms;
	} cases[] = {
		{"1ms", 1},	{"500ms", 500},	      {"3s", 3000},
		{"1m", 60000},	{"10m", 600000},      {"600s", 600000},
		{"007s", 7000}, {"600000ms", 600000},
	};
	static const char *const out_of_bounds[] = {
		"0ms",		"0s",	    "11m",
		"601s",		"600001ms", "99999999999999999999s",
		"4294967297ms",
	};
	char expected[120];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		good(KEY_HEADER_TIMEOUT, cases[i].text);
		assert_int_equal(listener.header_timeout_ms, cases[i].ms);
	}
	for (size_t i = 0; i < ARRAY_SIZE(out_of_bounds); i++) {
		snprintf(expected, sizeof(expected),
			 "F:7: header_timeout: '%s' is not between 1ms and "
			 "10m\n",
			 out_of_bounds[i]);
		bad(KEY_HEADER_TIMEOUT, out_of_bounds[i], expected);
	}
	bad(KEY_HEADER_TIMEOUT, "3",
	    "F:7: header_timeout: '3' is not a duration: the unit (ms, s or m) "
	    "is missing\n");
	bad(KEY_HEADER_TIMEOUT, "3h",
	    "F:7: header_timeout: '3h' is not a duration: units are ms, s and "
	    "m\n");
	bad(KEY_HEADER_TIMEOUT, "3 s",
	    "F:7: header_timeout: '3 s' is not a duration: units are ms, s and "
	    "m\n");
	bad(KEY_HEADER_TIMEOUT, "1.5s",
	    "F:7: header_timeout: '1.5s' is not a duration: units are ms, s "
	    "and m\n");
	bad(KEY_HEADER_TIMEOUT, "-3s",
	    "F:7: header_timeout: '-3s' is not a duration (such as 500ms, 3s "
	    "or 1m)\n");
	bad(KEY_HEADER_TIMEOUT, "s",
	    "F:7: header_timeout: 's' is not a duration (such as 500ms, 3s or "
	    "1m)\n");
}

static void header_max(void **state)
{
	(void)state;
	good(KEY_HEADER_MAX, "107");
	assert_int_equal(listener.header_max, 107);
	good(KEY_HEADER_MAX, "65535");
	assert_int_equal(listener.header_max, 65535);
	bad(KEY_HEADER_MAX, "106",
	    "F:7: header_max: 106 is not between 107 and 65535\n");
	bad(KEY_HEADER_MAX, "65536",
	    "F:7: header_max: 65536 is not between 107 and 65535\n");
	bad(KEY_HEADER_MAX, "4K",
	    "F:7: header_max: '4K' is not a whole number\n");
	bad(KEY_HEADER_MAX, "-1",
	    "F:7: header_max: '-1' is not a whole number\n");
}

static void words(void **state)
{
	(void)state;
	good(KEY_OFFLOAD, "auto");
	assert_int_equal(listener.offload, OFFLOAD_WANTED_AUTO);
	good(KEY_OFFLOAD, "accept");
	assert_int_equal(listener.offload, OFFLOAD_WANTED_ACCEPT);
	good(KEY_OFFLOAD, "peek");
	assert_int_equal(listener.offload, OFFLOAD_WANTED_PEEK);
	good(KEY_OFFLOAD, "off");
	assert_int_equal(listener.offload, OFFLOAD_WANTED_OFF);
	bad(KEY_OFFLOAD, "none",
	    "F:7: offload: 'none' is not one of auto, accept, peek, off\n");
	good(KEY_UNTRUSTED, "direct");
	assert_int_equal(listener.untrusted, RP_UNTRUSTED_DIRECT);
	good(KEY_UNTRUSTED, "reset");
	assert_int_equal(listener.untrusted, RP_UNTRUSTED_RESET);
	bad(KEY_UNTRUSTED, "drop",
	    "F:7: untrusted: 'drop' is not one of reset, direct\n");
	good(KEY_SPECIAL_SOURCE, "accept");
	assert_true(listener.special_source);
	good(KEY_SPECIAL_SOURCE, "refuse");
	assert_false(listener.special_source);
	bad(KEY_SPECIAL_SOURCE, "yes",
	    "F:7: special_source: 'yes' is not one of refuse, accept\n");
	good(KEY_DELIVERY, "relay");
	assert_int_equal(listener.delivery, RP_DELIVERY_RELAY);
	good(KEY_DELIVERY, "inline");
	assert_int_equal(listener.delivery, RP_DELIVERY_INLINE);
	bad(KEY_DELIVERY, "proxy",
	    "F:7: delivery: 'proxy' is not one of inline, relay\n");
	bad(KEY_CLIENT_ADDRESS, "transparent",
	    "F:7: client_address: 'transparent' is not one of none, "
	    "getpeername, proxy-v1, proxy-v2\n");
	bad(KEY_LOG_LEVEL, "verbose",
	    "F:7: log_level: 'verbose' is not one of error, warning, notice, "
	    "info, debug\n");
}

/* The names that logs and JSON show are those that the file takes. */
static void shown_names(void **state)
{
	(void)state;
	for (int i = RP_MODE_DISABLED; i <= RP_MODE_REQUIRED; i++) {
		good(KEY_PROXY_PROTOCOL, mode_name((enum rp_mode)i));
		assert_int_equal(listener.mode, i);
	}
	for (int i = RP_DELIVERY_INLINE; i <= RP_DELIVERY_RELAY; i++) {
		good(KEY_DELIVERY, delivery_name((enum rp_delivery)i));
		assert_int_equal(listener.delivery, i);
	}
	for (int i = RP_OFFLOAD_OFF; i <= RP_OFFLOAD_ACCEPT; i++) {
		good(KEY_OFFLOAD, offload_name((enum rp_offload)i));
		assert_int_equal(listener.offload, i);
	}
	for (int i = CLIENT_ADDRESS_NONE; i <= CLIENT_ADDRESS_PROXY_V2; i++) {
		good(KEY_CLIENT_ADDRESS,
		     client_address_name((enum client_address)i));
		assert_int_equal(listener.client_address, i);
	}
	for (int i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++) {
		static const char *const levels[] = {"error", "warning",
						     "notice", "info", "debug"};

		good(KEY_LOG_LEVEL, levels[i]);
		assert_int_equal(config.log_level, i);
	}
	assert_string_equal(mode_name((enum rp_mode)9), "?");
}

static void drain_timeout(void **state)
{
	(void)state;
	good(KEY_DRAIN_TIMEOUT, "0s");
	assert_int_equal(config.drain_timeout_ms, 0);
	good(KEY_DRAIN_TIMEOUT, "60m");
	assert_int_equal(config.drain_timeout_ms, 3600000);
	bad(KEY_DRAIN_TIMEOUT, "61m",
	    "F:7: drain_timeout: '61m' is not between 0s and 60m\n");
	bad(KEY_DRAIN_TIMEOUT, "0",
	    "F:7: drain_timeout: '0' is not a duration: the unit (ms, s or m) "
	    "is missing\n");
}

static void threads(void **state)
{
	(void)state;
	good(KEY_THREADS, "0");
	assert_int_equal(config.threads, 0);
	good(KEY_THREADS, "1024");
	assert_int_equal(config.threads, 1024);
	bad(KEY_THREADS, "1025",
	    "F:7: threads: 1025 is not between 0 and 1024\n");
	bad(KEY_THREADS, "auto",
	    "F:7: threads: 'auto' is not a whole number\n");
}

static void connections_max(void **state)
{
	(void)state;
	good(KEY_CONNECTIONS_MAX, "0");
	assert_int_equal(config.connections_max, 0);
	good(KEY_CONNECTIONS_MAX, "4194304");
	assert_int_equal(config.connections_max, 4194304);
	bad(KEY_CONNECTIONS_MAX, "4194305",
	    "F:7: connections_max: 4194305 is not between 0 and 4194304\n");
}

static void listen_addresses(void **state)
{
	char text[ADDRESS_TEXT_MAX], many[2000] = "", *end = many;

	(void)state;
	good(KEY_LISTEN, "0.0.0.0:1883, [::]:1883");
	assert_int_equal(listener.n_listen, 2);
	assert_string_equal(address_format(&listener.listen[0].sa, text),
			    "0.0.0.0:1883");
	assert_string_equal(address_format(&listener.listen[1].sa, text),
			    "[::]:1883");
	good(KEY_LISTEN, "127.0.0.1:1");
	assert_int_equal(listener.n_listen, 1);
	bad(KEY_LISTEN, "1883, 0.0.0.0:0, unix:/x, [::1]:80",
	    "F:7: listen: '1883' is not an address such as 0.0.0.0:1883 or "
	    "[::]:1883\n"
	    "F:7: listen: '0.0.0.0:0' is not an address such as 0.0.0.0:1883 "
	    "or [::]:1883\n"
	    "F:7: listen: 'unix:/x' is not an address such as 0.0.0.0:1883 or "
	    "[::]:1883\n");
	bad(KEY_LISTEN, "0.0.0.0:80, [::]:80, 0.0.0.0:80",
	    "F:7: listen: 0.0.0.0:80 stands twice\n");
	for (int i = 1; i <= CONFIG_LISTEN_MAX; i++)
		end += sprintf(end, "%s127.0.0.1:%d", i > 1 ? "," : "", i);
	good(KEY_LISTEN, many);
	assert_int_equal(listener.n_listen, CONFIG_LISTEN_MAX);
	strcpy(end, ",127.0.0.1:99");
	bad(KEY_LISTEN, many, "F:7: listen: more than 64 in the list\n");
}

static void handler(void **state)
{
	char text[ADDRESS_TEXT_MAX];

	(void)state;
	good(KEY_HANDLER, "15672");
	assert_int_equal(listener.handler_port, 15672);
	assert_int_equal(listener.handler.len, 0);
	good(KEY_HANDLER, "[::1]:80");
	assert_string_equal(address_format(&listener.handler.sa, text),
			    "[::1]:80");
	good(KEY_HANDLER, "unix:/run/x");
	assert_int_equal(listener.handler.sa.sa_family, AF_UNIX);
	bad(KEY_HANDLER, "localhost:80",
	    "F:7: handler: 'localhost:80' is not host:port with a numeric "
	    "host, unix:/path or a port\n");
	bad(KEY_HANDLER, "65536",
	    "F:7: handler: '65536' is not host:port with a numeric host, "
	    "unix:/path or a port\n");
}

static void forward_tlvs(void **state)
{
	(void)state;
	good(KEY_FORWARD_TLVS, "authority, unique_id,alpn , ssl, aws_vpce_id, "
			       "azure_link_id, gcp_psc_id");
	assert_int_equal(listener.tlvs_forwarded,
			 RP_TLV_AUTHORITY | RP_TLV_UNIQUE_ID | RP_TLV_ALPN |
				 RP_TLV_SSL | RP_TLV_AWS_VPCE_ID |
				 RP_TLV_AZURE_LINK_ID | RP_TLV_GCP_PSC_ID);
	good(KEY_FORWARD_TLVS, "ssl");
	assert_int_equal(listener.tlvs_forwarded, RP_TLV_SSL);
	bad(KEY_FORWARD_TLVS, "ssl, all",
	    "F:7: forward_tlvs: 'all' is not one of authority, unique_id, "
	    "alpn, ssl, aws_vpce_id, azure_link_id, gcp_psc_id\n");
}

static void closeness(void **state)
{
	static const struct {
		const char *a, *b;
		size_t distance;
	} cases[] = {
		{"", "", 0},
		{"a", "", 1},
		{"", "abc", 3},
		{"same", "same", 0},
		{"kitten", "sitting", 3},
		{"flaw", "lawn", 2},
		{"listen", "lisen", 1},
		{"listen", "listne", 2},
	};
	char longer[40];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_true(config_close(cases[i].a, cases[i].b,
					 cases[i].distance));
		assert_true(config_close(cases[i].b, cases[i].a,
					 cases[i].distance));
		if (cases[i].distance)
			assert_false(config_close(cases[i].a, cases[i].b,
						  cases[i].distance - 1));
	}
	memset(longer, 'x', 32);
	longer[32] = '\0';
	assert_true(config_close(longer, longer, 0));
	longer[32] = 'x';
	longer[33] = '\0';
	assert_false(config_close(longer, longer, 0));
}

static void guesses(void **state)
{
	(void)state;
	assert_string_equal(config_key_guess("lisen", true), "listen");
	assert_string_equal(config_key_guess("Trusted", true), "trusted");
	assert_string_equal(config_key_guess("header-timeout", true),
			    "header_timeout");
	assert_string_equal(config_key_guess("loglevel", false), "log_level");
	assert_string_equal(config_key_guess("thread", false), "threads");
	/* Not what may not stand there, and nothing far-fetched. */
	assert_null(config_key_guess("thread", true));
	assert_null(config_key_guess("lisen", false));
	assert_null(config_key_guess("rate", true));
	assert_null(config_key_guess("allow", true));
	assert_null(config_key_guess("deny", true));
	assert_null(config_key_guess("max_per_client", true));
	assert_null(config_key_guess("audit_log", false));
	assert_null(config_key_guess("metrics", false));
	assert_null(config_key_guess("", true));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(names),	       TEST(scopes),
		TEST(empty),	       TEST(proxy_protocol),
		TEST(trusted),	       TEST(many_trusted),
		TEST(header_timeout),  TEST(header_max),
		TEST(words),	       TEST(shown_names),
		TEST(drain_timeout),   TEST(threads),
		TEST(connections_max), TEST(listen_addresses),
		TEST(handler),	       TEST(forward_tlvs),
		TEST(closeness),       TEST(guesses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
