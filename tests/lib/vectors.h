/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vectors.h - PROXY protocol headers, good and bad, and what must come of
 * them; for the tests of the parser on both sides.
 */
#ifndef REALPEER_TESTS_VECTORS_H
#define REALPEER_TESTS_VECTORS_H

#include <stddef.h>

#include "realpeer/proxy_header.h"

#define VECTOR_HEADER_MAX 4096

struct vector {
	const char *name;
	const __u8 *bytes;
	size_t len;
	/*
	 * How many bytes decide it: with fewer the verdict is RP_INCOMPLETE,
	 * with as many or more it is the one below. 0: all of them.
	 */
	size_t decided;
	__u32 header_max; /* 0: VECTOR_HEADER_MAX */
	enum rp_verdict verdict;
	const char *source; /* as text; NULL: no addresses */
	const char *destination;
	struct rp_header header; /* all else; .length 0: .decided */
};

extern const struct vector vectors_v1[]; /* the last one has no name */
extern const struct vector vectors_v2[];
extern const struct vector vectors_v2_refused[];
extern const struct vector vectors_foreign[]; /* other protocols */

/* Calls `check` for every vector of all tables. */
void vectors_each(void (*check)(const struct vector *vector));

__u32 vector_header_max(const struct vector *vector);
size_t vector_decided(const struct vector *vector);

/* The whole of what rp_parse() must give, addresses and length included. */
void vector_expected(const struct vector *vector, struct rp_header *ret);

/* IPv4 as v4-mapped; aborts on text that is no address. */
void vector_address(const char *text, __u8 ret[16]);

/* For the tables. */

#define INPUT(string) .bytes = (const __u8 *)(string), .len = sizeof(string) - 1

#define PROXY(v, from, from_port, to, to_port)                       \
	.verdict = RP_HEADER, .source = (from), .destination = (to), \
	.header.version = (v), .header.command = RP_COMMAND_PROXY,   \
	.header.source_port = (from_port),                           \
	.header.destination_port = (to_port)

#define LOCAL(v)                                     \
	.verdict = RP_HEADER, .header.version = (v), \
	.header.command = RP_COMMAND_LOCAL

#define MALFORMED(reason) \
	.verdict = RP_MALFORMED, .header.fault = RP_FAULT_##reason

#define INCOMPLETE(bytes) .verdict = RP_INCOMPLETE, .header.need = (bytes)

/* Text of 16, 128 and 1024 times `string`. */
#define X4(string)    string string string string
#define X16(string)   X4(string) X4(string) X4(string) X4(string)
#define X128(string)  X16(X4(string) X4(string))
#define X1024(string) X128(X4(string) X4(string))

#endif
