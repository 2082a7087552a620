// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * vectors_v2_refused.c - binary headers that are malformed or too long. Each
 * is refused at its last byte, if no other is named.
 */
#include "vectors_v2.h"

const struct vector vectors_v2_refused[] = {
	/* Malformed in the first 16 bytes. */
	{
		.name = "v2 signature, version 1",
		INPUT(SIGNATURE "\x11"),
		MALFORMED(V2_VERSION),
	},
	{
		.name = "v2 signature, version 3",
		INPUT(SIGNATURE "\x31"),
		MALFORMED(V2_VERSION),
	},
	{
		.name = "v2 command 2",
		INPUT(SIGNATURE "\x22"),
		MALFORMED(V2_COMMAND),
	},
	{
		.name = "v2 command 15",
		INPUT(SIGNATURE "\x2f"),
		MALFORMED(V2_COMMAND),
	},
	{
		.name = "v2 family 4",
		INPUT(V2_PROXY "\x41"),
		MALFORMED(V2_FAMILY),
	},
	{
		.name = "v2 transport 3",
		INPUT(V2_PROXY "\x13"),
		MALFORMED(V2_FAMILY),
	},
	{
		.name = "v2 TCP4 without addresses",
		INPUT(V2_PROXY "\x11\x00\x00"),
		MALFORMED(V2_LENGTH),
	},
	{
		.name = "v2 TCP4 of 11 bytes",
		INPUT(V2_PROXY "\x11\x00\x0b"),
		MALFORMED(V2_LENGTH),
	},
	{
		.name = "v2 TCP6 of 35 bytes",
		INPUT(V2_PROXY "\x21\x00\x23"),
		MALFORMED(V2_LENGTH),
	},
	{
		.name = "v2 UDP6 of 12 bytes",
		INPUT(V2_PROXY "\x22\x00\x0c"),
		MALFORMED(V2_LENGTH),
	},
	{
		.name = "v2 UNIX of 215 bytes",
		INPUT(V2_PROXY "\x31\x00\xd7"),
		MALFORMED(V2_LENGTH),
	},
	{
		.name = "v2 PROXY like an AWS health check",
		INPUT(V2_PROXY "\x21\x00\x07"
			       "\x03\x00\x04"
			       "\0\0\0\0"),
		.decided = 16,
		MALFORMED(V2_LENGTH),
	},

	/* Malformed TLVs. */
	{
		.name = "v2 one byte of a TLV",
		INPUT(TCP4("\x00\x0d") "\x04"),
		MALFORMED(TLV_LENGTH),
	},
	{
		.name = "v2 two bytes of a TLV",
		INPUT(TCP4("\x00\x0e") "\x04\x00"),
		MALFORMED(TLV_LENGTH),
	},
	{
		.name = "v2 two bytes of a second TLV",
		INPUT(TCP4("\x00\x12") "\x04\x00\x01"
				       "a"
				       "\x04\x00"),
		MALFORMED(TLV_LENGTH),
	},
	{
		.name = "v2 TLV one byte too long, payload behind",
		INPUT(TCP4("\x00\x10") "\x02\x00\x02"
				       "a"
				       "b"),
		.decided = 32,
		MALFORMED(TLV_LENGTH),
	},
	{
		.name = "v2 TLV of 65535 bytes",
		INPUT(TCP4("\x00\x10") "\x02\xff\xff"
				       "a"),
		MALFORMED(TLV_LENGTH),
	},
	{
		.name = "v2 UNSPEC, no TLVs but something",
		INPUT(V2_PROXY "\x00\x00\x04"
			       "\xc0\x00\x02\x01"),
		MALFORMED(TLV_LENGTH),
	},
	{
		.name = "v2 CRC32C one bit off",
		INPUT(V2_PROXY "\x11\x00\x13" BLOCK4 "\x03\x00\x04"
			       "\xb8\xab\x27\x2d"), /* not 2c */
		MALFORMED(CRC32C_MISMATCH),
	},
	{
		.name = "v2 CRC32C of UNSPEC, wrong",
		INPUT(V2_PROXY "\x00\x00\x07"
			       "\x03\x00\x04"
			       "\0\0\0\0"),
		MALFORMED(CRC32C_MISMATCH),
	},
	{
		.name = "v2 CRC32C of 3 bytes",
		INPUT(TCP4("\x00\x12") "\x03\x00\x03"
				       "\0\0\0"),
		MALFORMED(CRC32C_LENGTH),
	},
	{
		.name = "v2 CRC32C of 5 bytes",
		INPUT(TCP4("\x00\x14") "\x03\x00\x05"
				       "\0\0\0\0\0"),
		MALFORMED(CRC32C_LENGTH),
	},
	{
		.name = "v2 two CRC32C",
		INPUT(TCP4("\x00\x1a") "\x03\x00\x04"
				       "\0\0\0\0"
				       "\x03\x00\x04"
				       "\0\0\0\0"),
		MALFORMED(CRC32C_REPEATED),
	},
	{
		.name = "v2 unique id of 129 bytes",
		INPUT(TCP4("\x00\x90") "\x05\x00\x81" X128("u") "u"),
		MALFORMED(UNIQUE_ID_LENGTH),
	},
	{
		.name = "v2 second unique id of 129 bytes",
		INPUT(TCP4("\x00\x94") "\x05\x00\x01"
				       "u"
				       "\x05\x00\x81" X128("u") "u"),
		MALFORMED(UNIQUE_ID_LENGTH),
	},
	{
		.name = "v2 SSL of 4 bytes",
		INPUT(TCP4("\x00\x13") "\x20\x00\x04"
				       "\x01"
				       "\0\0\0"),
		MALFORMED(SSL_LENGTH),
	},
	{
		.name = "v2 SSL, two bytes of a TLV within",
		INPUT(TCP4("\x00\x16") "\x20\x00\x07"
				       "\x01"
				       "\0\0\0\0"
				       "\x21\x00"),
		MALFORMED(TLV_LENGTH),
	},
	{
		.name = "v2 SSL, a TLV within reaches into the next",
		INPUT(TCP4("\x00\x1b") "\x20\x00\x08"
				       "\x01"
				       "\0\0\0\0"
				       "\x22\x00\x04"
				       "\x04\x00\x01"
				       "a"),
		MALFORMED(TLV_LENGTH),
	},
	{
		.name = "v2 second SSL, a TLV within reaches out",
		INPUT(TCP4("\x00\x1f") "\x20\x00\x05"
				       "\x01"
				       "\0\0\0\0"
				       "\x20\x00\x08"
				       "\x01"
				       "\0\0\0\0"
				       "\x21\x00\x01"),
		MALFORMED(TLV_LENGTH),
	},
	{
		.name = "v2 CN with an end-of-line",
		INPUT(TCP4("\x00\x1a") "\x20\x00\x0b"
				       "\x07"
				       "\0\0\0\0"
				       "\x22\x00\x03"
				       "a\nb"),
		MALFORMED(SSL_CN_TEXT),
	},
	{
		.name = "v2 CN with a NUL at its end",
		INPUT(TCP4("\x00\x1a") "\x20\x00\x0b"
				       "\x07"
				       "\0\0\0\0"
				       "\x22\x00\x03"
				       "ab\0"),
		MALFORMED(SSL_CN_TEXT),
	},
	{
		.name = "v2 CN with DEL",
		INPUT(TCP4("\x00\x18") "\x20\x00\x09"
				       "\x07"
				       "\0\0\0\0"
				       "\x22\x00\x01"
				       "\x7f"),
		MALFORMED(SSL_CN_TEXT),
	},
	{
		.name = "v2 second CN with an end-of-line",
		INPUT(TCP4("\x00\x1d") "\x20\x00\x0e"
				       "\x07"
				       "\0\0\0\0"
				       "\x22\x00\x02"
				       "ab"
				       "\x22\x00\x01"
				       "\n"),
		MALFORMED(SSL_CN_TEXT),
	},
	{
		.name = "v2 second SSL, its CN ends with a NUL",
		INPUT(TCP4("\x00\x24") "\x20\x00\x09"
				       "\x07"
				       "\0\0\0\0"
				       "\x22\x00\x01"
				       "a"
				       "\x20\x00\x09"
				       "\x07"
				       "\0\0\0\0"
				       "\x22\x00\x01"
				       "\0"),
		MALFORMED(SSL_CN_TEXT),
	},

	/* Too long, said as soon as the length is there. */
	{
		.name = "v2 of 28 bytes, limit 28",
		INPUT(TCP4("\x00\x0c")),
		.header_max = 28,
		CLIENT4,
	},
	{
		.name = "v2 of 28 bytes, limit 27",
		INPUT(TCP4("\x00\x0c")),
		.decided = 16,
		.header_max = 27,
		.verdict = RP_TOO_LONG,
	},
	{
		.name = "v2 of 4097 bytes",
		INPUT(V2_PROXY "\x11\x0f\xf1"),
		.verdict = RP_TOO_LONG,
	},
	{
		.name = "v2 of 4096 bytes",
		INPUT(V2_PROXY "\x11\x0f\xf0"),
		INCOMPLETE(4080),
	},
	{
		.name = "v2 LOCAL, the longest there is",
		INPUT(V2_LOCAL "\x00\xff\xff"),
		.verdict = RP_TOO_LONG,
	},
	{0},
};
