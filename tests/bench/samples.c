/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * samples.c - see samples.h.
 */
#include "samples.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define NS_PER_S 1000000000ull

int samples_open(struct samples *samples, size_t room)
{
	uint32_t *ns = malloc((room ? room : 1) * sizeof(*ns));

	if (!ns)
		return -ENOMEM;
	*samples = (struct samples){.ns = ns, .room = room};
	return 0;
}

void samples_close(struct samples *samples)
{
	free(samples->ns);
	*samples = (struct samples){.ns = NULL};
}

void samples_add(struct samples *samples, uint64_t ns)
{
	if (samples->n < samples->room)
		samples->ns[samples->n++] = ns < UINT32_MAX ? ns : UINT32_MAX;
}

static int compare(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

	return (a > b) - (a < b);
}

/* The nearest rank: the least sample that so many of 1000 don't exceed. */
static double rank_us(const struct samples *samples, size_t permille)
{
	size_t rank = (samples->n * permille + 999) / 1000;

	return samples->n ? samples->ns[rank ? rank - 1 : 0] / 1000.0 : 0.0;
}

void samples_print(struct samples *samples, FILE *out)
{
	qsort(samples->ns, samples->n, sizeof(*samples->ns), compare);
	fprintf(out, "{\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f}",
		rank_us(samples, 500), rank_us(samples, 990),
		rank_us(samples, 999), rank_us(samples, 1000));
}

uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

double cpu_seconds(void)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return used.tv_sec + used.tv_nsec / 1e9;
}
