/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * worker.h - one thread: its event loop, and what its connections share.
 *
 * Everything in it belongs to the thread once worker_start() has returned,
 * but for `counters` (read by anyone) and what worker_call() guards.
 */
#ifndef REALPEER_WORKER_H
#define REALPEER_WORKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "counters.h"
#include "datapath.h"
#include "event.h"
#include "handover.h"
#include "pipes.h"

/* The longest sleep, so that the watchdog sees a heartbeat. */
#define WORKER_WAIT_MS 500

/* Also the most that is read before a header is decided on. */
#define WORKER_BUFFER_SIZE (128 << 10)

struct connection;

struct worker {
	struct loop loop;
	struct counters counters;
	struct pipes pipes;
	struct handover handover;
	struct datapath *datapath;	/* borrowed, may be NULL */
	uint8_t *buffer;		/* owned; for whoever runs now */
	struct connection *connections; /* all of them, the newest first */
	struct connection *cursor;	/* the next that is to be listed */

	pthread_t thread;
	uint64_t heartbeat; /* ms of CLOCK_MONOTONIC, relaxed atomic */
	bool stop;
	struct watch doorbell; /* an eventfd, owned */
	pthread_mutex_t lock;  /* guards call, argument */
	pthread_cond_t answered;
	void (*call)(struct worker *worker, void *argument);
	void *argument;
};

/* Starts the thread. 0, or -errno with nothing left behind. */
int worker_start(struct datapath *datapath, unsigned int index,
		 struct worker **ret_worker);

/* Runs `call` in the thread, and returns when it has run. */
void worker_call(struct worker *worker,
		 void (*call)(struct worker *worker, void *argument),
		 void *argument);

/*
 * Ends the thread and frees. Its listening sockets must be gone; connections
 * that are left are reset.
 */
void worker_stop(struct worker *worker);

#endif
