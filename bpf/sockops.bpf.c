/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sockops.bpf.c - moves a connection's record to the socket that it belongs
 * to, and deletes it when that socket closes.
 *
 * Runs in the cgroup of every TCP socket of the host, so anything that is not
 * ours leaves at the first test, and `reply` and the callback flags of other
 * programs are never overwritten.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "handshakes.h"
#include "kernel.h"
#include "listeners.h"

#define AF_INET	 2
#define AF_INET6 10

static __always_inline int rp_is_our_netns(struct bpf_sock_ops *ctx)
{
	struct rp_settings *now = rp_settings_now();

	return now && bpf_get_netns_cookie(ctx) == now->netns;
}

/*
 * A load that stays one load from the context: the compiler would merge those
 * of two branches into one from a computed pointer, which the verifier
 * refuses.
 */
#define rp_load(ctx, field)                                                \
	({                                                                 \
		__u32 value_;                                              \
		asm volatile("%0 = *(u32 *)(%1 + %2)"                      \
			     : "=r"(value_)                                \
			     : "r"(ctx),                                   \
			       "i"(__builtin_offsetof(struct bpf_sock_ops, \
						      field)));            \
		value_;                                                    \
	})

static __always_inline int rp_read_tuple(struct bpf_sock_ops *ctx,
					 struct rp_tuple *tuple)
{
	__u32 *peer = (__u32 *)tuple->peer, *local = (__u32 *)tuple->local;

	if (ctx->family == AF_INET) {
		rp_set_v4(tuple->peer, rp_load(ctx, remote_ip4));
		rp_set_v4(tuple->local, rp_load(ctx, local_ip4));
	} else if (ctx->family == AF_INET6) {
		peer[0] = rp_load(ctx, remote_ip6[0]);
		peer[1] = rp_load(ctx, remote_ip6[1]);
		peer[2] = rp_load(ctx, remote_ip6[2]);
		peer[3] = rp_load(ctx, remote_ip6[3]);
		local[0] = rp_load(ctx, local_ip6[0]);
		local[1] = rp_load(ctx, local_ip6[1]);
		local[2] = rp_load(ctx, local_ip6[2]);
		local[3] = rp_load(ctx, local_ip6[3]);
	} else {
		return 0;
	}
	tuple->peer_port = bpf_ntohl(ctx->remote_port);
	tuple->local_port = ctx->local_port;
	return 1;
}

/* The same connection, seen from its other end. */
static __always_inline void rp_flip(struct rp_tuple *ret,
				    const struct rp_tuple *tuple)
{
	__builtin_memcpy(ret->peer, tuple->local, sizeof(ret->peer));
	__builtin_memcpy(ret->local, tuple->peer, sizeof(ret->local));
	ret->peer_port = tuple->local_port;
	ret->local_port = tuple->peer_port;
}

static __always_inline void rp_watch_close(struct bpf_sock_ops *ctx)
{
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags |
					       BPF_SOCK_OPS_STATE_CB_FLAG);
}

/*
 * connect() of the daemon towards a handler: its local port is known now and
 * no SYN has left, so the record can be found under the tuple by the socket
 * that the handler will accept. There is room: see struct rp_outgoing.
 */
static __always_inline void rp_on_connect(struct bpf_sock_ops *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct rp_tuple tuple, handler_side;
	struct rp_outgoing *waiting;

	waiting = bpf_map_lookup_elem(&outgoing, &cookie);
	if (!waiting || !rp_read_tuple(ctx, &tuple))
		return;
	rp_watch_close(ctx);
	rp_flip(&handler_side, &tuple);
	if (!bpf_map_update_elem(&announced, &handler_side, &cookie, BPF_ANY))
		waiting->tuple = handler_side;
}

static __always_inline void rp_count_record(const struct rp_connection *record,
					    __u32 family)
{
	if (record->shown && family == AF_INET && !rp_is_v4(record->client))
		rp_count(record->listener, RP_STAT_FAMILY_MISMATCH);
	if (record->delivery == RP_DELIVERY_INLINE)
		rp_count(record->listener, RP_STAT_CONNECTIONS);
	if (record->command == RP_COMMAND_DIRECT)
		rp_count(record->listener, RP_STAT_DIRECT);
	else
		rp_count(record->listener, record->version == 1
						   ? RP_STAT_HEADER_V1
						   : RP_STAT_HEADER_V2);
	if (record->command == RP_COMMAND_LOCAL)
		rp_count(record->listener, RP_STAT_LOCAL);
}

