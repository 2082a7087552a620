/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * store.h - descriptors that systemd keeps while no daemon runs, and passes to
 * the next one: its file descriptor store (sd_pid_notify_with_fds(3)).
 *
 * It answers nothing, so nobody learns whether it took a descriptor; what it
 * has no room for it closes. So the places are counted here, and one of them is
 * kept for connections. Main thread, and the one that stops the server.
 */
#ifndef REALPEER_STORE_H
#define REALPEER_STORE_H

#include <stdbool.h>
#include <stddef.h>

#include "address.h"

/* Names under which descriptors come back; they may have no colons. */
#define STORE_LISTEN	  "listen "	/* and an address */
#define STORE_CONNECTIONS "connections" /* of takeover.h */
#define STORE_NAME_MAX	  160

/* The name of the sockets that listen on an address. */
const char *store_listen_name(const struct address *address, bool v6only,
			      char out[STORE_NAME_MAX]);

/*
 * Is there one? systemd 254 and later set $FDSTORE where a unit has one; our
 * unit does so for the versions before.
 */
bool store_available(void);

/*
 * Keeps copies under `name`, beside what it has under that name already.
 * Returns how many, which are the first: less than `n` where it has no room, or
 * cannot be told.
 */
size_t store_keep(const char *name, const int *fds, size_t n);

/* Closes all that it has under `name`, which `n` of those kept were. */
void store_forget(const char *name, size_t n);

/* Waits until it has read all that it was told, `timeout_ms` at most. */
void store_settle(unsigned int timeout_ms);

#endif
