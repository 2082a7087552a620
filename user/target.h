/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * target.h - what is to be known of the server behind an inline listener:
 * read from the kernel's list of listening sockets, never from the server.
 */
#ifndef REALPEER_TARGET_H
#define REALPEER_TARGET_H

#include <stdbool.h>
#include <stdint.h>

struct target {
	bool found;	 /* somebody listens on the port */
	bool mptcp;	 /* on such a socket: the kernel can't accept for it */
	uint64_t cgroup; /* of the socket; 0: not known */
};

/*
 * Looks for a listening TCP socket on `port` (host order) in our network
 * namespace. The first MPTCP one wins over others. 0, or -errno when the
 * kernel does not tell.
 */
int target_find(uint16_t port, struct target *ret);

/*
 * Is the cgroup `id` at or below the directory `root`, so that programs on
 * `root` run for its sockets? True as well when that cannot be known.
 */
bool target_is_below(const char *root, uint64_t id);

#endif
