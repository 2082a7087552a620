/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * distance.c - how far two CPUs are from each other: the ns that a cache line
 * takes from one to the other and back. Those of a guest move, and what a
 * system on one costs, with its peers on the other, moves with them.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "samples.h"

#define PASSES 5 /* the least counts: an interrupt in one is no distance */
#define TURNS  10000

static _Alignas(64) _Atomic unsigned int ball;

static int run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

static void *return_ball(void *cpu)
{
	if (run_on(*(int *)cpu))
		exit(1);
	for (unsigned int turn = 0; turn < PASSES * TURNS; turn++) {
		while (ball != 2 * turn + 1)
			;
		ball = 2 * turn + 2;
	}
	return NULL;
}

static uint64_t pass_ns(unsigned int pass)
{
	uint64_t begin = clock_ns();

	for (unsigned int i = 0; i < TURNS; i++) {
		unsigned int turn = pass * TURNS + i;

		ball = 2 * turn + 1;
		while (ball != 2 * turn + 2)
			;
	}
	return clock_ns() - begin;
}

int main(int argc, char **argv)
{
	uint64_t least = UINT64_MAX;
	pthread_t thread;
	int cpus[2];

	if (argc != 3) {
		fputs("usage: distance CPU CPU\n"
		      "Prints {\"round_trip_ns\":N} of a cache line.\n",
		      stderr);
		return 2;
	}
	for (int i = 0; i < 2; i++)
		cpus[i] = atoi(argv[i + 1]);
	if (cpus[0] == cpus[1] || run_on(cpus[0])) {
		fputs("distance: two CPUs that this process may use\n", stderr);
		return 1;
	}
	if (pthread_create(&thread, NULL, return_ball, &cpus[1]))
		return 1;
	for (unsigned int pass = 0; pass < PASSES; pass++) {
		uint64_t ns = pass_ns(pass);

		least = ns < least ? ns : least;
	}
	pthread_join(thread, NULL);
	printf("{\"round_trip_ns\":%.0f}\n", (double)least / TURNS);
	return 0;
}
