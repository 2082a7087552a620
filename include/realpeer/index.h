/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * index.h - array indices that the BPF verifier accepts.
 */
#ifndef REALPEER_INDEX_H
#define REALPEER_INDEX_H

#ifdef __bpf__

/*
 * `i` as an index of an array of `size`, a power of two. The caller knows
 * that it is in range; the verifier has to see it, in the register and right
 * before the access. The assembly keeps the compiler from dropping the mask
 * as useless, or from moving it to where the verifier loses track of it.
 */
#define rp_index(i, size)                                               \
	({                                                              \
		__u64 _i = (i);                                         \
		_Static_assert(((size) & (-1 + (size))) == 0, "mask");  \
		asm volatile("%0 &= %1" : "+r"(_i) : "i"(-1 + (size))); \
		_i;                                                     \
	})

#else

/* No mask here: the sanitizers shall see a wrong index. */
#define rp_index(i, size) (i)

#endif
#endif
