/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * accept.bpf.c - offload accept: TC ingress finishes the handshake, reads the
 * header, and only then has the kernel create the server's socket, past it.
 *
 *	SYN		-> SYN-ACK by rp_on_syn() of handshake.h
 *	bare ACK	-> dropped: the header is still to come
 *	first data	-> rp_on_first_data() parses it, and one of
 *	   header	   the socket starts behind it; rp_accept_past()
 *	   undecided	   the daemon's socket starts at it; rp_hand_over()
 *	   none, enabled   the server's socket starts at it; rp_accept_plain()
 *	   else		   RST; rp_refuse()
 *
 * sockops deletes the handshake when the socket exists; from then on the
 * connection's packets pass here after a look at port and sequence number.
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "handshake.h"
#include "peek.h"
#include "screen.h"

/* Segments behind a judged one that are sent round, each time counted. */
#define ROUNDS_MAX 64

static __always_inline int rp_refuse(struct __sk_buff *skb,
				     struct rp_workspace *memory,
				     enum rp_stat reason)
{
	rp_count(memory->number, reason);
	rp_forget_handshake(&memory->packet.tuple);
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

/*
 * The daemon gets the connection from its first byte on. It finishes what
 * could not be decided here, and relays to the same server.
 */
static __always_inline int rp_hand_over(struct __sk_buff *skb,
					struct rp_workspace *memory,
					struct rp_handshake *known)
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
	known->claim = RP_CLAIM_OF_DAEMON;
	known->rounds = 0;
	known->silent = !memory->packet.payload_len;
	known->since = memory->now; /* see lookup.bpf.c */
	error = rp_assign(skb, memory, target);
	bpf_sk_release(target);
	return error ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

/*
 * A place in `claims` of this CPU, its index + 1 in *ret_number: the last one
 * again if it has been taken, as it nearly always has.
 */
static __always_inline struct rp_claim *rp_next_claim(
	struct rp_workspace *memory, __u32 *ret_number)
{
	__u32 first = bpf_get_smp_processor_id() * RP_CLAIMS;
	__u32 slot = first + memory->n_claims % RP_CLAIMS;
	struct rp_claim *claim = bpf_map_lookup_elem(&claims, &slot);

	if (claim && claim->tuple.local_port) {
		slot = first + ++memory->n_claims % RP_CLAIMS;
		claim = bpf_map_lookup_elem(&claims, &slot);
	}
	*ret_number = slot + 1;
	return claim;
}

/*
 * The server's socket starts at the packet's first byte, or behind `header`
 * if that is not NULL. -ENOENT: no server. Another error: not from here, as
 * with an MPTCP listener; the daemon can serve it.
 */
static __always_inline int rp_accept_from(struct __sk_buff *skb,
					  struct rp_workspace *memory,
					  struct rp_handshake *known,
					  const struct rp_listener *listener,
					  const struct rp_header *header)
{
	struct rp_claim *claim;
	struct bpf_sock *target;
	__u32 number;
	int error;

	target = rp_find_target(skb, &memory->packet, listener);
	if (!target)
		return -ENOENT;
	claim = rp_next_claim(memory, &number);
	if (!claim) {
		bpf_sk_release(target);
		return -ENOSPC;
	}
	claim->tuple = memory->packet.tuple;
	claim->seq = known->peer_isn + 1 + (header ? header->length : 0);
	rp_fill_record(&memory->packet, memory->number, listener,
		       RP_OFFLOAD_ACCEPT, header, &claim->record);
	claim->record.since = memory->now;
	if (header && header->present) {
		claim->record.tlvs = 1;
		rp_copy_tlvs(skb, memory->packet.payload, header, &claim->tlvs);
	}
	known->claim = number;
	known->rounds = 0;
	known->silent = !memory->packet.payload_len;
	known->since = memory->now; /* who has a claim is not the oldest */
	error = rp_assign(skb, memory, target);
	bpf_sk_release(target);
	return error;
}

/* No header, and none is needed. */
static __always_inline int rp_accept_plain(struct __sk_buff *skb,
					   struct rp_workspace *memory,
					   struct rp_handshake *known,
					   const struct rp_listener *listener)
{
	int error = rp_accept_from(skb, memory, known, listener, NULL);

	if (error == -ENOENT)
		return rp_refuse(skb, memory, RP_STAT_HANDLER_FAILED);
	return error ? rp_hand_over(skb, memory, known) : TC_ACT_UNSPEC;
}

/*
 * Makes the packet what the server's socket starts with: without the header.
 * A header alone, or a burst of segments in one packet (GSO), becomes a bare
 * ACK with the sequence number behind the header, and a clone of it comes
 * again as it was, now for the socket, where TCP itself trims the header as
 * old data, and acknowledges it.
 *
 * If the accept queue is full no socket comes to be. The stage tells the
 * clone then from the peer's retransmission, which tries all this again.
 */
static __always_inline int rp_pass_without(struct __sk_buff *skb,
					   struct rp_workspace *memory,
					   struct rp_handshake *known,
					   __u32 length,
					   struct rp_parser *parser)
{
	known->stage = RP_STAGE_JUDGED;
	if (rp_can_strip(skb, &memory->packet, length))
		return rp_strip(skb, &memory->packet, length, &memory->reply,
				parser, &memory->summing)
			       ? TC_ACT_SHOT
			       : TC_ACT_UNSPEC;
	known->stage = RP_STAGE_CLONED;
	if (bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS) ||
	    rp_cut(skb, &memory->packet, length, 0, &memory->reply))
		return TC_ACT_SHOT;
	return TC_ACT_UNSPEC;
}

