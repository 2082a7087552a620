/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * talk.h - what is said over a connection of the load generator in each mode,
 * and what is counted. Opens no connections; that is load.c's.
 */
#ifndef BENCH_TALK_H
#define BENCH_TALK_H

#include "client.h"
#include "samples.h"

struct load {
	const struct options *options;
	struct client *clients; /* owned; in_flight of them, or all (idle) */
	struct client *spare;	/* places without a connection */
	struct client *waiting; /* for pauses to end, the first to end first */
	struct client **waiting_end;
	struct samples samples;
	int epoll; /* owned */
	uint32_t opened;
	uint32_t active;
	uint32_t done;
	uint32_t ready;	  /* have had a first answer */
	uint64_t answers; /* to requests */
	uint64_t bytes;
	uint64_t started, ended; /* of what is measured */
	uint64_t progress;	 /* when anything last happened */
	double cpu_before;
	uint32_t failed, wrong_peer, answered, refused;
	int error; /* of the first that failed */
	char wrong[2 * ENDPOINT_TEXT_MAX + 16];
};

/* What a connection says after its header. */
const char *talk_line(const struct options *options, char out[FIRST_LINE_MAX]);

enum talk {
	TALK_ON,
	TALK_DONE,    /* close it */
	TALK_ERROR,   /* it failed; close it */
	TALK_REFUSED, /* as it should; close it */
};

/* Header and first line are sent. */
enum talk talk_begin(struct load *load, struct client *client);

/* Epoll said something about a client that has begun. */
enum talk talk_go_on(struct load *load, struct client *client, uint32_t events);

/* MODE_REQUEST: the measured requests begin. MODE_IDLE: the last question. */
enum talk talk_ask(struct load *load, struct client *client);

#endif