/*
 * There is no room for the record. The server shall not take the proxy for its
 * client: getpeername() tells an unspecified address then. Nor shall the daemon
 * take what stands behind a header that TC has cut off for another header.
 */
static __always_inline void rp_bind_nobody(__u64 cookie,
					   const struct rp_connection *record)
{
	struct rp_gates *open = rp_gates_now();
	__u32 nobody = 0;

	rp_count(record->listener, RP_STAT_MAP_FULL);
	if (!open || (!record->shown && record->offload != RP_OFFLOAD_ACCEPT))
		return;
	open->full = 1;
	if (!bpf_map_update_elem(&unrecorded, &cookie, &nobody, BPF_NOEXIST))
		__sync_fetch_and_add(&open->unrecorded, 1);
}

/* The socket that a record waited for. */
static __always_inline void rp_bind(struct bpf_sock_ops *ctx,
				    const struct rp_connection *record)
{
	__u64 cookie = bpf_get_socket_cookie(ctx), key = record->tlvs;

	if (bpf_map_update_elem(&connections, &cookie, record, BPF_ANY)) {
		rp_bind_nobody(cookie, record);
		if (key) /* no record says any more that they are there */
			bpf_map_delete_elem(&tlvs, &key);
	}
	rp_watch_close(ctx);
}

/* The handler's end of a connection that the daemon announced. */
static __always_inline int rp_bind_announced(struct bpf_sock_ops *ctx,
					     const struct rp_tuple *tuple)
{
	__u64 *found = bpf_map_lookup_elem(&announced, tuple), cookie;
	struct rp_outgoing *waiting;

	if (!found)
		return 0;
	cookie = *found;
	if (bpf_map_delete_elem(&announced, tuple))
		return 0;
	waiting = bpf_map_lookup_elem(&outgoing, &cookie);
	if (!waiting)
		return 0;
	rp_bind(ctx, &waiting->record);
	bpf_map_delete_elem(&outgoing, &cookie);
	return 1;
}

/* The daemon's end of it has closed; the handler's may have it, or may not. */
static __always_inline void rp_withdraw(__u64 cookie,
					const struct rp_tuple *tuple)
{
	struct rp_outgoing *waiting = bpf_map_lookup_elem(&outgoing, &cookie);
	struct rp_tuple handler_side;

	if (!waiting)
		return;
	rp_flip(&handler_side, tuple);
	if (!waiting->tuple.local_port ||
	    bpf_map_delete_elem(&announced, &handler_side) == 0)
		bpf_map_delete_elem(&outgoing, &cookie);
}

static __always_inline int rp_bind_pending(struct bpf_sock_ops *ctx,
					   const struct rp_tuple *tuple)
{
	struct rp_pending *waiting = bpf_map_lookup_elem(&pending, tuple);

	if (!waiting || waiting->seq != ctx->rcv_nxt)
		return 0;
	rp_bind(ctx, &waiting->record);
	bpf_map_delete_elem(&pending, tuple);
	return 1;
}

/* What TC assigned came through. Known losses stay known until a reload. */
static __always_inline void rp_forget_losses(void)
{
	struct rp_gates *open = rp_gates_now();

	if (open && open->lost && open->lost < RP_LOSSES)
		open->lost = 0;
}

/* Did the safety net, or TC, give it to the daemon? */
static __always_inline int rp_is_of_daemon(struct bpf_sock_ops *ctx)
{
	return ctx->sk &&
	       bpf_sk_storage_get(&handover_marks, ctx->sk, NULL, 0) != NULL;
}

enum rp_bound {
	RP_BOUND_NOT,
	RP_BOUND,
	RP_BOUND_UNWATCHED, /* it was silent, and `silent` takes no more */
};

