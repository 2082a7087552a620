/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * capability.h - which capabilities(7) the process has, and which of those that
 * BPF programs take it lacks. For messages: whether something works is found by
 * trying.
 */
#ifndef REALPEER_CAPABILITY_H
#define REALPEER_CAPABILITY_H

#include <stdint.h>

#define CAPABILITY_TEXT_MAX 80

/* What all of offload accept, offload peek and getpeername take. */
#define CAPABILITY_BPF_NEEDS "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"

/* A bit for each capability that is effective; all when it is not known. */
uint64_t capability_effective(void);

/*
 * "CAP_BPF and CAP_PERFMON are missing" for what programs take and `effective`
 * has not, "" if it has all. Returns `out`.
 */
const char *capability_missing(uint64_t effective,
			       char out[CAPABILITY_TEXT_MAX]);

#endif
