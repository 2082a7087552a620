/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * maps.h - every map of the kernel part. The layouts of keys and values are
 * in realpeer/abi.h; ARCHITECTURE.md draws how they hang together.
 *
 * The definitions are weak so that each program file includes them all and
 * the linker keeps one of each.
 */
#ifndef REALPEER_MAPS_H
#define REALPEER_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "realpeer/abi.h"

/*
 * Who is connected. Not LRU: a live connection never loses its record. Sized
 * by the daemon, and preallocated: memory that has just been given back is
 * the cheapest to write to.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, RP_CONNECTIONS_LEAST);
	__type(key, __u64);
	__type(value, struct rp_connection);
} connections __weak SEC(".maps");

/* What their headers said beside addresses, for those that said more. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, RP_TLVS_MAX);
	__type(key, __u64);
	__type(value, struct rp_tlvs);
} tlvs __weak SEC(".maps");

/* Records whose socket closed in the accept queue, and when; CLOCK_BOOTTIME. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u64);
} orphans __weak SEC(".maps");

/* Sockets whose record found no room: their client is nobody that we know. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u32);
} unrecorded __weak SEC(".maps");

/* Sockets of the server's whose clients were silent at header_timeout. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, RP_SILENT_MAX);
	__type(key, __u64);
	__type(value, __u32);
} silent __weak SEC(".maps");

/* Established on a peeked listener, first byte still to come. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct rp_tuple);
	__type(value, struct rp_awaiting);
} awaiting __weak SEC(".maps");

/*
 * Records on their way from a peeked segment to a socket. Anybody may forge
 * some: LRU, as one that is lost only makes work for the daemon.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct rp_tuple);
	__type(value, struct rp_pending);
} pending __weak SEC(".maps");

/* Records on their way from TC to a socket; sized by the daemon. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RP_CLAIMS);
	__type(key, __u32);
	__type(value, struct rp_claim);
} claims __weak SEC(".maps");

/*
 * SYNs that TC answered. What a flood of them costs is these maps, no more.
 * handshakes.h makes a hash table of them, which costs a connection a fraction
 * of what an LRU hash of the kernel's does. The daemon has them mapped.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, RP_BUCKETS *RP_WAYS);
	__type(key, __u32);
	__type(value, struct rp_handshake);
} handshakes __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, RP_BUCKETS);
	__type(key, __u32);
	__type(value, struct rp_bucket);
} handshake_tags __weak SEC(".maps");

/* The daemon's listening sockets, for what the kernel cannot decide. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} handover __weak SEC(".maps");

/* Which sockets are those, and their children, who inherit the mark. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, __u32);
} handover_marks __weak SEC(".maps");

/* Set while TC itself looks for a listener; see lookup.bpf.c. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} lookup_bypass __weak SEC(".maps");

/*
 * What the daemon says of a socket that it is about to connect, and which one
 * it is for the socket at the other end. Neither is LRU: a handler whose
 * record is lost would see the daemon. Preallocated: the room that an entry
 * of `outgoing` stands for in `announced` cannot be refused for want of
 * memory.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, RP_ANNOUNCED_MAX);
	__type(key, __u64);
	__type(value, struct rp_outgoing);
} outgoing __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, RP_ANNOUNCED_MAX);
	__type(key, struct rp_tuple);
	__type(value, __u64);
} announced __weak SEC(".maps");

/* One bit a local port that any listener has: the cheapest rejection. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536 / 64);
	__type(key, __u32);
	__type(value, __u64);
} ports __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4 * RP_LISTENERS_MAX);
	__type(key, struct rp_endpoint);
	__type(value, __u32);
} endpoints __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, RP_LISTENERS_MAX);
	__type(key, __u32);
	__type(value, struct rp_listener);
} listeners __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, RP_TRUSTED_MAX);
	__type(key, struct rp_trusted);
	__type(value, __u32);
} trusted __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, RP_LISTENERS_MAX * 64);
	__type(key, struct rp_stat_key);
	__type(value, __u64);
} stats __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rp_settings);
} settings __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rp_gates);
} gates __weak SEC(".maps");

static __always_inline struct rp_settings *rp_settings_now(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

static __always_inline struct rp_gates *rp_gates_now(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&gates, &zero);
}

/* Does the stack not get the sockets that TC assigns? See lookup.bpf.c. */
static __always_inline int rp_is_losing(void)
{
	struct rp_gates *open = rp_gates_now();

	return open && open->lost >= RP_LOSSES;
}

static __always_inline int rp_has_announced(void)
{
	struct rp_gates *open = rp_gates_now();

	return !open || open->announced;
}

/* Is it a connection of the daemon's, on its way to a handler? */
static __always_inline int rp_is_announced(const struct rp_tuple *tuple)
{
	return rp_has_announced() && bpf_map_lookup_elem(&announced, tuple);
}

static __always_inline int rp_has_silent(void)
{
	struct rp_gates *open = rp_gates_now();

	return open && open->silent;
}

static __always_inline int rp_is_silent(__u64 cookie)
{
	return rp_has_silent() && bpf_map_lookup_elem(&silent, &cookie);
}

static __always_inline int rp_has_room_for_silent(void)
{
	struct rp_gates *open = rp_gates_now();

	return open && open->silent < RP_SILENT_MAX;
}

/* 0, or an error. The gate opens before there is something behind it. */
static __always_inline int rp_enter_silent(__u64 cookie)
{
	struct rp_gates *open = rp_gates_now();
	__u32 zero = 0;

	if (!open)
		return -1;
	__sync_fetch_and_add(&open->silent, 1);
	if (!bpf_map_update_elem(&silent, &cookie, &zero, BPF_NOEXIST))
		return 0;
	__sync_fetch_and_sub(&open->silent, 1);
	return -1;
}

/* It has spoken, or is gone. */
static __always_inline void rp_forget_silent(__u64 cookie)
{
	struct rp_gates *open = rp_gates_now();

	if (open && open->silent && !bpf_map_delete_elem(&silent, &cookie))
		__sync_fetch_and_sub(&open->silent, 1);
}

static __always_inline void rp_count(__u32 listener, enum rp_stat stat)
{
	struct rp_stat_key key = {.listener = listener, .stat = stat};
	__u64 *value = bpf_map_lookup_elem(&stats, &key);

	if (value)
		(*value)++;
}

#endif
