// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * parser.c - fuzzes the header parser, and what is made of a header: the
 * record, and the headers that are written for a handler. An input is the
 * beginning of a stream.
 */
#include <arpa/inet.h>
#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>

#include "emit.h"
#include "fuzz.h"
#include "realpeer/proxy_header.h"
#include "record.h"

#define NEAR 128 /* bytes in which most is decided */
#define CUTS 4

#define ALL_TLVS                                                           \
	(RP_TLV_AUTHORITY | RP_TLV_UNIQUE_ID | RP_TLV_AWS_VPCE_ID |        \
	 RP_TLV_SSL_CN | RP_TLV_ALPN | RP_TLV_SSL | RP_TLV_AZURE_LINK_ID | \
	 RP_TLV_GCP_PSC_ID)

/* The input, in memory of its own whose rest is poisoned for each prefix. */
static uint8_t *input;
static size_t input_len;

/* A read of one byte more than `len` is an error that ASan sees. */
static enum rp_verdict parse(size_t len, uint32_t max, struct rp_header *ret)
{
	enum rp_verdict verdict;

	ASAN_POISON_MEMORY_REGION(input + len, input_len - len);
	verdict = rp_parse(input, len, max, ret);
	ASAN_UNPOISON_MEMORY_REGION(input + len, input_len - len);
	return verdict;
}

static void same(const struct rp_header *a, const struct rp_header *b)
{
	holds(memcmp(a, b, sizeof(*a)) == 0);
}

/* Nothing that somebody could take for an address is left by a refusal. */
static void check_fields(enum rp_verdict verdict, const struct rp_header *h,
			 size_t len, uint32_t max)
{
	struct rp_header nothing = {.need = h->need, .fault = h->fault};

	holds((verdict == RP_INCOMPLETE) == (h->need > 0));
	holds((verdict == RP_MALFORMED) == (h->fault > 0));
	holds(h->fault < RP_FAULT_COUNT);
	if (verdict != RP_HEADER) {
		same(h, &nothing);
		return;
	}
	holds(h->length >= RP_V1_MIN && h->length <= len && h->length <= max);
	holds(h->version == 1 || h->version == 2);
	holds(h->version == 2 || h->length <= RP_V1_MAX);
}

/* What the first `len` bytes say never contradicts what all of them say. */
static void check_prefix(size_t len, uint32_t max, enum rp_verdict verdict,
			 const struct rp_header *whole)
{
	struct rp_header h;
	enum rp_verdict early = parse(len, max, &h);

	check_fields(early, &h, len, max);
	if (early != RP_INCOMPLETE) {
		holds(early == verdict);
		same(&h, whole);
	} else if (verdict == RP_HEADER) {
		holds(len + h.need <= whole->length);
	}
}

/* Some cuts, mostly; now and then byte by byte. */
static void check_prefixes(uint32_t max, enum rp_verdict verdict,
			   const struct rp_header *whole, struct dice *dice)
{
	size_t most = input_len < NEAR ? input_len : NEAR;

	for (int i = 0; i < CUTS && most > 0; i++) {
		check_prefix(dice_below(dice, most), max, verdict, whole);
		check_prefix(dice_below(dice, input_len), max, verdict, whole);
	}
	most = dice_below(dice, 32) ? 0 : most;
	for (size_t i = 0; i < most; i++)
		check_prefix(i, max, verdict, whole);
}

/* As the daemon reads: no more than the parser asked for. */
static void check_reading(uint32_t max, enum rp_verdict verdict,
			  const struct rp_header *whole)
{
	struct rp_header h;
	size_t have = 0;
	enum rp_verdict now = parse(0, max, &h);

	while (now == RP_INCOMPLETE && have + h.need <= input_len) {
		have += h.need;
		now = parse(have, max, &h);
	}
	if (now == RP_INCOMPLETE)
		return;
	holds(now == verdict);
	same(&h, whole);
	holds(now != RP_HEADER || have == h.length);
}

