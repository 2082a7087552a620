/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * checksum.h - TCP's checksum: of a segment that we write, and of one that we
 * are about to believe. TC runs before TCP's own test.
 */
#ifndef REALPEER_CHECKSUM_H
#define REALPEER_CHECKSUM_H

#include "kernel.h"
#include "packet.h"

#define CHECKSUM_CHUNK 512 /* most that bpf_csum_diff() took before 6.13 */
#define CHECKSUM_SHORT 64
#define SEGMENT_MAX    65536

/* More of TC's own memory. */
struct rp_summing {
	__u8 chunk[CHECKSUM_CHUNK];
};

struct rp_sum {
	struct __sk_buff *skb;
	struct rp_summing *memory;
	__u32 at;
	__u32 left;
	__s64 sum;
};

static __always_inline __u16 rp_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Of a number of words that the compiler knows: cheaper than a call. */
static __always_inline __u64 rp_sum_words(const void *from, __u32 n)
{
	const __be32 *words = from;
	__u64 sum = 0;

	for (__u32 i = 0; i < n; i++)
		sum += words[i];
	return sum;
}

/* Of the pseudo-header, RFC 9293 section 3.1, RFC 8200 section 8.1. */
static __always_inline __u64 rp_sum_pseudo(const struct rp_tuple *tuple,
					   __u32 len)
{
	__u64 sum = bpf_htonl(len) + (__u64)bpf_htonl(IPPROTO_TCP);

	if (rp_is_v4(tuple->peer))
		return sum + rp_sum_words(tuple->peer + 12, 1) +
		       rp_sum_words(tuple->local + 12, 1);
	return sum + rp_sum_words(tuple->peer, 4) +
	       rp_sum_words(tuple->local, 4);
}

/* Zeros behind the last bytes add nothing to the sum. */
static long rp_sum_chunk(__u32 i, struct rp_sum *sum)
{
	__u8 *chunk = sum->memory->chunk;
	__u32 last = sum->left - 1, size = CHECKSUM_CHUNK;

	if (!sum->left)
		return 1;
	if (last < CHECKSUM_SHORT) {
		size = CHECKSUM_SHORT;
		__builtin_memset(chunk, 0, CHECKSUM_SHORT);
	} else if (last < CHECKSUM_CHUNK) {
		__builtin_memset(chunk, 0, CHECKSUM_CHUNK);
	} else {
		last = CHECKSUM_CHUNK - 1;
	}
	asm volatile("" : "+r"(last));
	if (last >= CHECKSUM_CHUNK ||
	    bpf_skb_load_bytes(sum->skb, sum->at, chunk, last + 1))
		return 1;
	sum->sum = bpf_csum_diff(NULL, 0, (__be32 *)chunk, size, sum->sum);
	sum->at += last + 1;
	sum->left -= last + 1;
	return 0;
}

/*
 * Is the segment as its sender made it? Most devices have seen to that; where
 * they didn't, a header that was damaged on the way must not be believed, for
 * what we answer or make of the packet has a right checksum again.
 */
static __always_inline int rp_is_intact(struct __sk_buff *skb,
					const struct rp_packet *packet,
					struct rp_summing *memory)
{
	int summed = rp_how_summed(skb);
	__u32 len = packet->tcp.doff * 4 + packet->payload_len;
	struct rp_sum sum = {
		.skb = skb,
		.memory = memory,
		.at = packet->transport,
		.left = len,
	};

	if (summed == CHECKSUM_UNNECESSARY || summed == CHECKSUM_PARTIAL)
		return 1;
	bpf_loop(SEGMENT_MAX / CHECKSUM_CHUNK, rp_sum_chunk, &sum, 0);
	return !sum.left &&
	       rp_fold((__u32)sum.sum + rp_sum_pseudo(&packet->tuple, len)) ==
		       0xffff;
}

#endif
