/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * reply.h - turns a received TCP packet into its answer, or into the bare ACK
 * that the stack shall see in its place.
 */
#ifndef REALPEER_REPLY_H
#define REALPEER_REPLY_H

#include <linux/pkt_cls.h>

#include "checksum.h"
#include "options.h"

#define REPLY_TTL	 64
#define LOOPBACK_IFINDEX 1

struct rp_segment {
	struct tcphdr tcp;
	__be32 options[10];
};

/* One behind the other, as they stand in a packet. */
struct rp_reply {
	union {
		struct ipv6hdr ip6;
		struct {
			__u8 unused[sizeof(struct ipv6hdr) -
				    sizeof(struct iphdr)];
			struct iphdr ip4;
		};
	};
	struct rp_segment segment;
	__u32 len; /* bytes of the segment, options included */
};

_Static_assert(__builtin_offsetof(struct rp_reply, segment) ==
		       sizeof(struct ipv6hdr),
	       "no gap");

/* The sum of the segment's own words. */
static __always_inline __u64 rp_sum_segment(const struct rp_reply *reply)
{
	__u64 sum = rp_sum_words(&reply->segment.tcp,
				 sizeof(reply->segment.tcp) / 4);

	for (__u32 i = 0; i < sizeof(reply->segment.options) / 4; i++) {
		if (sizeof(struct tcphdr) + 4 * i < reply->len)
			sum += reply->segment.options[i];
	}
	return sum;
}

/*
 * Sets the checksum of a segment between the ends of `tuple`. With `partial`
 * only the pseudo-header's sum: a device adds the rest.
 */
static __always_inline void rp_checksum(struct rp_reply *reply,
					const struct rp_tuple *tuple,
					int partial)
{
	__u64 sum = rp_sum_pseudo(tuple, reply->len);

	reply->segment.tcp.check = 0;
	if (partial)
		reply->segment.tcp.check = rp_fold(sum);
	else
		reply->segment.tcp.check =
			~rp_fold(sum + rp_sum_segment(reply));
}

static __always_inline int rp_swap_mac(struct __sk_buff *skb)
{
	__u8 from[12], to[12];

	if (bpf_skb_load_bytes(skb, 0, from, sizeof(from)))
		return -1;
	__builtin_memcpy(to, from + 6, 6);
	__builtin_memcpy(to + 6, from, 6);
	return bpf_skb_store_bytes(skb, 0, to, sizeof(to), 0);
}

static __always_inline void rp_set_ip4_len(struct iphdr *ip, __u32 len)
{
	ip->tot_len = bpf_htons(len);
	ip->check = 0;
	ip->check = ~rp_fold(rp_sum_words(ip, sizeof(*ip) / 4));
}

static __always_inline void rp_make_ip(const struct rp_packet *packet,
				       struct rp_reply *reply)
{
	if (rp_is_v4(packet->tuple.peer)) {
		struct iphdr *ip = &reply->ip4;

		__builtin_memset(ip, 0, sizeof(*ip));
		ip->version = 4;
		ip->ihl = sizeof(*ip) / 4;
		ip->frag_off = bpf_htons(0x4000); /* DF, RFC 791 */
		ip->ttl = REPLY_TTL;
		ip->protocol = IPPROTO_TCP;
		__builtin_memcpy(&ip->saddr, packet->tuple.local + 12, 4);
		__builtin_memcpy(&ip->daddr, packet->tuple.peer + 12, 4);
		rp_set_ip4_len(ip, sizeof(*ip) + reply->len);
		return;
	}
	struct ipv6hdr *ip = &reply->ip6;

	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 6;
	ip->payload_len = bpf_htons(reply->len);
	ip->nexthdr = IPPROTO_TCP;
	ip->hop_limit = REPLY_TTL;
	__builtin_memcpy(&ip->saddr, packet->tuple.local, 16);
	__builtin_memcpy(&ip->daddr, packet->tuple.peer, 16);
}

/* Both headers, of a packet without IP options, at once. */
static __always_inline int rp_load_heads(struct __sk_buff *skb,
					 const struct rp_packet *packet,
					 struct rp_reply *reply)
{
	__u32 len = reply->len;

	asm volatile("%0 &= 63" : "+r"(len));
	if (len < sizeof(struct tcphdr) || len > sizeof(struct rp_segment))
		return -1;
	if (rp_is_v4(packet->tuple.peer))
		return bpf_skb_load_bytes(skb, packet->ip, &reply->ip4,
					  sizeof(reply->ip4) + len);
	return bpf_skb_load_bytes(skb, packet->ip, &reply->ip6,
				  sizeof(reply->ip6) + len);
}

/* And back, `skip` bytes further on. */
static __always_inline int rp_store_heads(struct __sk_buff *skb,
					  const struct rp_packet *packet,
					  struct rp_reply *reply, __u32 skip)
{
	__u32 len = reply->len;

