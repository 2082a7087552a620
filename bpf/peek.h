/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * peek.h - offload peek: what the header of a connection's first data segment
 * says, kept for sockops and the daemon.
 *
 * Never changes, delays or drops a packet: the record is a claim until the
 * daemon has seen the bytes.
 */
#ifndef REALPEER_PEEK_H
#define REALPEER_PEEK_H

#include "record.h"

/* Cheap and true of nearly all other segments: no signature starts so. */
static __always_inline int rp_may_be_header(struct __sk_buff *skb,
					    const struct rp_packet *packet)
{
	__u8 first;

	if (bpf_skb_load_bytes(skb, packet->payload, &first, sizeof(first)))
		return 0;
	return first == rp_v1_start[0][0] || first == rp_v2_signature[0];
}

/*
 * True unless there is a full socket for the tuple. Data may come with the
 * very packet that creates the socket, or in one NAPI batch with it: then the
 * lookup gives a request socket, or the listener (SYN cookies).
 */
static __always_inline int rp_has_no_socket(struct __sk_buff *skb,
					    const struct rp_tuple *tuple)
{
	struct bpf_sock_tuple key = {0};
	__u32 size = rp_lookup_key(tuple, tuple->local_port, &key);
	struct bpf_sock *socket;
	int none;

	socket = bpf_skc_lookup_tcp(skb, &key, size, BPF_F_CURRENT_NETNS, 0);
	if (!socket)
		return 0;
	none = socket->state == BPF_TCP_NEW_SYN_RECV ||
	       socket->state == BPF_TCP_LISTEN;
	bpf_sk_release(socket);
	return none;
}

/*
 * The socket closes on another CPU, perhaps just now: sockops deletes
 * `awaiting` first and the record second, so whoever still finds the entry
 * knows that the deletion of the record is to come.
 */
static __always_inline void rp_record_socket(__u64 cookie,
					     const struct rp_tuple *tuple,
					     const struct rp_connection *record)
{
	if (bpf_map_update_elem(&connections, &cookie, record, BPF_ANY)) {
		rp_count(record->listener, RP_STAT_MAP_FULL);
		return;
	}
	if (bpf_map_delete_elem(&awaiting, tuple))
		bpf_map_delete_elem(&connections, &cookie);
}

static __always_inline void rp_peek(struct __sk_buff *skb,
				    const struct rp_packet *packet)
{
	__u32 seq = bpf_ntohl(packet->tcp.seq), number = 0, zero = 0;
	struct rp_listener *listener;
	struct rp_awaiting *first;
	struct rp_scratch *memory;

	if (!packet->payload_len || packet->tcp.syn || packet->tcp.rst ||
	    !rp_may_be_header(skb, packet))
		return;
	memory = bpf_map_lookup_elem(&scratch, &zero);
	if (!memory)
		return;
	first = bpf_map_lookup_elem(&awaiting, &packet->tuple);
	if (first ? first->seq != seq : !rp_has_no_socket(skb, &packet->tuple))
		return;
	listener = rp_find_listener(&packet->tuple, &number);
	if (!listener || listener->offload != RP_OFFLOAD_PEEK ||
	    !rp_is_trusted(number, packet->tuple.peer))
		return;

	switch (rp_parse_payload(skb, packet, listener, &memory->parser)) {
	case RP_HEADER:
		break;
	case RP_INCOMPLETE:
	case RP_TOO_LONG:
		rp_count(number, RP_STAT_PEEK_UNDECIDED);
		return;
	case RP_MALFORMED:
		rp_count(number, RP_STAT_PEEK_MALFORMED);
		return;
	case RP_NOT_HEADER:
		return;
	}
	/* Without TLVs: the daemon reads them with the rest of the header. */
	rp_fill_record(packet, number, listener, RP_OFFLOAD_PEEK,
		       &memory->parser.header, &memory->pending.record);
	memory->pending.record.since = bpf_ktime_get_boot_ns();
	rp_count(number, RP_STAT_PEEK_RECORDED);
	if (first) {
		rp_record_socket(first->cookie, &packet->tuple,
				 &memory->pending.record);
		return;
	}
	memory->pending.seq = seq;
	bpf_map_update_elem(&pending, &packet->tuple, &memory->pending,
			    BPF_ANY);
}

#endif
