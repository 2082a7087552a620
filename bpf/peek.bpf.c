/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * peek.bpf.c - TC ingress on kernels that can't do more: peek.h says what.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "peek.h"

SEC("tc")
int rp_ingress_peek(struct __sk_buff *skb)
{
	struct rp_packet packet;

	if (rp_read_packet(skb, rp_guess_mac_len(skb), &packet))
		rp_peek(skb, &packet);
	return TC_ACT_UNSPEC;
}

char _license[] __weak SEC("license") = "Dual BSD/GPL";