	asm volatile("%0 &= 63" : "+r"(len));
	if (len < sizeof(struct tcphdr) || len > sizeof(struct rp_segment))
		return -1;
	if (rp_is_v4(packet->tuple.peer))
		return bpf_skb_store_bytes(skb, packet->ip + skip, &reply->ip4,
					   sizeof(reply->ip4) + len, 0);
	return bpf_skb_store_bytes(skb, packet->ip + skip, &reply->ip6,
				   sizeof(reply->ip6) + len, 0);
}

/*
 * Sends reply->segment, of reply->len bytes with ports still to be set, back
 * to where the packet came from, in the packet's own memory.
 */
static __always_inline int rp_send_reply(struct __sk_buff *skb,
					 const struct rp_packet *packet,
					 struct rp_reply *reply)
{
	__u32 end = packet->transport + reply->len;

	reply->segment.tcp.source = packet->tcp.dest;
	reply->segment.tcp.dest = packet->tcp.source;
	reply->segment.tcp.doff = reply->len / 4;
	rp_checksum(reply, &packet->tuple,
		    rp_how_summed(skb) == CHECKSUM_PARTIAL);
	rp_make_ip(packet, reply);
	/*
	 * Of this length already, as a SYN mostly is? Else the change also
	 * drops what GSO knew of the packet.
	 */
	if (((skb->len != end || skb->gso_size) &&
	     bpf_skb_change_tail(skb, end, 0)) ||
	    rp_store_heads(skb, packet, reply, 0))
		return TC_ACT_SHOT;
	if (packet->ip == ETH_HLEN && skb->ifindex != LOOPBACK_IFINDEX &&
	    rp_swap_mac(skb))
		return TC_ACT_SHOT;
	return bpf_redirect(skb->ifindex, 0);
}

/* Without IP options: an answer has none, so its length would differ. */
static __always_inline int rp_has_plain_ip(const struct rp_packet *packet)
{
	return packet->transport - packet->ip ==
	       (rp_is_v4(packet->tuple.peer) ? sizeof(struct iphdr)
					     : sizeof(struct ipv6hdr));
}

/* RFC 9293 section 3.10.7.1: what answers a segment for no connection. */
static __always_inline int rp_send_reset(struct __sk_buff *skb,
					 const struct rp_packet *packet,
					 struct rp_reply *reply)
{
	struct tcphdr *tcp = &reply->segment.tcp;

	if (!rp_has_plain_ip(packet))
		return TC_ACT_SHOT;
	__builtin_memset(tcp, 0, sizeof(*tcp));
	tcp->rst = 1;
	if (packet->tcp.ack) {
		tcp->seq = packet->tcp.ack_seq;
	} else {
		tcp->ack = 1;
		tcp->ack_seq =
			bpf_htonl(bpf_ntohl(packet->tcp.seq) + packet->tcp.syn +
				  packet->tcp.fin + packet->payload_len);
	}
	reply->len = sizeof(*tcp);
	return rp_send_reply(skb, packet, reply);
}

static __always_inline int rp_cut_ip(struct __sk_buff *skb,
				     const struct rp_packet *packet,
				     __u32 tcp_len)
{
	__u32 at = packet->ip + __builtin_offsetof(struct iphdr, tot_len);
	__be16 now, old;

	if (rp_is_v4(packet->tuple.peer)) {
		/* A valid IPv4 header sums to nothing, before and after. */
		now = bpf_htons(packet->transport - packet->ip + tcp_len);
		if (bpf_skb_load_bytes(skb, at, &old, sizeof(old)) ||
		    bpf_skb_store_bytes(skb, at, &now, sizeof(now), 0))
			return -1;
		at = packet->ip + __builtin_offsetof(struct iphdr, check);
		return bpf_l3_csum_replace(skb, at, old, now, sizeof(now));
	}
	at = packet->ip + __builtin_offsetof(struct ipv6hdr, payload_len);
	now = bpf_htons(tcp_len);
	return bpf_skb_store_bytes(skb, at, &now, sizeof(now),
				   BPF_F_RECOMPUTE_CSUM);
}

/*
 * Cuts the packet, which has a payload, down to a bare ACK, or to a reset,
 * whose sequence number is `skip` bytes further. Its TCP options stay. What a
 * device summed up (CHECKSUM_COMPLETE) the kernel forgets when it cuts off the
 * payload; should one keep it for the rest, BPF_F_RECOMPUTE_CSUM keeps it true.
 */
static __always_inline int rp_cut(struct __sk_buff *skb,
				  const struct rp_packet *packet, __u32 skip,
				  int reset, struct rp_reply *reply)
{
	__u32 len = packet->tcp.doff * 4;
	struct tcphdr *tcp = &reply->segment.tcp;

	asm volatile("%0 &= 63" : "+r"(len));
	if (len < sizeof(*tcp) || len > sizeof(struct rp_segment) ||
	    bpf_skb_load_bytes(skb, packet->transport, &reply->segment, len))
		return -1;
	tcp->seq = bpf_htonl(bpf_ntohl(tcp->seq) + skip);
	tcp->rst = reset;
	tcp->psh = 0;
	tcp->fin = 0;
	tcp->urg = 0;
	reply->len = len;
	rp_checksum(reply, &packet->tuple, 0);
	if (bpf_skb_change_tail(skb, packet->transport + len, 0))
		return -1;
	if (bpf_skb_store_bytes(skb, packet->transport, &reply->segment, len,
				BPF_F_RECOMPUTE_CSUM))
		return -1;
	return rp_cut_ip(skb, packet, len);
}

