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

#include "listeners.h"

struct rp_peer {
	__u32 ip[4]; /* network order */
	__u16 port;  /* host order */
};

/*
 * Copies the client that getpeername() on this socket shall tell. The element
 * may be freed, and used again for another connection, while it is read:
 * looking it up once more tells.
 */
static __always_inline int rp_find_client(struct bpf_sock_addr *ctx,
					  struct rp_peer *ret)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct rp_connection *record;

	record = bpf_map_lookup_elem(&connections, &cookie);
	if (!record || !record->shown)
		return 0;
	__builtin_memcpy(ret->ip, record->client, sizeof(ret->ip));
	ret->port = record->client_port;
	return bpf_map_lookup_elem(&connections, &cookie) == record;
}

SEC("cgroup/getpeername4")
int rp_getpeername4(struct bpf_sock_addr *ctx)
{
	struct rp_peer client;

	/* An IPv6 client cannot be told through an AF_INET socket. */
	if (!rp_find_client(ctx, &client) || !rp_is_v4((__u8 *)client.ip))
		return 1;
	ctx->user_ip4 = client.ip[3];
	ctx->user_port = bpf_htons(client.port);
	return 1;
}

SEC("cgroup/getpeername6")
int rp_getpeername6(struct bpf_sock_addr *ctx)
{
	struct rp_peer client;

	if (!rp_find_client(ctx, &client))
		return 1;
	ctx->user_ip6[0] = client.ip[0];
	ctx->user_ip6[1] = client.ip[1];
	ctx->user_ip6[2] = client.ip[2];
	ctx->user_ip6[3] = client.ip[3];
	ctx->user_port = bpf_htons(client.port);
	return 1;
}

char _license[] __weak SEC("license") = "Dual BSD/GPL";
