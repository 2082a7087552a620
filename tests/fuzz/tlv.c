// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * tlv.c - fuzzes the TLVs of version 2. The header around them is made here,
 * and always valid, so that every input comes as far as they do; and they are
 * read a second time, another way, to compare.
 *
 * An input is one byte, enum choice, then the TLVs.
 */
#include <stdlib.h>
#include <string.h>

#include "emit.h"
#include "fuzz.h"
#include "realpeer/proxy_header.h"
#include "record.h"

enum choice {
	CHOICE_FAMILY = 0x07, /* of families[] */
	CHOICE_CRC = 0x08,    /* the first checksum is made right */
	CHOICE_LOCAL = 0x10,
};

static const struct {
	uint8_t byte;
	size_t block;
} families[8] = {
	{0x11, 12}, {0x21, 36}, {0x11, 12}, {0x21, 36},
	{0x00, 0},  {0x12, 12}, {0x22, 36}, {0x31, 216},
};

/* What the TLVs say, read the other way. */
struct expected {
	uint16_t present;
	struct rp_span authority, unique_id, aws_vpce_id, ssl_cn, alpn;
	uint64_t gcp_psc_id;
	uint32_t azure_link_id, ssl_verify;
	uint8_t ssl_client;
	size_t crc_at; /* 0: none */
};

/* Big endian for n > 0, little endian for n < 0. */
static uint64_t number(const uint8_t *bytes, int n)
{
	uint64_t value = 0;
	int i;

	for (i = 0; i < abs(n); i++)
		value = value << 8 | bytes[n > 0 ? i : -n - 1 - i];
	return value;
}

static bool is_new(struct expected *e, enum rp_tlv_bit bit)
{
	bool new = !(e->present & bit);

	e->present |= bit;
	return new;
}

static void keep(struct expected *e, enum rp_tlv_bit bit, struct rp_span *to,
		 size_t off, size_t len)
{
	if (is_new(e, bit))
		*to = (struct rp_span){off, len};
}

static bool is_text(const uint8_t *data, struct rp_span span)
{
	for (size_t i = 0; i < span.len; i++) {
		if (data[span.off + i] < 0x20 || data[span.off + i] == 0x7f)
			return false;
	}
	return true;
}

static bool read_ssl(const uint8_t *data, size_t at, size_t len,
		     struct expected *e)
{
	size_t end = at + len;
	bool first;

	if (len < 5)
		return false;
	first = is_new(e, RP_TLV_SSL);
	if (first) {
		e->ssl_client = data[at];
		e->ssl_verify = number(data + at + 1, 4);
	}
	for (at += 5; at < end; at += 3 + len) {
		if (end - at < 3)
			return false;
		len = number(data + at + 1, 2);
		if (end - at - 3 < len)
			return false;
		if (data[at] != 0x22)
			continue;
		if (!is_text(data, (struct rp_span){at + 3, len}))
			return false;
		if (first)
			keep(e, RP_TLV_SSL_CN, &e->ssl_cn, at + 3, len);
	}
	return true;
}

/* Free for anybody's use: one that looks different is another's. */
static void read_vendor(uint8_t type, const uint8_t *value, size_t at,
			size_t len, struct expected *e)
{
	bool subtype1 = len > 0 && value[0] == 1;

	if (type == 0xe0 && len == 8 && is_new(e, RP_TLV_GCP_PSC_ID))
		e->gcp_psc_id = number(value, 8);
	else if (type == 0xea && subtype1)
		keep(e, RP_TLV_AWS_VPCE_ID, &e->aws_vpce_id, at + 1, len - 1);
	else if (type == 0xee && subtype1 && len == 5 &&
		 is_new(e, RP_TLV_AZURE_LINK_ID))
		e->azure_link_id = number(value + 1, -4);
}

static bool read_value(const uint8_t *data, uint8_t type, size_t at, size_t len,
		       struct expected *e)
{
	switch (type) {
	case 0x01:
		keep(e, RP_TLV_ALPN, &e->alpn, at, len);
		return true;
	case 0x02:
		keep(e, RP_TLV_AUTHORITY, &e->authority, at, len);
		return true;
	case 0x03:
		if (len != 4 || e->crc_at)
			return false;
		e->crc_at = at;
		return true;
	case 0x05:
		keep(e, RP_TLV_UNIQUE_ID, &e->unique_id, at, len);
		return len <= 128;
	case 0x20:
		return read_ssl(data, at, len, e);
	}
	read_vendor(type, data + at, at, len, e);
	return true;
}

/* False: malformed. */
static bool read_tlvs(const uint8_t *data, size_t at, size_t end,
		      struct expected *e)
{
	while (at < end) {
		size_t len;

		if (end - at < 3)
			return false;
		len = number(data + at + 1, 2);
		if (end - at - 3 < len ||
		    !read_value(data, data[at], at + 3, len, e))
			return false;
		at += 3 + len;
	}
	return true;
}

