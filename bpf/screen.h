/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * screen.h - the first bytes of connections to an inline listener that are
 * the stack's and the server's: of plain clients, with untrusted = direct; of
 * those whose SYN came before the programs did; and, in mode enabled, of those
 * that had said nothing at header_timeout. No header reaches the server through
 * them.
 *
 * A flood must not make us forget them, so nothing has to be remembered: the
 * socket itself says whether its first byte is still to come.
 */
#ifndef REALPEER_SCREEN_H
#define REALPEER_SCREEN_H

#include "handshake.h"
#include "hidden.h"

/* A connection that has said nothing yet. */
struct rp_unspoken {
	__u32 seq;    /* of its first byte */
	__u64 cookie; /* of its socket; 0: nobody asked for it yet */
	__u32 state;  /* enum of BPF_TCP_ESTABLISHED, ... */
	int of_daemon;
	int silent; /* TC made it for a client that had said nothing */
};

/* Does the segment end a handshake that the stack remembers nothing of? */
static __always_inline int rp_has_cookie(struct bpf_sock *listening,
					 const struct rp_packet *packet,
					 struct rp_reply *reply)
{
	struct tcphdr *tcp = &reply->segment.tcp;

	*tcp = packet->tcp;
	if (rp_fill_ip(reply, &packet->tuple) == sizeof(reply->ip4))
		return !bpf_tcp_check_syncookie(listening, &reply->ip4,
						sizeof(reply->ip4), tcp,
						sizeof(*tcp));
	return !bpf_tcp_check_syncookie(listening, &reply->ip6,
					sizeof(reply->ip6), tcp, sizeof(*tcp));
}

static __always_inline int rp_is_unspoken(struct __sk_buff *skb,
					  const struct rp_packet *packet,
					  struct rp_reply *reply,
					  struct rp_unspoken *ret)
{
	struct tcp_request_sock *request;
	__u32 zero = 0, size, *bypass;
	struct bpf_sock_tuple key = {0};
	struct bpf_sock *socket;
	struct tcp_sock *tcp;
	int unspoken = 0;

	/* Our own sk_lookup program must not answer this one. */
	bypass = bpf_map_lookup_elem(&lookup_bypass, &zero);
	if (!bypass)
		return 0;
	size = rp_lookup_key(&packet->tuple, packet->tuple.local_port, &key);
	*bypass = 1;
	socket = bpf_skc_lookup_tcp(skb, &key, size, BPF_F_CURRENT_NETNS, 0);
	*bypass = 0;
	if (!socket)
		return 0;
	ret->seq = bpf_ntohl(packet->tcp.seq);
	ret->state = socket->state;
	if (ret->state == BPF_TCP_LISTEN) {
		unspoken = rp_has_cookie(socket, packet, reply);
	} else if (ret->state == BPF_TCP_NEW_SYN_RECV) {
		request = bpf_skc_to_tcp_request_sock(socket);
		if (request) {
			ret->seq = request->rcv_isn + 1;
			unspoken = 1;
		}
	} else {
		tcp = bpf_skc_to_tcp_sock(socket);
		if (tcp && !tcp->bytes_received) {
			ret->seq = tcp->rcv_nxt;
			ret->cookie = tcp->inet_conn.icsk_inet.sk.__sk_common
					      .skc_cookie.counter;
			ret->of_daemon =
				bpf_sk_storage_get(&handover_marks, socket,
						   NULL, 0) != NULL;
			ret->silent = rp_is_silent(ret->cookie);
			unspoken = 1;
		}
	}
	bpf_sk_release(socket);
	return unspoken;
}

static __always_inline int rp_has_socket(const struct rp_unspoken *unspoken)
{
	return unspoken->state != BPF_TCP_LISTEN &&
	       unspoken->state != BPF_TCP_NEW_SYN_RECV;
}

/* Has TC, or the daemon on its way to the server, seen to this one? */
static __always_inline int rp_is_judged(const struct rp_tuple *tuple,
					const struct rp_unspoken *unspoken)
{
	__u64 cookie = unspoken->cookie;

	if (unspoken->of_daemon || rp_is_announced(tuple))
		return 1;
	return cookie && !unspoken->silent &&
	       (bpf_map_lookup_elem(&connections, &cookie) ||
		bpf_map_lookup_elem(&unrecorded, &cookie));
}

