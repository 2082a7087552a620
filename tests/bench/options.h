/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * options.h - the command line of the load generator.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "endpoint.h"
#include "wire.h"

enum mode {
	MODE_CONNECT, /* connect, ask WHO, close; over and over */
	MODE_REQUEST, /* ECHO over connections that stay */
	MODE_UP,
	MODE_DOWN,
	MODE_IDLE,
	MODE_REFUSE,
};

enum rubbish {
	RUBBISH_HEADER, /* a good one; perhaps from the wrong address */
	RUBBISH_BROKEN,
	RUBBISH_PAYLOAD, /* no header */
	RUBBISH_SILENT,	 /* nothing at all */
};

struct options {
	enum mode mode;
	const char *mode_name;
	union endpoint target;
	enum wire_header header;
	enum rubbish rubbish;
	struct pool clients; /* whom the headers name */
	struct pool sources; /* what the sockets are bound to */
	uint32_t connections;
	uint32_t in_flight;
	uint64_t requests;
	uint64_t bytes; /* of each connection */
	uint32_t size;	/* of a request */
	uint32_t pieces;
	uint64_t pause_ns; /* between pieces */
	uint64_t rate_ns;  /* between the starts of connections; 0: none */
	uint64_t timeout_ns;
	bool apart; /* the payload is not sent with the header */
	bool check;
};

/* Exits after --help and, with status 2, when something is wrong. */
void options_parse(int argc, char **argv, struct options *ret);

#endif
