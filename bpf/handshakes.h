/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * handshakes.h - the table of handshakes: buckets of eight, see struct
 * rp_bucket. TC enters, TC and sockops take out, and a bucket that is full
 * forgets its oldest. No locks: a tag changes by compare and swap.
 */
#ifndef REALPEER_HANDSHAKES_H
#define REALPEER_HANDSHAKES_H

#include "maps.h"

#include "realpeer/index.h"

/* Where a handshake is, or may be. */
struct rp_place {
	struct rp_bucket *bucket; /* NULL: nowhere */
	__u32 number;		  /* of the bucket */
	__u32 tag;
	__u32 way; /* RP_WAYS: none */
	__u32 hash;
};

static __always_inline int rp_is_same(const struct rp_tuple *a,
				      const struct rp_tuple *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;
	__u32 differ = 0;

	for (__u32 i = 0; i < sizeof(*a) / sizeof(*x); i++)
		differ |= x[i] ^ y[i];
	return !differ;
}

/*
 * NH of UMAC (RFC 4418 section 5.2.2): for who does not know the key, two
 * tuples have the same with a probability of 2^-32.
 */
static __always_inline __u64 rp_hash(const struct rp_tuple *tuple,
				     const __u32 *key)
{
	const __u32 *words = (const __u32 *)tuple;
	__u64 hash = 0;

	_Static_assert(sizeof(*tuple) == 9 * sizeof(*words), "one word is odd");
	for (__u32 i = 0; i < 8; i += 2)
		hash += (__u64)(words[i] + key[i]) *
			(words[i + 1] + key[i + 1]);
	hash += (__u64)(words[8] + key[8]) * key[9];
	/* The best bits are in the middle: spread them. */
	hash ^= hash >> 32;
	return hash * 0x9e3779b97f4a7c15ULL;
}

/* Where `tag` stands, RP_WAYS if nowhere. */
static __always_inline __u32 rp_find_way(const struct rp_bucket *bucket,
					 __u32 tag)
{
	__u32 way = RP_WAYS;

	for (__u32 i = RP_WAYS; i-- > 0;)
		way = bucket->tags[i] == tag ? i : way;
	return way;
}

static __always_inline struct rp_handshake *rp_handshake_of(__u32 bucket,
							    __u32 way)
{
	__u32 index = bucket * RP_WAYS + way;

	return bpf_map_lookup_elem(&handshakes, &index);
}

static __always_inline __u32 *rp_tag_at(const struct rp_place *place)
{
	return &place->bucket->tags[rp_index(place->way, RP_WAYS)];
}

/* Looks for place->tag in one bucket. */
static __always_inline void rp_look_in(struct rp_place *place, __u32 number)
{
	place->number = number;
	place->bucket = bpf_map_lookup_elem(&handshake_tags, &number);
	place->way = place->bucket ? rp_find_way(place->bucket, place->tag)
				   : RP_WAYS;
}

static __always_inline __u32 rp_first_bucket(const struct rp_place *place)
{
	return place->hash & (RP_BUCKETS_FIRST - 1);
}

static __always_inline __u32 rp_other_bucket(const struct rp_place *place)
{
	return RP_BUCKETS_FIRST + (place->hash & (RP_BUCKETS_MORE - 1));
}

/*
 * The entry of a tuple and its place, NULL if there is none. Another CPU may
 * give it to another client at any time, when the bucket is full: take a copy,
 * and then ask rp_is_still().
 */
static __always_inline struct rp_handshake *rp_find_handshake(
	const struct rp_tuple *tuple, struct rp_place *place)
{
	struct rp_settings *now = rp_settings_now();
	struct rp_gates *open = rp_gates_now();
	struct rp_handshake *found;
	__u64 hash;

	*place = (struct rp_place){.way = RP_WAYS};
	if (!now || !open)
		return NULL;
	hash = rp_hash(tuple, now->hash_key);
	place->hash = hash >> 32;
	place->tag = hash | 1; /* its low half */
	rp_look_in(place, rp_first_bucket(place));
	if (place->way >= RP_WAYS && open->spilled != open->spilled_gone)
		rp_look_in(place, rp_other_bucket(place));
	if (place->way >= RP_WAYS)
		return NULL;
	found = rp_handshake_of(place->number, place->way);
	return found && rp_is_same(&found->tuple, tuple) ? found : NULL;
}

static __always_inline int rp_is_still(const struct rp_place *place)
{
	asm volatile("" ::: "memory");
	return *(volatile __u32 *)rp_tag_at(place) == place->tag;
}

static __always_inline void rp_forget_at(const struct rp_place *place)
{
	__sync_val_compare_and_swap(rp_tag_at(place), place->tag, RP_TAG_FREE);
}

static __always_inline void rp_forget_handshake(const struct rp_tuple *tuple)
{
	struct rp_place place;

	if (rp_find_handshake(tuple, &place))
		rp_forget_at(&place);
}

static __always_inline __u32 rp_oldest_way(__u32 bucket)
{
	__u64 oldest = ~0ULL;
	__u32 way = 0;

	for (__u32 i = 0; i < RP_WAYS; i++) {
		struct rp_handshake *one = rp_handshake_of(bucket, i);

		if (one && one->since < oldest) {
			oldest = one->since;
			way = i;
		}
	}
	return way;
}

/* For one that has no place yet: a free one, or that of the oldest. */
static __always_inline void rp_find_room(struct rp_place *place)
{
	struct rp_gates *open = rp_gates_now();

	rp_look_in(place, rp_first_bucket(place));
	if (!place->bucket || !open)
		return;
	place->way = rp_find_way(place->bucket, RP_TAG_FREE);
	if (place->way < RP_WAYS)
		return;
	/* First, so that nobody stops looking there. */
	__sync_fetch_and_add(&open->spilled, 1);
	rp_look_in(place, rp_other_bucket(place));
	if (!place->bucket)
		return;
	place->way = rp_find_way(place->bucket, RP_TAG_FREE);
	if (place->way >= RP_WAYS)
		place->way = rp_oldest_way(place->number);
}

/*
 * Enters handshake->tuple at the place that rp_find_handshake() gave for it, be
 * it that of its old entry, or of none. Nobody finds it before it is whole.
 * False if another CPU was first at that place, for this tuple or another: who
 * has sent a SYN sends it again.
 */
static __always_inline int rp_enter_at(struct rp_place *place,
				       const struct rp_handshake *handshake)
{
	struct rp_handshake *entry;
	__u32 *tag, old;

	if (place->way >= RP_WAYS)
		rp_find_room(place);
	entry = rp_handshake_of(place->number, place->way);
	if (!place->bucket || !entry)
		return 0;
	tag = rp_tag_at(place);
	old = *tag;
	if (old == RP_TAG_BUSY ||
	    __sync_val_compare_and_swap(tag, old, RP_TAG_BUSY) != old)
		return 0;
	*entry = *handshake;
	__sync_lock_test_and_set(rp_tag_at(place), place->tag);
	return 1;
}

#define RP_ENTER_TRIES 4 /* another CPU may be first so often in a row */

/*
 * For who will not come again, as a SYN does. Global, so that the verifier
 * judges it once; it supposes then that the pointer may be NULL.
 */
__weak __noinline int rp_enter_handshake(const struct rp_handshake *handshake)
{
	struct rp_place place;

	if (!handshake)
		return 0;
	for (int i = 0; i < RP_ENTER_TRIES; i++) {
		rp_find_handshake(&handshake->tuple, &place);
		if (rp_enter_at(&place, handshake))
			return 1;
	}
	return 0;
}

#endif
