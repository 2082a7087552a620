// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * throw.c - throws TCP segments, many of them wrong, at an inline listener
 * whose server it is itself. tests/e2e/test_packet_fuzz.py gives it a packet
 * socket, a listening socket and the rest of the world. When all is thrown it
 * says so and goes on as a server, until SIGTERM. The last line is JSON; the
 * exit status is 1 if the server saw what it must not.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "flow.h"
#include "target.h"

#define BURST	   32  /* segments between two looks at the server */
#define IDLE_MS	   500 /* a connection that says nothing is closed */
#define ANSWER_MS  600
#define DEAF_AFTER 4000 /* segments; for as many the server accepts nobody */
#define DEAF_FOR   400

static struct flows flows;
static volatile sig_atomic_t ended;

static void on_signal(int number)
{
	(void)number;
	ended = 1;
}

static void usage(void)
{
	fputs("usage: throw SEED SEGMENTS FIRST WIRE LISTENING SERVER-MAC OWN-MAC\n"
	      "\t     [SHOWN]\n"
	      "SEED and SEGMENTS are numbers, FIRST that of the first flow,\n"
	      "WIRE and LISTENING descriptors. The segments of flow SHOWN are "
	      "printed.\n",
	      stderr);
	exit(2);
}

static void parse_mac(const char *text, uint8_t mac[6])
{
	if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1],
		   &mac[2], &mac[3], &mac[4], &mac[5]) != 6)
		usage();
}

static void sleep_ms(unsigned int ms)
{
	struct timespec time = {.tv_nsec = ms * 1000000};

	nanosleep(&time, NULL);
}

static void throw_all(struct target *target, uint64_t segments)
{
	while (flows.counts.frames < segments) {
		for (int i = 0; i < BURST; i++)
			flows_step(&flows);
		flows_receive(&flows);
		target_serve(target,
			     flows.counts.frames % DEAF_AFTER >= DEAF_FOR);
		target_close_idle(target, IDLE_MS);
	}
}

/* A server like any other. */
static void serve_for(struct target *target, unsigned int ms)
{
	for (unsigned int i = 0; i < ms / 5 && !ended; i++) {
		flows_receive(&flows);
		target_serve(target, true);
		target_close_idle(target, IDLE_MS);
		sleep_ms(5);
	}
}

static void report(const struct target *target)
{
	struct target_counts t = target_counts(target);
	const struct flow_counts *f = &flows.counts;

	printf("{\"frames\":%llu,\"flows\":%llu,\"syn_acks\":%llu,"
	       "\"resets\":%llu,\"accepted\":%llu,\"checked\":%llu,"
	       "\"bytes\":%llu,\"good\":%llu,\"closed\":%llu,\"wrong\":%llu}\n",
	       (unsigned long long)f->frames, (unsigned long long)f->flows,
	       (unsigned long long)f->syn_acks, (unsigned long long)f->resets,
	       (unsigned long long)t.accepted, (unsigned long long)t.checked,
	       (unsigned long long)t.bytes, (unsigned long long)t.good,
	       (unsigned long long)t.closed, (unsigned long long)t.wrong);
}

int main(int argc, char **argv)
{
	static struct target *target; /* in use until exit() */
	uint64_t segments;
	int listening;

	if (argc != 8 && argc != 9)
		usage();
	flows.shown = argc > 8 ? atoll(argv[8]) : -1;
	flows.seed = strtoull(argv[1], NULL, 0);
	flows.dice.state = flows.seed;
	segments = strtoull(argv[2], NULL, 0);
	flows.first = flows.next = strtoull(argv[3], NULL, 0);
	flows.wire.fd = atoi(argv[4]);
	listening = atoi(argv[5]);
	parse_mac(argv[6], flows.wire.destination);
	parse_mac(argv[7], flows.wire.source);
	holds(fcntl(listening, F_SETFL, O_NONBLOCK) == 0);
	holds(fcntl(flows.wire.fd, F_SETFL, 0) == 0);
	signal(SIGTERM, on_signal);
	target = target_new(listening, flows.seed, flows.answered, FLOWS_MAX);
	throw_all(target, segments);
	/* Twice: a socket that has just answered is silent for half a second.
	 */
	for (int i = 0; i < 2; i++) {
		serve_for(target, ANSWER_MS);
		flows_hang_up(&flows);
	}
	puts("thrown");
	fflush(stdout);
	while (!ended)
		serve_for(target, ANSWER_MS);
	report(target);
	return target_counts(target).wrong ? 1 : 0;
}
