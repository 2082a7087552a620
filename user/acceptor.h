/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * acceptor.h - one thread's end of a listening socket.
 *
 * Which listener it serves may change while it listens, so that a reload
 * loses no connection that waits in its queue.
 */
#ifndef REALPEER_ACCEPTOR_H
#define REALPEER_ACCEPTOR_H

#include <stdbool.h>

#include "event.h"
#include "listener.h"

/* How long it stays quiet when the process has no descriptors left. */
#define ACCEPTOR_PAUSE_MS 100

/* Connections that are taken in one turn of the loop, at most. */
#define ACCEPTOR_BURST_MAX 64

struct acceptor {
	struct watch watch;	   /* with the listening socket, owned */
	struct listener *listener; /* counted reference; NULL: not started */
	struct timer pause;
	struct task end;    /* frees it, when no event names it */
	unsigned int burst; /* connections to take in one turn */
	unsigned int full;  /* turns in a row that took as many */
	bool shared;	    /* other threads wait on the same socket */
	bool headless;	    /* the kernel reads headers for it, or did */
	bool inherited;	    /* so it may have done for those that wait */
};

/* Takes over `fd`. NULL: no memory, and `fd` is still the caller's. */
struct acceptor *acceptor_new(int fd, bool shared);

/* The rest runs in the listener's thread. */

/* Starts accepting, or goes on for another listener. */
void acceptor_serve(struct acceptor *acceptor, struct listener *listener);

/* Takes what waits in the queue, closes the socket, frees at the turn's end. */
void acceptor_stop(struct acceptor *acceptor);

/* The same, but what waits in the queue is for who else has the socket. */
void acceptor_leave(struct acceptor *acceptor);

/* Frees one that was not started. */
void acceptor_free(struct acceptor *acceptor);

#endif
