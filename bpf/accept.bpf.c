/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * accept.bpf.c - offload accept: TC ingress finishes the handshake, reads the
 * header, and only then has the kernel create the server's socket, past it.
 *
 *	SYN		-> SYN-ACK by rp_on_syn(), remembered in `handshakes`
 *	bare ACK	-> dropped: the header is still to come
 *	first data	-> rp_on_first_data() parses it, and one of
 *	   header	   the socket starts behind it; rp_accept_past()
 *	   undecided	   the daemon's socket starts at it; rp_hand_over()
 *	   none, enabled   the server's socket starts at it; rp_accept_plain()
 *	   else		   RST; rp_refuse()
 *
 * sockops deletes the handshake when the socket exists; from then on the
 * connection's packets pass here after two map look-ups.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "peek.h"
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
	struct rp_handshake handshake;
	struct rp_summing summing;
	__u32 number; /* of the listener */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rp_workspace);
} workspace SEC(".maps");

static __always_inline struct rp_settings *rp_settings_now(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

/* Whose a tuple is when a SYN comes for it. */
enum rp_owner {
	RP_OWNER_NOBODY,    /* no socket listens */
	RP_OWNER_LISTENER,
	RP_OWNER_TIME_WAIT, /* of an older connection */
	RP_OWNER_OTHER,	    /* a connection, or a handshake of the stack's */
};

/* The state of the socket that the stack would find, 0 if there is none. */
static __always_inline __u32 rp_socket_state(struct __sk_buff *skb,
					     const struct rp_packet *packet,
					     __u16 port)
{
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
	bpf_sk_release(socket);
	return state;
}

static __always_inline enum rp_owner rp_find_owner(
	struct __sk_buff *skb, const struct rp_packet *packet,
	const struct rp_listener *listener)
{
	__u32 state = rp_socket_state(skb, packet, packet->tuple.local_port);

	if (state == BPF_TCP_TIME_WAIT)
		return RP_OWNER_TIME_WAIT;
	if (state && state != BPF_TCP_LISTEN)
		return RP_OWNER_OTHER;
	if (listener->handler_port)
		state = rp_socket_state(skb, packet, listener->handler_port);
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

static __always_inline __u32 rp_now_ms(void)
{
	return bpf_ktime_get_boot_ns() / 1000000;
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
	tcp->window = bpf_htons(now->window);
	rp_put_options(&memory->reply, handshake, now,
		       rp_own_mss(skb, &memory->packet));
	return rp_send_reply(skb, &memory->packet, &memory->reply);
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
	handshake->since = bpf_ktime_get_boot_ns();
	handshake->peer_isn = bpf_ntohl(tcp->seq);
	handshake->own_isn = bpf_get_prandom_u32();
	handshake->own_tsval = rp_now_ms();
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

static __always_inline int rp_is_announced(const struct rp_tuple *tuple)
{
	struct rp_pending *record = bpf_map_lookup_elem(&pending, tuple);

	return record && record->kind == RP_PENDING_ANNOUNCED;
}

/* The stack gets this SYN; what comes next is remembered. */
static __always_inline int rp_leave(struct rp_workspace *memory,
				    enum rp_stage stage)
{
	struct rp_handshake *handshake = &memory->handshake;

	__builtin_memset(handshake, 0, sizeof(*handshake));
	handshake->since = bpf_ktime_get_boot_ns();
	handshake->peer_isn = bpf_ntohl(memory->packet.tcp.seq);
	handshake->listener = memory->number;
	handshake->stage = stage;
	bpf_map_update_elem(&handshakes, &memory->packet.tuple, handshake,
			    BPF_ANY);
	return TC_ACT_UNSPEC;
}

/*
 * A peer that is no trusted proxy. For an inline listener that takes it as
 * a plain client, its first bytes are still watched, for no header of its
 * making may reach the server. A relaying daemon does that itself.
 */
static __always_inline int rp_on_untrusted_syn(
	struct __sk_buff *skb, struct rp_workspace *memory,
	const struct rp_listener *listener)
{
	struct bpf_sock *target;
	enum rp_owner owner;

	if (listener->untrusted == RP_UNTRUSTED_RESET) {
		rp_count(memory->number, RP_STAT_UNTRUSTED);
		return rp_send_reset(skb, &memory->packet, &memory->reply);
	}
	if (listener->delivery == RP_DELIVERY_RELAY)
		return TC_ACT_UNSPEC;
	/* Another SYN on the way must not change what is watched for. */
	owner = rp_find_owner(skb, &memory->packet, listener);
	if (owner == RP_OWNER_NOBODY || owner == RP_OWNER_OTHER)
		return TC_ACT_UNSPEC;
	rp_leave(memory, RP_STAGE_DIRECT);
	if (!listener->handler_port || owner != RP_OWNER_LISTENER)
		return TC_ACT_UNSPEC;
	target = rp_find_target(skb, &memory->packet, listener);
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
	__u16 least;

	if (!now || rp_is_announced(&packet->tuple))
		return TC_ACT_UNSPEC;
	if (!rp_is_trusted(memory->number, packet->tuple.peer))
		return rp_on_untrusted_syn(skb, memory, listener);
	if (!rp_has_plain_ip(packet))
		return rp_leave(memory, RP_STAGE_DAEMON);
	switch (rp_find_owner(skb, packet, listener)) {
	case RP_OWNER_LISTENER:
		break;
	case RP_OWNER_NOBODY: /* it says so, and health checks stay honest */
		return rp_leave(memory, RP_STAGE_NOBODY);
	case RP_OWNER_TIME_WAIT:
		return rp_leave(memory, RP_STAGE_DAEMON);
	case RP_OWNER_OTHER:
		return TC_ACT_UNSPEC;
	}
	known = bpf_map_lookup_elem(&handshakes, &packet->tuple);
	if (known && known->peer_isn == bpf_ntohl(packet->tcp.seq) &&
	    known->stage == RP_STAGE_SYN_RECEIVED) {
		memory->handshake = *known;
		return rp_send_syn_ack(skb, memory, now);
	}
	rp_agree(skb, memory, now);
	least = rp_is_v4(packet->tuple.peer) ? MSS_LEAST_V4 : MSS_LEAST_V6;
	if (memory->handshake.peer_mss < least)
		return rp_leave(memory, RP_STAGE_DAEMON);
	if (bpf_map_update_elem(&handshakes, &packet->tuple, &memory->handshake,
				BPF_ANY))
		return TC_ACT_SHOT;
	rp_count(memory->number, RP_STAT_HANDSHAKES);
	return rp_send_syn_ack(skb, memory, now);
}

static __always_inline int rp_refuse(struct __sk_buff *skb,
				     struct rp_workspace *memory,
				     enum rp_stat reason)
{
	rp_count(memory->number, reason);
	bpf_map_delete_elem(&handshakes, &memory->packet.tuple);
	return rp_send_reset(skb, &memory->packet, &memory->reply);
}

/* The child of `target` will start at this packet's sequence number. */
static __always_inline int rp_assign(struct __sk_buff *skb,
				     struct rp_workspace *memory,
				     struct bpf_sock *target)
{
	const struct rp_handshake *handshake = &memory->handshake;
	struct rp_settings *now = rp_settings_now();
	struct bpf_tcp_req_attrs attrs = {
		.rcv_tsval = memory->options.tsval,
		.rcv_tsecr = memory->options.tsecr,
		.mss = handshake->peer_mss,
		.rcv_wscale = now ? now->wscale : 0,
		.snd_wscale = handshake->peer_wscale,
		.ecn_ok = !!(handshake->options & RP_OPTION_ECN),
		.wscale_ok = !!(handshake->options & RP_OPTION_WSCALE),
		.sack_ok = !!(handshake->options & RP_OPTION_SACK),
		.tstamp_ok = !!(handshake->options & RP_OPTION_TIMESTAMPS),
	};

	return bpf_sk_assign_tcp_reqsk(skb, (struct sock *)target, &attrs,
				       sizeof(attrs));
}

static __always_inline int rp_wait_for_socket(struct rp_workspace *memory,
					      struct rp_pending *record,
					      __u32 seq,
					      enum rp_pending_kind kind)
{
	record->seq = seq;
	record->kind = kind;
	return bpf_map_update_elem(&pending, &memory->packet.tuple, record,
				   BPF_ANY);
}

/*
 * The daemon gets the connection from its first byte on. It finishes what
 * could not be decided here, and relays to the same server.
 */
static __always_inline int rp_hand_over(struct __sk_buff *skb,
					struct rp_workspace *memory,
					struct rp_scratch *input)
{
	struct rp_settings *now = rp_settings_now();
	__u32 slot = bpf_get_smp_processor_id();
	struct bpf_sock *target;
	int error;

	if (!now || !now->daemons)
		return TC_ACT_SHOT; /* retried by the peer until one is there */
	slot %= now->daemons;
	target = bpf_map_lookup_elem(&handover, &slot);
	if (!target)
		return TC_ACT_SHOT;
	error = rp_wait_for_socket(memory, &input->pending,
				   memory->handshake.peer_isn + 1,
				   RP_PENDING_HANDED_OVER)
			?: rp_assign(skb, memory, target);
	bpf_sk_release(target);
	return error ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

/* No header, and none is needed: the server's socket starts here. */
static __always_inline int rp_accept_plain(struct __sk_buff *skb,
					   struct rp_workspace *memory,
					   struct rp_scratch *input,
					   const struct rp_listener *listener)
{
	struct rp_pending *record = &input->pending;
	struct bpf_sock *target;
	int error;

	target = rp_find_target(skb, &memory->packet, listener);
	if (!target)
		return rp_refuse(skb, memory, RP_STAT_HANDLER_FAILED);
	rp_fill_record(skb, &memory->packet, memory->number, listener, NULL,
		       &record->record);
	error = rp_wait_for_socket(memory, record,
				   memory->handshake.peer_isn + 1,
				   RP_PENDING_CLAIM)
			?: rp_assign(skb, memory, target);
	bpf_sk_release(target);
	if (error)
		return rp_hand_over(skb, memory, input);
	return TC_ACT_UNSPEC;
}

/*
 * The server's socket starts behind the header: the packet becomes a bare ACK
 * with that sequence number, and a clone of it comes again as it was, now for
 * the socket, where TCP itself trims the header as old data.
 *
 * If the accept queue is full no socket comes to be. The stage tells the
 * clone then from the peer's retransmission, which tries all this again.
 */
static __always_inline int rp_accept_past(struct __sk_buff *skb,
					  struct rp_workspace *memory,
					  struct rp_scratch *input,
					  const struct rp_listener *listener)
{
	struct rp_header *header = &input->parser.header;
	struct rp_pending *record = &input->pending;
	__u32 length = header->length;
	struct bpf_sock *target;
	int error;

	target = rp_find_target(skb, &memory->packet, listener);
	if (!target)
		return rp_refuse(skb, memory, RP_STAT_HANDLER_FAILED);
	rp_fill_record(skb, &memory->packet, memory->number, listener, header,
		       &record->record);
	error = rp_wait_for_socket(memory, record,
				   memory->handshake.peer_isn + 1 + length,
				   RP_PENDING_CLAIM)
			?: rp_assign(skb, memory, target);
	bpf_sk_release(target);
	if (error) /* an MPTCP listener, for one: the daemon can serve it */
		return rp_hand_over(skb, memory, input);

	memory->handshake.stage = RP_STAGE_CLONED;
	if (bpf_map_update_elem(&handshakes, &memory->packet.tuple,
				&memory->handshake, BPF_EXIST) ||
	    bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS) ||
	    rp_cut(skb, &memory->packet, length, 0, &memory->reply))
		return TC_ACT_SHOT;
	return TC_ACT_UNSPEC;
}

static __always_inline int rp_on_first_data(struct __sk_buff *skb,
					    struct rp_workspace *memory,
					    struct rp_scratch *input,
					    const struct rp_listener *listener)
{
	struct rp_parser *parser = &input->parser;

	switch (rp_parse_payload(skb, &memory->packet, listener, parser)) {
	case RP_HEADER:
		break;
	case RP_INCOMPLETE:
		return rp_hand_over(skb, memory, input);
	case RP_NOT_HEADER:
		if (listener->mode == RP_MODE_REQUIRED)
			return rp_refuse(skb, memory, RP_STAT_NOT_HEADER);
		return rp_accept_plain(skb, memory, input, listener);
	case RP_TOO_LONG:
		return rp_refuse(skb, memory, RP_STAT_TOO_LONG);
	case RP_MALFORMED:
	default:
		return rp_refuse(skb, memory, RP_STAT_MALFORMED);
	}
	if (parser->header.command == RP_COMMAND_PROXY &&
	    !listener->special_source && !rp_source_usable(&parser->header))
		return rp_refuse(skb, memory, RP_STAT_BAD_SOURCE);
	return rp_accept_past(skb, memory, input, listener);
}

static __always_inline int rp_is_late(const struct rp_handshake *handshake,
				      const struct rp_listener *listener)
{
	return bpf_ktime_get_boot_ns() - handshake->since >=
	       listener->header_timeout * 1000000ULL;
}

/* The stack sees a reset instead: its socket ends, and so does the peer. */
static __always_inline int rp_abort(struct __sk_buff *skb,
				    struct rp_workspace *memory,
				    enum rp_stat reason)
{
	rp_count(memory->number, reason);
	bpf_map_delete_elem(&handshakes, &memory->packet.tuple);
	return rp_cut(skb, &memory->packet, 0, 1, &memory->reply)
		       ? TC_ACT_SHOT
		       : TC_ACT_UNSPEC;
}

/*
 * First data of an untrusted peer on a connection of the stack's. While it is
 * a prefix of a signature the peer has to send it again, and more with it,
 * until header_timeout: a plain client's "P" may well be all there is.
 */
static __always_inline int rp_on_direct_data(struct __sk_buff *skb,
					     struct rp_workspace *memory,
					     struct rp_scratch *input,
					     const struct rp_listener *listener)
{
	struct rp_parser *parser = &input->parser;

	switch (rp_parse_payload(skb, &memory->packet, listener, parser)) {
	case RP_NOT_HEADER:
		break;
	case RP_INCOMPLETE:
		if (rp_has_signature(parser))
			return rp_abort(skb, memory, RP_STAT_UNTRUSTED_HEADER);
		if (!rp_is_late(&memory->handshake, listener))
			return TC_ACT_SHOT;
		break;
	default:
		return rp_abort(skb, memory, RP_STAT_UNTRUSTED_HEADER);
	}
	bpf_map_delete_elem(&handshakes, &memory->packet.tuple);
	return TC_ACT_UNSPEC;
}

/* A segment of a connection whose socket does not exist yet. */
static __always_inline int rp_on_early(struct __sk_buff *skb,
				       struct rp_workspace *memory,
				       struct rp_scratch *input,
				       const struct rp_listener *listener)
{
	const struct rp_handshake *handshake = &memory->handshake;
	const struct rp_packet *packet = &memory->packet;

	/* Out of order, a keep-alive, or of an older connection. */
	if (!packet->tcp.ack ||
	    bpf_ntohl(packet->tcp.seq) != handshake->peer_isn + 1 ||
	    bpf_ntohl(packet->tcp.ack_seq) != handshake->own_isn + 1)
		return TC_ACT_SHOT;
	rp_read_options(skb, packet, &memory->options);
	if (handshake->options & RP_OPTION_TIMESTAMPS &&
	    !(memory->options.have & RP_OPTION_TIMESTAMPS))
		return TC_ACT_SHOT; /* RFC 7323 section 3.2 */
	if (!packet->payload_len) {
		if (packet->tcp.fin)
			return rp_refuse(skb, memory, RP_STAT_CLOSED_EARLY);
		if (listener->mode == RP_MODE_ENABLED &&
		    rp_is_late(handshake, listener))
			return rp_accept_plain(skb, memory, input, listener);
		return TC_ACT_SHOT;
	}
	if (handshake->stage == RP_STAGE_CLONED) {
		memory->handshake.stage = RP_STAGE_RETRIED;
		bpf_map_update_elem(&handshakes, &packet->tuple,
				    &memory->handshake, BPF_EXIST);
		return TC_ACT_SHOT;
	}
	if (listener->mode == RP_MODE_REQUIRED &&
	    handshake->stage == RP_STAGE_SYN_RECEIVED &&
	    rp_is_late(handshake, listener))
		return rp_refuse(skb, memory, RP_STAT_TIMEOUT);
	return rp_on_first_data(skb, memory, input, listener);
}

/* Or does the stack know of the connection? */
static __always_inline int rp_is_ours(enum rp_stage stage)
{
	return stage == RP_STAGE_SYN_RECEIVED || stage == RP_STAGE_CLONED ||
	       stage == RP_STAGE_RETRIED;
}

static __always_inline int rp_on_segment(struct __sk_buff *skb,
					 struct rp_workspace *memory)
{
	const struct rp_packet *packet = &memory->packet;
	enum rp_stage stage = memory->handshake.stage;
	struct rp_listener *listener;
	struct rp_scratch *input;
	__u32 zero = 0;

	memory->number = memory->handshake.listener;
	listener = bpf_map_lookup_elem(&listeners, &memory->number);
	input = bpf_map_lookup_elem(&scratch, &zero);
	if (!input)
		return TC_ACT_SHOT;
	if (!listener) { /* it went: nobody is to be watched for it */
		bpf_map_delete_elem(&handshakes, &packet->tuple);
		return TC_ACT_UNSPEC;
	}
	if (packet->tcp.rst) {
		if (bpf_ntohl(packet->tcp.seq) ==
		    memory->handshake.peer_isn + 1) {
			rp_count(memory->number, RP_STAT_CLOSED_EARLY);
			bpf_map_delete_elem(&handshakes, &packet->tuple);
		}
		return rp_is_ours(stage) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
	}
	if (stage == RP_STAGE_DAEMON || stage == RP_STAGE_NOBODY)
		return TC_ACT_UNSPEC;
	if (stage == RP_STAGE_STRAY)
		return packet->payload_len
			       ? rp_abort(skb, memory, RP_STAT_STRAY)
			       : TC_ACT_UNSPEC;
	if (stage == RP_STAGE_DIRECT) {
		if (!packet->payload_len)
			return TC_ACT_UNSPEC;
		if (bpf_ntohl(packet->tcp.seq) ==
		    memory->handshake.peer_isn + 1)
			return rp_on_direct_data(skb, memory, input, listener);
		/* Not before what comes first, lest it is taken for known. */
		return rp_is_late(&memory->handshake, listener) ? TC_ACT_UNSPEC
								: TC_ACT_SHOT;
	}
	return rp_on_early(skb, memory, input, listener);
}

SEC("tc")
int rp_ingress_accept(struct __sk_buff *skb)
{
	struct rp_packet packet = {0};
	struct rp_handshake *handshake;
	struct rp_workspace *memory;
	struct rp_listener *listener;
	__u32 zero = 0;

	if (!rp_read_packet(skb, rp_kernel_skb(skb)->mac_len, &packet))
		return TC_ACT_UNSPEC;
	memory = bpf_map_lookup_elem(&workspace, &zero);
	if (!memory)
		return TC_ACT_UNSPEC;
	if (packet.tcp.syn) {
		listener = rp_find_listener(&packet.tuple, &memory->number);
		if (packet.tcp.ack || packet.tcp.rst || packet.tcp.fin ||
		    !listener || listener->offload != RP_OFFLOAD_ACCEPT ||
		    !rp_is_local(skb, &packet) ||
		    !rp_is_intact(skb, &packet, &memory->summing))
			return TC_ACT_UNSPEC;
		memory->packet = packet;
		return rp_on_syn(skb, memory, listener);
	}
	handshake = bpf_map_lookup_elem(&handshakes, &packet.tuple);
	if (!handshake) {
		rp_peek(skb, &packet);
		return TC_ACT_UNSPEC;
	}
	if (!rp_is_intact(skb, &packet, &memory->summing))
		return TC_ACT_UNSPEC; /* the stack drops and counts it */
	memory->packet = packet;
	memory->handshake = *handshake;
	return rp_on_segment(skb, memory);
}

char _license[] __weak SEC("license") = "Dual BSD/GPL";
