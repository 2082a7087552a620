/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * counters.c - see counters.h. Knows no listeners, only numbers.
 */
#include "counters.h"

#include <stdlib.h>

uint64_t *counters_row(struct counters *counters, uint32_t listener)
{
	if (listener >= RP_LISTENERS_MAX)
		return NULL;
	if (!counters->rows[listener])
		counters->rows[listener] =
			calloc(COUNTERS_COLUMNS, sizeof(uint64_t));
	return counters->rows[listener];
}

uint64_t counters_read(const struct counters *counters, uint32_t listener,
		       unsigned int column)
{
	if (listener >= RP_LISTENERS_MAX || !counters->rows[listener])
		return 0;
	return __atomic_load_n(&counters->rows[listener][column],
			       __ATOMIC_RELAXED);
}

void counters_free(struct counters *counters)
{
	for (uint32_t i = 0; i < RP_LISTENERS_MAX; i++) {
		free(counters->rows[i]);
		counters->rows[i] = NULL;
	}
}
