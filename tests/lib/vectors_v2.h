/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vectors_v2.h - pieces of binary headers, for the tables of them.
 */
#ifndef REALPEER_TESTS_VECTORS_V2_H
#define REALPEER_TESTS_VECTORS_V2_H

#include "vectors.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V2_PROXY  SIGNATURE "\x21"
#define V2_LOCAL  SIGNATURE "\x20"

/* 192.0.2.1 port 50000 to 198.51.100.2 port 1883: 12 bytes. */
#define BLOCK4             \
	"\xc0\x00\x02\x01" \
	"\xc6\x33\x64\x02" \
	"\xc3\x50"         \
	"\x07\x5b"
/* A header with them; `len` is its length field, two characters. */
#define TCP4(len) V2_PROXY "\x11" len BLOCK4
#define CLIENT4	  PROXY(2, "192.0.2.1", 50000, "198.51.100.2", 1883)

/* 2001:db8::1 port 50000 to 2001:db8::2 port 1883: 36 bytes. */
#define BLOCK6                                       \
	"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01" \
	"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02" \
	"\xc3\x50"                                   \
	"\x07\x5b"
#define CLIENT6 PROXY(2, "2001:db8::1", 50000, "2001:db8::2", 1883)

/* Two socket paths, 216 bytes; each of six characters and zeros. */
#define PATH(name) name X16("\0\0\0\0\0\0") "\0\0\0\0\0\0"
#define BLOCK_UNIX PATH("/tmp/a") PATH("/tmp/b")

#endif
