// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * summed.bpf.c - looks, behind realpeer's program on an Ethernet interface,
 * whether skb->csum is what a packet adds up to, where the device is said to
 * have summed it up (CHECKSUM_COMPLETE). The kernel itself makes good for a
 * wrong sum, and says so once until the next boot.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "kernel.h"

#define CHUNK  512 /* most that bpf_csum_diff() took before 6.13 */
#define CHUNKS 4   /* more than an MTU of 1500 */

/* include/linux/skbuff.h; kernel.h has the rest of it */
struct sk_buff___summed {
	__u32 csum; /* from the network header on */
} __attribute__((preserve_access_index));

enum summed {
	SUMMED_OTHERWISE, /* not CHECKSUM_COMPLETE */
	SUMMED_RIGHT,
	SUMMED_WRONG,
	SUMMED_MAX
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SUMMED_MAX);
	__type(key, __u32);
	__type(value, __u64);
} counted SEC(".maps");

struct chunk {
	__u8 bytes[CHUNK];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct chunk);
} chunks SEC(".maps");

/* RFC 1071, not folded; less than 0: the packet is too long. */
static __always_inline __s64 sum_of(struct __sk_buff *skb)
{
	__u32 at = ETH_HLEN, zero = 0;
	struct chunk *chunk = bpf_map_lookup_elem(&chunks, &zero);
	__s64 sum = 0;

	for (int i = 0; chunk && i < CHUNKS && at < skb->len; i++) {
		__u32 len = skb->len - at;

		if (len > CHUNK)
			len = CHUNK;
		__builtin_memset(chunk, 0, sizeof(*chunk));
		/* For the verifier, which does not relate it to skb->len. */
		asm volatile("" : "+r"(len));
		if (!len || len > CHUNK ||
		    bpf_skb_load_bytes(skb, at, chunk->bytes, len))
			return -1;
		sum = bpf_csum_diff(NULL, 0, (__be32 *)chunk->bytes, CHUNK,
				    sum);
		at += len;
	}
	return at == skb->len ? (__u32)sum : -1;
}

static __always_inline enum summed judge(struct __sk_buff *skb)
{
	struct sk_buff___summed *kernel = (void *)rp_kernel_skb(skb);
	__s64 sum;

	if (rp_how_summed(skb) != CHECKSUM_COMPLETE)
		return SUMMED_OTHERWISE;
	sum = sum_of(skb);
	if (sum < 0)
		return SUMMED_WRONG;
	/* In ones' complement, equal is what differs by a multiple of this. */
	return (__u64)sum % 0xffff == kernel->csum % 0xffff ? SUMMED_RIGHT
							    : SUMMED_WRONG;
}

SEC("tc")
int summed_ingress(struct __sk_buff *skb)
{
	__u32 what = judge(skb);
	__u64 *value = bpf_map_lookup_elem(&counted, &what);

	if (value)
		__sync_fetch_and_add(value, 1);
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Dual BSD/GPL";
