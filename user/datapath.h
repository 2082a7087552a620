/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * datapath.h - the kernel part: loads, pins, attaches and feeds it.
 *
 * The only module that calls libbpf. A NULL datapath is valid everywhere and
 * means that no program is loaded: every call then does nothing.
 */
#ifndef REALPEER_DATAPATH_H
#define REALPEER_DATAPATH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "attach.h"
#include "config.h"
#include "realpeer/abi.h"

struct datapath;

/* Where the pins are: $REALPEER_BPFFS or /sys/fs/bpf/realpeer. */
const char *datapath_directory(void);

/* What this kernel and our rights allow, found by trying. */
struct datapath_features {
	bool bpf;		  /* maps and programs can be loaded */
	bool getpeername;	  /* cgroup hooks and sockops attach */
	enum rp_offload offload;  /* the best that works */
	bool tcx;		  /* else clsact */
	bool no_probes;		  /* to silent clients, with offload accept */
	char why[256];		  /* why not better; "" if it is the best */
	uint32_t connections_max; /* asked for; 0: what suits the memory */
};

/*
 * Probes without leaving anything behind. Never fails: what cannot be had is
 * said in *ret.
 */
void datapath_probe(struct datapath_features *ret);

/*
 * Loads and attaches what `features` allows, taking over existing pins of
 * the same ABI. Returns 0, -EPROTO for pins of another ABI version (logged
 * with what to do), or another -errno.
 */
int datapath_open(const struct datapath_features *features,
		  struct datapath **ret_datapath);

/* Detaches and unpins everything; the maps can be used until the close. */
void datapath_unpin(struct datapath *datapath);

/*
 * Detaches and unpins everything when `remove`, else leaves pins and
 * programs in place for the next start. Frees; NULL is fine.
 */
void datapath_close(struct datapath *datapath, bool remove);

/*
 * What the listener gets, given what it wants and what there is; *ret_why
 * says why not more, "" if there is no more.
 */
enum rp_offload datapath_choose(const struct datapath_features *features,
				const struct listener_config *listener,
				const char **ret_why);
enum rp_offload datapath_offload(const struct datapath *datapath,
				 const struct listener_config *listener);

/* Can the kernel accept by itself, and hand over what it cannot decide? */
bool datapath_can_accept(const struct datapath *datapath);

/*
 * The ports that were attached when the pins were last in use: they are
 * attached still. Before the first datapath_configure(). 0 or -errno.
 */
int datapath_restore_attached(struct datapath *datapath,
			      struct attached *attached);

/* Do the cgroup programs run for sockets of this cgroup? True if not known. */
bool datapath_covers(uint64_t cgroup);

/*
 * Gives each listener its number, stable by name across restarts, in
 * ret_numbers[n_listeners]. A new name gets one that is not `taken`, where
 * those that the maps know are entered.
 */
void datapath_number(struct datapath *datapath, const struct config *config,
		     bool taken[RP_LISTENERS_MAX], uint32_t *ret_numbers);

/*
 * Makes the maps say what `config` says, additions first, with these numbers.
 * 0; -errno, with the maps as they were; or -ENOTRECOVERABLE (logged) if not
 * even that can be had.
 */
int datapath_configure(struct datapath *datapath, const struct config *config,
		       const uint32_t *numbers);

/*
 * The listening sockets, one of each thread, that take over what the kernel
 * cannot decide (offload accept). 0 or -errno.
 */
int datapath_set_handover(struct datapath *datapath, const int *sockets,
			  uint32_t n);

/*
 * Does what is due and returns after how many ms it wants to be called again,
 * UINT32_MAX: never.
 */
uint32_t datapath_upkeep(struct datapath *datapath);

/*
 * Does the kernel lose the sockets that TC assigns, as it does where there are
 * NAT rules? Then everybody is relayed, until one is tried again.
 */
bool datapath_is_losing(const struct datapath *datapath);
void datapath_try_again(struct datapath *datapath);

/*
 * A descriptor that is readable when interfaces or addresses changed, and
 * what to do then: attach to what is new. -1 without a datapath.
 */
int datapath_event_fd(const struct datapath *datapath);
void datapath_handle_event(struct datapath *datapath);

/*
 * The record that the kernel bound to the accepted socket `cookie`, copied
 * to *ret. 0 or -ENOENT.
 */
int datapath_lookup(struct datapath *datapath, uint64_t cookie,
		    struct rp_connection *ret);

/* The same, and takes it away; its TLVs, if it has any, stay. */
int datapath_take(struct datapath *datapath, uint64_t cookie,
		  struct rp_connection *ret);

/* Is its record missing for want of room? */
bool datapath_is_unrecorded(struct datapath *datapath, uint64_t cookie);

/* The TLVs of a record, whose `tlvs` is the key. 0 or -ENOENT. */
int datapath_tlvs(struct datapath *datapath, uint64_t key, struct rp_tlvs *ret);

/*
 * Stores (or replaces) the record of socket `cookie`, with its TLVs or NULL.
 * 0, -E2BIG when full.
 */
int datapath_record(struct datapath *datapath, uint64_t cookie,
		    const struct rp_connection *record,
		    const struct rp_tlvs *tlvs);

/* Removes the record of socket `cookie`, and its TLVs; none is fine. */
void datapath_forget(struct datapath *datapath, uint64_t cookie, bool has_tlvs);

/*
 * For client_address = getpeername, before connect() on the daemon's socket
 * `cookie`: sockops hands the record on to the socket that the handler
 * accepts, and getpeername() on that one returns record->client. 0, or -E2BIG
 * when there is no room for its record, or so many wait for their handlers that
 * there is none for the word of it: then it must not be connected, as the
 * handler would see the daemon.
 */
int datapath_announce(struct datapath *datapath, uint64_t cookie,
		      const struct rp_connection *record,
		      const struct rp_tlvs *tlvs);

/*
 * Takes an announcement back that no handler's socket will ask for, be it that
 * connect() failed or that the handler has its socket already; none is fine.
 */
void datapath_withdraw(struct datapath *datapath, uint64_t cookie);

/* Could those whom nobody asks for come to be too many? */
bool datapath_is_crowded(const struct datapath *datapath);

/* datapath_announce() of one that another daemon had, and is ours now. */
void datapath_announced_before(struct datapath *datapath, uint64_t cookie);

/* To be called once for each announcement, when its connection ends. */
void datapath_announced(struct datapath *datapath, uint64_t cookie,
			bool has_tlvs);

/* What the kernel counted, over all CPUs. */
uint64_t datapath_stat(struct datapath *datapath, uint32_t listener,
		       enum rp_stat stat);

#endif
