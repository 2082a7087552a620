/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * registry.h - tells the kernel part who a relayed connection's client is,
 * so that each has exactly one entry in `connections`.
 */
#ifndef REALPEER_REGISTRY_H
#define REALPEER_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "realpeer/abi.h"

struct connection;

/*
 * Fills in the record if the kernel read the header in front of the accepted
 * socket's stream, and takes from the maps what the handler's socket will get.
 * 0; -ENOENT: the stream begins with the header, as any other's does. Or what
 * begins it may be payload, for the record went with the socket (-ECONNRESET),
 * or found no room (-ENOBUFS).
 */
int registry_take(struct connection *connection);

/*
 * To be called before connect() on `handler_fd`: getpeername() on the
 * handler's socket can then tell the client from the first moment on. -errno
 * if it could not, and the handler would see us instead.
 */
int registry_add(struct connection *connection, int handler_fd);

/* connect() failed: no handler's socket will ask who the client is. */
void registry_withdraw(struct connection *connection);

/*
 * To be called now and then, with whether the handler has said something. A
 * handler whose sockets the kernel part does not see, as behind a translated
 * address, never asks who the client is: so that its connections do not fill
 * the map, this is taken back once it surely has its socket.
 */
void registry_review(struct connection *connection, bool answered);

/* Removes the entry if it is ours to remove. */
void registry_remove(struct connection *connection);

/* The whole record, for listing. Are there TLVs, then in *ret_tlvs? */
bool registry_record(const struct connection *connection,
		     struct rp_connection *ret, struct rp_tlvs *ret_tlvs);

uint64_t socket_cookie(int fd); /* 0: none */

#endif
