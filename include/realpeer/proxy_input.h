/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * proxy_input.h - the parser's memory, and the only lines of it that differ
 * between the kernel and user space: how a byte is read and how a loop runs.
 *
 * For the BPF verifier, every number that a loop carries from one round to
 * the next stands in struct rp_parser, not on the stack. The verifier knows
 * nothing about the content of that memory, so one round looks to it like
 * any other, and the cost is that of a single one.
 */
#ifndef REALPEER_PROXY_INPUT_H
#define REALPEER_PROXY_INPUT_H

#ifdef __bpf__
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>
#endif

#include "realpeer/index.h"
#include "realpeer/proxy_header.h"

#define RP_INLINE static inline __attribute__((always_inline))

/* Where the reading of a v1 line stands; proxy_v1.h. */
struct rp_v1 {
	__u32 end;	  /* of what may be read */
	__u32 decimal;	  /* the number being read, base 10 */
	__u32 hex;	  /* the same, base 16 */
	__u8 address[16]; /* the address being read */
	__u8 filled;	  /* bytes of it that are known */
	__u8 gap;	  /* how many of them precede "::" */
	__u8 octets;	  /* of its dotted part that are known */
	__u8 digits;	  /* of the number being read */
	__u8 colons;	  /* just before this byte: 0 to 2 */
	__u8 field;	  /* enum rp_v1_field */
	__u8 state;	  /* enum rp_v1_state */
	__u8 family;	  /* enum rp_v1_family */
};

/* Where the walk over v2 TLVs stands; proxy_v2.h. */
struct rp_v2 {
	__u32 at;
	__u32 end;
	__u32 ssl_end; /* within a PP2_TYPE_SSL, else 0 */
	__u32 crc_at;  /* value of PP2_TYPE_CRC32C, else 0 */
	__u32 crc;
	__u32 text_end; /* of the CN that `at` is in, if it is in one */
	__u8 ssl_again; /* not the first PP2_TYPE_SSL */
	__u8 pad[3];
};

struct rp_parser {
	__u32 len;	  /* bytes of data */
	__u32 header_max; /* longest header to accept */
	__u32 verdict;	  /* enum rp_verdict */
	__u32 pad;
	struct rp_header header;
	struct rp_v1 v1;
	struct rp_v2 v2;
#ifdef __bpf__
	__u8 data[RP_KERNEL_HEADER_MAX];
#else
	const __u8 *data;
#endif
};

/* One round; a result other than 0 ends the loop. */
typedef long (*rp_round)(__u32 i, struct rp_parser **context);

#ifdef __bpf__

RP_INLINE void rp_loop(__u32 n, rp_round round, struct rp_parser *p)
{
	bpf_loop(n, round, &p, 0);
}

#else

RP_INLINE void rp_loop(__u32 n, rp_round round, struct rp_parser *p)
{
	for (__u32 i = 0; i < n; i++)
		if (round(i, &p))
			return;
}

#endif

RP_INLINE __u8 rp_byte(const struct rp_parser *p, __u32 at)
{
	return p->data[rp_index(at, RP_KERNEL_HEADER_MAX)];
}

RP_INLINE __u32 rp_be16(const struct rp_parser *p, __u32 at)
{
	return rp_byte(p, at) << 8 | rp_byte(p, at + 1);
}

RP_INLINE __u32 rp_be32(const struct rp_parser *p, __u32 at)
{
	return rp_be16(p, at) << 16 | rp_be16(p, at + 2);
}

/* Sets the verdict; the result, 1, ends the loop that is under way. */
RP_INLINE long rp_end(struct rp_parser *p, enum rp_verdict verdict)
{
	p->verdict = verdict;
	return 1;
}

RP_INLINE long rp_malformed(struct rp_parser *p, enum rp_fault fault)
{
	p->header.fault = fault;
	return rp_end(p, RP_MALFORMED);
}

#endif
