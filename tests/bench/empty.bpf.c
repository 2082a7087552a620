/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * empty.bpf.c - programs that do nothing, at the hooks where realpeer's are:
 * what is measured with them is what the hooks cost, whoever uses them.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int empty_ingress(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

SEC("sockops")
int empty_sockops(struct bpf_sock_ops *ctx)
{
	return 1;
}

SEC("cgroup/getpeername4")
int empty_getpeername4(struct bpf_sock_addr *ctx)
{
	return 1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
