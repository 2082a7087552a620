/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * endpoint.h - one address that relay listeners listen on: where its sockets
 * come from, and what becomes of them.
 *
 * They are opened, one for each thread; or systemd passes one, which all
 * threads share; or a daemon before this one opened them and they come back
 * from systemd's store. What is in force, and in which thread, is server.c's.
 */
#ifndef REALPEER_ENDPOINT_H
#define REALPEER_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>

#include "acceptor.h"
#include "activation.h"

struct endpoint {
	struct address address;
	bool v6only;
	size_t listener; /* index in the configuration */
	/*
	 * Array, owned, of at least one for each thread. Number i is served
	 * by thread i modulo the number of threads.
	 */
	struct acceptor **acceptors;
	size_t n_acceptors;
	size_t n_sockets; /* the first ones', the others share these */
	size_t n_stored;  /* of them, in systemd's store */
	bool left;  /* there by a daemon before: maybe more than may be now */
	bool ours;  /* not of a .socket unit: the store may keep it */
	bool kept;  /* acceptors taken over from, or by, another */
	bool going; /* with the listener that it has: see server_settle() */
};

struct endpoints {
	struct endpoint *all; /* array, owned */
	size_t n;
};

/* [::] takes IPv4 as well, unless 0.0.0.0 is listed with the same port. */
bool endpoint_needs_v6only(const struct config *config,
			   const struct address *address);

/*
 * Takes those of `inherited` that are its sockets, or opens `n_threads` of
 * them; `shared`: another address of ours has the port. 0 or -errno.
 */
int endpoint_open(struct endpoint *endpoint, size_t n_threads, bool shared,
		  struct inherited *inherited, size_t n_inherited);

/* Closes what was not started, and frees; nothing if another has it. */
void endpoint_close(struct endpoint *endpoint);

/*
 * Lets the store keep its sockets, or no longer, if they are ours. Returns for
 * how many it has no room.
 */
size_t endpoint_store(struct endpoint *endpoint);
void endpoint_unstore(struct endpoint *endpoint);

/* The one with the same sockets. NULL: none. */
struct endpoint *endpoints_find(const struct endpoints *endpoints,
				const struct address *address, bool v6only);

#endif