/* The child of a handshake that TC made. */
static __always_inline enum rp_bound rp_bind_claim(
	struct bpf_sock_ops *ctx, const struct rp_tuple *tuple,
	const struct rp_handshake *known)
{
	__u32 slot = known->claim - 1;
	struct rp_claim *claim;
	__u64 cookie;
	int watched = 1;

	if (known->claim == RP_CLAIM_OF_DAEMON) {
		if (!rp_is_of_daemon(ctx))
			return RP_BOUND_NOT;
		rp_watch_close(ctx);
		return RP_BOUND;
	}
	claim = bpf_map_lookup_elem(&claims, &slot);
	if (!claim || claim->seq != ctx->rcv_nxt ||
	    !rp_is_same(&claim->tuple, tuple))
		return RP_BOUND_NOT;
	if (known->silent && claim->record.shown)
		watched = !rp_enter_silent(bpf_get_socket_cookie(ctx));
	if (claim->record.tlvs) {
		cookie = bpf_get_socket_cookie(ctx);
		claim->record.tlvs = cookie;
		if (bpf_map_update_elem(&tlvs, &cookie, &claim->tlvs, BPF_ANY))
			claim->record.tlvs = 0;
	}
	rp_bind(ctx, &claim->record);
	rp_count_record(&claim->record, ctx->family);
	claim->tuple.local_port = 0; /* taken */
	return watched ? RP_BOUND : RP_BOUND_UNWATCHED;
}

/* Its first bytes stand where those of the handshake would. */
static __always_inline void rp_make_stray(struct rp_handshake *known)
{
	struct rp_gates *open = rp_gates_now();

	if (open)
		__sync_fetch_and_add(&open->strays, 1);
	known->claim = 0;
	known->stage = RP_STAGE_STRAY;
}

/*
 * A child without a record, on a listener whose handshakes are TC's: a plain
 * client that need not be trusted, or one whose SYN came before the programs
 * did. Nothing has judged that, so where a header is required TC shall reset
 * it at its first byte.
 */
static __always_inline void rp_on_unjudged(struct bpf_sock_ops *ctx,
					   const struct rp_tuple *tuple,
					   const struct rp_handshake *known,
					   const struct rp_place *place,
					   __u32 number,
					   const struct rp_listener *listener)
{
	struct rp_handshake stray = {
		.tuple = *tuple,
		.peer_isn = ctx->rcv_nxt - 1,
		.listener = number,
		.stage = RP_STAGE_STRAY,
	};
	struct rp_gates *open = rp_gates_now();

	if (known && known->stage == RP_STAGE_DAEMON)
		rp_forget_at(place);
	if (listener->delivery != RP_DELIVERY_INLINE || rp_is_of_daemon(ctx))
		return;
	if (listener->untrusted == RP_UNTRUSTED_DIRECT &&
	    !rp_is_trusted(number, tuple->peer)) {
		rp_count(number, RP_STAT_CONNECTIONS);
		rp_count(number, RP_STAT_DIRECT);
	} else if (listener->mode == RP_MODE_REQUIRED ||
		   (known && known->claim)) {
		if (open)
			__sync_fetch_and_add(&open->strays, 1);
		/* The oldest are forgotten first: not this one. */
		stray.since = bpf_ktime_get_boot_ns();
		rp_enter_handshake(&stray);
	}
}

/* A child of some listener exists; accept() can't have returned it yet. */
static __always_inline void rp_on_accepted(struct bpf_sock_ops *ctx)
{
	struct rp_settings *now = rp_settings_now();
	struct rp_awaiting first = {0};
	struct rp_listener *listener;
	struct rp_handshake *known;
	enum rp_bound bound = RP_BOUND_NOT;
	struct rp_tuple tuple;
	struct rp_place place;

	if (!now || !rp_read_tuple(ctx, &tuple))
		return;
	if (rp_has_announced() && rp_bind_announced(ctx, &tuple))
		return;
	if (!rp_is_listened(tuple.local_port))
		return;
	known = rp_find_handshake(&tuple, &place);
	if (known && known->claim)
		bound = rp_bind_claim(ctx, &tuple, known);
	if (bound) {
		if (bound == RP_BOUND_UNWATCHED)
			rp_make_stray(known);
		else
			rp_forget_at(&place);
		rp_forget_losses();
		return;
	}
	if (now->peeks && rp_bind_pending(ctx, &tuple))
		return;
	listener = rp_find_listener(&tuple, &first.listener);
	if (!listener)
		return;
	rp_watch_close(ctx);
	if (listener->offload == RP_OFFLOAD_ACCEPT) {
		rp_on_unjudged(ctx, &tuple, known, &place, first.listener,
			       listener);
	} else if (listener->offload == RP_OFFLOAD_PEEK) {
		first.cookie = bpf_get_socket_cookie(ctx);
		first.seq = ctx->rcv_nxt;
		bpf_map_update_elem(&awaiting, &tuple, &first, BPF_ANY);
	}
}

