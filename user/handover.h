/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * handover.h - one thread's end of what the kernel cannot decide.
 *
 * With offload accept, TC gives a connection whose header it cannot finish
 * (in pieces, too long, ...) to this listening socket instead of the server's,
 * from its first byte on. The accepted socket still has the address that the
 * client's proxy connected to, which tells the listener.
 */
#ifndef REALPEER_HANDOVER_H
#define REALPEER_HANDOVER_H

#include <stddef.h>

#include "event.h"
#include "listener.h"

struct handover {
	struct watch watch; /* with the listening socket, owned; -1: none */
	struct timer pause;
	struct worker *worker;
	struct listener **listeners; /* array and references, owned */
	size_t n;
};

/*
 * Opens the socket, on a port that nobody is told. Before its thread runs.
 * 0 or -errno.
 */
int handover_open(struct handover *handover, struct worker *worker);

/* The rest runs in the worker's thread. */

/* Takes over the array and its references, for connections from now on. */
void handover_serve(struct handover *handover, struct listener **listeners,
		    size_t n);

/* Accepts what waits in the queue now. */
void handover_take(struct handover *handover);

void handover_stop(struct handover *handover);

#endif