/* Bit by bit, with the four bytes at `skip` taken as zero. */
static uint32_t crc_by_bits(const uint8_t *data, size_t len, size_t skip)
{
	uint32_t crc = ~0u;

	for (size_t i = 0; i < len; i++) {
		crc ^= i >= skip && i < skip + 4 ? 0 : data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return ~crc;
}

static void same_span(struct rp_span a, struct rp_span b)
{
	holds(a.off == b.off && a.len == b.len);
}

static void check_kept(const uint8_t *data, const char *kept, size_t kept_len,
		       struct rp_span span, size_t room, bool truncated)
{
	holds(kept_len == (span.len < room ? span.len : room));
	holds(truncated == (span.len > room));
	holds(memcmp(kept, data + span.off, kept_len) == 0);
}

static void check_filled(const uint8_t *data, const struct rp_header *h)
{
	struct rp_tlvs t;

	rp_tlvs_fill(h, data, &t);
	holds(t.present == h->present && t.gcp_psc_id == h->gcp_psc_id);
	holds(t.azure_link_id == h->azure_link_id);
	holds(t.ssl_client == h->ssl_client && t.ssl_verify == h->ssl_verify);
#define CHECK(field, bit)                                                \
	check_kept(data, (const char *)t.field, t.field##_len, h->field, \
		   sizeof(t.field), t.truncated &(bit))
	CHECK(authority, RP_TLV_AUTHORITY);
	CHECK(unique_id, RP_TLV_UNIQUE_ID);
	CHECK(aws_vpce_id, RP_TLV_AWS_VPCE_ID);
	CHECK(ssl_cn, RP_TLV_SSL_CN);
	CHECK(alpn, RP_TLV_ALPN);
#undef CHECK
}

static void check_read(const uint8_t *data, size_t len, bool good,
		       const struct expected *e)
{
	struct rp_header h;
	enum rp_verdict verdict = rp_parse(data, len, RP_V2_MAX, &h);

	holds(verdict == (good ? RP_HEADER : RP_MALFORMED));
	if (!good)
		return;
	holds(h.length == len && h.present == e->present);
	same_span(h.authority, e->authority);
	same_span(h.unique_id, e->unique_id);
	same_span(h.aws_vpce_id, e->aws_vpce_id);
	same_span(h.ssl_cn, e->ssl_cn);
	same_span(h.alpn, e->alpn);
	holds(h.gcp_psc_id == e->gcp_psc_id);
	holds(h.azure_link_id == e->azure_link_id);
	holds(h.ssl_verify == e->ssl_verify && h.ssl_client == e->ssl_client);
	check_filled(data, &h);
}

static bool same_value(const uint8_t *a, struct rp_span in_a, const uint8_t *b,
		       struct rp_span in_b)
{
	return in_a.len == in_b.len &&
	       memcmp(a + in_a.off, b + in_b.off, in_a.len) == 0;
}

/* Those that are forwarded arrive as they came, the others do not. */
static void check_forwarded(const uint8_t *data, size_t len, uint16_t wanted)
{
	uint8_t *out = malloc(EMIT_V2_MAX);
	struct record record = {0};
	struct rp_header h, again;
	uint16_t present;

	holds(out);
	if (rp_parse(data, len, RP_V2_MAX, &h) != RP_HEADER ||
	    h.command != RP_COMMAND_PROXY) {
		free(out);
		return;
	}
	holds(record_fill(&record, -1, &h, data) == 0);
	/* A CN is within its PP2_TYPE_SSL. */
	wanted &= ~RP_TLV_SSL_CN;
	if (wanted & RP_TLV_SSL)
		wanted |= RP_TLV_SSL_CN;
	len = emit_v2(&record, data, len, wanted, out);
	present = h.present & wanted;
	holds(rp_parse(out, len, RP_V2_MAX, &again) == RP_HEADER);
	holds(again.length == len && again.present == present);
#define SAME(field, bit) \
	(!(present & (bit)) || same_value(data, h.field, out, again.field))
	holds(SAME(authority, RP_TLV_AUTHORITY));
	holds(SAME(unique_id, RP_TLV_UNIQUE_ID));
	holds(SAME(aws_vpce_id, RP_TLV_AWS_VPCE_ID));
	holds(SAME(ssl_cn, RP_TLV_SSL_CN));
	holds(SAME(alpn, RP_TLV_ALPN));
#undef SAME
	record_end(&record);
	free(out);
}

/*
 * Seen to find, each within a second: one bit wrong in rp_crc32c_table;
 * rp_v2_ssl() takes 4 bytes for a PP2_TYPE_SSL; rp_v2_tlv() compares a TLV
 * within one with the header's end; copy_tlvs() forgets the last TLV.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct dice dice = dice_make(data, len);
	struct expected e = {0};
	uint8_t *header;
	size_t block, total;
	uint32_t crc;
	bool good;

	if (!len)
		return 0;
	block = families[data[0] & CHOICE_FAMILY].block;
	total = 16 + block + len - 1;
	if (total > RP_V2_MAX)
		return 0;
	header = malloc(total);
	holds(header);
	memcpy(header, "\r\n\r\n\0\r\nQUIT\n", 12);
	header[12] = data[0] & CHOICE_LOCAL ? 0x20 : 0x21;
	header[13] = families[data[0] & CHOICE_FAMILY].byte;
	header[14] = (total - 16) >> 8;
	header[15] = (total - 16) & 0xff;
	memset(header + 16, 7, block);
	memcpy(header + 16 + block, data + 1, len - 1);
	if (header[12] == 0x20) {
		check_read(header, total, true, &e);
		free(header);
		return 0;
	}
	good = read_tlvs(header, 16 + block, total, &e);
	if (good && e.crc_at) {
		crc = crc_by_bits(header, total, e.crc_at);
		for (int i = 0; i < 4 && data[0] & CHOICE_CRC; i++)
			header[e.crc_at + i] = crc >> (24 - 8 * i);
		good = number(header + e.crc_at, 4) == crc;
	}
	check_read(header, total, good, &e);
	check_forwarded(header, total, dice_below(&dice, 256));
	free(header);
	return 0;
}
