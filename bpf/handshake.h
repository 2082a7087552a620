/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * handshake.h - offload accept, first half: whose a SYN is, and the SYN-ACK
 * that TC sends for the server.
 */
#ifndef REALPEER_HANDSHAKE_H
#define REALPEER_HANDSHAKE_H

#include "handshakes.h"
#include "record.h"
#include "reply.h"

#define MSS_LEAST_V4 536 /* below, the kfunc refuses */
#define MSS_LEAST_V6 1220
#define MSS_MOST     65495

#define AF_INET	 2
#define AF_INET6 10

/* More of TC's own memory, beside struct rp_scratch. */
struct rp_workspace {
	struct rp_packet packet;
	struct rp_options options;
	struct rp_reply reply;
	struct rp_handshake handshake; /* a copy */
	struct rp_summing summing;
	__u64 now;	/* ns of CLOCK_BOOTTIME */
	__u32 number;	/* of the listener */
	__u32 window;	/* unscaled, of the SYN-ACK */
	__u32 n_claims; /* that this CPU made */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rp_workspace);
} workspace __weak SEC(".maps");

/* Whose a tuple is when a SYN comes for it. */
enum rp_owner {
	RP_OWNER_NOBODY, /* no socket listens */
	RP_OWNER_LISTENER,
	RP_OWNER_TIME_WAIT, /* of an older connection */
	RP_OWNER_OTHER,	    /* a connection, or a handshake of the stack's */
};

/* As tcp_select_initial_window() has it from the listening socket. */
static __always_inline __u32 rp_first_window(struct bpf_sock *listening)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(listening);
	__u32 buffer = tcp ? tcp->inet_conn.icsk_inet.sk.sk_rcvbuf : 0;

	return buffer / 2 < 65535 ? buffer / 2 : 65535;
}

/* The state of the socket that the stack would find, 0 if there is none. */
static __always_inline __u32 rp_socket_state(struct __sk_buff *skb,
					     struct rp_workspace *memory,
					     __u16 port)
{
	const struct rp_packet *packet = &memory->packet;
	__u32 zero = 0, state, *bypass;
	struct bpf_sock_tuple key = {0};
	__u32 size = rp_lookup_key(&packet->tuple, port, &key);
	struct bpf_sock *socket;

	/* Our own sk_lookup program must not answer this one. */
	bypass = bpf_map_lookup_elem(&lookup_bypass, &zero);
	if (!bypass)
		return 0;
	*bypass = 1;
	socket = bpf_skc_lookup_tcp(skb, &key, size, BPF_F_CURRENT_NETNS, 0);
	*bypass = 0;
	if (!socket)
		return 0;
	state = socket->state;
	if (state == BPF_TCP_LISTEN)
		memory->window = rp_first_window(socket);
	bpf_sk_release(socket);
	return state;
}

static __always_inline enum rp_owner rp_find_owner(
	struct __sk_buff *skb, struct rp_workspace *memory,
	const struct rp_listener *listener)
{
	__u32 state =
		rp_socket_state(skb, memory, memory->packet.tuple.local_port);

	if (state == BPF_TCP_TIME_WAIT)
		return RP_OWNER_TIME_WAIT;
	if (state && state != BPF_TCP_LISTEN)
		return RP_OWNER_OTHER;
	if (listener->handler_port)
		state = rp_socket_state(skb, memory, listener->handler_port);
	return state == BPF_TCP_LISTEN ? RP_OWNER_LISTENER : RP_OWNER_NOBODY;
}

/*
 * The socket that shall accept: it listens on the handler's port, or on the
 * listener's own. NULL if there is none. Release it.
 */
static __always_inline struct bpf_sock *rp_find_target(
	struct __sk_buff *skb, const struct rp_packet *packet,
	const struct rp_listener *listener)
{
	struct bpf_sock_tuple key = {0};
	struct bpf_sock *socket;
	__u32 zero = 0, *bypass;
	__u32 size = rp_lookup_key(
		&packet->tuple,
		listener->handler_port ?: packet->tuple.local_port, &key);

	/* Our own sk_lookup program must not answer this one. */
	bypass = bpf_map_lookup_elem(&lookup_bypass, &zero);
	if (!bypass)
		return NULL;
	*bypass = 1;
	socket = bpf_sk_lookup_tcp(skb, &key, size, BPF_F_CURRENT_NETNS, 0);
	*bypass = 0;
	if (!socket)
		return NULL;
	if (socket->state != BPF_TCP_LISTEN) {
		bpf_sk_release(socket);
		return NULL;
	}
	return socket;
}

