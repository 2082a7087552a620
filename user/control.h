/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * control.h - the control socket, both ends: a unix stream socket on which
 * each line is a JSON object.
 *
 *	{"verb": "status"}
 *	{"ok": true, "result": ...}  or  {"ok": false, "error": "text"}
 *
 * Only root and the daemon's own user are served. The daemon's end never
 * blocks: clients, requests and the time that either may take are limited.
 */
#ifndef REALPEER_CONTROL_H
#define REALPEER_CONTROL_H

#include <jansson.h>
#include <stddef.h>
#include <stdio.h>

#define CONTROL_CLIENTS_MAX 8	  /* more wait in the backlog */
#define CONTROL_REQUEST_MAX 4096  /* bytes, newline included */
#define CONTROL_DEADLINE_MS 10000 /* for a request, and for its answer */
#define CONTROL_ANSWER_MAX  (256u << 20)
#define CONTROL_PAUSE_MS    200 /* without a descriptor for a client */

#define CONTROL_PATH_MAX 108 /* sun_path */

/* $REALPEER_RUN/control; 0 or -ENAMETOOLONG. */
int control_path(char out[CONTROL_PATH_MAX]);

/*
 * Writes the result, one JSON value without newline, to `out` and returns 0;
 * or writes what went wrong, as plain text, and returns -errno.
 */
struct control_verb {
	const char *name;
	int (*run)(const json_t *request, FILE *out, void *arg);
};

struct control;

/*
 * Listens on `path` (its directory is made when it is missing). `verbs` must
 * outlive it. -EADDRINUSE: another daemon answers there. 0 or -errno.
 */
int control_open(const char *path, const struct control_verb *verbs,
		 size_t n_verbs, void *arg, struct control **ret_control);

/* Closes, and removes the socket; NULL is fine. */
void control_close(struct control *control);

/* For poll(): readable when control_dispatch() has something to do. */
int control_fd(const struct control *control);

/* Milliseconds until it has something to do anyway, -1: never. */
int control_timeout_ms(const struct control *control);
void control_dispatch(struct control *control);

/*
 * Asks the daemon at `path` and waits for its answer. Returns 0 with a new
 * reference in *ret_result, -ENOENT or -ECONNREFUSED when none runs,
 * -EREMOTEIO with its error text in *ret_error (to be freed), or another
 * -errno.
 */
int control_call(const char *path, const json_t *request, json_t **ret_result,
		 char **ret_error);

#endif
