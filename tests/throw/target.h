/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * target.h - the server that segments are thrown at: an ordinary one, that
 * knows of every byte and every client whether it may see it.
 */
#ifndef REALPEER_TESTS_TARGET_H
#define REALPEER_TESTS_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct target_counts {
	uint64_t accepted;
	uint64_t checked; /* the payload said whose it is, and all was right */
	uint64_t bytes;	  /* of payload, each as it should be */
	uint64_t good;	  /* connections of a client that means well */
	uint64_t closed;  /* before accept() returned */
	uint64_t wrong;	  /* anything else: each is told */
};

struct target;

/*
 * Listens on `fd` for streams of that seed. Those whose peer no SYN-ACK came
 * to, which `answered` tells by number below `n`, are not to be seen.
 */
struct target *target_new(int fd, uint64_t seed, const uint8_t *answered,
			  size_t n);

/* Serves what there is. `accepting`: new connections too. */
void target_serve(struct target *target, bool accepting);

/* Closes connections on which nothing came for `ms`; returns how many stay. */
unsigned int target_close_idle(struct target *target, uint64_t ms);

struct target_counts target_counts(const struct target *target);

#endif
