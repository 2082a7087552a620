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

struct rp_pseudo {	 /* RFC 9293 section 3.1, RFC 8200 section 8.1 */
	__u8 source[16]; /* IPv4: 4 bytes and zeros */
	__u8 destination[16];
	__be32 len;
	__be32 protocol;
};

/* More of TC's own memory. */
struct rp_summing {
	struct rp_pseudo pseudo;
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

static __always_inline __s64 rp_sum_pseudo(struct rp_pseudo *pseudo,
					   const __u8 *source,
					   const __u8 *destination, __u32 len)
{
	__builtin_memset(pseudo, 0, sizeof(*pseudo));
	if (rp_is_v4(source)) {
		__builtin_memcpy(pseudo->source, source + 12, 4);
		__builtin_memcpy(pseudo->destination, destination + 12, 4);
	} else {
		__builtin_memcpy(pseudo->source, source, 16);
		__builtin_memcpy(pseudo->destination, destination, 16);
	}
	pseudo->len = bpf_htonl(len);
	pseudo->protocol = bpf_htonl(IPPROTO_TCP);
	return bpf_csum_diff(NULL, 0, (__be32 *)pseudo, sizeof(*pseudo), 0);
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
	int summed = BPF_CORE_READ_BITFIELD(rp_kernel_skb(skb), ip_summed);
	struct rp_sum sum = {
		.skb = skb,
		.memory = memory,
		.at = packet->transport,
		.left = packet->tcp.doff * 4 + packet->payload_len,
	};

	if (summed == CHECKSUM_UNNECESSARY || summed == CHECKSUM_PARTIAL)
		return 1;
	sum.sum = rp_sum_pseudo(&memory->pseudo, packet->tuple.peer,
				packet->tuple.local, sum.left);
	bpf_loop(SEGMENT_MAX / CHECKSUM_CHUNK, rp_sum_chunk, &sum, 0);
	return !sum.left && rp_fold(sum.sum) == 0xffff;
}

#endif