/* Reset while it waits for accept(): the server has no descriptor yet. */
static __always_inline int rp_is_queued(struct bpf_sock_ops *ctx)
{
	struct tcp_sock *tcp;
	struct sock *sk;

	if (!ctx->sk)
		return 0;
	tcp = bpf_skc_to_tcp_sock(ctx->sk);
	if (!tcp)
		return 0;
	sk = &tcp->inet_conn.icsk_inet.sk;
	return !sk->sk_socket &&
	       !(sk->__sk_common.skc_flags & 1UL << SOCK_DEAD);
}

/* The server may still accept it, and shall then see the real client. */
static __always_inline void rp_keep_orphan(__u64 cookie,
					   struct rp_connection *record)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct rp_gates *open = rp_gates_now();

	record->closed = 1;
	if (bpf_map_update_elem(&orphans, &cookie, &now, BPF_ANY) && open)
		__sync_fetch_and_add(&open->lost_orphans, 1);
}

static __always_inline void rp_drop(struct bpf_sock_ops *ctx, __u64 cookie,
				    struct rp_connection *record)
{
	__u64 key = record->tlvs;

	if (record->shown && rp_is_queued(ctx)) {
		rp_keep_orphan(cookie, record);
		return;
	}
	if (key)
		bpf_map_delete_elem(&tlvs, &key);
	bpf_map_delete_elem(&connections, &cookie);
}

static __always_inline void rp_drop_unrecorded(struct bpf_sock_ops *ctx,
					       __u64 cookie)
{
	struct rp_gates *open = rp_gates_now();
	__u64 now;

	if (!open || !open->unrecorded ||
	    !bpf_map_lookup_elem(&unrecorded, &cookie))
		return;
	now = bpf_ktime_get_boot_ns();
	if (rp_is_queued(ctx) &&
	    !bpf_map_update_elem(&orphans, &cookie, &now, BPF_ANY))
		return;
	if (!bpf_map_delete_elem(&unrecorded, &cookie))
		__sync_fetch_and_sub(&open->unrecorded, 1);
}

/*
 * `awaiting` goes before `connections`: TC adds in the opposite order and
 * takes its record back when it finds the entry gone, so none is left over.
 */
static __always_inline void rp_on_closed(struct bpf_sock_ops *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct rp_connection *record;
	struct rp_tuple tuple;

	rp_forget_silent(cookie);
	record = bpf_map_lookup_elem(&connections, &cookie);
	if (record && record->offload == RP_OFFLOAD_ACCEPT && record->shown) {
		/* Inline: nothing else knows of it. */
		rp_drop(ctx, cookie, record);
		return;
	}
	if (!rp_read_tuple(ctx, &tuple))
		return;
	bpf_map_delete_elem(&awaiting, &tuple);
	rp_forget_handshake(&tuple);
	record = bpf_map_lookup_elem(&connections, &cookie);
	if (record)
		rp_drop(ctx, cookie, record);
	else
		rp_drop_unrecorded(ctx, cookie);
	rp_withdraw(cookie, &tuple);
}

SEC("sockops")
int rp_sockops(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		if (rp_has_announced() && rp_is_our_netns(ctx))
			rp_on_connect(ctx);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		if (rp_is_our_netns(ctx))
			rp_on_accepted(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ctx->args[1] == BPF_TCP_CLOSE && rp_is_our_netns(ctx))
			rp_on_closed(ctx);
		break;
	}
	return 1;
}

char _license[] __weak SEC("license") = "Dual BSD/GPL";
