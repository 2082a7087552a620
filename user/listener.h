/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * listener.h - a configured listener as one thread sees it: its settings and
 * what follows from them, fixed for its life.
 *
 * References are counted without atomics: the main thread makes it and hands
 * it over, after that only its own thread touches it. Connections keep theirs
 * across a reload, and with it the configuration that it is part of.
 */
#ifndef REALPEER_LISTENER_H
#define REALPEER_LISTENER_H

#include "config.h"
#include "counters.h"
#include "datapath.h"
#include "prefix_set.h"

struct worker;

struct listener {
	unsigned int references;
	struct worker *worker;
	struct config *config;			/* counted reference */
	const struct listener_config *settings; /* in config */
	struct prefix_set trusted;		/* owned */
	uint64_t *counts;			/* the worker's row */
	uint32_t number;
	enum rp_offload offload;
	bool shows_client; /* getpeername() on the handler's socket can */
};

/* Listener `index` of `config` with one reference. 0 or -errno. */
int listener_new(struct worker *worker, struct config *config, size_t index,
		 uint32_t number, struct listener **ret_listener);

struct listener *listener_ref(struct listener *listener);
void listener_unref(struct listener *listener); /* NULL is fine */

/*
 * A connection that is lost, or not accepted yet, because we are out of
 * descriptors or memory: counts it, and says so, though not each time.
 */
void listener_shortage(struct listener *listener, const char *what, int error);

static inline void listener_count(struct listener *listener, enum rp_stat stat)
{
	counters_add(listener->counts, stat, 1);
}

#endif
