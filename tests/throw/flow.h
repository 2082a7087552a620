/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flow.h - peers that connect, say some of their stream, and go: each a
 * sequence of segments that follows from its number, many of them wrong.
 */
#ifndef REALPEER_TESTS_FLOW_H
#define REALPEER_TESTS_FLOW_H

#include "fuzz.h"
#include "segment.h"

#define FLOWS	  256 /* at a time */
#define FLOWS_MAX (1u << 24)

struct flow {
	struct stream stream;
	struct dice dice; /* for all that it does */
	uint32_t isn;
	uint32_t ack; /* what it acknowledges */
	bool open;    /* a SYN-ACK came */
	bool timestamps;
	uint32_t tsval, tsecr;
	uint32_t said;	    /* bytes of the stream, in order */
	int32_t most;	    /* and with those out of order */
	int32_t end;	    /* where a FIN stands, or NO_END */
	unsigned int steps; /* that are left; 0: a new one takes the place */
};

/* What was seen on the wire, for a look at what the fuzzing is worth. */
struct flow_counts {
	uint64_t frames, flows, syn_acks, resets;
};

struct flows {
	struct wire wire;
	uint64_t seed;
	uint32_t first, next; /* numbers of the first and the next flow */
	int64_t shown; /* number of one whose segments are printed; -1: none */
	struct dice dice;
	struct flow all[FLOWS];
	uint8_t by_port[STREAM_PORTS]; /* the place of who has it, perhaps */
	uint8_t answered[FLOWS_MAX];   /* by number: a SYN-ACK came */
	struct flow_counts counts;
	bool over;
};

/* One flow does one thing. */
void flows_step(struct flows *flows);

/* Takes in what the other side sent. */
void flows_receive(struct flows *flows);

/*
 * From now on every peer says that it knows of no connection, as a host does
 * that was started anew; and asks each that there was to say something.
 */
void flows_hang_up(struct flows *flows);

#endif
