/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * clock.c - see clock.h. Deadlines within the daemon are no matter of records:
 * clock_ms() of event.h is for them.
 */
#include "clock.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define NS_PER_S 1000000000ll

/* What clock_gettime() adds in our time namespace, time_namespaces(7). */
static int64_t offset_ns;

static void read_offset(void)
{
	FILE *offsets = fopen("/proc/self/timens_offsets", "re");
	long long s, ns;

	/* A kernel without time namespaces has no such file. */
	if (!offsets)
		return;
	if (fscanf(offsets, "monotonic %*d %*d boottime %lld %lld", &s, &ns) ==
	    2)
		offset_ns = s * NS_PER_S + ns;
	fclose(offsets);
}

uint64_t clock_boot_ns(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct timespec now;

	pthread_once(&once, read_offset);
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)(now.tv_sec * NS_PER_S + now.tv_nsec - offset_ns);
}
