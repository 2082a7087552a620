/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * packet.h - what the TC programs need to know of a TCP segment, read without
 * touching it, be it in one piece or in fragments of memory.
 */
#ifndef REALPEER_PACKET_H
#define REALPEER_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "listeners.h"

#define PACKET_HOST 0	   /* linux/if_packet.h */
#define IP_FRAGMENT 0x3fff /* MF and the offset, RFC 791 */
#define VLAN_NUMBER 0xfff  /* IEEE 802.1Q */

struct rp_packet {
	struct rp_tuple tuple;
	struct tcphdr tcp;
	__u32 ip; /* offsets from skb->data */
	__u32 transport;
	__u32 payload;
	__u32 payload_len;
	__u8 hidden;   /* 1: nothing but the tuple is known, see hidden.h */
	__u8 fragment; /* 1: and that is why */
	__u8 pad[2];
};

/*
 * Bytes before the IP header: an Ethernet header, or none (tunnels). Should
 * an address of a tunnel's packet look like an Ethernet type, the packet is
 * not recognized, and so left to the stack.
 */
static __always_inline __u32 rp_guess_mac_len(struct __sk_buff *skb)
{
	__be16 type = 0;

	bpf_skb_load_bytes(skb, __builtin_offsetof(struct ethhdr, h_proto),
			   &type, sizeof(type));
	return type == (__be16)skb->protocol ? sizeof(struct ethhdr) : 0;
}

/*
 * Copies a header, straight from the packet's linear part where it is there,
 * as it nearly always is. `off` below 256.
 */
#define rp_load_header(skb, off, ret)                                        \
	({                                                                   \
		__u32 off_ = (off);                                          \
		void *from_ = (void *)(long)(skb)->data;                     \
		int error_ = 0;                                              \
		asm volatile("%0 &= 255" : "+r"(off_));                      \
		from_ += off_;                                               \
		if (from_ + sizeof(*(ret)) <= (void *)(long)(skb)->data_end) \
			*(ret) = *(typeof(ret))from_;                        \
		else                                                         \
			error_ = bpf_skb_load_bytes(skb, off_, ret,          \
						    sizeof(*(ret)));         \
		error_;                                                      \
	})

union rp_ip {
	struct iphdr v4;
	struct ipv6hdr v6;
};

/*
 * The IP header: its length in bytes, and the packet's, or 0 if not ours.
 * Extension headers are left to the stack, and to hidden.h.
 */
static __always_inline __u32 rp_read_ip(struct __sk_buff *skb, __u32 off,
					union rp_ip *ip, __u32 *total)
{
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (rp_load_header(skb, off, &ip->v4) ||
		    ip->v4.protocol != IPPROTO_TCP ||
		    ip->v4.frag_off & bpf_htons(IP_FRAGMENT))
			return 0;
		*total = bpf_ntohs(ip->v4.tot_len);
		if (!*total) /* put together by GRO, above 64 KiB */
			*total = skb->len - off;
		return ip->v4.ihl * 4;
	}
	if (skb->protocol != bpf_htons(ETH_P_IPV6) ||
	    rp_load_header(skb, off, &ip->v6) || ip->v6.nexthdr != IPPROTO_TCP)
		return 0;
	*total = sizeof(ip->v6) + bpf_ntohs(ip->v6.payload_len);
	return sizeof(ip->v6);
}

/* In a VLAN. Number 0 is none, and says but the frame's priority. */
static __always_inline int rp_is_tagged(struct __sk_buff *skb)
{
	return skb->vlan_present && skb->vlan_tci & VLAN_NUMBER;
}

/* A segment's headers, before anything is made of them. */
struct rp_heads {
	union rp_ip ip;
	struct tcphdr tcp;
	__u32 ip_len;
	__u32 total; /* bytes from the IP header on */
};

/* Is there a TCP segment to be seen? Not behind something; see hidden.h. */
static __always_inline int rp_read_heads(struct __sk_buff *skb, __u32 mac_len,
					 struct rp_heads *heads)
{
	heads->ip_len = rp_read_ip(skb, mac_len, &heads->ip, &heads->total);
	return heads->ip_len &&
	       !rp_load_header(skb, mac_len + heads->ip_len, &heads->tcp);
}

/*
 * A tagged frame comes again on its VLAN device, a frame for another station
 * again on the bridge if it is for this host after all.
 */
static __always_inline int rp_comes_again(struct __sk_buff *skb)
{
	return skb->pkt_type != PACKET_HOST || rp_is_tagged(skb);
}

static __always_inline void rp_take_heads(struct __sk_buff *skb, __u32 mac_len,
					  const struct rp_heads *heads,
					  struct rp_packet *packet)
{
	__u32 tcp_end = heads->ip_len + heads->tcp.doff * 4;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		rp_set_v4(packet->tuple.peer, heads->ip.v4.saddr);
		rp_set_v4(packet->tuple.local, heads->ip.v4.daddr);
	} else {
		__builtin_memcpy(packet->tuple.peer, &heads->ip.v6.saddr, 16);
		__builtin_memcpy(packet->tuple.local, &heads->ip.v6.daddr, 16);
	}
	packet->tuple.peer_port = bpf_ntohs(heads->tcp.source);
	packet->tuple.local_port = bpf_ntohs(heads->tcp.dest);
	packet->tcp = heads->tcp;
	packet->ip = mac_len;
	packet->transport = mac_len + heads->ip_len;
	packet->payload = mac_len + tcp_end;
	packet->payload_len =
		heads->total > tcp_end ? heads->total - tcp_end : 0;
	packet->hidden = 0;
	packet->fragment = 0;
}

/*
 * Reads a TCP segment for a port that some listener has. False for anything
 * else, and that quickly: this runs for every packet of the host.
 */
static __always_inline int rp_read_packet(struct __sk_buff *skb, __u32 mac_len,
					  struct rp_packet *packet)
{
	struct rp_heads heads;

	if (rp_comes_again(skb) || !rp_read_heads(skb, mac_len, &heads) ||
	    !rp_is_listened(bpf_ntohs(heads.tcp.dest)))
		return 0;
	rp_take_heads(skb, mac_len, &heads, packet);
	return 1;
}

/* A look-up key for bpf_sk*_lookup_tcp(); returns its size. */
static __always_inline __u32 rp_lookup_key(const struct rp_tuple *tuple,
					   __u16 local_port,
					   struct bpf_sock_tuple *key)
{
	if (rp_is_v4(tuple->peer)) {
		__builtin_memcpy(&key->ipv4.saddr, tuple->peer + 12, 4);
		__builtin_memcpy(&key->ipv4.daddr, tuple->local + 12, 4);
		key->ipv4.sport = bpf_htons(tuple->peer_port);
		key->ipv4.dport = bpf_htons(local_port);
		return sizeof(key->ipv4);
	}
	__builtin_memcpy(key->ipv6.saddr, tuple->peer, 16);
	__builtin_memcpy(key->ipv6.daddr, tuple->local, 16);
	key->ipv6.sport = bpf_htons(tuple->peer_port);
	key->ipv6.dport = bpf_htons(local_port);
	return sizeof(key->ipv6);
}

#endif
