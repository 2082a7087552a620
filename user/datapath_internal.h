/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * datapath_internal.h - what the datapath's own files share; nobody else
 * includes it.
 *
 *   datapath.c		life cycle, records, counters
 *   datapath_probe.c	what this kernel and our rights allow
 *   datapath_maps.c	configuration -> maps
 *   datapath_table.c	what a map shall hold
 *   datapath_settings.c	sysctls and the like -> the map `settings`
 *   datapath_upkeep.c	what needs a clock
 *   datapath_handshakes.c	clients that say nothing
 *   datapath_memory.c	the size of maps, and their memory
 *   datapath_attach.c	programs -> cgroup and interfaces, and their pins
 */
#ifndef REALPEER_DATAPATH_INTERNAL_H
#define REALPEER_DATAPATH_INTERNAL_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <limits.h>
#include <net/if.h>

#include "datapath.h"

struct realpeer; /* the skeleton */
struct tables;	 /* of datapath_maps.c */

#define DATAPATH_INTERFACES_MAX 1024

struct attachment {
	unsigned int ifindex;
	char name[IFNAMSIZ]; /* when it was attached, for the log */
	int link;	     /* tcx link; -1: a clsact filter */
	bool wanted;	     /* while interfaces are compared */
};

struct datapath {
	struct datapath_features features;
	struct realpeer *skeleton; /* owned */
	/* The maps' own memory, mapped; the last two only for offload accept.
	 */
	struct rp_gates *gates;
	struct rp_bucket *tags;		 /* RP_BUCKETS */
	struct rp_handshake *handshakes; /* RP_WAYS of each bucket */
	uint64_t strays_seen;		 /* gates->strays, a turn ago */
	uint64_t spilled_seen;		 /* gates->spilled, likewise */
	char directory[PATH_MAX];
	int lock;	       /* the directory, flock()ed, owned */
	int cgroup;	       /* cgroup2 root, owned */
	int netlink;	       /* link and address news, owned */
	__u64 netns;	       /* SO_NETNS_COOKIE */
	uint32_t n_handover;   /* the daemon's sockets in `handover` */
	bool wakes_silent;     /* some inline listener is `enabled` */
	int raw[2];	       /* for probes, IPv4 and IPv6, owned */
	struct tables *tables; /* what the maps say, owned */
	bool peeks;	       /* some listener has offload peek */
	bool screens;	       /* some inline one has, or had, `direct` */
	uint64_t settled_at;   /* older connections have spoken; ns */
	bool prune_due;	       /* see datapath_prune() */
	bool attach_due;       /* the interfaces were not looked at */
	bool sysctls_unread;   /* and that was told */
	bool losing_told;      /* that datapath_is_losing() */
	uint64_t prune_at;     /* ns of CLOCK_BOOTTIME, 0: unset */
	bool searching;	       /* for lost orphans, from search_at on */
	uint64_t search_at;    /* as bpf_map_lookup_batch() tells it */
	uint64_t search_lost;  /* gates->lost_orphans when it began */
	uint64_t search_done;  /* search_lost of the last that ended */
	uint32_t timeouts[RP_LISTENERS_MAX]; /* handshakes without a header */
	struct attachment *attachments;	     /* array, owned */
	size_t n_attachments;
	/* Which interfaces listeners use: see is_any_wanted(). */
	bool any_address;
	uint8_t (*addresses)[16]; /* array, owned */
	size_t n_addresses;
};

/* ns. The programs write on while a turn, with its one `now`, looks. */
static inline uint64_t datapath_age(uint64_t since, uint64_t now)
{
	return now > since ? now - since : 0;
}

/* datapath.c */

/*
 * Opens the skeleton with the programs that `features` allows, each map
 * pinned under `directory`, or none when it is NULL. 0 or -errno.
 */
int datapath_load(const struct datapath_features *features,
		  const char *directory, struct realpeer **ret_skeleton);

/* Too few descriptors, or too little memory, for now? */
bool datapath_is_shortage(int error);

/* Brings the set of interfaces up to date, later if it cannot be done now. */
void datapath_look_again(struct datapath *datapath);

/* What libbpf said first of a load that failed, for messages; "" if nothing. */
const char *datapath_first_warning(void);

/* datapath_maps.c */

void datapath_free_tables(struct tables *tables); /* NULL is fine */

/* Takes what is left of listeners that are gone out of the maps. */
void datapath_prune(struct datapath *datapath);

/* Checks the ABI of existing pins, says which netns is ours. */
int datapath_settle(struct datapath *datapath);

/* datapath_settings.c */

/* Tells the programs what the sysctls say now; cheap if nothing changed. */
int datapath_refresh(struct datapath *datapath);

/*
 * What the sysctls say of SYN cookies, and what a SYN-ACK may offer. -errno,
 * and nothing written, when they cannot be read now.
 */
int datapath_read_sysctls(struct rp_settings *settings);

/* datapath_memory.c */

/* Connections that there is, or will be, room for: pins keep theirs. */
uint32_t datapath_connections_max(const struct datapath_features *features,
				  const char *directory);

/* Maps what struct datapath has of maps' own memory. 0 or -errno. */
int datapath_map_memory(struct datapath *datapath);
void datapath_unmap_memory(struct datapath *datapath);

/* datapath_handshakes.c */

/* May we send probes to silent clients? */
bool datapath_can_probe(void);

void datapath_review_handshakes(struct datapath *datapath, uint64_t now);

/* datapath_attach.c */

/* Opens the root of the cgroup2 hierarchy, wherever it is mounted. */
int cgroup_open_root(void);

/*
 * Attaches to the cgroup and, for offload accept, to the network namespace,
 * or puts our programs into the pinned links.
 */
int datapath_attach_hooks(struct datapath *datapath);

/*
 * Removes pinned links that another daemon left on interfaces that we are not
 * attached to; with `all`, on every interface and the network namespace.
 */
void datapath_drop_stale(struct datapath *datapath, bool all);

/* Brings the set of interfaces up to date. 0, or the first -errno. */
int datapath_attach_interfaces(struct datapath *datapath);

/* Detaches everything and removes the pinned links. */
void datapath_detach(struct datapath *datapath);

/* The TC program for this offload. */
struct bpf_program *datapath_ingress(const struct realpeer *skeleton,
				     enum rp_offload offload);

/* Attaches for a moment: to lo, to lo, to the network namespace. */
int datapath_try_tcx(int program);
int datapath_try_clsact(int program);
int datapath_try_lookup(int program);

#endif
