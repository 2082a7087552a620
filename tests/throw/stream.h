/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * stream.h - what each thrown connection says, and what must come of it. All
 * of it follows from the seed and the connection's number, so whoever reads a
 * number in a payload knows every byte around it.
 *
 *	header, whole or damaged | magic, number, bytes by position
 */
#ifndef REALPEER_TESTS_STREAM_H
#define REALPEER_TESTS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Above the listener's header_max of 4096: no header is longer. */
#define STREAM_START  8192
#define STREAM_MAGIC  8
#define STREAM_MARKER (STREAM_MAGIC + 8) /* and the number, twice */

#define STREAM_PORT_FIRST 1024
#define STREAM_PORTS	  60000
#define STREAM_PEERS	  8 /* addresses of each kind of peer */

struct stream {
	uint32_t number;
	bool v6;      /* the connection, not the client */
	bool trusted; /* its peer */
	uint8_t peer[16];
	uint16_t peer_port;
	bool served;	/* a server sees `client` and all behind the header */
	size_t payload; /* where that begins; without one: STREAM_START */
	uint8_t client[16];
	uint16_t client_port;
	uint8_t start[STREAM_START];
};

extern const uint8_t stream_magic[STREAM_MAGIC];

void stream_make(struct stream *stream, uint64_t seed, uint32_t number);

/* Any position; before the first byte there is rubbish. */
uint8_t stream_byte(const struct stream *stream, int64_t at);

/* The payload's byte `at`, be it served or not. */
uint8_t stream_payload(const struct stream *stream, uint64_t at);

/* Peer `index` of a kind: 10.77.0.100 and so on; untrusted 10.88.0.100. */
void stream_peer(bool v6, bool trusted, unsigned int index, uint8_t ret[16]);

#endif
