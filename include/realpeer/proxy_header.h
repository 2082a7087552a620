/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * proxy_header.h - what a PROXY protocol header says, and why it was refused.
 *
 * Section numbers are those of proxy-protocol.txt, edition of 2026-04-27.
 * The parser itself is proxy_parse.h, one source for the BPF programs and the
 * daemon, so that the two can never disagree.
 */
#ifndef REALPEER_PROXY_HEADER_H
#define REALPEER_PROXY_HEADER_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

#include "realpeer/abi.h"

#define RP_V1_MIN 15  /* "PROXY UNKNOWN\r\n" */
#define RP_V1_MAX 107 /* section 2.1, CRLF included */
#define RP_V2_MIN 16  /* section 2.2 */
#define RP_V2_MAX (RP_V2_MIN + 65535)

enum rp_verdict {
	RP_HEADER,     /* complete and valid: ->length bytes */
	RP_INCOMPLETE, /* a true prefix; at least ->need more bytes */
	RP_NOT_HEADER, /* the bytes so far rule out both signatures */
	RP_MALFORMED,  /* a signature, then a mistake: ->fault */
	RP_TOO_LONG,   /* v2 length or v1 line above the limit */
};

/* X(symbol, name): the name is what the log says. */
#define RP_FAULTS(X)                                                \
	X(NONE, "none")                                             \
	X(V1_TOKEN, "v1_token") /* not TCP4, TCP6, UNKNOWN */       \
	X(V1_ADDRESS, "v1_address")                                 \
	X(V1_PORT, "v1_port")                                       \
	X(V1_LINE_END, "v1_line_end") /* CR or LF alone */          \
	X(V2_VERSION, "v2_version")                                 \
	X(V2_COMMAND, "v2_command")                                 \
	X(V2_FAMILY, "v2_family")   /* undefined nibble */          \
	X(V2_LENGTH, "v2_length")   /* below the address block */   \
	X(TLV_LENGTH, "tlv_length") /* ends behind what holds it */ \
	X(CRC32C_LENGTH, "crc32c_length")                           \
	X(CRC32C_REPEATED, "crc32c_repeated")                       \
	X(CRC32C_MISMATCH, "crc32c_mismatch")                       \
	X(UNIQUE_ID_LENGTH, "unique_id_length")                     \
	X(SSL_LENGTH, "ssl_length")                                 \
	X(SSL_CN_TEXT, "ssl_cn_text") /* control character */

enum rp_fault {
#define X(symbol, name) RP_FAULT_##symbol,
	RP_FAULTS(X) RP_FAULT_COUNT
#undef X
};

/* A part of the input. */
struct rp_span {
	__u32 off;
	__u32 len;
};

/*
 * All zero but `need` and `fault` unless the verdict is RP_HEADER. Without
 * addresses (RP_COMMAND_LOCAL) the connection's own endpoints stand.
 */
struct rp_header {
	__u64 gcp_psc_id; /* host order */
	__u32 length;	  /* RP_HEADER: bytes it occupies */
	__u32 need;	  /* RP_INCOMPLETE: lower bound, >= 1 */
	__u8 source[16];  /* network order, IPv4 as v4-mapped */
	__u8 destination[16];
	__u16 source_port; /* host order */
	__u16 destination_port;
	__u16 fault;	 /* RP_MALFORMED: enum rp_fault */
	__u8 version;	 /* 1 or 2 */
	__u8 command;	 /* RP_COMMAND_PROXY or _LOCAL */
	__u16 present;	 /* enum rp_tlv_bit: what follows */
	__u8 ssl_client; /* PP2_CLIENT_* bits */
	__u8 pad;
	__u32 ssl_verify;    /* host order, 0 means verified */
	__u32 azure_link_id; /* host order */
	struct rp_span authority;
	struct rp_span unique_id;
	struct rp_span aws_vpce_id;
	struct rp_span ssl_cn;
	struct rp_span alpn;
	__u32 pad2;
};

_Static_assert(sizeof(struct rp_header) == 112, "no hidden padding");

static inline __u32 rp_get_be32(const __u8 *bytes)
{
	return (__u32)bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 |
	       bytes[3];
}

/*
 * False for a source that no client can have: loopback, multicast, broadcast
 * or unspecified. Servers trust localhost, so a header that claims it is an
 * attack, or a proxy gone wrong. True for a header without addresses.
 */
static inline bool rp_source_usable(const struct rp_header *header)
{
	__u32 high =
		rp_get_be32(header->source) | rp_get_be32(header->source + 4);
	__u32 third = rp_get_be32(header->source + 8);
	__u32 low = rp_get_be32(header->source + 12);

	if (header->command != RP_COMMAND_PROXY)
		return true;
	if (high == 0 && third == 0xffff) /* ::ffff:a.b.c.d */
		return low != 0 && low != 0xffffffff && low >> 24 != 127 &&
		       low >> 28 != 14;
	if (high == 0 && third == 0 && low <= 1) /* :: and ::1 */
		return false;
	return header->source[0] != 0xff;
}

#ifndef __bpf__

/*
 * Looks for a header at the beginning of a stream of which `len` bytes are
 * known. Stateless: call it again with more bytes after RP_INCOMPLETE. Every
 * field of *ret is set.
 */
enum rp_verdict rp_parse(const __u8 *data, size_t len, __u32 header_max,
			 struct rp_header *ret);

const char *rp_fault_name(enum rp_fault fault);

/* The TLVs of `header`, which was found at `data`, in the record's form. */
void rp_tlvs_fill(const struct rp_header *header, const __u8 *data,
		  struct rp_tlvs *ret);

#endif
#endif