static void invert_payload(size_t header)
{
	for (size_t i = header; i < input_len; i++)
		input[i] = ~input[i];
}

/* Exactly the header decides: not its limit, nor what stands behind it. */
static void check_extent(const struct rp_header *whole)
{
	struct rp_header h;

	invert_payload(whole->length);
	holds(parse(input_len, whole->length, &h) == RP_HEADER);
	same(&h, whole);
	invert_payload(whole->length);
	holds(parse(whole->length, RP_V2_MAX, &h) == RP_HEADER);
	same(&h, whole);
	holds(parse(whole->length - 1, RP_V2_MAX, &h) == RP_INCOMPLETE);
	holds(parse(input_len, whole->length - 1, &h) == RP_TOO_LONG);
}

static void same_client(const struct rp_header *h, const struct record *record)
{
	holds(h->command == record->command);
	if (h->command != RP_COMMAND_PROXY)
		return;
	holds(memcmp(h->source, record->client, 16) == 0);
	holds(memcmp(h->destination, record->destination, 16) == 0);
	holds(h->source_port == record->client_port);
	holds(h->destination_port == record->destination_port);
}

/* Written again, it says the same, and nothing behind it. */
static void check_emitted(const uint8_t *data, const struct rp_header *whole,
			  const struct record *record)
{
	uint8_t *out = malloc(EMIT_V2_MAX), *line = malloc(RP_V1_MAX);
	const uint8_t *received = whole->version == 2 ? data : NULL;
	struct rp_tlvs before, after;
	struct rp_header h;
	size_t len;

	holds(out && line);
	len = emit_v1(record, line);
	holds(rp_parse(line, len, RP_V1_MAX, &h) == RP_HEADER);
	holds(h.length == len && h.version == 1);
	same_client(&h, record);
	len = emit_v2(record, received, whole->length, ALL_TLVS, out);
	holds(rp_parse(out, len, RP_V2_MAX, &h) == RP_HEADER);
	holds(h.length == len && h.version == 2);
	same_client(&h, record);
	rp_tlvs_fill(whole, data, &before);
	rp_tlvs_fill(&h, out, &after);
	if (whole->command == RP_COMMAND_PROXY)
		holds(memcmp(&before, &after, sizeof(before)) == 0);
	else
		holds(h.present == 0);
	free(out);
	free(line);
}

static void check_record(const uint8_t *data, const struct rp_header *whole)
{
	struct rp_connection expanded;
	struct record record;
	struct rp_tlvs tlvs, kept;

	record_begin(&record, (const uint8_t[16]){0}, 1);
	holds(record_fill(&record, -1, whole, data) == 0);
	if (whole->command == RP_COMMAND_PROXY)
		same_client(whole, &record);
	holds(record_expand(&record, &expanded, &kept) == (whole->present > 0));
	holds(memcmp(expanded.client, record.client, 16) == 0);
	holds(expanded.client_port == record.client_port);
	rp_tlvs_fill(whole, data, &tlvs);
	holds(!whole->present || memcmp(&kept, &tlvs, sizeof(tlvs)) == 0);
	check_emitted(data, whole, &record);
	record_end(&record);
}

/* Section 2.1: decimal, without leading zeros. */
static bool read_port(const char *text, uint16_t *ret)
{
	char again[8];
	int port = atoi(text);

	snprintf(again, sizeof(again), "%u", (uint16_t)port);
	*ret = port;
	return strlen(text) <= 5 && strcmp(text, again) == 0;
}

