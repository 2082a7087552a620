// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * parser.bpf.c - the header parser in the kernel, alone, for test_parser.c.
 *
 * The bytes behind the first PARSER_PAD of the packet are parsed. No part of
 * the product: the real programs are in bpf/.
 */
#include "realpeer/proxy_parse.h"

#include <linux/pkt_cls.h>

#define PARSER_PAD 16 /* a packet has a MAC header at least */

char LICENSE[] SEC("license") = "Dual BSD/GPL";

__u32 header_max;
__u32 verdict;
struct rp_header header;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rp_parser);
} scratch SEC(".maps");

SEC("tc")
int parse(struct __sk_buff *skb)
{
	struct rp_parser *p = bpf_map_lookup_elem(&scratch, &(__u32){0});
	__u32 len = skb->len - PARSER_PAD;

	if (!p || len > RP_KERNEL_HEADER_MAX)
		return TC_ACT_SHOT;
	/* Linux 6.1 learns from neither comparison that len is not 0. */
	if (len &&
	    bpf_skb_load_bytes(skb, PARSER_PAD, p->data,
			       rp_index(len - 1, RP_KERNEL_HEADER_MAX) + 1))
		return TC_ACT_SHOT;
	p->len = len;
	p->header_max = header_max;
	verdict = rp_parse_kernel(p);
	header = p->header;
	return TC_ACT_OK;
}
