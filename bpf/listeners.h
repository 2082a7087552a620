/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * listeners.h - which listener an address and port belong to, and whom it
 * trusts. Reads only what the daemon wrote.
 */
#ifndef REALPEER_LISTENERS_H
#define REALPEER_LISTENERS_H

#include <bpf/bpf_endian.h>

#include "maps.h"

static __always_inline void rp_set_v4(__u8 ip[16], __be32 address)
{
	__builtin_memset(ip, 0, 10);
	ip[10] = 0xff;
	ip[11] = 0xff;
	__builtin_memcpy(ip + 12, &address, 4);
}

static __always_inline int rp_is_v4(const __u8 ip[16])
{
	__u64 high;
	__u32 mid;

	__builtin_memcpy(&high, ip, 8);
	__builtin_memcpy(&mid, ip + 8, 4);
	return high == 0 && mid == bpf_htonl(0xffff);
}

static __always_inline int rp_is_listened(__u16 port)
{
	__u32 word = port / 64;
	__u64 *bits = bpf_map_lookup_elem(&ports, &word);

	return bits && *bits >> (port % 64) & 1;
}

/*
 * The listener for a local address and port, its number in *ret_number: the
 * exact address first, then 0.0.0.0 for IPv4, then ::, which is dual-stack
 * wherever 0.0.0.0 is not a listener of its own.
 */
static __always_inline struct rp_listener *rp_find_listener(
	const struct rp_tuple *tuple, __u32 *ret_number)
{
	struct rp_endpoint key = {.port = tuple->local_port};
	__u32 *number;

	__builtin_memcpy(key.address, tuple->local, sizeof(key.address));
	number = bpf_map_lookup_elem(&endpoints, &key);
	if (!number && rp_is_v4(tuple->local)) {
		__builtin_memset(key.address + 12, 0, 4);
		number = bpf_map_lookup_elem(&endpoints, &key);
	}
	if (!number) {
		__builtin_memset(key.address, 0, sizeof(key.address));
		number = bpf_map_lookup_elem(&endpoints, &key);
	}
	if (!number)
		return NULL;
	*ret_number = *number;
	return bpf_map_lookup_elem(&listeners, number);
}

static __always_inline int rp_is_inline(const struct rp_listener *listener)
{
	return listener->offload == RP_OFFLOAD_ACCEPT &&
	       listener->delivery == RP_DELIVERY_INLINE;
}

static __always_inline int rp_is_trusted(__u32 listener, const __u8 peer[16])
{
	struct rp_trusted key = {.prefixlen = 32 + 128, .listener = listener};

	__builtin_memcpy(key.address, peer, sizeof(key.address));
	return bpf_map_lookup_elem(&trusted, &key) != NULL;
}

#endif
