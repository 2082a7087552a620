/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * datapath_upkeep.c - what BPF programs cannot do for want of a clock: follow
 * the sysctls, drop the records of orphans, and tell what the programs found
 * out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "datapath_internal.h"
#include "realpeer.skel.h"

#define NSEC_PER_SEC 1000000000ULL

/* Records that one turn looks at. */
#define REVIEWS_MAX 4096

/* So many free places, and a record need not be tried any more. */
#define SLACK 64

/* From the removal of a listener to that of its last traces. */
#define PRUNE_NS (10 * NSEC_PER_SEC)

static void forget_orphan(struct datapath *datapath, uint64_t cookie)
{
	datapath_forget(datapath, cookie, true);
	if (bpf_map__delete_elem(datapath->skeleton->maps.unrecorded, &cookie,
				 sizeof(cookie), 0) == 0)
		__atomic_sub_fetch(&datapath->gates->unrecorded, 1,
				   __ATOMIC_SEQ_CST);
}

static void drop_orphans(struct datapath *datapath, uint64_t now)
{
	struct bpf_map *orphans = datapath->skeleton->maps.orphans;
	uint64_t cookie, next, since;
	int more = bpf_map__get_next_key(orphans, NULL, &next, sizeof(next));

	while (more == 0) {
		cookie = next;
		more = bpf_map__get_next_key(orphans, &cookie, &next,
					     sizeof(next));
		if (bpf_map__lookup_elem(orphans, &cookie, sizeof(cookie),
					 &since, sizeof(since), 0) ||
		    datapath_age(since, now) < RP_ORPHAN_NS)
			continue;
		forget_orphan(datapath, cookie);
		bpf_map__delete_elem(orphans, &cookie, sizeof(cookie), 0);
	}
}

/* One whose socket is closed; false if `orphans` has no room even now. */
static bool find_orphan(struct datapath *datapath, uint64_t cookie,
			const struct rp_connection *record, uint64_t now)
{
	struct bpf_map *orphans = datapath->skeleton->maps.orphans;
	int error;

	if (!record->closed)
		return true;
	error = bpf_map__update_elem(orphans, &cookie, sizeof(cookie), &now,
				     sizeof(now), BPF_NOEXIST);
	return !error || error == -EEXIST;
}

/*
 * Looks at some of the records, from where the last turn ended. The kernel
 * tells that place by a number of its own, not by a record, which may be gone
 * when the next turn begins. Returns whether there are more.
 */
static bool search_on(struct datapath *datapath, uint64_t *cookies,
		      struct rp_connection *records, uint64_t now)
{
	uint64_t *position = datapath->searching ? &datapath->search_at : NULL;
	uint64_t next = 0;
	uint32_t n = REVIEWS_MAX;
	int fd = bpf_map__fd(datapath->skeleton->maps.connections);
	bool more = !bpf_map_lookup_batch(fd, position, &next, cookies, records,
					  &n, NULL);

	if (!more && errno != ENOENT)
		return true;
	for (uint32_t i = 0; i < n; i++) {
		if (!find_orphan(datapath, cookies[i], &records[i], now))
			return true;
	}
	datapath->search_at = next;
	datapath->searching = more;
	return more;
}

/*
 * Looks through all records, some of them each turn, for those that `orphans`
 * had no room for when their sockets closed.
 */
static void find_lost_orphans(struct datapath *datapath, uint64_t now)
{
	uint64_t lost = __atomic_load_n(&datapath->gates->lost_orphans,
					__ATOMIC_SEQ_CST);
	struct rp_connection *records;
	uint64_t *cookies;

	if (lost == datapath->search_done)
		return;
	if (!datapath->searching)
		datapath->search_lost = lost;
	cookies = calloc(REVIEWS_MAX, sizeof(*cookies));
	records = calloc(REVIEWS_MAX, sizeof(*records));
	if (cookies && records && !search_on(datapath, cookies, records, now))
		datapath->search_done = datapath->search_lost;
	free(cookies);
	free(records);
}

/* Would SLACK more entries fit? Their keys are the cookies of no socket. */
static bool has_slack(struct bpf_map *map, const void *values)
{
	int fd = bpf_map__fd(map);
	uint64_t keys[SLACK];
	uint32_t n = SLACK;
	bool fit;

	for (uint64_t i = 0; i < SLACK; i++)
		keys[i] = UINT64_MAX - i;
	fit = !bpf_map_update_batch(fd, keys, values, &n, NULL);
	/* All: a daemon that was killed may have left some. */
	for (size_t i = 0; i < SLACK; i++)
		bpf_map_delete_elem(fd, &keys[i]);
	return fit;
}

/*
 * While `full` is set it is tried, for each record, whether there is room. With
 * a few free places that must go on: the next record may take the last one.
 */
static void clear_full(struct datapath *datapath)
{
	static const uint32_t nobody[SLACK];
	struct rp_connection records[SLACK];

	if (!__atomic_load_n(&datapath->gates->full, __ATOMIC_RELAXED))
		return;
	memset(records, 0, sizeof(records));
	for (size_t i = 0; i < SLACK; i++)
		records[i].closed = 1; /* so that nobody lists it */
	if (has_slack(datapath->skeleton->maps.connections, records) &&
	    has_slack(datapath->skeleton->maps.unrecorded, nobody))
		__atomic_store_n(&datapath->gates->full, 0, __ATOMIC_RELAXED);
}

/* When clients that TC answered for a listener that is gone are served. */
static void prune(struct datapath *datapath, uint64_t now)
{
	if (!datapath->prune_due) {
		datapath->prune_at = 0;
	} else if (!datapath->prune_at) {
		datapath->prune_at = now + PRUNE_NS;
	} else if (now >= datapath->prune_at) {
		datapath_prune(datapath);
		datapath->prune_at = 0;
	}
}

bool datapath_is_losing(const struct datapath *datapath)
{
	return datapath && __atomic_load_n(&datapath->gates->lost,
					   __ATOMIC_RELAXED) >= RP_LOSSES;
}

void datapath_try_again(struct datapath *datapath)
{
	if (!datapath_is_losing(datapath))
		return;
	__atomic_store_n(&datapath->gates->lost, 0, __ATOMIC_SEQ_CST);
	datapath->losing_told = false;
	log_notice("msg=\"inline is tried again\"");
}

static void tell_losing(struct datapath *datapath)
{
	if (datapath->losing_told || !datapath_is_losing(datapath))
		return;
	datapath->losing_told = true;
	log_warning("msg=\"the kernel loses the sockets that TC assigns, as it "
		    "does where this network namespace has NAT rules: the "
		    "daemon relays until a reload; notrack rules for the "
		    "listener's port keep it inline, see README.md\"");
}

uint32_t datapath_upkeep(struct datapath *datapath)
{
	uint64_t now = clock_boot_ns();

	if (!datapath)
		return UINT32_MAX;
	drop_orphans(datapath, now);
	find_lost_orphans(datapath, now);
	clear_full(datapath);
	prune(datapath, now);
	if (datapath->attach_due)
		datapath_look_again(datapath);
	if (datapath->features.offload < RP_OFFLOAD_ACCEPT)
		return 1000;
	tell_losing(datapath);
	if (datapath_refresh(datapath))
		log_warning("msg=\"cannot tell the programs of sysctls\"");
	datapath_review_handshakes(datapath, now);
	return datapath->wakes_silent ? 100 : 1000;
}