static __always_inline __u16 rp_own_mss(struct __sk_buff *skb,
					const struct rp_packet *packet)
{
	__u32 headers = packet->transport - packet->ip + sizeof(struct tcphdr);
	__u32 mtu = 0;

	if (bpf_check_mtu(skb, 0, &mtu, 0, 0) < 0 || mtu <= headers)
		return MSS_LEAST_V4;
	return mtu - headers < MSS_MOST ? mtu - headers : MSS_MOST;
}

/* Word `i` of the SYN-ACK's options; the array is longer than is used. */
static __always_inline __u32 rp_put_option(struct rp_reply *reply, __u32 i,
					   __u32 word)
{
	reply->segment.options[rp_index(i, 8)] = bpf_htonl(word);
	return i + 1;
}

static __always_inline void rp_put_options(struct rp_reply *reply,
					   const struct rp_handshake *handshake,
					   const struct rp_settings *now,
					   __u16 mss)
{
	__u32 sack = handshake->options & RP_OPTION_SACK, i;

	i = rp_put_option(reply, 0, RP_KIND_MSS << 24 | 4 << 16 | mss);
	if (handshake->options & RP_OPTION_TIMESTAMPS) {
		i = rp_put_option(reply, i,
				  (sack ? RP_KIND_SACK_PERMITTED << 24 | 2 << 16
					: RP_KIND_NOP << 24 | RP_KIND_NOP
								      << 16) |
					  RP_KIND_TIMESTAMPS << 8 | 10);
		i = rp_put_option(reply, i, handshake->own_tsval);
		i = rp_put_option(reply, i, handshake->peer_tsval);
	} else if (sack) {
		i = rp_put_option(reply, i,
				  RP_KIND_NOP << 24 | RP_KIND_NOP << 16 |
					  RP_KIND_SACK_PERMITTED << 8 | 2);
	}
	if (handshake->options & RP_OPTION_WSCALE)
		i = rp_put_option(reply, i,
				  RP_KIND_NOP << 24 | RP_KIND_WSCALE << 16 |
					  3 << 8 | now->wscale);
	reply->len = sizeof(struct tcphdr) + 4 * i;
}

static __always_inline int rp_send_syn_ack(struct __sk_buff *skb,
					   struct rp_workspace *memory,
					   const struct rp_settings *now)
{
	const struct rp_handshake *handshake = &memory->handshake;
	struct tcphdr *tcp = &memory->reply.segment.tcp;

	__builtin_memset(tcp, 0, sizeof(*tcp));
	tcp->syn = 1;
	tcp->ack = 1;
	tcp->ece = !!(handshake->options & RP_OPTION_ECN);
	tcp->seq = bpf_htonl(handshake->own_isn);
	tcp->ack_seq = bpf_htonl(handshake->peer_isn + 1);
	tcp->window = bpf_htons(memory->window);
	rp_put_options(&memory->reply, handshake, now,
		       rp_own_mss(skb, &memory->packet));
	return rp_send_reply(skb, &memory->packet, &memory->reply);
}

/*
 * The products of TC's initial sequence numbers with ISN_MARK have this many
 * zeros in front, so that all but one in 32 packets that acknowledge more than
 * a SYN-ACK tell so by themselves. A product rather than the last bits, for
 * messages of round lengths would keep those.
 */
#define ISN_MARK	 0x9e3779b1U
#define ISN_MARK_INVERSE 0x0e8b2f51U /* their product is 1, modulo 2^32 */
#define ISN_MARK_BITS	 5

static __always_inline __u32 rp_mark_isn(__u32 random)
{
	return (random >> ISN_MARK_BITS) * ISN_MARK_INVERSE;
}

static __always_inline int rp_is_marked(__u32 isn)
{
	return isn * ISN_MARK < 1U << (32 - ISN_MARK_BITS);
}

/* The little of an IP header that a SYN cookie is made of; its size. */
static __always_inline __u32 rp_fill_ip(struct rp_reply *reply,
					const struct rp_tuple *tuple)
{
	if (rp_is_v4(tuple->peer)) {
		__builtin_memset(&reply->ip4, 0, sizeof(reply->ip4));
		reply->ip4.version = 4;
		__builtin_memcpy(&reply->ip4.saddr, tuple->peer + 12, 4);
		__builtin_memcpy(&reply->ip4.daddr, tuple->local + 12, 4);
		return sizeof(reply->ip4);
	}
	__builtin_memset(&reply->ip6, 0, sizeof(reply->ip6));
	reply->ip6.version = 6;
	__builtin_memcpy(&reply->ip6.saddr, tuple->peer, 16);
	__builtin_memcpy(&reply->ip6.daddr, tuple->local, 16);
	return sizeof(reply->ip6);
}

