/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * relay.h - the two-way byte pump between a client and its handler.
 *
 * Each direction reads only when all that it read before is written, so a
 * stalled receiver stalls its sender, and at most one buffer or one pipe is
 * held in between. A direction copies through the caller's buffer; one that
 * shows full reads in a row moves to splice(2), and back when they turn small.
 *
 * An end of stream on one side becomes a half-close of the other once the
 * bytes before it are written; an error becomes a reset, so that a transfer
 * that was cut off never looks complete, save where the receiver is a unix
 * socket, which knows no reset. Written for edge-triggered epoll and
 * non-blocking descriptors. Doesn't log, doesn't own the descriptors.
 */
#ifndef REALPEER_RELAY_H
#define REALPEER_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event.h"
#include "pipes.h"

/* Copied by one read; also what a stalled direction may hold. */
#define RELAY_BUFFER_SIZE (64 << 10)

/* A direction that moved this much lets other connections go first. */
#define RELAY_BUDGET (1 << 20)

enum { FRONT, BACK }; /* the client's side, the handler's */
enum { UP, DOWN };    /* UP reads FRONT and writes BACK */

struct relay_side {
	struct watch watch;
	/* What epoll and the system calls said last. */
	bool readable;
	bool writable;
	bool read_on; /* a short read need not have emptied it */
	bool error;
	uint32_t interest; /* events that epoll reports; 0: none */
};

enum relay_state {
	RELAY_OPEN,
	RELAY_ENDING, /* end of stream read, not yet passed on */
	RELAY_ENDED,
	RELAY_BROKEN, /* its receiver is gone */
};

struct relay_direction {
	struct pipe *pipe; /* owned; NULL unless piped > 0 */
	uint8_t *held;	   /* owned; read but not written */
	uint32_t held_at, held_len;
	uint32_t piped; /* bytes in the pipe */
	uint8_t state;	/* enum relay_state */
	uint8_t streak; /* reads that speak for a change */
	bool splicing;
	bool no_splice; /* it was refused */
	bool gated;	/* closed to the pump */
};

struct relay {
	struct relay_side side[2];
	struct relay_direction direction[2];
};

/* What a thread lends to the relay that it runs. */
struct relay_context {
	uint8_t *buffer; /* RELAY_BUFFER_SIZE bytes */
	struct pipes *pipes;
	uint64_t moved[2]; /* bytes read, for each direction; added to */
	bool no_memory;	   /* that is why it failed */
};

enum relay_outcome {
	RELAY_WAITS,  /* for events */
	RELAY_AGAIN,  /* run it again, others first */
	RELAY_DONE,   /* close both sides */
	RELAY_FAILED, /* reset both sides */
};

/* Notes what epoll said of a side. */
void relay_event(struct relay *relay, int side, uint32_t events);

/* Moves what can be moved now. */
enum relay_outcome relay_run(struct relay *relay,
			     struct relay_context *context);

/*
 * Puts bytes in front of what the direction reads: a copy of them. Nothing
 * may be held yet. 0 or -ENOMEM.
 */
int relay_hold(struct relay_direction *direction, const void *data, size_t len);

/* Frees what both directions hold. */
void relay_release(struct relay *relay, struct pipes *pipes);

#endif