/* The stack sees a reset instead: its socket ends, and so does the peer. */
static __always_inline int rp_abort(struct __sk_buff *skb,
				    struct rp_workspace *memory,
				    enum rp_stat reason)
{
	rp_count(memory->number, reason);
	rp_forget_handshake(&memory->packet.tuple);
	return rp_cut(skb, &memory->packet, 0, 1, &memory->reply)
		       ? TC_ACT_SHOT
		       : TC_ACT_UNSPEC;
}

static __always_inline int rp_refuse_unjudged(
	struct __sk_buff *skb, struct rp_workspace *memory,
	const struct rp_unspoken *unspoken, enum rp_stat reason)
{
	if (rp_has_socket(unspoken))
		return rp_abort(skb, memory, reason);
	rp_count(memory->number, reason);
	return rp_send_reset(skb, &memory->packet, &memory->reply);
}

/* Were its first bytes kept back before? */
static __always_inline struct rp_handshake *rp_find_held(
	const struct rp_tuple *tuple, const struct rp_unspoken *unspoken)
{
	struct rp_place place;
	struct rp_handshake *known = rp_find_handshake(tuple, &place);

	return known && known->peer_isn + 1 == unspoken->seq ? known : NULL;
}

/* Has this been a mere prefix of a signature for header_timeout? */
static __always_inline int rp_is_stuck(struct rp_workspace *memory,
				       const struct rp_listener *listener,
				       const struct rp_unspoken *unspoken)
{
	const struct rp_tuple *tuple = &memory->packet.tuple;
	struct rp_handshake *handshake = &memory->handshake;
	struct rp_handshake *known = rp_find_held(tuple, unspoken);

	if (known)
		return memory->now - known->since >=
		       listener->header_timeout * 1000000ULL;
	if (!rp_has_socket(unspoken)) /* anybody can send those */
		return 0;
	__builtin_memset(handshake, 0, sizeof(*handshake));
	handshake->tuple = *tuple;
	handshake->since = memory->now;
	handshake->peer_isn = unspoken->seq - 1;
	handshake->listener = memory->number;
	handshake->stage = RP_STAGE_HELD;
	rp_enter_handshake(handshake);
	return 0;
}

/*
 * While the first bytes are a prefix of a signature the peer has to send them
 * again, and more with them, until header_timeout.
 */
static __always_inline int rp_screen_first(struct __sk_buff *skb,
					   struct rp_workspace *memory,
					   const struct rp_listener *listener,
					   const struct rp_unspoken *unspoken,
					   enum rp_stat reason)
{
	struct rp_scratch *input;
	__u32 zero = 0;

	input = bpf_map_lookup_elem(&scratch, &zero);
	if (!input)
		return TC_ACT_SHOT;
	switch (rp_parse_payload(skb, &memory->packet, listener,
				 &input->parser)) {
	case RP_NOT_HEADER:
		if (unspoken->silent)
			rp_forget_silent(unspoken->cookie);
		return TC_ACT_UNSPEC;
	case RP_INCOMPLETE:
		if (!rp_has_signature(&input->parser) &&
		    !rp_is_stuck(memory, listener, unspoken))
			return TC_ACT_SHOT;
		break;
	default:
		break;
	}
	return rp_refuse_unjudged(skb, memory, unspoken, reason);
}

/*
 * Of a peer that is trusted, or is to be reset, so its SYN came before that
 * could be done. A header of its can't be taken off any more; plain clients go
 * on as they would without us. While there is no socket it may be the daemon's.
 */
static __always_inline int rp_screen_stray(struct __sk_buff *skb,
					   struct rp_workspace *memory,
					   const struct rp_listener *listener,
					   const struct rp_unspoken *unspoken)
{
	if (unspoken->state == BPF_TCP_LISTEN)
		return TC_ACT_UNSPEC;
	if (unspoken->state == BPF_TCP_NEW_SYN_RECV)
		return TC_ACT_SHOT;
	return rp_screen_first(skb, memory, listener, unspoken, RP_STAT_STRAY);
}

#endif