/*
 * As hard to guess as the kernel's own (RFC 6528), but for the mark: made of
 * its SYN cookie, a keyed hash of tuple, sequence number and time. Through the
 * mark it is none any more, so that the stack does not take it for one.
 */
static __always_inline __u32 rp_make_isn(struct rp_workspace *memory)
{
	const struct rp_tuple *tuple = &memory->packet.tuple;
	struct rp_reply *reply = &memory->reply;
	struct tcphdr *tcp = &reply->segment.tcp;
	__s64 cookie;

	*tcp = memory->packet.tcp;
	tcp->doff = sizeof(*tcp) / 4;
	if (rp_fill_ip(reply, tuple) == sizeof(reply->ip4))
		cookie = bpf_tcp_raw_gen_syncookie_ipv4(&reply->ip4, tcp,
							sizeof(*tcp));
	else
		cookie = bpf_tcp_raw_gen_syncookie_ipv6(&reply->ip6, tcp,
							sizeof(*tcp));
	return rp_mark_isn(cookie);
}

/* What this SYN and our sysctls agree on. */
static __always_inline void rp_agree(struct __sk_buff *skb,
				     struct rp_workspace *memory,
				     const struct rp_settings *now)
{
	struct rp_handshake *handshake = &memory->handshake;
	struct rp_options *options = &memory->options;
	const struct tcphdr *tcp = &memory->packet.tcp;

	__builtin_memset(handshake, 0, sizeof(*handshake));
	rp_read_options(skb, &memory->packet, options);
	handshake->tuple = memory->packet.tuple;
	handshake->since = memory->now;
	handshake->peer_isn = bpf_ntohl(tcp->seq);
	handshake->own_isn = rp_make_isn(memory);
	/* The child goes on with this clock, which must not run backwards. */
	handshake->own_tsval = bpf_ktime_get_coarse_ns() / 1000000;
	handshake->listener = memory->number;
	handshake->peer_wscale = options->wscale;
	handshake->peer_tsval = options->tsval;
	handshake->peer_mss = options->mss;
	if (!options->mss) /* RFC 9293 section 3.7.1, RFC 8200 section 8.3 */
		handshake->peer_mss = rp_is_v4(memory->packet.tuple.peer)
					      ? MSS_LEAST_V4
					      : MSS_LEAST_V6;
	handshake->options = options->have & now->options;
	if (tcp->ece && tcp->cwr) /* RFC 3168 section 6.1.1 */
		handshake->options |= now->options & RP_OPTION_ECN;
}

/* The stack gets this SYN; what comes next is remembered. */
static __always_inline int rp_leave(struct rp_workspace *memory,
				    enum rp_stage stage)
{
	struct rp_handshake *handshake = &memory->handshake;

	__builtin_memset(handshake, 0, sizeof(*handshake));
	handshake->tuple = memory->packet.tuple;
	handshake->since = memory->now;
	handshake->peer_isn = bpf_ntohl(memory->packet.tcp.seq);
	handshake->listener = memory->number;
	handshake->stage = stage;
	rp_enter_handshake(handshake);
	return TC_ACT_UNSPEC;
}

/* Data in a SYN that TCP Fast Open would give to the server (RFC 7413). */
static __always_inline int rp_has_early_header(
	struct __sk_buff *skb, const struct rp_packet *packet,
	const struct rp_listener *listener)
{
	struct rp_scratch *input;
	__u32 zero = 0;

	if (!packet->payload_len)
		return 0;
	input = bpf_map_lookup_elem(&scratch, &zero);
	return packet->tcp.urg || !input ||
	       rp_parse_payload(skb, packet, listener, &input->parser) !=
		       RP_NOT_HEADER;
}

/*
 * A peer that is no trusted proxy. For an inline listener that takes it as a
 * plain client, its first bytes are looked at when they come: rp_screen(). A
 * relaying daemon does that itself.
 */