static __always_inline int rp_accept_past(struct __sk_buff *skb,
					  struct rp_workspace *memory,
					  struct rp_handshake *known,
					  struct rp_parser *parser,
					  const struct rp_listener *listener)
{
	int error =
		rp_accept_from(skb, memory, known, listener, &parser->header);

	if (error == -ENOENT)
		return rp_refuse(skb, memory, RP_STAT_HANDLER_FAILED);
	return error ? rp_hand_over(skb, memory, known)
		     : rp_pass_without(skb, memory, known,
				       parser->header.length, parser);
}

/*
 * Did a record find no room, and would this one find none either? Each is tried
 * until there is room for many, when the daemon clears `full`; so only those
 * that come to several CPUs at that very moment get a connection without one.
 */
static __always_inline int rp_is_full(const struct rp_scratch *input)
{
	struct rp_gates *open = rp_gates_now();
	__u64 nobody = 0; /* no socket has this cookie */
	__u32 zero = 0;
	int full;

	if (!open || !open->full)
		return 0;
	full = bpf_map_update_elem(&unrecorded, &nobody, &zero, BPF_ANY) ||
	       bpf_map_update_elem(&connections, &nobody,
				   &input->pending.record, BPF_ANY);
	bpf_map_delete_elem(&connections, &nobody);
	bpf_map_delete_elem(&unrecorded, &nobody);
	return full;
}

static __always_inline int rp_on_first_data(struct __sk_buff *skb,
					    struct rp_workspace *memory,
					    struct rp_handshake *known,
					    struct rp_scratch *input,
					    const struct rp_listener *listener)
{
	struct rp_parser *parser = &input->parser;

	if (rp_is_full(input))
		return rp_refuse(skb, memory, RP_STAT_MAP_FULL);
	switch (rp_parse_payload(skb, &memory->packet, listener, parser)) {
	case RP_HEADER:
		break;
	case RP_INCOMPLETE:
		return rp_hand_over(skb, memory, known);
	case RP_NOT_HEADER:
		if (listener->mode == RP_MODE_REQUIRED)
			return rp_refuse(skb, memory, RP_STAT_NOT_HEADER);
		return rp_accept_plain(skb, memory, known, listener);
	case RP_TOO_LONG:
		return rp_refuse(skb, memory, RP_STAT_TOO_LONG);
	case RP_MALFORMED:
	default:
		return rp_refuse(skb, memory, RP_STAT_MALFORMED);
	}
	if (parser->header.command == RP_COMMAND_PROXY &&
	    !listener->special_source && !rp_source_usable(&parser->header))
		return rp_refuse(skb, memory, RP_STAT_BAD_SOURCE);
	return rp_accept_past(skb, memory, known, parser, listener);
}

static __always_inline int rp_is_late(const struct rp_workspace *memory,
				      const struct rp_listener *listener)
{
	return memory->now - memory->handshake.since >=
	       listener->header_timeout * 1000000ULL;
}

/*
 * Has a segment been assigned a socket, and is this one behind it? Behind a
 * bare ACK the first data stand, and are judged all the same if no socket came.
 */
static __always_inline int rp_is_behind(const struct rp_handshake *handshake,
					const struct rp_packet *packet)
{
	__s32 begin = bpf_ntohl(packet->tcp.seq) - handshake->peer_isn - 1;

	if (!handshake->claim)
		return 0;
	return begin > 0 ||
	       (begin == 0 && handshake->silent &&
		handshake->rounds < ROUNDS_MAX &&
		(packet->payload_len || packet->tcp.fin || packet->tcp.rst));
}