/*
 * One segment, not several in one (GSO), with something behind the header.
 * A header of odd length would turn a device's sum over the whole packet.
 */
static __always_inline int rp_can_strip(struct __sk_buff *skb,
					const struct rp_packet *packet,
					__u32 length)
{
	return packet->payload_len > length && length <= CHECKSUM_CHUNK &&
	       !skb->gso_size && rp_how_summed(skb) != CHECKSUM_COMPLETE &&
	       rp_has_plain_ip(packet);
}

/* Of bytes of parser->data, filled up with zeros to whole words. */
static __always_inline __u32 rp_sum_data(struct rp_parser *parser, __u32 from,
					 __u32 len)
{
	__u32 size = (len + 3) & ~3U;

	for (__u32 i = 0; i < 3; i++)
		parser->data[rp_index(from + len + i, RP_KERNEL_HEADER_MAX)] =
			0;
	asm volatile("%0 &= 1023" : "+r"(from));
	asm volatile("%0 &= 1023" : "+r"(size));
	if (size > CHECKSUM_CHUNK)
		return 0;
	return bpf_csum_diff(NULL, 0, (__be32 *)(parser->data + from), size, 0);
}

/*
 * The sum of what is behind the header, from what all of the segment adds up
 * to (RFC 1624): no byte of it is read.
 */
static __always_inline __u16 rp_sum_behind(const struct rp_packet *packet,
					   const struct rp_reply *reply,
					   __u32 skip, struct rp_parser *parser)
{
	__u16 rest = ~rp_fold(rp_sum_segment(reply) +
			      rp_sum_pseudo(&packet->tuple,
					    reply->len + packet->payload_len) +
			      rp_sum_data(parser, 0, skip));

	return skip & 1 ? rest << 8 | rest >> 8 : rest;
}

/* The same by reading it, where a device was to do the sum. */
static __always_inline int rp_read_sum_behind(
	struct __sk_buff *skb, const struct rp_packet *packet, __u32 skip,
	struct rp_parser *parser, struct rp_summing *memory, __u16 *ret_sum)
{
	struct rp_sum sum = {
		.skb = skb,
		.memory = memory,
		.at = packet->payload + skip,
		.left = packet->payload_len - skip,
	};

	/* The parser may have all of it already. */
	if (packet->payload_len == parser->len && sum.left <= CHECKSUM_CHUNK) {
		*ret_sum = rp_fold(rp_sum_data(parser, skip, sum.left));
		return 0;
	}
	bpf_loop(SEGMENT_MAX / CHECKSUM_CHUNK, rp_sum_chunk, &sum, 0);
	*ret_sum = rp_fold((__u32)sum.sum);
	return sum.left ? -1 : 0;
}

/*
 * Takes the payload's first `skip` bytes, which are parser->data, out of a
 * packet of one segment: its headers move up to what comes behind. The kernel
 * then takes the checksum for complete, even where a device was to do it.
 */
static __always_inline int rp_strip(struct __sk_buff *skb,
				    const struct rp_packet *packet, __u32 skip,
				    struct rp_reply *reply,
				    struct rp_parser *parser,
				    struct rp_summing *memory)
{
	struct tcphdr *tcp = &reply->segment.tcp;
	__u32 total = packet->tcp.doff * 4 + packet->payload_len - skip;
	__u16 rest;

	reply->len = packet->tcp.doff * 4;
	if (rp_load_heads(skb, packet, reply))
		return -1;
	if (rp_how_summed(skb) != CHECKSUM_PARTIAL)
		rest = rp_sum_behind(packet, reply, skip, parser);
	else if (rp_read_sum_behind(skb, packet, skip, parser, memory, &rest))
		return -1;
	tcp->seq = bpf_htonl(bpf_ntohl(tcp->seq) + skip);
	tcp->check = 0;
	tcp->check = ~rp_fold(rp_sum_segment(reply) +
			      rp_sum_pseudo(&packet->tuple, total) + rest);
	if (rp_is_v4(packet->tuple.peer))
		rp_set_ip4_len(&reply->ip4, sizeof(reply->ip4) + total);
	else
		reply->ip6.payload_len = bpf_htons(total);
	if (rp_store_heads(skb, packet, reply, skip))
		return -1;
	return bpf_skb_adjust_room(skb, -(__s32)skip, BPF_ADJ_ROOM_MAC,
				   BPF_F_ADJ_ROOM_NO_CSUM_RESET);
}

#endif
