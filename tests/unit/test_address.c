/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_address.c - user/address.c */
#include "address.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static void ports(void **state)
{
	static const char *const bad[] = {"",	  "0",	   "65536",  "99999",
					  "-1",	  "+1",	   "1 ",     " 1",
					  "0x50", "8080a", "000080", "80:"};
	uint16_t port = 7;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(port_parse(bad[i], &port), -EINVAL);
		assert_int_equal(port, 7);
	}
	assert_int_equal(port_parse("1", &port), 0);
	assert_int_equal(port, 1);
	assert_int_equal(port_parse("65535", &port), 0);
	assert_int_equal(port, 65535);
}

/* What is parsed is written back as it was, and splits into IP and port. */
static void addresses(void **state)
{
	static const struct {
		const char *text;
		const char *ip;
		uint16_t port;
	} good[] = {
		{"0.0.0.0:1883", "0.0.0.0", 1883},
		{"192.0.2.1:65535", "192.0.2.1", 65535},
		{"[::]:1", "::", 1},
		{"[2001:db8::1]:443", "2001:db8::1", 443},
		{"[fe80::1]:80", "fe80::1", 80},
	};
	char text[ADDRESS_TEXT_MAX], ip_text[INET6_ADDRSTRLEN];
	struct address address;
	uint8_t ip[16];
	uint16_t port;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(address_parse(good[i].text, &address), 0);
		assert_string_equal(address_format(&address.sa, text),
				    good[i].text);
		address_split(&address.sa, ip, &port);
		assert_int_equal(port, good[i].port);
		assert_string_equal(ip_format(ip, ip_text), good[i].ip);
		assert_int_equal(address.len, address.sa.sa_family == AF_INET
						      ? sizeof(address.in)
						      : sizeof(address.in6));
	}
}

/* One destination in two spellings is one address. */
static void mapped_address(void **state)
{
	struct address plain, mapped;

	(void)state;
	assert_int_equal(address_parse("192.0.2.1:80", &plain), 0);
	assert_int_equal(address_parse("[::ffff:192.0.2.1]:80", &mapped), 0);
	assert_true(address_equal(&plain, &mapped));
	assert_int_equal(address_parse("[::ffff:c000:201]:80", &mapped), 0);
	assert_true(address_equal(&plain, &mapped));
}

static void bad_addresses(void **state)
{
	static const char *const bad[] = {
		"",
		":",
		":80",
		"80",
		"192.0.2.1",
		"192.0.2.1:",
		"192.0.2.1:0",
		"192.0.2.1:65536",
		"192.0.2.256:80",
		"192.0.2:80",
		"192.0.02.1:80",
		" 192.0.2.1:80",
		"192.0.2.1:80 ",
		"localhost:80",
		"*:80",
		"::1:80",
		"[::1]",
		"[::1]80",
		"[::1:80",
		"[]:80",
		"[:80",
		"]:80",
		"[192.0.2.1]:80",
		"[fe80::1%lo]:80",
		"[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:80",
		"unix:",
		"unix:relative",
		"unix:@abstract",
		"/run/socket",
	};
	struct address address = {.len = 99};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(address_parse(bad[i], &address), -EINVAL);
		assert_int_equal(address.len, 99);
	}
}

static void unix_addresses(void **state)
{
	char text[ADDRESS_TEXT_MAX], path[200] = "unix:/";
	struct address address;
	uint8_t ip[16];
	uint16_t port;

	(void)state;
	assert_int_equal(address_parse("unix:/run/a b.sock", &address), 0);
	assert_int_equal(address.un.sun_family, AF_UNIX);
	assert_string_equal(address.un.sun_path, "/run/a b.sock");
	assert_int_equal(address.len,
			 offsetof(struct sockaddr_un, sun_path) + 14);
	assert_string_equal(address_format(&address.sa, text),
			    "unix:/run/a b.sock");
	address_split(&address.sa, ip, &port);
	assert_int_equal(port, 0);

	/* sun_path holds 107 characters and the NUL. */
	memset(path + 6, 'x', 106);
	path[6 + 106] = '\0';
	assert_int_equal(address_parse(path, &address), 0);
	assert_string_equal(address_format(&address.sa, text), path);
	strcat(path, "x");
	assert_int_equal(address_parse(path, &address), -EINVAL);
}

static void other_families(void **state)
{
	struct sockaddr_storage storage = {.ss_family = AF_UNSPEC};
	char text[ADDRESS_TEXT_MAX];
	uint8_t ip[16];
	uint16_t port = 1;

	(void)state;
	assert_string_equal(address_format((struct sockaddr *)&storage, text),
			    "family:0");
	address_split((struct sockaddr *)&storage, ip, &port);
	assert_int_equal(port, 0);
	assert_memory_equal(ip, &in6addr_any, 16);
}

