/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * lookup.bpf.c - the safety net of offload accept, at sk_lookup.
 *
 * The stack asks for a listener for each SYN that TC did not answer: a tuple
 * that the host still holds in TIME_WAIT, an interface without the program,
 * options that TC leaves alone. Such a connection must not reach the server
 * with its header unread, so the daemon gets it, and without a daemon nobody.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "listeners.h"

#define AF_INET 2

static __always_inline void rp_read_lookup(struct bpf_sk_lookup *ctx,
					   struct rp_tuple *tuple)
{
	__u32 *peer = (__u32 *)tuple->peer, *local = (__u32 *)tuple->local;

	if (ctx->family == AF_INET) {
		rp_set_v4(tuple->peer, ctx->remote_ip4);
		rp_set_v4(tuple->local, ctx->local_ip4);
	} else {
		for (int i = 0; i < 4; i++) {
			peer[i] = ctx->remote_ip6[i];
			local[i] = ctx->local_ip6[i];
		}
	}
	tuple->peer_port = bpf_ntohs(ctx->remote_port);
	tuple->local_port = ctx->local_port;
}

static __always_inline int rp_is_bypassed(void)
{
	__u32 zero = 0, *bypass = bpf_map_lookup_elem(&lookup_bypass, &zero);

	return bypass && *bypass;
}

static __always_inline int rp_give_to_daemon(struct bpf_sk_lookup *ctx)
{
	struct rp_settings *now;
	struct bpf_sock *socket;
	__u32 zero = 0, slot;
	long error;

	now = bpf_map_lookup_elem(&settings, &zero);
	if (!now || !now->daemons)
		return SK_DROP;
	slot = bpf_get_smp_processor_id() % now->daemons;
	socket = bpf_map_lookup_elem(&handover, &slot);
	if (!socket)
		return SK_DROP;
	error = bpf_sk_assign(ctx, socket, 0);
	bpf_sk_release(socket);
	return error ? SK_DROP : SK_PASS;
}

SEC("sk_lookup")
int rp_lookup(struct bpf_sk_lookup *ctx)
{
	struct rp_listener *listener;
	struct rp_handshake *known;
	struct rp_tuple tuple;
	__u32 number = 0;

	if (ctx->protocol != IPPROTO_TCP || !rp_is_listened(ctx->local_port) ||
	    rp_is_bypassed())
		return SK_PASS;
	rp_read_lookup(ctx, &tuple);
	listener = rp_find_listener(&tuple, &number);
	if (!listener || listener->offload != RP_OFFLOAD_ACCEPT ||
	    listener->delivery != RP_DELIVERY_INLINE)
		return SK_PASS;
	/* The daemon itself, on its way to the server. */
	if (rp_is_announced(&tuple))
		return SK_PASS;
	known = bpf_map_lookup_elem(&handshakes, &tuple);
	if (known && known->stage == RP_STAGE_NOBODY) {
		bpf_map_delete_elem(&handshakes, &tuple);
		return SK_PASS;
	}
	if (rp_is_trusted(number, tuple.peer))
		return rp_give_to_daemon(ctx);
	if (listener->untrusted == RP_UNTRUSTED_DIRECT)
		return SK_PASS;
	rp_count(number, RP_STAT_UNTRUSTED);
	return SK_DROP;
}

char _license[] __weak SEC("license") = "Dual BSD/GPL";
