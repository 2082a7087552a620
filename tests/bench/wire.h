/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * wire.h - writes the PROXY headers that a load balancer would send, and a
 * few that none should. Shares no code with the parser under test but the
 * table of CRC32C.
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <stddef.h>

#include "endpoint.h"

/* Version 1 needs 107, the longest of version 2 here 100. */
#define WIRE_HEADER_MAX 108

enum wire_header {
	WIRE_NONE,
	WIRE_V1,
	WIRE_V2,
	WIRE_V2_CRC32C, /* TLVs as of AWS NLB: CRC32C, NOOP; 100 bytes */
	WIRE_BROKEN,	/* version 2, shorter than its address block */
};

/* Both ends of one family. Returns the length. */
size_t wire_write(enum wire_header kind, const union endpoint *source,
		  const union endpoint *destination,
		  uint8_t out[static WIRE_HEADER_MAX]);

#endif
