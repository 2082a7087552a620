/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * lookup.bpf.c - the safety net of offload accept, at sk_lookup.
 *
 * The stack asks for a listener for each SYN that TC did not answer: a tuple
 * that the host still holds in TIME_WAIT, an interface without the program,
 * options that TC leaves alone. Such a connection must not reach the server
 * with its header unread, so the daemon gets it, and without a daemon nobody.
 *
 * It also asks when the socket that TC assigned was lost on the way. When that
 * happens to all of them TC leaves connections to the daemon.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "handshakes.h"
#include "listeners.h"

#define AF_INET 2

/* From TC to the stack: one softirq, and a generous measure of one. */
#define ON_THE_WAY_NS (100 * 1000000ULL)

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

/*
 * Did TC assign a socket to the segment for which the stack now asks for one?
 * Where there is any NAT rule, nf_nat_ipv4_local_in() and its like take it
 * off again: it is a request, which has no port yet, and so looks as if the
 * segment's had been translated. With a full accept queue no socket comes to
 * be either, but that the stack need not ask for, and the peer's
 * retransmission is TC's again. Should that pass TC by, then it is later.
 */
static __always_inline int rp_is_lost(const struct rp_handshake *known)
{
	__u32 slot = known->claim - 1;
	__u64 since = known->since;
	struct rp_claim *claim;

	if (!known->claim)
		return 0;
	if (known->claim != RP_CLAIM_OF_DAEMON) {
		claim = bpf_map_lookup_elem(&claims, &slot);
		/* The sequence number tells whether it is still this one's. */
		if (!claim ||
		    claim->seq - known->peer_isn - 1 > RP_KERNEL_HEADER_MAX)
			return 0;
		since = claim->record.since;
	}
	return bpf_ktime_get_boot_ns() - since < ON_THE_WAY_NS;
}

/* TC has answered for a socket that the stack can't have: the peer is reset. */
static __always_inline int rp_on_lost(const struct rp_place *place)
{
	struct rp_gates *open = rp_gates_now();

	if (open)
		__sync_fetch_and_add(&open->lost, 1);
	rp_forget_at(place);
	return SK_DROP;
}

SEC("sk_lookup")
int rp_lookup(struct bpf_sk_lookup *ctx)
{
	struct rp_listener *listener;
	struct rp_handshake *known;
	struct rp_tuple tuple;
	struct rp_place place;
	__u32 number = 0;

	if (ctx->protocol != IPPROTO_TCP || !rp_is_listened(ctx->local_port) ||
	    rp_is_bypassed())
		return SK_PASS;
	rp_read_lookup(ctx, &tuple);
	listener = rp_find_listener(&tuple, &number);
	if (!listener || listener->offload != RP_OFFLOAD_ACCEPT)
		return SK_PASS;
	known = rp_find_handshake(&tuple, &place);
	if (known && rp_is_lost(known))
		return rp_on_lost(&place);
	if (listener->delivery != RP_DELIVERY_INLINE)
		return SK_PASS;
	/* The daemon itself, on its way to the server. */
	if (rp_is_announced(&tuple))
		return SK_PASS;
	/* A plain client's socket on another port is lost as well. */
	if (rp_is_trusted(number, tuple.peer) ||
	    (rp_is_losing() && listener->handler_port &&
	     listener->untrusted == RP_UNTRUSTED_DIRECT))
		return rp_give_to_daemon(ctx);
	if (listener->untrusted == RP_UNTRUSTED_DIRECT)
		return SK_PASS;
	rp_count(number, RP_STAT_UNTRUSTED);
	return SK_DROP;
}

char _license[] __weak SEC("license") = "Dual BSD/GPL";
