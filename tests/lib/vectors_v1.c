// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * vectors_v1.c - human-readable headers, proxy-protocol.txt section 2.1.
 *
 * Each malformed one ends with the byte that makes it so: all its prefixes
 * are still the beginning of some header.
 */
#include "vectors.h"

#define TCP4 "PROXY TCP4 "
#define TCP6 "PROXY TCP6 "

/* 39 characters, the longest without a dotted part. */
#define FULL6	     "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
/* 45 characters, the longest of all. */
#define FULL6_DOTTED "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"

const struct vector vectors_v1[] = {
	/* Valid. */
	{
		.name = "v1 TCP4",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 56324 443\r\n"),
		PROXY(1, "192.0.2.1", 56324, "198.51.100.2", 443),
	},
	{
		.name = "v1 TCP4, payload behind",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 56324 443\r\nGET /\r\n"),
		.decided = 45,
		PROXY(1, "192.0.2.1", 56324, "198.51.100.2", 443),
	},
	{
		.name = "v1, a second header is payload",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 1 2\r\n" TCP4
			   "203.0.113.7 198.51.100.2 3 4\r\n"),
		.decided = 39,
		PROXY(1, "192.0.2.1", 1, "198.51.100.2", 2),
	},
	{
		.name = "v1 TCP4, shortest",
		INPUT(TCP4 "0.0.0.0 0.0.0.0 0 0\r\n"),
		PROXY(1, "0.0.0.0", 0, "0.0.0.0", 0),
	},
	{
		.name = "v1 TCP4, longest (56)",
		INPUT(TCP4 "255.255.255.255 255.255.255.255 65535 65535\r\n"),
		PROXY(1, "255.255.255.255", 65535, "255.255.255.255", 65535),
	},
	{
		.name = "v1 TCP6, longest of the specification (104)",
		INPUT(TCP6 FULL6 " " FULL6 " 65535 65535\r\n"),
		PROXY(1, FULL6, 65535, FULL6, 65535),
	},
	{
		.name = "v1 TCP6, shortest",
		INPUT(TCP6 ":: :: 0 0\r\n"),
		PROXY(1, "::", 0, "::", 0),
	},
	{
		.name = "v1 TCP6, gap in the middle, at the end",
		INPUT(TCP6 "2001:db8::1 2001:db8:: 50000 1883\r\n"),
		PROXY(1, "2001:db8::1", 50000, "2001:db8::", 1883),
	},
	{
		.name = "v1 TCP6, gap at the beginning; upper case",
		INPUT(TCP6 "::2:3:4 2001:DB8:AbCd::F 50000 1883\r\n"),
		PROXY(1, "::2:3:4", 50000, "2001:db8:abcd::f", 1883),
	},
	{
		.name = "v1 TCP6, leading zeros in groups",
		INPUT(TCP6 "2001:0db8:0000:0000:0000:0000:0000:0001 "
			   "0:00:000:0000::001 1 2\r\n"),
		PROXY(1, "2001:db8::1", 1, "::1", 2),
	},
	{
		.name = "v1 TCP6, gap of one group",
		INPUT(TCP6 "1:2:3:4:5:6:7:: ::2:3:4:5:6:7:8 1 2\r\n"),
		PROXY(1, "1:2:3:4:5:6:7:0", 1, "0:2:3:4:5:6:7:8", 2),
	},
	{
		.name = "v1 TCP6, gap of one group in the middle",
		INPUT(TCP6 "1:2:3::5:6:7:8 1:2:3:4:5:6::8 1 2\r\n"),
		PROXY(1, "1:2:3:0:5:6:7:8", 1, "1:2:3:4:5:6:0:8", 2),
	},
	{
		.name = "v1 TCP6, v4-mapped",
		INPUT(TCP6 "::ffff:192.0.2.1 ::FFFF:198.51.100.2 1 2\r\n"),
		PROXY(1, "192.0.2.1", 1, "198.51.100.2", 2),
	},
	{
		.name = "v1 TCP6, dotted ends",
		INPUT(TCP6 "64:ff9b::192.0.2.33 ::1.2.3.4 1 2\r\n"),
		PROXY(1, "64:ff9b::c000:221", 1, "::102:304", 2),
	},
	{
		.name = "v1 TCP6, six groups and a dotted end",
		INPUT(TCP6 "1:2:3:4:5:6:7.8.9.10 1:2:3:4:5::9.8.7.6 1 2\r\n"),
		PROXY(1, "1:2:3:4:5:6:708:90a", 1, "1:2:3:4:5:0:908:706", 2),
	},
	{
		.name = "v1 UNKNOWN, shortest (15)",
		INPUT("PROXY UNKNOWN\r\n"),
		LOCAL(1),
	},
	{
		.name = "v1 UNKNOWN, longest of the specification (107)",
		INPUT("PROXY UNKNOWN " FULL6 " " FULL6 " 65535 65535\r\n"),
		LOCAL(1),
	},
	{
		.name = "v1 UNKNOWN, what follows is ignored",
		INPUT("PROXY UNKNOWN  \t\0\xff TCP4 999.9 what ever\r\n"),
		LOCAL(1),
	},
	{
		.name = "v1 UNKNOWN, payload behind",
		INPUT("PROXY UNKNOWN\r\n\x10\x0c\x00\x04MQTT"),
		.decided = 15,
		LOCAL(1),
	},

	/* Incomplete: the least of what may still follow. */
	{
		.name = "nothing yet",
		INPUT(""),
		INCOMPLETE(15), /* PROXY UNKNOWN */
	},
	{
		.name = "v1, P",
		INPUT("P"),
		INCOMPLETE(14),
	},
	{
		.name = "v1 without family",
		INPUT("PROXY "),
		INCOMPLETE(9),
	},
	{
		.name = "v1, T",
		INPUT("PROXY T"),
		INCOMPLETE(15), /* CP6 :: :: 0 0 CRLF */
	},
	{
		.name = "v1, U",
		INPUT("PROXY U"),
		INCOMPLETE(8),
	},
	{
		.name = "v1 TCP4, nothing of the source",
		INPUT(TCP4),
		INCOMPLETE(21), /* 0.0.0.0 0.0.0.0 0 0 CRLF */
	},
	{
		.name = "v1 TCP4, half a destination",
		INPUT(TCP4 "192.0.2.1 198.51"),
		INCOMPLETE(10), /* .0.0 0 0 CRLF */
	},
	{
		.name = "v1 TCP4, no port",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 "),
		INCOMPLETE(5), /* 0 0 CRLF */
	},
	{
		.name = "v1 TCP6, nothing of the port behind a gap",
		INPUT(TCP6 ":: :: "),
		INCOMPLETE(5),
	},
	{
		.name = "v1 TCP6, no room for the ports, but not proved yet",
		INPUT(TCP6 FULL6_DOTTED " " FULL6_DOTTED),
		INCOMPLETE(5), /* up to 107 bytes */
	},
	{
		.name = "v1 TCP4, no CR",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 1 2"),
		INCOMPLETE(2),
	},
	{
		.name = "v1 TCP4, no LF",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 1 2\r"),
		INCOMPLETE(1),
	},
	{
		.name = "v1 UNKNOWN, no LF",
		INPUT("PROXY UNKNOWN\r"),
		INCOMPLETE(1),
	},

	/* Tokens. */
	{.name = "v1 tcp4", INPUT("PROXY t"), MALFORMED(V1_TOKEN)},
	{.name = "v1 TCP5", INPUT("PROXY TCP5"), MALFORMED(V1_TOKEN)},
	{.name = "v1 TCP46", INPUT("PROXY TCP46"), MALFORMED(V1_TOKEN)},
	{.name = "v1 TCP", INPUT("PROXY TCP "), MALFORMED(V1_TOKEN)},
	{.name = "v1 UDP4", INPUT("PROXY UD"), MALFORMED(V1_TOKEN)},
	{.name = "v1, two spaces", INPUT("PROXY  "), MALFORMED(V1_TOKEN)},
	{.name = "v1, no family", INPUT("PROXY \r"), MALFORMED(V1_TOKEN)},
	{.name = "v1 TCP4 alone", INPUT("PROXY TCP4\r"), MALFORMED(V1_TOKEN)},
	{.name = "v1 TCP4, tab", INPUT("PROXY TCP4\t"), MALFORMED(V1_TOKEN)},
	{.name = "v1 UNKNOW", INPUT("PROXY UNKNOW\r"), MALFORMED(V1_TOKEN)},
	{.name = "v1 UNK6", INPUT("PROXY UNK6"), MALFORMED(V1_TOKEN)},
	{
		.name = "v1 UNKNOWNS",
		INPUT("PROXY UNKNOWNS"),
		MALFORMED(V1_TOKEN),
	},
	{
		.name = "v1 UNKNOWN, LF alone",
		INPUT("PROXY UNKNOWN\n"),
		MALFORMED(V1_TOKEN),
	},

	/* IPv4 addresses. */
	{
		.name = "v1 TCP4, no source",
		INPUT(TCP4 " "),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP4, leading zero",
		INPUT(TCP4 "192.0.02"),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP4, two zeros",
		INPUT(TCP4 "00"),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP4, 256",
		INPUT(TCP4 "192.0.256"),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP4, three octets",
		INPUT(TCP4 "192.0.2 "),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP4, five octets",
		INPUT(TCP4 "192.0.2.1."),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP4, empty octet",
		INPUT(TCP4 "192.."),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP4, empty last octet",
		INPUT(TCP4 "192.0.2. "),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP4, two spaces",
		INPUT(TCP4 "192.0.2.1  "),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP4 with an IPv6 address",
		INPUT(TCP4 "20:"),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP4, hexadecimal",
		INPUT(TCP4 "0x"),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP4, ends behind the source",
		INPUT(TCP4 "192.0.2.1\r"),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP4, NUL",
		INPUT(TCP4 "192.0.2.1\0"),
		MALFORMED(V1_ADDRESS),
	},

	/* IPv6 addresses. */
	{
		.name = "v1 TCP6 with an IPv4 address",
		INPUT(TCP6 "192."),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, no source",
		INPUT(TCP6 " "),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, zone",
		INPUT(TCP6 "fe80::1%"),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, brackets",
		INPUT(TCP6 "["),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, five digits",
		INPUT(TCP6 "2001:00db8"),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, not a digit",
		INPUT(TCP6 "2001:dbg"),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, seven groups",
		INPUT(TCP6 "1:2:3:4:5:6:7 "),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, nine groups",
		INPUT(TCP6 "1:2:3:4:5:6:7:8:"),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, eight groups and a gap",
		INPUT(TCP6 "1:2:3:4:5:6:7::8"),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, gap, then seven groups and more",
		INPUT(TCP6 "::2:3:4:5:6:7:8:"),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, two gaps",
		INPUT(TCP6 "2001::1::"),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, three colons",
		INPUT(TCP6 "2001:::"),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, three colons at the beginning",
		INPUT(TCP6 ":::"),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, one colon at the beginning",
		INPUT(TCP6 ":1"),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, one colon",
		INPUT(TCP6 ": "),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, one colon at the end",
		INPUT(TCP6 "2001::1: "),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, no room for a dotted end",
		INPUT(TCP6 "1:2:3:4:5:6:7:8."),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, no room for a dotted end and a gap",
		INPUT(TCP6 "1:2:3:4:5:6::8."),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, dotted end too early",
		INPUT(TCP6 "1:2:3:4:5:1."),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, dotted end with a leading zero",
		INPUT(TCP6 "::ffff:01."),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, dotted end above 255",
		INPUT(TCP6 "::ffff:256."),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, dotted end with a letter",
		INPUT(TCP6 "::ffff:1a."),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, dot behind a colon",
		INPUT(TCP6 "::."),
		MALFORMED(V1_ADDRESS),
	},
	{
		.name = "v1 TCP6, group behind a dotted end",
		INPUT(TCP6 "::1.2.3.4:"),
		MALFORMED(V1_ADDRESS),
	},

	/* Ports. */
	{
		.name = "v1, no port",
		INPUT(TCP4 "192.0.2.1 198.51.100.2  "),
		MALFORMED(V1_PORT),
	},
	{
		.name = "v1, port 65536",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 65536"),
		MALFORMED(V1_PORT),
	},
	{
		.name = "v1, port of six digits",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 100000"),
		MALFORMED(V1_PORT),
	},
	{
		.name = "v1, port with a leading zero",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 01"),
		MALFORMED(V1_PORT),
	},
	{
		.name = "v1, port 00",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 1 00"),
		MALFORMED(V1_PORT),
	},
	{
		.name = "v1, negative port",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 -"),
		MALFORMED(V1_PORT),
	},
	{
		.name = "v1, signed port",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 1 +"),
		MALFORMED(V1_PORT),
	},
	{
		.name = "v1, one port",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 1\r"),
		MALFORMED(V1_PORT),
	},
	{
		.name = "v1, no second port",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 1 \r"),
		MALFORMED(V1_PORT),
	},
	{
		.name = "v1, three ports",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 1 2 "),
		MALFORMED(V1_PORT),
	},

	/* The end of the line. */
	{
		.name = "v1, LF alone",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 1 2\n"),
		MALFORMED(V1_LINE_END),
	},
	{
		.name = "v1, LF in an address",
		INPUT(TCP6 "2001:\n"),
		MALFORMED(V1_LINE_END),
	},
	{
		.name = "v1, CR alone",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 1 2\rG"),
		MALFORMED(V1_LINE_END),
	},
	{
		.name = "v1, two CR",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 1 2\r\r"),
		MALFORMED(V1_LINE_END),
	},
	{
		.name = "v1 UNKNOWN, CR alone",
		INPUT("PROXY UNKNOWN\rG"),
		MALFORMED(V1_LINE_END),
	},
	{
		.name = "v1 UNKNOWN, CR within",
		INPUT("PROXY UNKNOWN a\rb"),
		MALFORMED(V1_LINE_END),
	},
	{
		.name = "v1 UNKNOWN, LF within",
		INPUT("PROXY UNKNOWN a\n"),
		MALFORMED(V1_LINE_END),
	},

	/* Too long: no LF as the last byte there may be. */
	{
		.name = "v1 UNKNOWN of 108 bytes",
		INPUT("PROXY UNKNOWN " FULL6 " " FULL6 " 65535 65535 \r\n"),
		.decided = 107,
		.verdict = RP_TOO_LONG,
	},
	{
		.name = "v1 UNKNOWN without end",
		INPUT("PROXY UNKNOWN " X1024(" ")),
		.decided = 107,
		.verdict = RP_TOO_LONG,
	},
	{
		.name = "v1 TCP6 of 108 bytes",
		INPUT(TCP6 FULL6_DOTTED " " FULL6_DOTTED " 0 0\r\n"),
		.decided = 107,
		.verdict = RP_TOO_LONG,
	},
	{
		.name = "v1 TCP6, two of the longest addresses (116)",
		INPUT(TCP6 FULL6_DOTTED " " FULL6_DOTTED " 65535 65535\r\n"),
		.decided = 107,
		.verdict = RP_TOO_LONG,
	},
	{
		.name = "v1 TCP6 of 107 bytes",
		INPUT(TCP6 FULL6_DOTTED
		      " ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.25 0 0\r\n"),
		PROXY(1, FULL6, 0, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff19",
		      0),
	},
	{
		.name = "v1 of 45 bytes, limit 44",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 56324 443\r\n"),
		.decided = 44,
		.header_max = 44,
		.verdict = RP_TOO_LONG,
	},
	{
		.name = "v1 of 45 bytes, limit 45",
		INPUT(TCP4 "192.0.2.1 198.51.100.2 56324 443\r\n"),
		.header_max = 45,
		PROXY(1, "192.0.2.1", 56324, "198.51.100.2", 443),
	},
	{0},
};
