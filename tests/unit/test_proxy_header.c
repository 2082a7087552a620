// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * test_proxy_header.c - the header parser: every vector, every prefix of it,
 * and comparisons with inet_pton() and with a CRC32C of another making.
 *
 * Each input ends right before a page that cannot be read.
 */
#include "realpeer/proxy_header.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "mutate.h"
#include "realpeer/crc32c.h"
#include "vectors.h"

#define GUARDED_MAX 16384

static __u8 *guard; /* the page that cannot be read */

static int map_guard(void **state)
{
	__u8 *pages = mmap(NULL, GUARDED_MAX + 4096, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	if (pages == MAP_FAILED)
		return -1;
	guard = pages + GUARDED_MAX;
	return mprotect(guard, 4096, PROT_NONE);
}

/* Parses a copy of the bytes that ends where the guard page begins. */
static enum rp_verdict parse(const void *bytes, size_t len, __u32 header_max,
			     struct rp_header *ret)
{
	__u8 *copy = guard - len;

	assert_true(len <= GUARDED_MAX);
	if (len)
		memcpy(copy, bytes, len);
	memset(ret, 0xaa, sizeof(*ret)); /* no field may be left as it was */
	return rp_parse(copy, len, header_max, ret);
}

static void check_header(const char *name, size_t len,
			 const struct rp_header *got,
			 const struct rp_header *expected)
{
	const __u8 *a = (const __u8 *)got, *b = (const __u8 *)expected;

	for (size_t i = 0; i < sizeof(*got); i++)
		if (a[i] != b[i])
			fail_msg("%s, %zu bytes: byte %zu of the result is "
				 "%02x, not %02x",
				 name, len, i, a[i], b[i]);
}

static void check_verdict(const char *name, size_t len, enum rp_verdict verdict,
			  enum rp_verdict expected,
			  const struct rp_header *header)
{
	if (verdict != expected)
		fail_msg("%s, %zu bytes: verdict %d, not %d (fault %s)", name,
			 len, verdict, expected, rp_fault_name(header->fault));
}

static void check_vector(const struct vector *vector)
{
	struct rp_header header, expected;
	enum rp_verdict verdict = parse(vector->bytes, vector->len,
					vector_header_max(vector), &header);

	vector_expected(vector, &expected);
	check_verdict(vector->name, vector->len, verdict, vector->verdict,
		      &header);
	check_header(vector->name, vector->len, &header, &expected);
}

static void test_vectors(void **state)
{
	(void)state;
	vectors_each(check_vector);
}

/*
 * Before the deciding byte the verdict is RP_INCOMPLETE, needing no more than
 * is really to come, and from it on it is final.
 */
static void check_prefixes(const struct vector *vector)
{
	size_t decided = vector_decided(vector);
	struct rp_header header, expected;
	enum rp_verdict verdict;

	vector_expected(vector, &expected);
	for (size_t len = 0; len < vector->len; len++) {
		verdict = parse(vector->bytes, len, vector_header_max(vector),
				&header);
		if (len >= decided) {
			check_verdict(vector->name, len, verdict,
				      vector->verdict, &header);
			check_header(vector->name, len, &header, &expected);
			continue;
		}
		check_verdict(vector->name, len, verdict, RP_INCOMPLETE,
			      &header);
		assert_true(header.need >= 1);
		if (vector->verdict == RP_HEADER && header.need > decided - len)
			fail_msg("%s, %zu bytes: needs %u, but %zu suffice",
				 vector->name, len, header.need, decided - len);
		check_header(vector->name, len, &header,
			     &(struct rp_header){.need = header.need});
	}
}

static void test_prefixes(void **state)
{
	(void)state;
	vectors_each(check_prefixes);
}

/* What stands behind the deciding byte changes nothing. */
static void check_payload(const struct vector *vector)
{
	static const __u8 fill[] = {0x00, 0xff, '\n', 'P'};
	struct rp_header header, expected;
	__u8 bytes[GUARDED_MAX];

	if (vector->verdict == RP_INCOMPLETE)
		return;
	vector_expected(vector, &expected);
	memcpy(bytes, vector->bytes, vector->len);
	for (size_t i = 0; i < sizeof(fill); i++) {
		memset(bytes + vector->len, fill[i], 5000);
		assert_int_equal(parse(bytes, vector->len + 5000,
				       vector_header_max(vector), &header),
				 vector->verdict);
		check_header(vector->name, vector->len + 5000, &header,
			     &expected);
	}
}

static void test_payload(void **state)
{
	(void)state;
	vectors_each(check_payload);
}

/* v2 alone knows its end: whoever reads `need` bytes then has the header. */
static void check_need(const struct vector *vector)
{
	struct rp_header header;
	size_t len = 0;
	int reads = 0;

	if (vector->verdict != RP_HEADER)
		return;
	while (parse(vector->bytes, len, vector_header_max(vector), &header) ==
	       RP_INCOMPLETE) {
		len += header.need;
		assert_true(len <= vector_decided(vector));
		reads++;
	}
	assert_int_equal(len, vector_decided(vector));
	if (header.version == 2)
		assert_true(reads <= 3); /* 15, 1, the rest */
}

static void test_reading_what_is_needed(void **state)
{
	(void)state;
	vectors_each(check_need);
}

/* Header longer than 65535 bytes: offsets do not wrap. */
static void test_longest(void **state)
{
	static __u8 bytes[RP_V2_MAX] =
		"\r\n\r\n\0\r\nQUIT\n\x21\x00\xff\xff\x04\xff\xf8";
	static const __u8 last[] = {0x02, 0, 1, 'x'};
	struct rp_header header;

	(void)state;
	memcpy(bytes + sizeof(bytes) - sizeof(last), last, sizeof(last));
	assert_int_equal(rp_parse(bytes, sizeof(bytes), RP_V2_MAX, &header),
			 RP_HEADER);
	assert_int_equal(header.length, RP_V2_MAX);
	assert_int_equal(header.authority.off, RP_V2_MAX - 1);
	assert_int_equal(header.authority.len, 1);
	assert_int_equal(rp_parse(bytes, sizeof(bytes) - 1, RP_V2_MAX, &header),
			 RP_INCOMPLETE);
	assert_int_equal(header.need, 1);
	assert_int_equal(rp_parse(bytes, sizeof(bytes), RP_V2_MAX - 1, &header),
			 RP_TOO_LONG);
}

/* As destination, so that the source cannot hide a mistake in resetting. */
static void check_address(const char *text, int family)
{
	char line[256];
	struct rp_header header;
	__u8 expected[16] = {[10] = 0xff, [11] = 0xff};
	int len = snprintf(line, sizeof(line), "PROXY %s %s %s 1 2\r\n",
			   family == AF_INET ? "TCP4" : "TCP6",
			   family == AF_INET ? "192.0.2.1" : "1::2:3", text);
	int good = inet_pton(family, text,
			     expected + (family == AF_INET ? 12 : 0));
	enum rp_verdict verdict = parse(line, len, 256, &header);

	if (len > RP_V1_MAX && verdict == RP_TOO_LONG)
		return;
	if (verdict != (good == 1 ? RP_HEADER : RP_MALFORMED))
		fail_msg("%s: verdict %d, inet_pton says %d", text, verdict,
			 good);
	if (good == 1)
		assert_memory_equal(header.destination, expected, 16);
}

static void mutate_text(char *text, size_t size, const char *alphabet)
{
	size_t len = strlen(text), at = random_below(len + 1);
	char c = alphabet[random_below(strlen(alphabet))];

	switch (random_below(3)) {
	case 0:
		if (at < len)
			text[at] = c;
		break;
	case 1:
		if (at < len)
			memmove(text + at, text + at + 1, len - at);
		break;
	default:
		if (len + 1 < size) {
			memmove(text + at + 1, text + at, len - at + 1);
			text[at] = c;
		}
	}
}

static void compare_with_inet_pton(int family, const char *const *seeds,
				   size_t n_seeds, const char *alphabet)
{
	random_seed(1);
	for (int i = 0; i < 200000; i++) {
		char text[60];

		strcpy(text, seeds[random_below(n_seeds)]);
		for (unsigned int n = random_below(5); n > 0; n--)
			mutate_text(text, 48, alphabet);
		if (*text)
			check_address(text, family);
	}
}

static void test_ipv6_like_inet_pton(void **state)
{
	static const char *const seeds[] = {
		"::",
		"::1",
		"1::",
		"2001:db8::1",
		"1:2:3:4:5:6:7:8",
		"1:2:3:4:5:6:7::",
		"::2:3:4:5:6:7:8",
		"1:2:3::5:6:7:8",
		"::ffff:192.0.2.1",
		"1:2:3:4:5:6:7.8.9.10",
		"64:ff9b::1.2.3.4",
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
		"0:0:0:0:0:0:0:0",
		"1:2:3:4:5::1.2.3.4",
		"::0.0.0.0",
		"fe80::1%eth0",
	};

	(void)state;
	compare_with_inet_pton(AF_INET6, seeds,
			       sizeof(seeds) / sizeof(seeds[0]),
			       "::::....0012359afAFgx%/ ");
}

static void test_ipv4_like_inet_pton(void **state)
{
	static const char *const seeds[] = {
		"0.0.0.0", "192.0.2.1", "255.255.255.255", "10.20.30.40",
		"1.2.3",   "1.2.3.4.5", "099.1.1.1",
	};

	(void)state;
	compare_with_inet_pton(AF_INET, seeds, sizeof(seeds) / sizeof(seeds[0]),
			       "....00122556789a:-+");
}

static void test_ports(void **state)
{
	char line[64];
	struct rp_header header;

	(void)state;
	for (unsigned int port = 0; port < 70000; port++) {
		int len = snprintf(line, sizeof(line),
				   "PROXY TCP4 192.0.2.1 192.0.2.2 %u %u\r\n",
				   port, 65535 - port % 65536);

		assert_int_equal(parse(line, len, 107, &header),
				 port < 65536 ? RP_HEADER : RP_MALFORMED);
		if (port >= 65536)
			continue;
		assert_int_equal(header.source_port, port);
		assert_int_equal(header.destination_port, 65535 - port);
	}
}

/* RFC 3720 appendix B.4, and one division bit by bit. */
static __u32 crc_by_bits(const __u8 *bytes, size_t len)
{
	__u32 crc = ~0u;

	while (len--) {
		crc ^= *bytes++;
		for (int i = 0; i < 8; i++)
			crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
	}
	return ~crc;
}

static __u32 crc_by_table(const __u8 *bytes, size_t len)
{
	__u32 crc = ~0u;

	while (len--)
		crc = rp_crc32c(crc, *bytes++);
	return ~crc;
}

static void test_crc32c(void **state)
{
	__u8 bytes[32];

	(void)state;
	memset(bytes, 0x00, sizeof(bytes));
	assert_int_equal(crc_by_table(bytes, sizeof(bytes)), 0x8a9136aa);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(crc_by_table(bytes, sizeof(bytes)), 0x62a8ab43);
	for (int i = 0; i < 32; i++)
		bytes[i] = i;
	assert_int_equal(crc_by_table(bytes, sizeof(bytes)), 0x46dd794e);
	for (int i = 0; i < 256; i++) {
		bytes[0] = i;
		assert_int_equal(crc_by_table(bytes, 1), crc_by_bits(bytes, 1));
	}
}

/* With a checksum, no flipped bit gets through as another client. */
static void check_flips(const struct vector *vector)
{
	struct rp_header header;
	__u8 bytes[256];

	if (!strstr(vector->name, "v2 captured"))
		return;
	memcpy(bytes, vector->bytes, vector->len);
	for (size_t bit = 0; bit < vector->len * 8; bit++) {
		/* Byte 28 says that what follows is a checksum. */
		if (bit / 8 == 28)
			continue;
		bytes[bit / 8] ^= 1 << bit % 8;
		if (parse(bytes, vector->len, 4096, &header) == RP_HEADER)
			assert_int_equal(header.command, RP_COMMAND_LOCAL);
		bytes[bit / 8] ^= 1 << bit % 8;
	}
}

static void test_flipped_bits(void **state)
{
	(void)state;
	vectors_each(check_flips);
}

static void check_span(const struct rp_header *header, struct rp_span span,
		       unsigned int bit)
{
	if (!(header->present & bit)) {
		assert_int_equal(span.off, 0);
		assert_int_equal(span.len, 0);
		return;
	}
	assert_true(span.off >= RP_V2_MIN + 3);
	assert_true(span.off + span.len <= header->length);
}

/* What holds for any input: spans are inside, more bytes change nothing. */
static void check_any(const __u8 *bytes, size_t len, __u32 header_max)
{
	struct rp_header header, shorter;
	enum rp_verdict verdict = parse(bytes, len, header_max, &header);
	size_t less = random_below(len + 1);
	enum rp_verdict before = parse(bytes, less, header_max, &shorter);

	if (before != RP_INCOMPLETE) {
		assert_int_equal(verdict, before);
		check_header("mutated", less, &shorter, &header);
	} else if (verdict == RP_HEADER) {
		assert_true(less + shorter.need <= header.length);
	}
	assert_int_equal(verdict == RP_MALFORMED, header.fault != 0);
	assert_int_equal(verdict == RP_INCOMPLETE, header.need != 0);
	assert_int_equal(verdict == RP_HEADER, header.length != 0);
	if (verdict != RP_HEADER)
		return;
	assert_true(header.length <= len && header.length <= header_max);
	check_span(&header, header.authority, RP_TLV_AUTHORITY);
	check_span(&header, header.unique_id, RP_TLV_UNIQUE_ID);
	check_span(&header, header.aws_vpce_id, RP_TLV_AWS_VPCE_ID);
	check_span(&header, header.ssl_cn, RP_TLV_SSL_CN);
	check_span(&header, header.alpn, RP_TLV_ALPN);
}

static void test_mutated(void **state)
{
	static __u8 bytes[MUTATED_MAX];
	unsigned int verdicts[RP_TOO_LONG + 1] = {0};
	unsigned int faults[RP_FAULT_COUNT] = {0};
	struct rp_header header;

	(void)state;
	random_seed(2);
	for (int i = 0; i < 100000; i++) {
		size_t len = mutated(bytes);
		__u32 header_max = mutated_header_max();

		check_any(bytes, len, header_max);
		verdicts[parse(bytes, len, header_max, &header)]++;
		faults[header.fault]++;
	}
	/* The mutations are worth their time: nothing is left untried. */
	for (int i = 0; i <= RP_TOO_LONG; i++)
		assert_true(verdicts[i] > 1000);
	for (int i = 0; i < RP_FAULT_COUNT; i++)
		if (!faults[i])
			fail_msg("never: %s", rp_fault_name(i));
}

static void test_source_usable(void **state)
{
	static const struct {
		const char *text;
		bool usable;
	} cases[] = {
		{"192.0.2.1", true},
		{"10.0.0.1", true},
		{"0.0.0.0", false},
		{"0.0.0.1", true},
		{"126.255.255.255", true},
		{"127.0.0.1", false},
		{"127.255.255.255", false},
		{"128.0.0.0", true},
		{"223.255.255.255", true},
		{"224.0.0.1", false},
		{"239.255.255.255", false},
		{"240.0.0.1", true},
		{"255.255.255.254", true},
		{"255.255.255.255", false},
		{"::", false},
		{"::1", false},
		{"::2", true},
		{"::1:0", true},
		{"1::", true},
		{"0:0:1::1", true},
		{"2001:db8::1", true},
		{"fe80::1", true},
		{"fe00::1", true},
		{"ff00::", false},
		{"ff02::1", false},
		{"::ffff:0:127.0.0.1", true}, /* not v4-mapped */
		{"1::ffff:127.0.0.1", true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rp_header header = {.command = RP_COMMAND_PROXY};

		vector_address(cases[i].text, header.source);
		if (rp_source_usable(&header) != cases[i].usable)
			fail_msg("%s", cases[i].text);
		header.command = RP_COMMAND_LOCAL;
		assert_true(rp_source_usable(&header));
	}
}

static void test_fault_names(void **state)
{
	(void)state;
	for (int i = 0; i < RP_FAULT_COUNT; i++) {
		assert_non_null(rp_fault_name(i));
		for (int j = 0; j < i; j++)
			assert_string_not_equal(rp_fault_name(i),
						rp_fault_name(j));
	}
}

static void check_record(const struct vector *vector)
{
	struct rp_header header;
	struct rp_tlvs tlvs;

	if (parse(vector->bytes, vector->len, vector_header_max(vector),
		  &header) != RP_HEADER)
		return;
	memset(&tlvs, 0xaa, sizeof(tlvs));
	rp_tlvs_fill(&header, vector->bytes, &tlvs);
	assert_int_equal(tlvs.present, header.present);
	assert_int_equal(tlvs.truncated, 0);
	assert_int_equal(tlvs.gcp_psc_id, header.gcp_psc_id);
	assert_int_equal(tlvs.azure_link_id, header.azure_link_id);
	assert_int_equal(tlvs.ssl_client, header.ssl_client);
	assert_int_equal(tlvs.ssl_verify, header.ssl_verify);
	if (!strstr(vector->name, "captured"))
		return;
	assert_int_equal(tlvs.alpn_len, header.alpn.len);
	assert_memory_equal(tlvs.alpn, "mqtt", tlvs.alpn_len);
	assert_int_equal(tlvs.authority_len, header.authority.len);
	assert_memory_equal(tlvs.authority, "broker.example",
			    tlvs.authority_len);
	assert_int_equal(tlvs.unique_id_len, header.unique_id.len);
	assert_memory_equal(tlvs.unique_id,
			    "7F000001:9990_7F000001:22B3_6B0139F5_0000",
			    tlvs.unique_id_len);
	assert_int_equal(tlvs.ssl_cn_len, header.ssl_cn.len);
	assert_memory_equal(tlvs.ssl_cn, "sensor-17", tlvs.ssl_cn_len);
	assert_int_equal(tlvs.aws_vpce_id_len, header.aws_vpce_id.len);
	assert_memory_equal(tlvs.aws_vpce_id, "vpce-08d2bf15fac5001c9",
			    tlvs.aws_vpce_id_len);
}

static void test_record(void **state)
{
	(void)state;
	vectors_each(check_record);
}

static void test_record_truncates(void **state)
{
	static const __u8 bytes[256] = {[10] = 'f', [11] = 'g', [74] = 'h'};
	struct rp_header header = {
		.present = RP_TLV_SSL_CN | RP_TLV_AUTHORITY,
		.ssl_cn = {10, 65},
		.authority = {11, 92},
	};
	struct rp_tlvs tlvs;

	(void)state;
	rp_tlvs_fill(&header, bytes, &tlvs);
	assert_int_equal(tlvs.truncated, RP_TLV_SSL_CN);
	assert_int_equal(tlvs.ssl_cn_len, 64);
	assert_int_equal(tlvs.ssl_cn[0], 'f');
	assert_int_equal(tlvs.authority_len, 92);
	assert_int_equal(tlvs.authority[0], 'g');
	assert_int_equal(tlvs.authority[63], 'h');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_prefixes),
		cmocka_unit_test(test_payload),
		cmocka_unit_test(test_reading_what_is_needed),
		cmocka_unit_test(test_longest),
		cmocka_unit_test(test_ipv6_like_inet_pton),
		cmocka_unit_test(test_ipv4_like_inet_pton),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_crc32c),
		cmocka_unit_test(test_flipped_bits),
		cmocka_unit_test(test_mutated),
		cmocka_unit_test(test_source_usable),
		cmocka_unit_test(test_fault_names),
		cmocka_unit_test(test_record),
		cmocka_unit_test(test_record_truncates),
	};

	return cmocka_run_group_tests(tests, map_guard, NULL);
}
