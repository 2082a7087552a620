/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * mutate.h - headers made by chance, the same ones after the same seed.
 */
#ifndef REALPEER_TESTS_MUTATE_H
#define REALPEER_TESTS_MUTATE_H

#include <stddef.h>

#include <linux/types.h>

#include "realpeer/abi.h"

/* What the kernel's parser takes at most. */
#define MUTATED_MAX RP_KERNEL_HEADER_MAX

void random_seed(__u32 seed);
__u32 random_below(__u32 n); /* 0 to n - 1 */

/*
 * A vector with mistakes, a v2 header of random TLVs or a v1 line of random
 * pieces. Returns its length, which may be 0.
 */
size_t mutated(__u8 ret[static MUTATED_MAX]);

/* A limit, mostly one that the header keeps. */
__u32 mutated_header_max(void);

#endif