static bool read_address(int family, const char *text, uint8_t ret[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (family == AF_INET6)
		return inet_pton(AF_INET6, text, ret) == 1;
	memcpy(ret, mapped, sizeof(mapped));
	return inet_pton(AF_INET, text, ret + 12) == 1;
}

/* A version 1 line read another way: its fields apart, libc for addresses. */
static bool read_line(char *line, struct rp_header *h)
{
	char *field[6], *rest = line;
	int family;

	for (int i = 0; i < 6; i++) {
		field[i] = strsep(&rest, " ");
		if (!field[i])
			return false;
	}
	if (rest || strcmp(field[0], "PROXY") != 0)
		return false;
	if (strcmp(field[1], "TCP4") == 0)
		family = AF_INET;
	else if (strcmp(field[1], "TCP6") == 0)
		family = AF_INET6;
	else
		return false;
	h->command = RP_COMMAND_PROXY;
	return read_address(family, field[2], h->source) &&
	       read_address(family, field[3], h->destination) &&
	       read_port(field[4], &h->source_port) &&
	       read_port(field[5], &h->destination_port);
}

/* Is there a version 1 header? */
static bool find_line(const uint8_t *data, size_t len, struct rp_header *ret)
{
	size_t most = len < RP_V1_MAX ? len : RP_V1_MAX, at = 0;
	char line[RP_V1_MAX + 1] = "";

	*ret = (struct rp_header){.version = 1};
	while (at < most && data[at] != '\r' && data[at] != '\n')
		at++;
	if (at + 2 > most || data[at] != '\r' || data[at + 1] != '\n')
		return false;
	ret->length = at + 2;
	memcpy(line, data, at);
	if (strncmp(line, "PROXY UNKNOWN", 13) == 0)
		return at == 13 || line[13] == ' ';
	return strlen(line) == at && read_line(line, ret);
}

static void check_against_reference(const uint8_t *data, size_t len,
				    enum rp_verdict verdict,
				    const struct rp_header *whole)
{
	struct rp_header reference;
	bool found = find_line(data, len, &reference);

	holds(found == (verdict == RP_HEADER && whole->version == 1));
	if (found)
		same(whole, &reference);
	if (verdict != RP_HEADER || whole->version == 1)
		return;
	holds(memcmp(data, "\r\n\r\n\0\r\nQUIT\n", 12) == 0);
	holds(whole->length == 16u + (data[14] << 8 | data[15]));
	if (whole->command != RP_COMMAND_PROXY)
		return;
	holds(data[12] == 0x21 && (data[13] == 0x11 || data[13] == 0x21));
	if (data[13] == 0x11) {
		holds(memcmp(data + 16, whole->source + 12, 4) == 0);
		holds(memcmp(data + 20, whole->destination + 12, 4) == 0);
		data += 24;
	} else {
		holds(memcmp(data + 16, whole->source, 16) == 0);
		holds(memcmp(data + 32, whole->destination, 16) == 0);
		data += 48;
	}
	holds(whole->source_port == (data[0] << 8 | data[1]));
	holds(whole->destination_port == (data[2] << 8 | data[3]));
}

static void check_limit(uint32_t max, struct dice *dice)
{
	struct rp_header whole;
	enum rp_verdict verdict = parse(input_len, max, &whole);

	check_fields(verdict, &whole, input_len, max);
	check_reading(max, verdict, &whole);
	check_prefixes(max, verdict, &whole, dice);
	if (max == RP_V2_MAX)
		check_against_reference(input, input_len, verdict, &whole);
	if (verdict != RP_HEADER)
		return;
	check_extent(&whole);
	check_record(input, &whole);
}

/*
 * Seen to find, each within a second: rp_v1_digit() lets leading zeros pass;
 * rp_v1_need() asks for a byte too many; rp_v2_tlv() takes a value one byte
 * longer than what holds it; rp_v2_fixed_part() takes a header whose last byte
 * is missing; emit_v1() writes one port twice.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint32_t limits[] = {28, RP_V1_MAX, 536, RP_V2_MAX};
	struct dice dice = dice_make(data, len);

	input = fuzz_copy(data, len);
	input_len = len;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
		check_limit(limits[i], &dice);
	free(input);
	return 0;
}
