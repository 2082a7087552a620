/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * samples.h - durations, all of them kept, and what is said about them; and
 * the clocks. One process, one thread.
 */
#ifndef BENCH_SAMPLES_H
#define BENCH_SAMPLES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct samples {
	uint32_t *ns; /* owned; longer than 4 s counts as 4 s */
	size_t n, room;
};

/* Room for `room` samples; those beyond it are not kept. 0 or -ENOMEM. */
int samples_open(struct samples *samples, size_t room);
void samples_close(struct samples *samples);

void samples_add(struct samples *samples, uint64_t ns);

/* Writes {"p50":...,"p99":...,"p999":...,"max":...} in microseconds. */
void samples_print(struct samples *samples, FILE *out);

/* ns of CLOCK_MONOTONIC. */
uint64_t clock_ns(void);

/* CPU seconds that this process has used, in user mode and in the kernel. */
double cpu_seconds(void);

#endif
