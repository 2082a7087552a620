/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * counters.c - see counters.h. Knows no listeners, only numbers.
 */
#include "counters.h"

#include <stdlib.h>
#include <string.h>

uint64_t *counters_take(struct counters *counters, uint32_t listener)
{
	if (listener >= RP_LISTENERS_MAX)
		return NULL;
	if (!counters->rows[listener])
		counters->rows[listener] =
			calloc(COUNTERS_COLUMNS, sizeof(uint64_t));
	if (counters->rows[listener])
		__atomic_add_fetch(&counters->users[listener], 1,
				   __ATOMIC_RELAXED);
	return counters->rows[listener];
}

void counters_release(struct counters *counters, uint32_t listener)
{
	__atomic_sub_fetch(&counters->users[listener], 1, __ATOMIC_RELEASE);
}

bool counters_in_use(const struct counters *counters, uint32_t listener)
{
	return listener < RP_LISTENERS_MAX &&
	       __atomic_load_n(&counters->users[listener], __ATOMIC_ACQUIRE);
}

void counters_clear(struct counters *counters, uint32_t listener)
{
	if (listener < RP_LISTENERS_MAX && counters->rows[listener])
		memset(counters->rows[listener], 0,
		       COUNTERS_COLUMNS * sizeof(uint64_t));
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
