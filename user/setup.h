/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * setup.h - a configuration together with what it comes to on this host.
 * Mistakes and plans are written to the stream that is given.
 */
#ifndef REALPEER_SETUP_H
#define REALPEER_SETUP_H

#include <stdio.h>

#include "config.h"
#include "datapath.h"
#include "plan.h"

/* All zero: nothing loaded. */
struct setup {
	struct config *config; /* owned reference */
	struct plan *plans;    /* one for each listener, owned */
	uint32_t *numbers;     /* likewise; whoever starts it fills it */
	bool *seen;	       /* likewise: its server, by setup_look() */
	size_t look_at;	       /* its next listener */
};

/* The server behind an inline listener. */
enum setup_target {
	SETUP_TARGET_FINE,    /* or not known, or not needed */
	SETUP_TARGET_AWAITED, /* it does not listen yet */
	SETUP_TARGET_MPTCP,
	SETUP_TARGET_CGROUP, /* beyond the reach of our hooks */
};

/* 0; or -EINVAL, told to `errors` as config_load() does, or -ENOMEM. */
int setup_load(const char *path, const struct attached *attached, FILE *errors,
	       struct setup *ret);
void setup_clear(struct setup *setup);

/*
 * Plans every listener. -EINVAL when one demands what cannot be had; told to
 * `errors` like the mistakes of a file.
 */
int setup_plan(struct setup *setup, const struct datapath_features *features,
	       FILE *errors);

/* For people: what each listener gets and why not more. */
void setup_print(const struct setup *setup, FILE *out);

/* The warning that a listener deserves, NULL if none. */
const char *setup_warning(const struct listener_config *listener);

/* The server as it is now, and what is to be said of it; NULL: nothing. */
enum setup_target setup_target(const struct listener_config *listener);
const char *setup_target_text(enum setup_target target);

/*
 * Looks for the servers of some listeners that were not seen yet, others each
 * time, and logs a warning of those whose connections will not be as planned.
 */
void setup_look(struct setup *setup);

/* "0.0.0.0:1883,[::]:1883", cut off when it does not fit. Returns `out`. */
const char *setup_listen_format(const struct listener_config *listener,
				char *out, size_t size);

#endif
