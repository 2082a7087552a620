/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pipes.h - one thread's pipes for splice(2), handed from one connection to
 * the next so that an idle connection holds none.
 */
#ifndef REALPEER_PIPES_H
#define REALPEER_PIPES_H

#include <stdbool.h>
#include <stdint.h>

#define PIPES_MAX      64	 /* of one thread, lent ones included */
#define PIPES_IDLE_MAX 8	 /* kept for the next connection */
#define PIPE_SIZE      (1 << 20) /* wished for, bytes */

struct pipe {
	struct pipe *next;
	int in, out; /* what is written to in comes out */
	uint32_t size;
};

/* Zeroed memory is a valid empty pool. */
struct pipes {
	struct pipe *idle;
	unsigned int n_idle, n_open;
};

/* An empty pipe, or NULL when there is none to be had. */
struct pipe *pipes_take(struct pipes *pipes);

/* Gives it back; one that still has bytes in it is closed. NULL is fine. */
void pipes_put(struct pipes *pipes, struct pipe *pipe, bool empty);

/* Closes the idle ones. */
void pipes_close(struct pipes *pipes);

#endif