/*
 * A device hands over its packets in lists, and TC sees all of a list before
 * TCP sees the first. What stands behind the one that makes the socket takes
 * one more turn through the device's queue, and finds the socket then. Not for
 * ever, as with a full accept queue there is none.
 */
static __always_inline int rp_send_round(struct __sk_buff *skb,
					 struct rp_handshake *known)
{
	if (known->rounds >= ROUNDS_MAX)
		return TC_ACT_SHOT;
	known->rounds++;
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

/* A segment of a connection whose socket does not exist yet. */
static __always_inline int rp_on_early(struct __sk_buff *skb,
				       struct rp_workspace *memory,
				       struct rp_handshake *known,
				       struct rp_scratch *input,
				       const struct rp_listener *listener)
{
	const struct rp_handshake *handshake = &memory->handshake;
	const struct rp_packet *packet = &memory->packet;

	/* The header is still to come. */
	if (listener->mode == RP_MODE_REQUIRED && !packet->payload_len &&
	    !packet->tcp.fin)
		return TC_ACT_SHOT;
	if (rp_is_behind(handshake, packet))
		return rp_send_round(skb, known);
	/* Out of order, a keep-alive, or of an older connection. */
	if (!packet->tcp.ack ||
	    bpf_ntohl(packet->tcp.seq) != handshake->peer_isn + 1 ||
	    bpf_ntohl(packet->tcp.ack_seq) != handshake->own_isn + 1)
		return TC_ACT_SHOT;
	rp_read_options(skb, packet, &memory->options);
	if (handshake->options & RP_OPTION_TIMESTAMPS &&
	    !(memory->options.have & RP_OPTION_TIMESTAMPS))
		return TC_ACT_SHOT; /* RFC 7323 section 3.2 */
	memory->now = bpf_ktime_get_boot_ns();
	if (!packet->payload_len) {
		if (packet->tcp.fin)
			return rp_refuse(skb, memory, RP_STAT_CLOSED_EARLY);
		if (listener->mode == RP_MODE_ENABLED &&
		    rp_is_late(memory, listener) && rp_has_room_for_silent() &&
		    !rp_is_full(input))
			return rp_accept_plain(skb, memory, known, listener);
		return TC_ACT_SHOT;
	}
	if (handshake->stage == RP_STAGE_CLONED) {
		known->stage = RP_STAGE_JUDGED;
		return TC_ACT_SHOT;
	}
	if (listener->mode == RP_MODE_REQUIRED &&
	    handshake->stage == RP_STAGE_SYN_RECEIVED &&
	    rp_is_late(memory, listener))
		return rp_refuse(skb, memory, RP_STAT_TIMEOUT);
	return rp_on_first_data(skb, memory, known, input, listener);
}

/*
 * A child that nobody judged is reset at its first byte, with a reset that TCP
 * takes, so one that begins there. Until then nothing behind that byte comes
 * through, and what is before it, like a keep-alive, is nothing.
 */
static __always_inline int rp_on_stray(struct __sk_buff *skb,
				       struct rp_workspace *memory)
{
	const struct rp_packet *packet = &memory->packet;
	__s32 begin =
		bpf_ntohl(packet->tcp.seq) - memory->handshake.peer_isn - 1;

	if (begin + (__s32)packet->payload_len <= 0 || !packet->payload_len)
		return TC_ACT_UNSPEC;
	return begin ? TC_ACT_SHOT : rp_abort(skb, memory, RP_STAT_STRAY);
}

/* Or does the stack know of the connection? */
static __always_inline int rp_is_ours(enum rp_stage stage)
{
	return stage == RP_STAGE_SYN_RECEIVED || stage == RP_STAGE_CLONED ||
	       stage == RP_STAGE_JUDGED;
}

/*
 * `known` is the entry itself. Another CPU may give it to another client when
 * the map is full, so what is compared is the copy in `memory`, and a stage or
 * claim that lands in the wrong entry costs that client a retransmission.
 */
static __always_inline int rp_on_segment(struct __sk_buff *skb,
					 struct rp_workspace *memory,
					 struct rp_handshake *known,
					 const struct rp_place *place)
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
	if (!listener) { /* it went, and strays are none any more */
		rp_forget_at(place);
		return TC_ACT_UNSPEC;
	}
	if (packet->tcp.rst && rp_is_ours(stage) &&
	    rp_is_behind(&memory->handshake, packet))
		return rp_send_round(skb, known);
	if (packet->tcp.rst) {
		if (bpf_ntohl(packet->tcp.seq) ==
		    memory->handshake.peer_isn + 1) {
			rp_count(memory->number, RP_STAT_CLOSED_EARLY);
			rp_forget_at(place);
		}
		return rp_is_ours(stage) ? TC_ACT_SHOT : TC_ACT_UNSPEC;
	}
	if (stage == RP_STAGE_DAEMON)
		return TC_ACT_UNSPEC;
	if (stage == RP_STAGE_STRAY)
		return rp_on_stray(skb, memory);
	return rp_on_early(skb, memory, known, input, listener);
}

