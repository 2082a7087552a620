/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * status.h - what the daemon tells about itself on the control socket, as
 * JSON. Reads; must not change anything.
 */
#ifndef REALPEER_STATUS_H
#define REALPEER_STATUS_H

#include <stdint.h>
#include <stdio.h>

#include "config.h"
#include "datapath.h"
#include "plan.h"
#include "server.h"

/* Connections of one answer; the pinned map can tell of more. */
#define STATUS_CONNECTIONS_MAX 200000

/* What there is to tell; nothing here is owned. */
struct status {
	const char *config_path;
	const struct config *config;
	const struct plan *plans; /* one for each listener */
	const uint32_t *numbers;  /* likewise */
	struct server *server;
	struct datapath *datapath; /* may be NULL */
	uint64_t started;	   /* s of CLOCK_BOOTTIME */
};

/*
 * Each writes one JSON value without newline and returns 0, or an error as
 * text and returns -errno: what a control_verb does.
 *
 * status: {"running": true, "version", "pid", "uptime", "config",
 *	    "listeners": [{"name", "listen": [], "mode", "delivery", "offload",
 *			   "why", "handler", "client_address", "active"}]}
 * stats:  {"listeners": {NAME: view_stats()}}
 * connections: [view_connection()], the relayed ones
 */
int status_write(const struct status *status, FILE *out);
int status_write_stats(const struct status *status, FILE *out);
int status_write_connections(const struct status *status, FILE *out);

#endif