static void equality(void **state)
{
	static const char *const texts[] = {
		"192.0.2.1:80", "192.0.2.1:81", "192.0.2.2:80", "[::1]:80",
		"[::1]:81",	"[::2]:80",	"unix:/a",	"unix:/b",
		"unix:/ab",	"0.0.0.0:80",	"[::]:80",
	};
	struct address a, b;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(texts); j++) {
			assert_int_equal(address_parse(texts[i], &a), 0);
			assert_int_equal(address_parse(texts[j], &b), 0);
			assert_int_equal(address_equal(&a, &b), i == j);
		}
	}
	a.len = b.len = 0;
	assert_true(address_equal(&a, &b));
	assert_int_equal(address_parse("[::1]:80", &a), 0);
	assert_false(address_equal(&a, &b));
	/* The flow label and the rest of the structure are no address. */
	b = a;
	b.in6.sin6_flowinfo = 5;
	assert_true(address_equal(&a, &b));
}

static void ip_of(const char *text, uint8_t ip[16])
{
	struct prefix prefix;

	assert_int_equal(prefix_parse(text, &prefix), 0);
	memcpy(ip, prefix.address, 16);
}

static void prefixes(void **state)
{
	static const struct {
		const char *text;
		uint8_t length;
		const char *network;
		const char *inside;
		const char *outside;
	} good[] = {
		{"10.0.0.0/8", 104, "10.0.0.0", "10.255.255.255", "11.0.0.0"},
		{"10.1.2.3/8", 104, "10.0.0.0", "10.0.0.0", "9.255.255.255"},
		{"192.0.2.129/25", 121, "192.0.2.128", "192.0.2.255",
		 "192.0.2.127"},
		{"192.0.2.1", 128, "192.0.2.1", "192.0.2.1", "192.0.2.0"},
		{"192.0.2.1/32", 128, "192.0.2.1", "192.0.2.1", "192.0.2.3"},
		{"0.0.0.0/0", 96, "0.0.0.0", "255.255.255.255", "::1"},
		{"fd00::/8", 8, "fd00::", "fdff::1", "fc00::1"},
		{"2001:db8::1", 128, "2001:db8::1", "2001:db8::1",
		 "2001:db8::2"},
		{"2001:db8::ffff/127", 127, "2001:db8::fffe", "2001:db8::ffff",
		 "2001:db8::fffd"},
		{"::ffff:10.0.0.0/104", 104, "10.0.0.0", "10.9.9.9",
		 "11.0.0.0"},
	};
	char text[INET6_ADDRSTRLEN];
	struct prefix prefix;
	uint8_t ip[16];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(prefix_parse(good[i].text, &prefix), 0);
		assert_int_equal(prefix.length, good[i].length);
		assert_string_equal(ip_format(prefix.address, text),
				    good[i].network);
		ip_of(good[i].inside, ip);
		assert_true(prefix_contains(&prefix, ip));
		ip_of(good[i].outside, ip);
		assert_false(prefix_contains(&prefix, ip));
	}
}

/* Every length, against a bit-by-bit comparison. */
static void every_length(void **state)
{
	struct prefix prefix;
	uint8_t ip[16];
	char text[64];

	(void)state;
	for (unsigned int length = 0; length <= 128; length++) {
		snprintf(text, sizeof(text),
			 "ffff:ffff:ffff:ffff:ffff:ffff:"
			 "ffff:ffff/%u",
			 length);
		assert_int_equal(prefix_parse(text, &prefix), 0);
		for (unsigned int bit = 0; bit < 128; bit++) {
			bool set = prefix.address[bit / 8] & (0x80 >> bit % 8);

			assert_int_equal(set, bit < length);
			memset(ip, 0xff, sizeof(ip));
			ip[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
			assert_int_equal(prefix_contains(&prefix, ip),
					 bit >= length);
		}
	}
}

static void bad_prefixes(void **state)
{
	static const char *const bad[] = {
		"",
		"/",
		"/8",
		"10.0.0.0/",
		"10.0.0.0/33",
		"10.0.0.0/-1",
		"10.0.0.0/8 ",
		"10.0.0/8",
		"10.0.0.0/8/8",
		"::/129",
		"fd00::/",
		"fd00::/a",
		"fd00",
		"host",
		"10.0.0.256",
		"010.0.0.1",
		"[::1]",
		"10.0.0.1:80",
		" 10.0.0.1",
		"10.0.0.0/100000",
		"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000",
	};
	struct prefix prefix = {.length = 77};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(prefix_parse(bad[i], &prefix), -EINVAL);
		assert_int_equal(prefix.length, 77);
	}
}

static void local(void **state)
{
	static const struct {
		const char *text;
		int local;
	} cases[] = {
		{"127.0.0.1:80", 1},	 {"0.0.0.0:80", 1},
		{"[::]:80", 1},		 {"192.0.2.1:80", 0},
		{"[2001:db8::1]:80", 0}, {"unix:/run/x.sock", 0},
	};
	struct address address;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(address_parse(cases[i].text, &address), 0);
		assert_int_equal(address_is_local(&address), cases[i].local);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports),
		cmocka_unit_test(addresses),
		cmocka_unit_test(mapped_address),
		cmocka_unit_test(bad_addresses),
		cmocka_unit_test(unix_addresses),
		cmocka_unit_test(other_families),
		cmocka_unit_test(equality),
		cmocka_unit_test(local),
		cmocka_unit_test(prefixes),
		cmocka_unit_test(every_length),
		cmocka_unit_test(bad_prefixes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