static __always_inline int rp_on_untrusted_syn(
	struct __sk_buff *skb, struct rp_workspace *memory,
	const struct rp_listener *listener)
{
	struct rp_packet *packet = &memory->packet;
	struct bpf_sock *target;

	if (listener->untrusted == RP_UNTRUSTED_RESET) {
		rp_count(memory->number, RP_STAT_UNTRUSTED);
		return rp_send_reset(skb, packet, &memory->reply);
	}
	if (listener->delivery == RP_DELIVERY_RELAY)
		return TC_ACT_UNSPEC;
	if (rp_has_early_header(skb, packet, listener)) {
		rp_count(memory->number, RP_STAT_UNTRUSTED_HEADER);
		return rp_send_reset(skb, packet, &memory->reply);
	}
	if (!listener->handler_port ||
	    rp_find_owner(skb, memory, listener) != RP_OWNER_LISTENER)
		return TC_ACT_UNSPEC;
	target = rp_find_target(skb, packet, listener);
	if (target) {
		bpf_sk_assign(skb, target, 0);
		bpf_sk_release(target);
	}
	return TC_ACT_UNSPEC;
}

/* Or is it to be forwarded? A listener on a wildcard has every address. */
static __always_inline int rp_is_local(struct __sk_buff *skb,
				       const struct rp_packet *packet)
{
	struct bpf_fib_lookup route = {.ifindex = skb->ifindex};
	long found;

	if (skb->ifindex == LOOPBACK_IFINDEX)
		return 1;
	if (rp_is_v4(packet->tuple.peer)) {
		route.family = AF_INET;
		__builtin_memcpy(&route.ipv4_src, packet->tuple.peer + 12, 4);
		__builtin_memcpy(&route.ipv4_dst, packet->tuple.local + 12, 4);
	} else {
		route.family = AF_INET6;
		__builtin_memcpy(route.ipv6_src, packet->tuple.peer, 16);
		__builtin_memcpy(route.ipv6_dst, packet->tuple.local, 16);
	}
	found = bpf_fib_lookup(skb, &route, sizeof(route),
			       BPF_FIB_LOOKUP_SKIP_NEIGH);
	return found == BPF_FIB_LKUP_RET_NOT_FWDED ||
	       found == BPF_FIB_LKUP_RET_FWD_DISABLED;
}

static __always_inline int rp_on_syn(struct __sk_buff *skb,
				     struct rp_workspace *memory,
				     const struct rp_listener *listener)
{
	struct rp_packet *packet = &memory->packet;
	struct rp_settings *now = rp_settings_now();
	struct rp_handshake *known;
	struct rp_place place;
	__u16 least;

	if (!now || rp_is_announced(&packet->tuple))
		return TC_ACT_UNSPEC;
	if (!rp_is_trusted(memory->number, packet->tuple.peer))
		return rp_on_untrusted_syn(skb, memory, listener);
	if (!rp_has_plain_ip(packet) || !now->syncookies || rp_is_losing())
		return rp_leave(memory, RP_STAGE_DAEMON);
	switch (rp_find_owner(skb, memory, listener)) {
	case RP_OWNER_LISTENER:
		break;
	case RP_OWNER_NOBODY:
		/*
		 * As the stack would, so health checks stay honest. But not by
		 * the stack: it may find another server on the port, or a rule
		 * that translates the address, and the header would get there.
		 */
		rp_count(memory->number, RP_STAT_HANDLER_FAILED);
		return rp_send_reset(skb, packet, &memory->reply);
	case RP_OWNER_TIME_WAIT:
		return rp_leave(memory, RP_STAGE_DAEMON);
	case RP_OWNER_OTHER:
		return TC_ACT_UNSPEC;
	}
	rp_agree(skb, memory, now);
	least = rp_is_v4(packet->tuple.peer) ? MSS_LEAST_V4 : MSS_LEAST_V6;
	if (memory->handshake.peer_mss < least)
		return rp_leave(memory, RP_STAGE_DAEMON);
	known = rp_find_handshake(&packet->tuple, &place);
	if (known && known->peer_isn == bpf_ntohl(packet->tcp.seq) &&
	    known->stage == RP_STAGE_SYN_RECEIVED) {
		known->since = memory->now; /* the SYN-ACK was lost */
		memory->handshake = *known;
		return rp_send_syn_ack(skb, memory, now);
	}
	if (!rp_enter_at(&place, &memory->handshake))
		return TC_ACT_SHOT;
	rp_count(memory->number, RP_STAT_HANDSHAKES);
	return rp_send_syn_ack(skb, memory, now);
}

#endif