/*
 * May this be of a connection whose socket does not exist yet, or of a stray?
 * The first acknowledge our SYN-ACK and no more.
 */
static __always_inline int rp_may_be_early(const struct tcphdr *tcp)
{
	struct rp_gates *open = rp_gates_now();

	return tcp->rst || rp_is_marked(bpf_ntohl(tcp->ack_seq) - 1) || !open ||
	       open->strays != open->strays_gone;
}

/*
 * Of a bridge or the like: the packet comes again on the device that has the
 * address, and a socket that it is assigned here would be lost on the way.
 */
static __always_inline int rp_is_port(struct __sk_buff *skb)
{
	struct net_device *device = rp_kernel_skb(skb)->dev;
	const __u32 ports =
		bpf_core_enum_value(enum netdev_priv_flags, IFF_BRIDGE_PORT) |
		bpf_core_enum_value(enum netdev_priv_flags, IFF_OVS_DATAPATH) |
		bpf_core_enum_value(enum netdev_priv_flags,
				    IFF_FAILOVER_SLAVE) |
		bpf_core_enum_value(enum netdev_priv_flags, IFF_TEAM_PORT);

	return !!(BPF_CORE_READ_BITFIELD(device, priv_flags) & ports);
}

/* Was it judged on the device below this one a moment ago? */
static __always_inline int rp_is_assigned(struct __sk_buff *skb)
{
	struct bpf_sock *assigned = skb->sk; /* or still the sender's */

	return assigned && assigned->state == BPF_TCP_NEW_SYN_RECV;
}

static __always_inline int rp_is_of_silent(struct __sk_buff *skb,
					   struct rp_workspace *memory)
{
	struct rp_unspoken unspoken = {0};

	return rp_has_silent() &&
	       rp_is_unspoken(skb, &memory->packet, &memory->reply,
			      &unspoken) &&
	       unspoken.silent;
}

/*
 * A segment with data, or with urgent data to come. Before its first byte a
 * plain client sends plain ones, or none. A function of its own, for hardly
 * any packet comes here.
 */
static __noinline int rp_screen(struct __sk_buff *skb,
				struct rp_workspace *memory)
{
	const struct rp_packet *packet = &memory->packet;
	__u32 seq = bpf_ntohl(packet->tcp.seq), end = seq + packet->payload_len;
	struct rp_unspoken unspoken = {0};
	struct rp_listener *listener;
	int trusted;

	/* It may be put together for a connection that is still to come. */
	if (!packet->fragment &&
	    (!rp_is_unspoken(skb, packet, &memory->reply, &unspoken) ||
	     rp_is_judged(&packet->tuple, &unspoken)))
		return TC_ACT_UNSPEC;
	listener = rp_find_listener(&packet->tuple, &memory->number);
	if (!listener || !rp_is_inline(listener))
		return TC_ACT_UNSPEC;
	trusted = rp_is_trusted(memory->number, packet->tuple.peer);
	if (packet->fragment)
		return trusted && !rp_is_of_silent(skb, memory) ? TC_ACT_UNSPEC
								: TC_ACT_SHOT;
	/*
	 * An urgent byte is not in the stream that the server reads. Of what
	 * begins before the first byte TCP would take the rest.
	 */
	if (packet->hidden || packet->tcp.urg ||
	    ((__s32)(seq - unspoken.seq) < 0 &&
	     (__s32)(end - unspoken.seq) > 0))
		return TC_ACT_SHOT;
	/* Kept back with the first byte, so that it is sent again with it. */
	if (seq != unspoken.seq)
		return rp_find_held(&packet->tuple, &unspoken) ? TC_ACT_SHOT
							       : TC_ACT_UNSPEC;
	if (!rp_is_intact(skb, packet, &memory->summing))
		return TC_ACT_UNSPEC; /* what is damaged the stack drops */
	memory->now = bpf_ktime_get_boot_ns();
	/* The server has been told that this client has no header. */
	if (unspoken.silent)
		return rp_screen_first(skb, memory, listener, &unspoken,
				       RP_STAT_TIMEOUT);
	if (trusted || listener->untrusted == RP_UNTRUSTED_RESET)
		return rp_screen_stray(skb, memory, listener, &unspoken);
	return rp_screen_first(skb, memory, listener, &unspoken,
			       RP_STAT_UNTRUSTED_HEADER);
}

