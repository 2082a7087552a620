/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * daemon.h - realpeerd's main thread and its parts; only its own files
 * include it.
 *
 *	realpeerd.c	starts, waits, stops
 *	daemon_setup.c	puts configurations into force
 *	daemon_verbs.c	answers realpeerctl
 */
#ifndef REALPEER_DAEMON_H
#define REALPEER_DAEMON_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "attach.h"
#include "control.h"
#include "datapath.h"
#include "options.h"
#include "server.h"
#include "setup.h"

struct daemon {
	struct options options;
	struct datapath_features features;
	struct datapath *datapath; /* owned; NULL: no BPF */
	struct server *server;	   /* owned */
	struct control *control;   /* owned; NULL: no control socket */
	struct setup setup;	   /* the one in force */
	struct attached attached;  /* in it, but in no file */
	uint64_t started;
	int signals;	      /* signalfd, owned */
	uint64_t watchdog_ms; /* between two pings; 0: none */
	uint64_t watchdog_next;
	uint64_t upkeep_next; /* of the datapath; UINT64_MAX: never */
	bool keep_pins;	      /* when we go */
	/* While connections are drained: */
	bool stopping;
	pthread_t drain;
	int drained; /* eventfd, owned */
};

/*
 * Runs `step` and prints the errors that it writes, one a line; journald
 * takes the priority from the prefix. *ret_text, if wanted, gets all of them
 * and is to be freed.
 */
int daemon_run_step(struct daemon *daemon,
		    int (*step)(struct daemon *daemon, FILE *errors),
		    char **ret_text);

/* Reads the files and adds what is attached, for daemon->setup. */
int daemon_load(struct daemon *daemon, FILE *errors);

/* Gives each listener its number. */
void daemon_number(struct daemon *daemon, struct setup *setup);

/* What each listener got, and what the log shall show from now on. */
void daemon_log_listeners(const struct daemon *daemon);
void daemon_apply_log_level(const struct daemon *daemon);

/* Tells systemd. */
void daemon_notify_ready(const struct daemon *daemon);

/*
 * Loads anew and puts it into force, or keeps what was; logs. *ret_text has
 * the errors and is to be freed. 0 or -errno.
 */
int daemon_reload(struct daemon *daemon, char **ret_text);

/* Opens the control socket, unless there can be none. 0 or -errno. */
int daemon_open_control(struct daemon *daemon);

#endif
