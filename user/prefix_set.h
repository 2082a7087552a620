/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * prefix_set.h - is an address in any of many prefixes? Asked for every
 * connection, so answered by a binary search. Immutable.
 */
#ifndef REALPEER_PREFIX_SET_H
#define REALPEER_PREFIX_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"

/* In order of address, and none within another. */
struct prefix_set {
	struct prefix *prefixes; /* array, owned */
	size_t n;
};

/* 0 or -ENOMEM. An empty set contains nothing. */
int prefix_set_make(const struct prefix *prefixes, size_t n,
		    struct prefix_set *ret_set);
void prefix_set_free(struct prefix_set *set);

bool prefix_set_contains(const struct prefix_set *set,
			 const uint8_t address[16]);

#endif