/* Are there sockets of the server's whose first bytes are to be seen? */
static __always_inline int rp_is_screening(const struct rp_settings *now)
{
	return now->screens || rp_has_silent();
}

/* Or those of the daemon's? */
static __always_inline int rp_is_watching(const struct rp_settings *now)
{
	return now->peeks || rp_is_screening(now);
}

/* A segment of a connection that TC has nothing to do with any more, or yet. */
static __always_inline int rp_on_other(struct __sk_buff *skb,
				       struct rp_workspace *memory,
				       const struct rp_settings *now)
{
	const struct rp_packet *packet = &memory->packet;

	if (now->peeks && !packet->hidden)
		rp_peek(skb, packet);
	if (rp_is_screening(now) &&
	    (packet->hidden || packet->payload_len || packet->tcp.urg))
		return rp_screen(skb, memory);
	return TC_ACT_UNSPEC;
}

static __always_inline int rp_on_any_syn(struct __sk_buff *skb,
					 struct rp_workspace *memory)
{
	const struct rp_packet *packet = &memory->packet;
	struct rp_listener *listener;

	listener = rp_find_listener(&packet->tuple, &memory->number);
	if (packet->tcp.ack || packet->tcp.rst || packet->tcp.fin ||
	    !listener || listener->offload != RP_OFFLOAD_ACCEPT ||
	    rp_is_port(skb) || !rp_is_local(skb, packet) ||
	    !rp_is_intact(skb, packet, &memory->summing))
		return TC_ACT_UNSPEC;
	memory->now = bpf_ktime_get_boot_ns();
	return rp_on_syn(skb, memory, listener);
}

/* Of a port that some listener has, and not the first one. */
static __always_inline int rp_on_later(struct __sk_buff *skb,
				       struct rp_workspace *memory,
				       const struct rp_settings *now)
{
	const struct rp_packet *packet = &memory->packet;
	struct rp_handshake *known = NULL;
	struct rp_place place;

	if (rp_may_be_early(&packet->tcp))
		known = rp_find_handshake(&packet->tuple, &place);
	if (!known || known->stage == RP_STAGE_HELD)
		return rp_on_other(skb, memory, now);
	if (rp_is_port(skb) || rp_is_assigned(skb))
		return TC_ACT_UNSPEC;
	memory->handshake = *known;
	if (!rp_is_still(&place))
		return TC_ACT_UNSPEC;
	if (!rp_is_intact(skb, packet, &memory->summing))
		return rp_is_ours(memory->handshake.stage)
			       ? TC_ACT_SHOT
			       : TC_ACT_UNSPEC; /* and the stack drops it */
	return rp_on_segment(skb, memory, known, &place);
}

/*
 * Nearly all segments, of whatever port, leave at the first test, which is of
 * their own bytes.
 */
SEC("tc")
int rp_ingress_accept(struct __sk_buff *skb)
{
	__u32 mac_len = rp_kernel_skb(skb)->mac_len, zero = 0;
	struct rp_settings *now = rp_settings_now();
	struct rp_workspace *memory;
	struct rp_heads heads;
	int seen, watching;

	if (!now)
		return TC_ACT_UNSPEC;
	watching = rp_is_watching(now);
	seen = rp_read_heads(skb, mac_len, &heads);
	if (!watching &&
	    (!seen || (!heads.tcp.syn && !rp_may_be_early(&heads.tcp))))
		return TC_ACT_UNSPEC;
	if (rp_comes_again(skb) ||
	    (seen && !rp_is_listened(bpf_ntohs(heads.tcp.dest))))
		return TC_ACT_UNSPEC;
	memory = bpf_map_lookup_elem(&workspace, &zero);
	if (!memory)
		return TC_ACT_UNSPEC;
	if (!seen)
		return rp_read_hidden(skb, mac_len, &memory->packet)
			       ? rp_on_other(skb, memory, now)
			       : TC_ACT_UNSPEC;
	rp_take_heads(skb, mac_len, &heads, &memory->packet);
	return heads.tcp.syn ? rp_on_any_syn(skb, memory)
			     : rp_on_later(skb, memory, now);
}

char _license[] __weak SEC("license") = "Dual BSD/GPL";
