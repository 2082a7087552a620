/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * peername.bpf.c - makes getpeername() and accept() tell the real client.
 *
 * inet_getname() runs these hooks for both calls, in the cgroup of the
 * socket. They read one map and never fail a call.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "kernel.h"
#include "listeners.h"

enum rp_known {
	RP_KNOWN_NOT,	 /* not a connection of ours */
	RP_KNOWN_CLIENT, /* the address is in struct rp_peer */
	RP_KNOWN_NOBODY, /* its record found no room, or is gone */
};

#define AF_INET	 2
#define AF_INET6 10

struct rp_peer {
	__u32 ip[4]; /* network order */
	__u16 port;  /* host order */
};

/*
 * A connection that was over before accept(): this is accept(), which comes
 * once, and getpeername() says nothing of a closed socket.
 */
static __always_inline void rp_forget_orphan(__u64 cookie, __u64 tlvs_key)
{
	if (tlvs_key)
		bpf_map_delete_elem(&tlvs, &tlvs_key);
	bpf_map_delete_elem(&connections, &cookie);
	bpf_map_delete_elem(&orphans, &cookie);
}

/*
 * accept() of a connection to an inline listener that ended just now, when the
 * server had it already, but not its address: the record went with it.
 */
static __always_inline int rp_ended_meanwhile(struct bpf_sock_addr *ctx,
					      int family)
{
	struct rp_listener *listener;
	struct rp_tuple tuple = {0};
	__u32 *local = (__u32 *)tuple.local, *peer = (__u32 *)tuple.peer;
	__u32 number;
	struct bpf_sock *socket = ctx->sk;
	struct tcp_sock *tcp;

	if (!socket || socket->state != BPF_TCP_CLOSE)
		return 0;
	tcp = bpf_skc_to_tcp_sock(socket);
	if (!tcp)
		return 0;
	tuple.local_port = bpf_ntohs(tcp->inet_conn.icsk_inet.inet_sport);
	if (!rp_is_listened(tuple.local_port))
		return 0;
	if (family == AF_INET) {
		rp_set_v4(tuple.local, socket->src_ip4);
		rp_set_v4(tuple.peer, socket->dst_ip4);
	} else {
		local[0] = socket->src_ip6[0];
		local[1] = socket->src_ip6[1];
		local[2] = socket->src_ip6[2];
		local[3] = socket->src_ip6[3];
		peer[0] = socket->dst_ip6[0];
		peer[1] = socket->dst_ip6[1];
		peer[2] = socket->dst_ip6[2];
		peer[3] = socket->dst_ip6[3];
	}
	listener = rp_find_listener(&tuple, &number);
	if (!listener || !rp_is_inline(listener))
		return 0;
	/* A plain client never had a record, and its own address is right. */
	return listener->untrusted != RP_UNTRUSTED_DIRECT ||
	       rp_is_trusted(number, tuple.peer);
}

static __always_inline enum rp_known rp_find_nobody(struct bpf_sock_addr *ctx,
						    int family, __u64 cookie)
{
	struct rp_gates *open = rp_gates_now();

	return (open && open->unrecorded &&
		bpf_map_lookup_elem(&unrecorded, &cookie)) ||
			       rp_ended_meanwhile(ctx, family)
		       ? RP_KNOWN_NOBODY
		       : RP_KNOWN_NOT;
}

/*
 * Copies the client that getpeername() on this socket shall tell. The element
 * may be freed, and used again for another connection, while it is read:
 * looking it up once more tells.
 */
static __always_inline enum rp_known rp_find_client(struct bpf_sock_addr *ctx,
						    int family,
						    struct rp_peer *ret)
{
	__u64 cookie = bpf_get_socket_cookie(ctx), tlvs_key;
	struct rp_connection *record;
	__u8 closed;

	record = bpf_map_lookup_elem(&connections, &cookie);
	if (!record)
		return rp_find_nobody(ctx, family, cookie);
	if (!record->shown)
		return RP_KNOWN_NOT;
	__builtin_memcpy(ret->ip, record->client, sizeof(ret->ip));
	ret->port = record->client_port;
	closed = record->closed;
	tlvs_key = record->tlvs;
	if (bpf_map_lookup_elem(&connections, &cookie) != record)
		return RP_KNOWN_NOT;
	if (closed)
		rp_forget_orphan(cookie, tlvs_key);
	return RP_KNOWN_CLIENT;
}

SEC("cgroup/getpeername4")
int rp_getpeername4(struct bpf_sock_addr *ctx)
{
	struct rp_peer client = {0};
	enum rp_known known = rp_find_client(ctx, AF_INET, &client);

	/* An IPv6 client cannot be told through an AF_INET socket. */
	if (known == RP_KNOWN_NOT ||
	    (known == RP_KNOWN_CLIENT && !rp_is_v4((__u8 *)client.ip)))
		return 1;
	ctx->user_ip4 = client.ip[3];
	ctx->user_port = bpf_htons(client.port);
	return 1;
}

SEC("cgroup/getpeername6")
int rp_getpeername6(struct bpf_sock_addr *ctx)
{
	struct rp_peer client = {0};

	if (rp_find_client(ctx, AF_INET6, &client) == RP_KNOWN_NOT)
		return 1;
	ctx->user_ip6[0] = client.ip[0];
	ctx->user_ip6[1] = client.ip[1];
	ctx->user_ip6[2] = client.ip[2];
	ctx->user_ip6[3] = client.ip[3];
	ctx->user_port = bpf_htons(client.port);
	return 1;
}

char _license[] __weak SEC("license") = "Dual BSD/GPL";
