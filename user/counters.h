/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * counters.h - one thread's counts, a row for each listener number.
 *
 * The thread that owns the rows is the only one that writes values; the main
 * thread adds rows and reads values whenever it likes, and zeroes a row that is
 * no listener's. A row stays until counters_free(), so that counts survive a
 * reload.
 */
#ifndef REALPEER_COUNTERS_H
#define REALPEER_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "realpeer/abi.h"

/* A column behind those of enum rp_stat: connections that are relayed now. */
#define COUNTERS_ACTIVE	 RP_STAT_COUNT
#define COUNTERS_COLUMNS (RP_STAT_COUNT + 1)

struct counters {
	uint64_t *rows[RP_LISTENERS_MAX]; /* owned; NULL: none yet */
	uint32_t users[RP_LISTENERS_MAX]; /* atomic */
};

/*
 * The row of a listener, made if need be, and in use until it is released as
 * often as it was taken. NULL: no memory, or no number.
 */
uint64_t *counters_take(struct counters *counters, uint32_t listener);
void counters_release(struct counters *counters, uint32_t listener);
bool counters_in_use(const struct counters *counters, uint32_t listener);

/* Zeroes a row that is not in use; none is fine. */
void counters_clear(struct counters *counters, uint32_t listener);

uint64_t counters_read(const struct counters *counters, uint32_t listener,
		       unsigned int column);

void counters_free(struct counters *counters);

/* A plain addition, since only one thread writes; relaxed for the readers. */
static inline void counters_add(uint64_t *row, unsigned int column, int64_t n)
{
	__atomic_store_n(&row[column],
			 __atomic_load_n(&row[column], __ATOMIC_RELAXED) + n,
			 __ATOMIC_RELAXED);
}

#endif
