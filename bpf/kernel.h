/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * kernel.h - the few things of the kernel's own that the programs need and
 * that are in no UAPI header. Field offsets come from the running kernel's
 * BTF.
 */
#ifndef REALPEER_KERNEL_H
#define REALPEER_KERNEL_H

#include <linux/types.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* include/linux/netdevice.h */
enum netdev_priv_flags {
	IFF_BRIDGE_PORT = 1 << 9,
	IFF_OVS_DATAPATH = 1 << 10,
	IFF_TEAM_PORT = 1 << 13,
	IFF_FAILOVER_SLAVE = 1 << 28,
};

struct net_device {
	unsigned long priv_flags : 32;
} __attribute__((preserve_access_index));

/* include/linux/skbuff.h */
struct sk_buff {
	struct net_device *dev;
	__u16 mac_len;
	__u8 ip_summed : 2;
} __attribute__((preserve_access_index));

#define CHECKSUM_UNNECESSARY 1
#define CHECKSUM_COMPLETE    2
#define CHECKSUM_PARTIAL     3

/* include/net/tcp.h, 6.9; the kfunc checks the size */
struct bpf_tcp_req_attrs {
	__u32 rcv_tsval;
	__u32 rcv_tsecr;
	__u16 mss;
	__u8 rcv_wscale;
	__u8 snd_wscale;
	__u8 ecn_ok;
	__u8 wscale_ok;
	__u8 sack_ok;
	__u8 tstamp_ok;
	__u8 usec_ts_ok;
	__u8 reserved[3];
};

/*
 * include/net/sock.h. It has to be complete, or libbpf would find that the
 * kfunc's prototype is another one.
 */
struct sock_common {
	unsigned long skc_flags;
	struct {
		__s64 counter;
	} skc_cookie; /* atomic64_t; 0 until somebody asked for it */
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket; /* NULL until accept() */
	int sk_rcvbuf;
} __attribute__((preserve_access_index));

#define SOCK_DEAD 0 /* bit of skc_flags: after close() */

/* include/net/inet_sock.h, inet_connection_sock.h, include/linux/tcp.h */
struct inet_sock {
	struct sock sk;
	__be16 inet_sport; /* stays when the socket is closed */
} __attribute__((preserve_access_index));

struct inet_connection_sock {
	struct inet_sock icsk_inet;
} __attribute__((preserve_access_index));

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 rcv_nxt;
	__u64 bytes_received;
} __attribute__((preserve_access_index));

struct tcp_request_sock {
	__u32 rcv_isn;
} __attribute__((preserve_access_index));

/*
 * Makes TCP take this packet, an ACK, for one with a valid SYN cookie: `sk`
 * gets a child with these attributes, whose receive sequence starts at the
 * packet's. Fails for MPTCP listeners, and for options whose sysctl is off.
 */
extern int bpf_sk_assign_tcp_reqsk(struct __sk_buff *skb, struct sock *sk,
				   struct bpf_tcp_req_attrs *attrs,
				   int attrs__sz) __ksym __weak;

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;

static __always_inline struct sk_buff *rp_kernel_skb(struct __sk_buff *skb)
{
	return bpf_cast_to_kern_ctx(skb);
}

static __always_inline int rp_how_summed(struct __sk_buff *skb)
{
	return BPF_CORE_READ_BITFIELD(rp_kernel_skb(skb), ip_summed);
}

#endif
