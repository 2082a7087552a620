// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * vectors.c - what the tables of vectors leave out, and a walk over them.
 */
#include "vectors.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void vectors_each(void (*check)(const struct vector *vector))
{
	static const struct vector *const tables[] = {
		vectors_v1,
		vectors_v2,
		vectors_v2_refused,
		vectors_foreign,
	};

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		for (const struct vector *v = tables[i]; v->name; v++)
			check(v);
}

__u32 vector_header_max(const struct vector *vector)
{
	return vector->header_max ? vector->header_max : VECTOR_HEADER_MAX;
}

size_t vector_decided(const struct vector *vector)
{
	return vector->decided ? vector->decided : vector->len;
}

void vector_address(const char *text, __u8 ret[16])
{
	char mapped[INET6_ADDRSTRLEN];

	snprintf(mapped, sizeof(mapped), "%s%s",
		 strchr(text, ':') ? "" : "::ffff:", text);
	if (inet_pton(AF_INET6, mapped, ret) != 1) {
		fprintf(stderr, "no address: %s\n", text);
		abort();
	}
}

void vector_expected(const struct vector *vector, struct rp_header *ret)
{
	*ret = vector->header;
	if (vector->verdict == RP_HEADER && !ret->length)
		ret->length = vector_decided(vector);
	if (!vector->source)
		return;
	vector_address(vector->source, ret->source);
	vector_address(vector->destination, ret->destination);
}
