/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * prefix_set.c - see prefix_set.h. What a prefix contains is address.c's.
 */
#include "prefix_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* By address; of the same address the wider prefix first. */
static int compare(const void *a, const void *b)
{
	const struct prefix *left = a, *right = b;
	int order = memcmp(left->address, right->address, 16);

	return order ? order : left->length - right->length;
}

int prefix_set_make(const struct prefix *prefixes, size_t n,
		    struct prefix_set *ret_set)
{
	struct prefix *sorted;
	size_t kept = 0;

	if (n == 0) {
		*ret_set = (struct prefix_set){0};
		return 0;
	}
	sorted = malloc(n * sizeof(*sorted));
	if (!sorted)
		return -ENOMEM;
	memcpy(sorted, prefixes, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), compare);
	/* What lies within another follows it directly. */
	for (size_t i = 0; i < n; i++) {
		if (kept == 0 ||
		    !prefix_contains(&sorted[kept - 1], sorted[i].address))
			sorted[kept++] = sorted[i];
	}
	*ret_set = (struct prefix_set){.prefixes = sorted, .n = kept};
	return 0;
}

void prefix_set_free(struct prefix_set *set)
{
	free(set->prefixes);
	*set = (struct prefix_set){0};
}

bool prefix_set_contains(const struct prefix_set *set,
			 const uint8_t address[16])
{
	size_t low = 0, high = set->n;

	/* The last prefix that does not begin behind the address. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (memcmp(set->prefixes[middle].address, address, 16) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 && prefix_contains(&set->prefixes[low - 1], address);
}
