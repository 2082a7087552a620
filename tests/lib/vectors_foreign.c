// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * vectors_foreign.c - how other protocols begin. Each of them must be told
 * from a header at the first byte that differs from both signatures.
 */
#include "vectors.h"

#define FOREIGN(bytes) .decided = (bytes), .verdict = RP_NOT_HEADER

const struct vector vectors_foreign[] = {
	{
		.name = "MQTT 3.1.1 CONNECT",
		INPUT("\x10\x10" /* CONNECT, 16 bytes */
		      "\x00\x04"
		      "MQTT"
		      "\x04"	     /* level 4 */
		      "\x02\x00\x3c" /* clean session, 60 s */
		      "\x00\x04"
		      "demo"), /* client identifier */
		FOREIGN(1),
	},
	{
		.name = "MQTT 5 CONNECT",
		INPUT("\x10\x0d\x00\x04"
		      "MQTT"
		      "\x05\x02\x00\x3c\x00\x00\x00"),
		FOREIGN(1),
	},
	{
		.name = "AMQP 0-9-1",
		INPUT("AMQP\x00\x00\x09\x01"),
		FOREIGN(1),
	},
	{
		.name = "AMQP 1.0 with SASL",
		INPUT("AMQP\x03\x01\x00\x00"),
		FOREIGN(1),
	},
	{
		.name = "STOMP",
		INPUT("STOMP\naccept-version:1.2\nhost:/\n\n\0"),
		FOREIGN(1),
	},
	{
		/* STOMP 1.2 lets end-of-lines stand between frames. */
		.name = "STOMP after LF",
		INPUT("\nCONNECT\naccept-version:1.2\n\n\0"),
		FOREIGN(1),
	},
	{
		.name = "STOMP after CRLF",
		INPUT("\r\nCONNECT\naccept-version:1.2\n\n\0"),
		FOREIGN(3),
	},
	{
		.name = "STOMP after two CRLF",
		INPUT("\r\n\r\nCONNECT\naccept-version:1.2\n\n\0"),
		FOREIGN(5),
	},
	{
		.name = "STOMP after three CRLF",
		INPUT("\r\n\r\n\r\nCONNECT\n\n\0"),
		FOREIGN(5),
	},
	{
		.name = "end-of-lines, NUL, end-of-line, then STOMP",
		INPUT("\r\n\r\n\0\r\nSTOMP\n\n\0"),
		FOREIGN(8),
	},
	{
		.name = "QUIT, but with CRLF",
		INPUT("\r\n\r\n\0\r\nQUIT\r\n"),
		FOREIGN(12),
	},
	{
		.name = "NATS PING",
		INPUT("PING\r\n"),
		FOREIGN(2),
	},
	{
		.name = "NATS PUB",
		INPUT("PUB demo 2\r\nhi\r\n"),
		FOREIGN(2),
	},
	{
		.name = "NATS CONNECT",
		INPUT("CONNECT {\"verbose\":false}\r\n"),
		FOREIGN(1),
	},
	{
		.name = "HTTP PROPFIND",
		INPUT("PROPFIND / HTTP/1.1\r\n"),
		FOREIGN(4),
	},
	{
		.name = "HTTP GET",
		INPUT("GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"),
		FOREIGN(1),
	},
	{
		.name = "TLS ClientHello",
		INPUT("\x16\x03\x01\x02\x00" /* handshake record, 512 bytes */
		      "\x01\x00\x01\xfc"     /* ClientHello */
		      "\x03\x03"),
		FOREIGN(1),
	},
	{
		.name = "SSH",
		INPUT("SSH-2.0-OpenSSH_9.2p1\r\n"),
		FOREIGN(1),
	},
	{
		.name = "Redis",
		INPUT("*1\r\n$4\r\nPING\r\n"),
		FOREIGN(1),
	},
	{
		.name = "NUL",
		INPUT("\0"),
		FOREIGN(1),
	},
	{
		.name = "v1 in lower case",
		INPUT("proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n"),
		FOREIGN(1),
	},
	{
		.name = "v1 with a tab",
		INPUT("PROXY\tTCP4 192.0.2.1 198.51.100.2 1 2\r\n"),
		FOREIGN(6),
	},
	{
		.name = "a word that begins with PROXY",
		INPUT("PROXYING\r\n"),
		FOREIGN(6),
	},
	{
		.name = "v1 after a space",
		INPUT(" PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n"),
		FOREIGN(1),
	},
	{0},
};
