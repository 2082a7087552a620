/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pins.h - reads the pinned maps from outside the daemon, so that connections
 * and counts can be shown while it is dead. Never writes, never logs.
 */
#ifndef REALPEER_PINS_H
#define REALPEER_PINS_H

#include <stdint.h>

#include "realpeer/abi.h"

/*
 * Each function calls `each` for every entry of one map below `directory`
 * (datapath_directory() when NULL). Returns 0, -ENOENT when
 * nothing is pinned there, -EPROTO for pins of another ABI version, or
 * another -errno; some calls may have been made by then. What changes
 * meanwhile may be seen or not, but nothing is seen twice.
 */
int pins_connections(const char *directory,
		     void (*each)(uint64_t cookie,
				  const struct rp_connection *record,
				  const struct rp_tlvs *tlvs, void *arg),
		     void *arg);

int pins_listeners(const char *directory,
		   void (*each)(uint32_t number,
				const struct rp_listener *listener, void *arg),
		   void *arg);

/* `value` is the sum over all CPUs. */
int pins_stats(const char *directory,
	       void (*each)(const struct rp_stat_key *key, uint64_t value,
			    void *arg),
	       void *arg);

#endif
