/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * other_lookup.bpf.c - somebody else's sk_lookup program, which counts that it
 * runs and chooses no socket. Beside other.bpf.c, as only Linux 5.9 has it.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} looked_up SEC(".maps");

SEC("sk_lookup")
int other_lookup(struct bpf_sk_lookup *ctx)
{
	__u32 zero = 0;
	__u64 *value = bpf_map_lookup_elem(&looked_up, &zero);

	if (value)
		__sync_fetch_and_add(value, 1);
	return SK_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
