/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * proxy_v2.h - the binary header, section 2.2:
 *
 *	 0	signature, 12 bytes
 *	12	version 2 (high nibble), command (low nibble)
 *	13	address family, transport
 *	14	length of all that follows, 2 bytes
 *	16	addresses: 0, 12, 36 or 216 bytes
 *		TLVs: type, length (2 bytes), value
 *
 * The first 16 bytes are judged as they come, the rest when all is there.
 */
#ifndef REALPEER_PROXY_V2_H
#define REALPEER_PROXY_V2_H

#include "realpeer/crc32c.h"
#include "realpeer/proxy_input.h"

enum rp_v2_type {
	RP_V2_ALPN = 0x01, /* sections 2.2.1 to 2.2.7 */
	RP_V2_AUTHORITY = 0x02,
	RP_V2_CRC32C = 0x03,
	RP_V2_UNIQUE_ID = 0x05,
	RP_V2_SSL = 0x20,
	RP_V2_SSL_CN = 0x22, /* within RP_V2_SSL */
	RP_V2_GCP = 0xe0,    /* vendors', 2.2.8 */
	RP_V2_AWS = 0xea,
	RP_V2_AZURE = 0xee,
};

#define RP_V2_TCP4	    0x11
#define RP_V2_TCP6	    0x21
#define RP_V2_UNIQUE_ID_MAX 128

static const __u8 rp_v2_signature[12] = {
	'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n',
};

RP_INLINE void rp_v2_keep(struct rp_parser *p, enum rp_tlv_bit bit,
			  struct rp_span *to, struct rp_span value)
{
	if (p->header.present & bit)
		return; /* the first one counts */
	p->header.present |= bit;
	*to = value;
}

RP_INLINE long rp_v2_ssl(struct rp_parser *p, struct rp_span value)
{
	struct rp_header *h = &p->header;

	if (value.len < 5)
		return rp_malformed(p, RP_FAULT_SSL_LENGTH);
	p->v2.ssl_again = !!(h->present & RP_TLV_SSL);
	p->v2.ssl_end = value.off + value.len;
	p->v2.at = value.off + 5;
	if (p->v2.ssl_again)
		return 0;
	h->present |= RP_TLV_SSL;
	h->ssl_client = rp_byte(p, value.off);
	h->ssl_verify = rp_be32(p, value.off + 1);
	return 0;
}

RP_INLINE long rp_v2_crc32c(struct rp_parser *p, struct rp_span value)
{
	if (value.len != 4)
		return rp_malformed(p, RP_FAULT_CRC32C_LENGTH);
	if (p->v2.crc_at)
		return rp_malformed(p, RP_FAULT_CRC32C_REPEATED);
	p->v2.crc_at = value.off;
	return 0;
}

/*
 * 0xe0 to 0xef are free for anybody's use, so a value that does not look like
 * the vendor's is not a mistake but somebody else's.
 */
RP_INLINE void rp_v2_vendor(struct rp_parser *p, __u8 type,
			    struct rp_span value)
{
	struct rp_header *h = &p->header;
	struct rp_span id = {value.off + 1, value.len - 1};

	if (type == RP_V2_GCP && value.len == 8 &&
	    !(h->present & RP_TLV_GCP_PSC_ID)) {
		h->present |= RP_TLV_GCP_PSC_ID;
		h->gcp_psc_id = (__u64)rp_be32(p, value.off) << 32 |
				rp_be32(p, value.off + 4);
	}
	if (!value.len || rp_byte(p, value.off) != 1) /* subtype */
		return;
	if (type == RP_V2_AWS)
		rp_v2_keep(p, RP_TLV_AWS_VPCE_ID, &h->aws_vpce_id, id);
	if (type == RP_V2_AZURE && id.len == 4 &&
	    !(h->present & RP_TLV_AZURE_LINK_ID)) {
		h->present |= RP_TLV_AZURE_LINK_ID;
		h->azure_link_id = __builtin_bswap32(rp_be32(p, id.off));
	}
}

