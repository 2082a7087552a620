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

struct rp_reply {
	struct rp_segment segment;
	__u32 len; /* bytes of it, options included */
	struct rp_pseudo pseudo;
	union {
		struct iphdr ip4;
		struct ipv6hdr ip6;
	};
};

/*
 * Sets the checksum of a segment from `source` to `destination`. With
 * `partial` only the pseudo-header's sum: a device adds the rest.
 */
static __always_inline void rp_checksum(struct rp_reply *reply,
					const __u8 *source,
					const __u8 *destination, int partial)
{
	__u32 len = reply->len;
	__s64 sum;

	reply->segment.tcp.check = 0;
	sum = rp_sum_pseudo(&reply->pseudo, source, destination, len);
	if (partial) {
		reply->segment.tcp.check = rp_fold(sum);
		return;
	}
	asm volatile("%0 &= 60" : "+r"(len));
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&reply->segment, len, sum);
	reply->segment.tcp.check = ~rp_fold(sum);
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

static __always_inline int rp_write_ip(struct __sk_buff *skb,
				       const struct rp_packet *packet,
				       struct rp_reply *reply)
{
	if (rp_is_v4(packet->tuple.peer)) {
		struct iphdr *ip = &reply->ip4;

		__builtin_memset(ip, 0, sizeof(*ip));
		ip->version = 4;
		ip->ihl = sizeof(*ip) / 4;
		ip->tot_len = bpf_htons(sizeof(*ip) + reply->len);
		ip->frag_off = bpf_htons(0x4000); /* DF, RFC 791 */
		ip->ttl = REPLY_TTL;
		ip->protocol = IPPROTO_TCP;
		__builtin_memcpy(&ip->saddr, packet->tuple.local + 12, 4);
		__builtin_memcpy(&ip->daddr, packet->tuple.peer + 12, 4);
		ip->check = ~rp_fold(
			bpf_csum_diff(NULL, 0, (__be32 *)ip, sizeof(*ip), 0));
		return bpf_skb_store_bytes(skb, packet->ip, ip, sizeof(*ip), 0);
	}
	struct ipv6hdr *ip = &reply->ip6;

	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 6;
	ip->payload_len = bpf_htons(reply->len);
	ip->nexthdr = IPPROTO_TCP;
	ip->hop_limit = REPLY_TTL;
	__builtin_memcpy(&ip->saddr, packet->tuple.local, 16);
	__builtin_memcpy(&ip->daddr, packet->tuple.peer, 16);
	return bpf_skb_store_bytes(skb, packet->ip, ip, sizeof(*ip), 0);
}

/*
 * Sends reply->segment, of reply->len bytes with ports still to be set, back
 * to where the packet came from, in the packet's own memory.
 */
static __always_inline int rp_send_reply(struct __sk_buff *skb,
					 const struct rp_packet *packet,
					 struct rp_reply *reply)
{
	struct sk_buff *kernel_skb = rp_kernel_skb(skb);
	__u32 len = reply->len;
	int partial = BPF_CORE_READ_BITFIELD(kernel_skb, ip_summed) ==
		      CHECKSUM_PARTIAL;

	reply->segment.tcp.source = packet->tcp.dest;
	reply->segment.tcp.dest = packet->tcp.source;
	reply->segment.tcp.doff = reply->len / 4;
	rp_checksum(reply, packet->tuple.local, packet->tuple.peer, partial);

	/* Also drops what GSO knew of the packet, and makes it ours alone. */
	if (bpf_skb_change_tail(skb, packet->transport + reply->len, 0) ||
	    rp_write_ip(skb, packet, reply))
		return TC_ACT_SHOT;
	asm volatile("%0 &= 63" : "+r"(len));
	if (len < sizeof(struct tcphdr) || len > sizeof(struct rp_segment) ||
	    bpf_skb_store_bytes(skb, packet->transport, &reply->segment, len,
				0))
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
 * Cuts the packet down to a bare ACK, or to a reset, whose sequence number is
 * `skip` bytes further. Its TCP options stay, and skb->csum is kept true for
 * devices that give CHECKSUM_COMPLETE.
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
	rp_checksum(reply, packet->tuple.peer, packet->tuple.local, 0);
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
	int summed = BPF_CORE_READ_BITFIELD(rp_kernel_skb(skb), ip_summed);

	return packet->payload_len > length && !skb->gso_size &&
	       summed != CHECKSUM_COMPLETE && rp_has_plain_ip(packet);
}

/* The TCP header for a segment without its first `skip` bytes of payload. */
static __always_inline int rp_head_without(struct __sk_buff *skb,
					   const struct rp_packet *packet,
					   __u32 skip, __u32 len,
					   struct rp_reply *reply,
					   struct rp_summing *memory)
{
	struct tcphdr *tcp = &reply->segment.tcp;
	struct rp_sum sum = {
		.skb = skb,
		.memory = memory,
		.at = packet->payload + skip,
		.left = packet->payload_len - skip,
	};

	if (bpf_skb_load_bytes(skb, packet->transport, &reply->segment, len))
		return -1;
	tcp->seq = bpf_htonl(bpf_ntohl(tcp->seq) + skip);
	tcp->check = 0;
	sum.sum = rp_sum_pseudo(&memory->pseudo, packet->tuple.peer,
				packet->tuple.local, len + sum.left);
	sum.sum =
		bpf_csum_diff(NULL, 0, (__be32 *)&reply->segment, len, sum.sum);
	bpf_loop(SEGMENT_MAX / CHECKSUM_CHUNK, rp_sum_chunk, &sum, 0);
	tcp->check = ~rp_fold(sum.sum);
	return sum.left ? -1 : 0;
}

/*
 * Takes the payload's first `skip` bytes out of a packet of one segment: its
 * headers move up to what comes behind.
 */
static __always_inline int rp_strip(struct __sk_buff *skb,
				    const struct rp_packet *packet, __u32 skip,
				    struct rp_reply *reply,
				    struct rp_summing *memory)
{
	__u32 len = packet->tcp.doff * 4, ip_len;
	__u32 total = packet->payload_len - skip;
	int v4 = rp_is_v4(packet->tuple.peer);

	asm volatile("%0 &= 63" : "+r"(len));
	if (len < sizeof(struct tcphdr) || len > sizeof(struct rp_segment) ||
	    rp_head_without(skb, packet, skip, len, reply, memory))
		return -1;
	total += len;
	ip_len = v4 ? sizeof(reply->ip4) : sizeof(reply->ip6);
	if (bpf_skb_load_bytes(skb, packet->ip, &reply->ip4, ip_len))
		return -1;
	if (v4) {
		reply->ip4.tot_len = bpf_htons(ip_len + total);
		reply->ip4.check = 0;
		reply->ip4.check = ~rp_fold(bpf_csum_diff(
			NULL, 0, (__be32 *)&reply->ip4, sizeof(reply->ip4), 0));
	} else {
		reply->ip6.payload_len = bpf_htons(total);
	}
	if (bpf_skb_store_bytes(skb, packet->transport + skip, &reply->segment,
				len, BPF_F_RECOMPUTE_CSUM) ||
	    bpf_skb_store_bytes(skb, packet->ip + skip, &reply->ip4, ip_len,
				BPF_F_RECOMPUTE_CSUM))
		return -1;
	return bpf_skb_adjust_room(skb, -(__s32)skip, BPF_ADJ_ROOM_MAC,
				   BPF_F_ADJ_ROOM_NO_CSUM_RESET);
}

#endif
