/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * hidden.h - TCP segments that the stack puts together or finds, but TC does
 * not read: in IP fragments, behind IPv6 extension headers. What is worth
 * knowing of them is whose they are.
 */
#ifndef REALPEER_HIDDEN_H
#define REALPEER_HIDDEN_H

#include "packet.h"

#define IP_OFFSET	 0x1fff /* RFC 791; in units of 8 bytes */
#define IPV6_OFFSET	 0xfff8 /* RFC 8200 section 4.5 */
#define IPV6_HEADERS_MAX 8192	/* more than a packet has room for */

struct rp_walk {
	struct __sk_buff *skb;
	__u32 at;
	__u8 next; /* what stands there, as in the header before it */
	__u8 fragment;
	__u8 later; /* one that is not the first */
};

/* One extension header, RFC 8200 section 4, RFC 4302 section 2. */
static long rp_walk_on(__u32 i, struct rp_walk *walk)
{
	__be16 offset;
	__u8 head[2];

	if (bpf_skb_load_bytes(walk->skb, walk->at, head, sizeof(head)))
		return 1;
	switch (walk->next) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
		walk->at += (head[1] + 1) * 8;
		break;
	case IPPROTO_AH:
		walk->at += (head[1] + 2) * 4;
		break;
	case IPPROTO_FRAGMENT:
		if (bpf_skb_load_bytes(walk->skb, walk->at + 2, &offset,
				       sizeof(offset)))
			return 1;
		walk->fragment = 1;
		walk->later = !!(offset & bpf_htons(IPV6_OFFSET));
		walk->at += 8;
		break;
	default:
		return 1;
	}
	walk->next = head[0];
	return !!walk->later;
}

static __always_inline int rp_has_ports(struct rp_walk *walk,
					struct rp_packet *packet)
{
	__be16 ports[2];

	if (bpf_skb_load_bytes(walk->skb, walk->at, ports, sizeof(ports)) ||
	    !rp_is_listened(bpf_ntohs(ports[1])))
		return 0;
	packet->tuple.peer_port = bpf_ntohs(ports[0]);
	packet->tuple.local_port = bpf_ntohs(ports[1]);
	return 1;
}

static __always_inline int rp_read_hidden_v4(struct __sk_buff *skb,
					     struct rp_walk *walk,
					     struct rp_packet *packet)
{
	struct iphdr ip;

	if (rp_load_header(skb, walk->at, &ip) || ip.protocol != IPPROTO_TCP ||
	    !(ip.frag_off & bpf_htons(IP_FRAGMENT)) ||
	    ip.frag_off & bpf_htons(IP_OFFSET))
		return 0;
	walk->at += ip.ihl * 4;
	packet->fragment = 1;
	rp_set_v4(packet->tuple.peer, ip.saddr);
	rp_set_v4(packet->tuple.local, ip.daddr);
	return rp_has_ports(walk, packet);
}

static __always_inline int rp_read_hidden_v6(struct __sk_buff *skb,
					     struct rp_walk *walk,
					     struct rp_packet *packet)
{
	struct ipv6hdr ip;

	if (rp_load_header(skb, walk->at, &ip) || ip.nexthdr == IPPROTO_TCP ||
	    ip.nexthdr == IPPROTO_UDP || ip.nexthdr == IPPROTO_ICMPV6)
		return 0;
	walk->at += sizeof(ip);
	walk->next = ip.nexthdr;
	__builtin_memcpy(packet->tuple.peer, &ip.saddr, 16);
	__builtin_memcpy(packet->tuple.local, &ip.daddr, 16);
	bpf_loop(IPV6_HEADERS_MAX, rp_walk_on, walk, 0);
	packet->fragment = walk->fragment;
	return walk->next == IPPROTO_TCP && !walk->later &&
	       rp_has_ports(walk, packet);
}

/*
 * Reads the tuple of a segment for a port that some listener has, and nothing
 * else. Only a first fragment has ports; without it the others are nothing, be
 * it dropped now or have come before.
 */
static __always_inline int rp_read_hidden(struct __sk_buff *skb, __u32 mac_len,
					  struct rp_packet *packet)
{
	struct rp_walk walk = {.skb = skb, .at = mac_len};

	__builtin_memset(packet, 0, sizeof(*packet));
	packet->hidden = 1;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return rp_read_hidden_v4(skb, &walk, packet);
	return skb->protocol == bpf_htons(ETH_P_IPV6) &&
	       rp_read_hidden_v6(skb, &walk, packet);
}

#endif