RP_INLINE long rp_v2_value(struct rp_parser *p, __u8 type, struct rp_span value)
{
	struct rp_header *h = &p->header;

	switch (type) {
	case RP_V2_ALPN:
		rp_v2_keep(p, RP_TLV_ALPN, &h->alpn, value);
		return 0;
	case RP_V2_AUTHORITY:
		rp_v2_keep(p, RP_TLV_AUTHORITY, &h->authority, value);
		return 0;
	case RP_V2_CRC32C:
		return rp_v2_crc32c(p, value);
	case RP_V2_UNIQUE_ID:
		if (value.len > RP_V2_UNIQUE_ID_MAX)
			return rp_malformed(p, RP_FAULT_UNIQUE_ID_LENGTH);
		rp_v2_keep(p, RP_TLV_UNIQUE_ID, &h->unique_id, value);
		return 0;
	case RP_V2_SSL:
		return rp_v2_ssl(p, value);
	default: /* NOOP, NETNS and all others too */
		rp_v2_vendor(p, type, value);
		return 0;
	}
}

/*
 * A byte of a CN, which becomes a user name in brokers, and text in logs. Every
 * CN is looked at: whoever gets the TLVs forwarded may take any of them.
 */
RP_INLINE long rp_v2_text(struct rp_parser *p)
{
	__u8 c = rp_byte(p, p->v2.at++);

	return c < 0x20 || c == 0x7f ? rp_malformed(p, RP_FAULT_SSL_CN_TEXT)
				     : 0;
}

/*
 * One TLV, or one byte of a CN. Those within a PP2_TYPE_SSL come in the same
 * loop, bounded by it; none of them is opened again, so there is one level and
 * no recursion.
 */
static long rp_v2_tlv(__u32 i, struct rp_parser **context)
{
	struct rp_parser *p = *context;
	struct rp_v2 *v2 = &p->v2;
	struct rp_span value;
	__u32 end;
	__u8 type;

	(void)i;
	if (v2->at < v2->text_end)
		return rp_v2_text(p);
	if (v2->at == v2->ssl_end)
		v2->ssl_end = 0;
	if (v2->at == v2->end)
		return 1;
	end = v2->ssl_end ? v2->ssl_end : v2->end;
	if (end - v2->at < 3)
		return rp_malformed(p, RP_FAULT_TLV_LENGTH);
	type = rp_byte(p, v2->at);
	value.len = rp_be16(p, v2->at + 1);
	value.off = v2->at + 3;
	if (value.len > end - value.off)
		return rp_malformed(p, RP_FAULT_TLV_LENGTH);
	v2->at = value.off + value.len;

	if (!v2->ssl_end)
		return rp_v2_value(p, type, value);
	if (type != RP_V2_SSL_CN)
		return 0;
	v2->text_end = v2->at;
	v2->at = value.off;
	if (!v2->ssl_again)
		rp_v2_keep(p, RP_TLV_SSL_CN, &p->header.ssl_cn, value);
	return 0;
}

#define RP_V2_CRC_STEP 8 /* bytes of one round */

static long rp_v2_crc_round(__u32 i, struct rp_parser **context)
{
	struct rp_parser *p = *context;
	__u32 crc = p->v2.crc, at = p->v2.at, end = p->v2.end;

	(void)i;
	for (int j = 0; j < RP_V2_CRC_STEP && at < end; j++, at++)
		crc = rp_crc32c(crc, rp_byte(p, at));
	p->v2.crc = crc;
	p->v2.at = at;
	return 0;
}

RP_INLINE void rp_v2_crc_over(struct rp_parser *p, __u32 from, __u32 to)
{
	p->v2.at = from;
	p->v2.end = to;
	rp_loop((to - from + RP_V2_CRC_STEP - 1) / RP_V2_CRC_STEP,
		rp_v2_crc_round, p);
}

/* Section 2.2.3: over the whole header, its own four bytes taken as zero. */
RP_INLINE void rp_v2_check_crc(struct rp_parser *p)
{
	__u32 at = p->v2.crc_at;

	p->v2.crc = ~0u;
	rp_v2_crc_over(p, 0, at);
	for (int i = 0; i < 4; i++)
		p->v2.crc = rp_crc32c(p->v2.crc, 0);
	rp_v2_crc_over(p, at + 4, p->header.length);
	if (~p->v2.crc != rp_be32(p, at))
		rp_malformed(p, RP_FAULT_CRC32C_MISMATCH);
}

RP_INLINE void rp_v2_tlvs(struct rp_parser *p, __u32 at)
{
	__builtin_memset(&p->v2, 0, sizeof(p->v2));
	p->v2.at = at;
	p->v2.end = p->header.length;
	if (at == p->header.length)
		return;
	/* Each takes a byte at least; one more round finds the end. */
	rp_loop(p->header.length - at + 1, rp_v2_tlv, p);
	if (p->verdict == RP_HEADER && p->v2.crc_at)
		rp_v2_check_crc(p);
}

