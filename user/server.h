/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * server.h - the threads that accept and relay: one for each usable CPU,
 * each with its own SO_REUSEPORT sockets and epoll, nothing shared.
 *
 * All functions here are called from the main thread only; work reaches the
 * threads as messages.
 */
#ifndef REALPEER_SERVER_H
#define REALPEER_SERVER_H

#include <stdint.h>

#include "activation.h"
#include "config.h"
#include "datapath.h"

struct server;
struct takeover;

/*
 * Starts the threads and listens on every relay listener of `config` (and on
 * none of inline ones), taking those of `inherited` that have its addresses.
 * `numbers[i]` is the number of listener i in records and statistics. Logs
 * each address that cannot be had. Returns 0, or -errno with nothing left
 * behind.
 */
int server_start(struct config *config, const uint32_t *numbers,
		 struct datapath *datapath, struct inherited *inherited,
		 size_t n_inherited, struct server **ret_server);

/*
 * Opens what is new in `config`, hands changed settings to new connections.
 * Established connections go on under the old settings, and what is gone is
 * served as before until server_settle(): server_reload() with the old
 * configuration opens nothing. On failure nothing has changed.
 */
int server_reload(struct server *server, struct config *config,
		  const uint32_t *numbers);

/* Closes what the last server_reload() left without a listener. */
void server_settle(struct server *server);

/*
 * Lets systemd keep the listening sockets. To be called after a start, when
 * what nobody took of the daemon before has gone, and after server_settle().
 */
void server_store(struct server *server);

/*
 * Stops accepting, waits until no connection is left or timeout_ms is over,
 * resets what is left, ends the threads. Frees; NULL is fine.
 */
void server_stop(struct server *server, uint32_t timeout_ms);

/*
 * Stops accepting, and packs all connections for the next daemon; what is
 * queued on listening sockets waits for it. Ends the threads and frees.
 */
void server_leave(struct server *server, struct takeover *takeover);

/* Goes on with the connections of such a parcel, and logs how it went. */
void server_adopt(struct server *server, int parcel);

/* The daemon's own counts (the kernel's are datapath_stat()'s). */
uint64_t server_stat(struct server *server, uint32_t listener,
		     enum rp_stat stat);

/*
 * Marks the numbers under which something counts: those of listeners, and of
 * connections whose listeners are gone. NULL is fine, for this and the next.
 */
void server_mark_numbers(const struct server *server,
			 bool taken[RP_LISTENERS_MAX]);

/* For another listener than had a number that is not taken. */
void server_clear_counts(struct server *server, uint32_t listener);

/* Relayed connections now open on a listener. */
uint64_t server_active(struct server *server, uint32_t listener);

/*
 * Calls `each` for every relayed connection, from the calling thread, with
 * the cookie under which it stands in `connections`.
 */
void server_connections(struct server *server,
			void (*each)(uint64_t cookie,
				     const struct rp_connection *record,
				     const struct rp_tlvs *tlvs, void *arg),
			void *arg);

/*
 * Milliseconds of CLOCK_MONOTONIC since the slowest thread last went round
 * its loop, for the watchdog.
 */
uint64_t server_stalled_ms(struct server *server);

#endif
