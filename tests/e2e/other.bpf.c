/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * other.bpf.c - somebody else's programs on the hooks that realpeer uses.
 * They count that they run and change nothing.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

enum counted {
	COUNTED_INGRESS,
	COUNTED_PEERNAME,
	COUNTED_ESTABLISHED,
	COUNTED_STATE,
	COUNTED_MAX
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COUNTED_MAX);
	__type(key, __u32);
	__type(value, __u64);
} counted SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *value = bpf_map_lookup_elem(&counted, &what);

	if (value)
		__sync_fetch_and_add(value, 1);
}

SEC("tc")
int other_ingress(struct __sk_buff *skb)
{
	count(COUNTED_INGRESS);
	return TC_ACT_UNSPEC;
}

SEC("cgroup/getpeername4")
int other_peername(struct bpf_sock_addr *ctx)
{
	count(COUNTED_PEERNAME);
	return 1;
}

/* Asks for state changes as it should: with the flags that others have set. */
SEC("sockops")
int other_sockops(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		count(COUNTED_ESTABLISHED);
		bpf_sock_ops_cb_flags_set(ctx,
					  ctx->bpf_sock_ops_cb_flags |
						  BPF_SOCK_OPS_STATE_CB_FLAG);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		count(COUNTED_STATE);
		break;
	}
	return 1;
}

char _license[] SEC("license") = "Dual BSD/GPL";
