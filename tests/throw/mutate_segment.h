/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mutate_segment.h - makes a segment wrong, or only strange.
 */
#ifndef REALPEER_TESTS_MUTATE_SEGMENT_H
#define REALPEER_TESTS_MUTATE_SEGMENT_H

#include "fuzz.h"
#include "segment.h"

/* One to three changes. */
void mutate_segment(struct segment *segment, struct dice *dice);

#endif
