/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * crc32c.h - CRC32C (Castagnoli), RFC 4960 appendix B, byte by byte.
 */
#ifndef REALPEER_CRC32C_H
#define REALPEER_CRC32C_H

#include <linux/types.h>

#include "realpeer/index.h"

/*
 * The remainder of byte i. A CRC is linear: the remainder of a byte is the
 * sum of those of its bits, each of which is the one above it, divided once.
 */
#define RP_CRC32C_1(i)                                                     \
	((0x80 & (i) ? 0x82f63b78u : 0) ^ (0x40 & (i) ? 0x417b1dbcu : 0) ^ \
	 (0x20 & (i) ? 0x20bd8edeu : 0) ^ (0x10 & (i) ? 0x105ec76fu : 0) ^ \
	 (0x08 & (i) ? 0x8ad958cfu : 0) ^ (0x04 & (i) ? 0xc79a971fu : 0) ^ \
	 (0x02 & (i) ? 0xe13b70f7u : 0) ^ (0x01 & (i) ? 0xf26b8303u : 0))
#define RP_CRC32C_4(i)                                              \
	RP_CRC32C_1(i), RP_CRC32C_1((i) + 1), RP_CRC32C_1((i) + 2), \
		RP_CRC32C_1((i) + 3)
#define RP_CRC32C_16(i)                                             \
	RP_CRC32C_4(i), RP_CRC32C_4((i) + 4), RP_CRC32C_4((i) + 8), \
		RP_CRC32C_4((i) + 12)
#define RP_CRC32C_64(i)                                                  \
	RP_CRC32C_16(i), RP_CRC32C_16((i) + 16), RP_CRC32C_16((i) + 32), \
		RP_CRC32C_16((i) + 48)

static const __u32 rp_crc32c_table[256] = {
	RP_CRC32C_64(0),
	RP_CRC32C_64(64),
	RP_CRC32C_64(128),
	RP_CRC32C_64(192),
};

/* Start with ~0, end with ~crc. */
static inline __u32 rp_crc32c(__u32 crc, __u8 byte)
{
	return rp_crc32c_table[rp_index((crc ^ byte) & 0xff, 256)] ^ crc >> 8;
}

#endif