/* A command without usable addresses stays RP_COMMAND_LOCAL, which is 0. */
RP_INLINE void rp_v2_addresses(struct rp_parser *p, __u8 family)
{
	struct rp_header *h = &p->header;

	if (family == RP_V2_TCP4) {
		h->source[10] = h->source[11] = 0xff;
		h->destination[10] = h->destination[11] = 0xff;
		__builtin_memcpy(h->source + 12, p->data + 16, 4);
		__builtin_memcpy(h->destination + 12, p->data + 20, 4);
		h->source_port = rp_be16(p, 24);
		h->destination_port = rp_be16(p, 26);
	} else if (family == RP_V2_TCP6) {
		__builtin_memcpy(h->source, p->data + 16, 16);
		__builtin_memcpy(h->destination, p->data + 32, 16);
		h->source_port = rp_be16(p, 48);
		h->destination_port = rp_be16(p, 50);
	} else {
		/* Unix sockets, datagrams: to be treated as UNSPEC. */
		return;
	}
	h->command = RP_COMMAND_PROXY;
}

/* Where the TLVs of a PROXY command begin. */
RP_INLINE __u32 rp_v2_block_end(__u8 family)
{
	switch (family >> 4) {
	case 1:
		return RP_V2_MIN + 12;
	case 2:
		return RP_V2_MIN + 36;
	case 3:
		return RP_V2_MIN + 216;
	default:
		return RP_V2_MIN;
	}
}

RP_INLINE __u32 rp_v2_need(struct rp_parser *p, __u32 length)
{
	p->header.need = length - p->len;
	return 0;
}

RP_INLINE __u32 rp_v2_refuse(struct rp_parser *p, enum rp_fault fault)
{
	rp_malformed(p, fault);
	return 0;
}

/*
 * The first 16 bytes. Returns the length of the header, or 0 when there is
 * nothing more to read: too few bytes, or bytes that are refused.
 */
RP_INLINE __u32 rp_v2_fixed_part(struct rp_parser *p)
{
	__u8 command, family;
	__u32 length;

	for (__u32 i = 0; i < sizeof(rp_v2_signature); i++) {
		if (i == p->len)
			return rp_v2_need(p, RP_V2_MIN);
		if (p->data[i] != rp_v2_signature[i]) {
			rp_end(p, RP_NOT_HEADER);
			return 0;
		}
	}
	if (p->len < 13)
		return rp_v2_need(p, RP_V2_MIN);
	command = p->data[12] & 0x0f;
	if (p->data[12] >> 4 != 2)
		return rp_v2_refuse(p, RP_FAULT_V2_VERSION);
	if (command != RP_COMMAND_LOCAL && command != RP_COMMAND_PROXY)
		return rp_v2_refuse(p, RP_FAULT_V2_COMMAND);
	if (p->len < 14)
		return rp_v2_need(p, RP_V2_MIN);
	family = p->data[13];
	if (command == RP_COMMAND_PROXY &&
	    (family >> 4 > 3 || (family & 0x0f) > 2))
		return rp_v2_refuse(p, RP_FAULT_V2_FAMILY);
	if (p->len < RP_V2_MIN)
		return rp_v2_need(p, RP_V2_MIN);
	length = RP_V2_MIN + rp_be16(p, 14);
	if (length > p->header_max) {
		rp_end(p, RP_TOO_LONG);
		return 0;
	}
	if (command == RP_COMMAND_PROXY && length < rp_v2_block_end(family))
		return rp_v2_refuse(p, RP_FAULT_V2_LENGTH);
	if (p->len < length)
		return rp_v2_need(p, length);
	return length;
}

RP_INLINE void rp_v2_parse(struct rp_parser *p)
{
	__u32 length = rp_v2_fixed_part(p);
	__u8 family;

	if (!length)
		return;
	p->verdict = RP_HEADER;
	p->header.length = length;
	p->header.version = 2;
	/*
	 * LOCAL: "discard the protocol block including the family". Balancers
	 * fill it as they like, without addresses for instance, so nothing of
	 * it is decoded, and a checksum has nothing to protect.
	 */
	if ((p->data[12] & 0x0f) == RP_COMMAND_LOCAL)
		return;
	family = p->data[13];
	rp_v2_addresses(p, family);
	rp_v2_tlvs(p, rp_v2_block_end(family));
}

#endif
