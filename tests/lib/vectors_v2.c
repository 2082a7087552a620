// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * vectors_v2.c - binary headers, proxy-protocol.txt section 2.2, valid ones and
 * beginnings of them.
 *
 * Those said to be captured came over a wire: from HAProxy 2.6.12 of Debian,
 * and from AWS Network Load Balancers as published in bug reports and in
 * AWS's own elastic-load-balancing-tools.
 */
#include "vectors_v2.h"

const struct vector vectors_v2[] = {
	/* PROXY, with addresses. */
	{
		.name = "v2 TCP4",
		INPUT(TCP4("\x00\x0c")),
		CLIENT4,
	},
	{
		.name = "v2 TCP4, captured from HAProxy",
		INPUT(SIGNATURE "\x21"		   /* version 2, PROXY */
				"\x11"		   /* INET, STREAM */
				"\x00\x0c"	   /* length 12 */
				"\x7f\x00\x00\x01" /* 127.0.0.1 */
				"\x7f\x00\x00\x01" /* 127.0.0.1 */
				"\x91\x52"	   /* 37202 */
				"\x07\x5b"),	   /* 1883 */
		PROXY(2, "127.0.0.1", 37202, "127.0.0.1", 1883),
	},
	{
		.name = "v2 TCP6, captured from HAProxy",
		INPUT(SIGNATURE "\x21"	   /* version 2, PROXY */
				"\x21"	   /* INET6, STREAM */
				"\x00\x24" /* length 36 */
				"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01" /* ::1 */
				"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01" /* ::1 */
				"\xdf\x32"			     /* 57138 */
				"\x07\x5b"),			     /* 1883 */
		PROXY(2, "::1", 57138, "::1", 1883),
	},
	{
		.name = "v2 TCP6",
		INPUT(V2_PROXY "\x21\x00\x24" BLOCK6),
		CLIENT6,
	},
	{
		.name = "v2 TCP4, payload behind",
		INPUT(TCP4("\x00\x0c") "\x10\x0c\x00\x04MQTT"),
		.decided = 28,
		CLIENT4,
	},
	{
		.name = "v2, a second header is payload",
		INPUT(TCP4("\x00\x0c") V2_PROXY "\x21\x00\x24" BLOCK6),
		.decided = 28,
		CLIENT4,
	},

	/* No addresses for us. */
	{
		.name = "v2 LOCAL",
		INPUT(V2_LOCAL "\x00\x00\x00"),
		LOCAL(2),
	},
	{
		.name = "v2 LOCAL, captured from an AWS health check",
		INPUT(SIGNATURE "\x20"	   /* version 2, LOCAL */
				"\x11"	   /* INET, STREAM, but no addresses */
				"\x00\x54" /* length 84 */
				"\x03\x00\x04" /* CRC32C */
				"\xbc\xe5\x95\x1f"
				"\x04\x00\x4a" /* NOOP, 74 bytes */
		      X16("\0") X16("\0") X16("\0") X16("\0") X4("\0")
			      X4("\0") "\0\0"),
		LOCAL(2),
	},
	{
		.name = "v2 LOCAL with addresses",
		INPUT(V2_LOCAL "\x11\x00\x0c" BLOCK4),
		LOCAL(2),
	},
	{
		.name = "v2 LOCAL, a block that is none of TLVs",
		INPUT(V2_LOCAL "\x21\x00\x05\xff\xff\xff\xff\xff"),
		LOCAL(2),
	},
	{
		.name = "v2 LOCAL, undefined family",
		INPUT(V2_LOCAL "\xff\x00\x00"),
		LOCAL(2),
	},
	{
		.name = "v2 LOCAL, wrong checksum of the discarded block",
		INPUT(V2_LOCAL "\x00\x00\x07"
			       "\x03\x00\x04"
			       "\0\0\0\0"),
		LOCAL(2),
	},
	{
		.name = "v2 LOCAL, payload behind",
		INPUT(V2_LOCAL "\x00\x00\x00"
			       "PING\r\n"),
		.decided = 16,
		LOCAL(2),
	},
	{
		.name = "v2 UNSPEC",
		INPUT(V2_PROXY "\x00\x00\x00"),
		LOCAL(2),
	},
	{
		.name = "v2 UNSPEC with an authority",
		INPUT(V2_PROXY "\x00\x00\x0e"
			       "\x02\x00\x0b"
			       "example.com"),
		LOCAL(2),
		.header.present = RP_TLV_AUTHORITY,
		.header.authority = {19, 11},
	},
	{
		.name = "v2 UNSPEC, STREAM",
		INPUT(V2_PROXY "\x01\x00\x00"),
		LOCAL(2),
	},
	{
		.name = "v2 INET, UNSPEC",
		INPUT(V2_PROXY "\x10\x00\x0c" BLOCK4),
		LOCAL(2),
	},
	{
		.name = "v2 UDP4",
		INPUT(V2_PROXY "\x12\x00\x0c" BLOCK4),
		LOCAL(2),
	},
	{
		.name = "v2 UDP6 with an ALPN",
		INPUT(V2_PROXY "\x22\x00\x29" BLOCK6 "\x01\x00\x02"
			       "h3"),
		LOCAL(2),
		.header.present = RP_TLV_ALPN,
		.header.alpn = {55, 2},
	},
	{
		.name = "v2 UNIX",
		INPUT(V2_PROXY "\x31\x00\xd8" BLOCK_UNIX),
		LOCAL(2),
	},
	{
		.name = "v2 UNIX datagrams, with a unique id",
		INPUT(V2_PROXY "\x32\x00\xdd" BLOCK_UNIX "\x05\x00\x02"
			       "id"),
		LOCAL(2),
		.header.present = RP_TLV_UNIQUE_ID,
		.header.unique_id = {235, 2},
	},

	/* TLVs. */
	{
		.name = "v2 captured from AWS",
		INPUT(SIGNATURE "\x21"		   /* version 2, PROXY */
				"\x11"		   /* INET, STREAM */
				"\x00\x54"	   /* length 84 */
				"\x7b\x67\xc9\x9a" /* 123.103.201.154 */
				"\xac\x1f\x0c\x37" /* 172.31.12.55 */
				"\xb1\x16"	   /* 45334 */
				"\x02\x4b"	   /* 587 */
				"\x03\x00\x04"	   /* CRC32C */
				"\x08\x94\x22\x07"
				"\x04\x00\x3e" /* NOOP, 62 bytes */
		      X16("\0") X16("\0") X16("\0") X4("\0") X4("\0")
			      X4("\0") "\0\0"),
		PROXY(2, "123.103.201.154", 45334, "172.31.12.55", 587),
	},
	{
		.name = "v2 captured from AWS, through a VPC endpoint",
		INPUT(SIGNATURE "\x21"		   /* version 2, PROXY */
				"\x11"		   /* INET, STREAM */
				"\x00\x54"	   /* length 84 */
				"\xac\x1f\x07\x71" /* 172.31.7.113 */
				"\xac\x1f\x0a\x1f" /* 172.31.10.31 */
				"\xc8\xf2"	   /* 51442 */
				"\x00\x50"	   /* 80 */
				"\x03\x00\x04"	   /* CRC32C */
				"\xe8\xd6\x89\x2d"
				"\xea\x00\x17" /* AWS, 23 bytes */
				"\x01"	       /* VPC endpoint id */
				"vpce-08d2bf15fac5001c9"
				"\x04\x00\x24" /* NOOP, 36 bytes */
		      X16("\0") X16("\0") X4("\0")),
		PROXY(2, "172.31.7.113", 51442, "172.31.10.31", 80),
		.header.present = RP_TLV_AWS_VPCE_ID,
		.header.aws_vpce_id = {39, 22},
	},
	{
		.name = "v2 captured from HAProxy, with all it knows of TLS",
		INPUT(SIGNATURE "\x21"		   /* version 2, PROXY */
				"\x11"		   /* INET, STREAM */
				"\x00\xa5"	   /* length 165 */
				"\x7f\x00\x00\x01" /* 127.0.0.1 */
				"\x7f\x00\x00\x01" /* 127.0.0.1 */
				"\x99\x90"	   /* 39312 */
				"\x22\xb3"	   /* 8883 */
				"\x03\x00\x04"	   /* CRC32C */
				"\x2d\xb0\xc4\xf0"
				"\x01\x00\x04" /* ALPN */
				"mqtt"
				"\x02\x00\x0e" /* AUTHORITY */
				"broker.example"
				"\x05\x00\x29" /* UNIQUE_ID, 41 bytes */
				"7F000001:9990_7F000001:22B3_6B0139F5_0000"
				"\x20\x00\x4b" /* SSL, 75 bytes */
				"\x07"	       /* SSL, CERT_CONN, CERT_SESS */
				"\x00\x00\x00\x00" /* verified */
				"\x21\x00\x07"	   /* VERSION */
				"TLSv1.3"
				"\x22\x00\x09" /* CN */
				"sensor-17"
				"\x25\x00\x07" /* KEY_ALG */
				"RSA2048"
				"\x24\x00\x0a" /* SIG_ALG */
				"RSA-SHA256"
				"\x23\x00\x16" /* CIPHER */
				"TLS_AES_256_GCM_SHA384"),
		PROXY(2, "127.0.0.1", 39312, "127.0.0.1", 8883),
		.header.present = RP_TLV_ALPN | RP_TLV_AUTHORITY |
				  RP_TLV_UNIQUE_ID | RP_TLV_SSL | RP_TLV_SSL_CN,
		.header.alpn = {38, 4},
		.header.authority = {45, 14},
		.header.unique_id = {62, 41},
		.header.ssl_client = 7,
		.header.ssl_cn = {124, 9},
	},
	{
		.name = "v2 SSL, client not verified, nothing more",
		INPUT(TCP4("\x00\x14") "\x20\x00\x05"
				       "\x01"
				       "\0\0\0\x01"),
		CLIENT4,
		.header.present = RP_TLV_SSL,
		.header.ssl_client = 1,
		.header.ssl_verify = 1,
	},
	{
		.name = "v2 SSL, result of verification is big-endian",
		INPUT(TCP4("\x00\x14") "\x20\x00\x05"
				       "\x03"
				       "\xff\xfe\xfd\xfc"),
		CLIENT4,
		.header.present = RP_TLV_SSL,
		.header.ssl_client = 3,
		.header.ssl_verify = 0xfffefdfc,
	},
	{
		.name = "v2 SSL with a client certificate, then others",
		INPUT(TCP4("\x04\xb8") /* length 1208 */
		      "\x20\x04\x93"   /* SSL, 1171 bytes */
		      "\x03"
		      "\0\0\0\0"
		      "\x28\x04\x80" X1024("\x30") X128("\x82") /* CERT */
		      "\x22\x00\x08"				/* CN */
		      "sensor-9"
		      "\x02\x00\x0b" /* AUTHORITY */
		      "example.com"
		      "\xe1\x00\x05" /* Alibaba */
		      "12345"),
		CLIENT4,
		.header.present = RP_TLV_SSL | RP_TLV_SSL_CN | RP_TLV_AUTHORITY,
		.header.ssl_client = 3,
		.header.ssl_cn = {1194, 8},
		.header.authority = {1205, 11},
	},
	{
		.name = "v2 SSL, the first one counts",
		INPUT(TCP4("\x00\x2f") "\x20\x00\x0a"
				       "\x01"
				       "\0\0\0\x01"
				       "\x21\x00\x02" /* VERSION, no CN */
				       "v1"
				       "\x20\x00\x09"
				       "\x07"
				       "\0\0\0\x00"
				       "\x22\x00\x01" /* CN */
				       "X"
				       "\x02\x00\x07"
				       "a.b.c.d"),
		CLIENT4,
		.header.present = RP_TLV_SSL | RP_TLV_AUTHORITY,
		.header.ssl_client = 1,
		.header.ssl_verify = 1,
		.header.authority = {56, 7},
	},
	{
		.name = "v2 SSL within SSL is not opened",
		INPUT(TCP4("\x00\x1f") "\x20\x00\x10"
				       "\x01"
				       "\0\0\0\0"
				       "\x20\x00\x08"
				       "\x07"
				       "\0\0\0\x05"
				       "\x22\xff\xff"),
		CLIENT4,
		.header.present = RP_TLV_SSL,
		.header.ssl_client = 1,
	},
	{
		.name = "v2 types within SSL are others",
		INPUT(TCP4("\x00\x1a") "\x20\x00\x0b"
				       "\x01"
				       "\0\0\0\0"
				       "\x03\x00\x00"	/* no CRC32C */
				       "\x02\x00\x00"), /* no AUTHORITY */
		CLIENT4,
		.header.present = RP_TLV_SSL,
		.header.ssl_client = 1,
	},
	{
		.name = "v2 CN of UTF-8 text",
		INPUT(TCP4("\x00\x1f") "\x20\x00\x10"
				       "\x07"
				       "\0\0\0\0"
				       "\x22\x00\x08"
				       "M\xc3\xbcller~"),
		CLIENT4,
		.header.present = RP_TLV_SSL | RP_TLV_SSL_CN,
		.header.ssl_client = 7,
		.header.ssl_cn = {39, 8},
	},
	{
		.name = "v2 CN, the first one counts, behind an empty one too",
		INPUT(TCP4("\x00\x20") "\x20\x00\x11"
				       "\x07"
				       "\0\0\0\0"
				       "\x22\x00\x00"
				       "\x22\x00\x02"
				       "ab"
				       "\x21\x00\x01"
				       "\n"),
		CLIENT4,
		.header.present = RP_TLV_SSL | RP_TLV_SSL_CN,
		.header.ssl_client = 7,
		.header.ssl_cn = {39, 0},
	},
	{
		.name = "v2 CN outside SSL is an unknown type",
		INPUT(TCP4("\x00\x10") "\x22\x00\x01"
				       "\n"),
		CLIENT4,
	},
	{
		.name = "v2 NOOPs, one of them empty",
		INPUT(TCP4("\x00\x14") "\x04\x00\x00"
				       "\x04\x00\x02"
				       "\xff\xff"),
		CLIENT4,
	},
	{
		.name = "v2 as many TLVs as fit, the last one counts",
		INPUT(TCP4("\x00\x3f") X16("\x04\0\0") "\x02\0\0"),
		CLIENT4,
		.header.present = RP_TLV_AUTHORITY,
		.header.authority = {79, 0},
	},
	{
		.name = "v2 NETNS and unknown types",
		INPUT(TCP4("\x00\x1c") "\x30\x00\x04" /* NETNS */
				       "blue"
				       "\x00\x00\x00" /* unknown, empty */
				       "\xff\x00\x03"
				       "\1\2\3"), /* reserved */
		CLIENT4,
	},
	{
		.name = "v2 first of two authorities, empty",
		INPUT(TCP4("\x00\x13") "\x02\x00\x00"
				       "\x02\x00\x01"
				       "b"),
		CLIENT4,
		.header.present = RP_TLV_AUTHORITY,
		.header.authority = {31, 0},
	},
	{
		.name = "v2 unique id of 128 bytes",
		INPUT(TCP4("\x00\x8f") "\x05\x00\x80" X128("\x80")),
		CLIENT4,
		.header.present = RP_TLV_UNIQUE_ID,
		.header.unique_id = {31, 128},
	},
	{
		.name = "v2 CRC32C as the last of several, TCP6",
		INPUT(V2_PROXY "\x21\x00\x35" BLOCK6 "\x02\x00\x07"
			       "a.b.c.d"
			       "\x03\x00\x04"
			       "\x3d\xff\x78\x5d"),
		CLIENT6,
		.header.present = RP_TLV_AUTHORITY,
		.header.authority = {55, 7},
	},
	{
		.name = "v2 CRC32C of UNSPEC",
		INPUT(V2_PROXY "\x00\x00\x07"
			       "\x03\x00\x04"
			       "\x3e\xc9\x89\x4e"),
		LOCAL(2),
	},
	{
		.name = "v2 Google PSC",
		INPUT(TCP4("\x00\x17") "\xe0\x00\x08"
				       "\x01\x23\x45\x67"
				       "\x89\xab\xcd\xef"),
		CLIENT4,
		.header.present = RP_TLV_GCP_PSC_ID,
		.header.gcp_psc_id = 0x0123456789abcdef,
	},
	{
		.name = "v2 Azure Private Link",
		INPUT(TCP4("\x00\x14") "\xee\x00\x05"
				       "\x01"
				       "\x78\x56\x34\x12"),
		CLIENT4,
		.header.present = RP_TLV_AZURE_LINK_ID,
		.header.azure_link_id = 0x12345678,
	},
	{
		.name = "v2 vendors' types used by others",
		INPUT(TCP4("\x00\x33") "\xe0\x00\x07"
				       "1234567"      /* Google's has 8 bytes */
				       "\xea\x00\x00" /* AWS, no subtype */
				       "\xea\x00\x02"
				       "\x02"
				       "a" /* AWS, another subtype */
				       "\xee\x00\x04"
				       "\x01"
				       "123" /* Azure's has 5 */
				       "\xee\x00\x05"
				       "\x02"
				       "1234" /* another subtype */
				       "\xe1\x00\x03"
				       "123"),
		CLIENT4,
	},
	{
		.name = "v2 first of two of each vendor's",
		INPUT(TCP4("\x00\x46") "\xe0\x00\x08"
				       "\0\0\0\0\0\0\0\1"
				       "\xe0\x00\x08"
				       "\0\0\0\0\0\0\0\2"
				       "\xea\x00\x02"
				       "\x01"
				       "a"
				       "\xea\x00\x02"
				       "\x01"
				       "b"
				       "\xee\x00\x05"
				       "\x01"
				       "\x01\0\0\0"
				       "\xee\x00\x05"
				       "\x01"
				       "\x02\0\0\0"
				       "\x04\x00\x07"
				       "1234567"),
		CLIENT4,
		.header.present = RP_TLV_GCP_PSC_ID | RP_TLV_AWS_VPCE_ID |
				  RP_TLV_AZURE_LINK_ID,
		.header.gcp_psc_id = 1,
		.header.aws_vpce_id = {54, 1},
		.header.azure_link_id = 1,
	},

	/* Incomplete. */
	{
		.name = "v2, CR",
		INPUT("\r"),
		INCOMPLETE(15),
	},
	{
		.name = "v2, signature",
		INPUT(SIGNATURE),
		INCOMPLETE(4),
	},
	{
		.name = "v2, length not known",
		INPUT(V2_PROXY "\x11\x00"),
		INCOMPLETE(1),
	},
	{
		.name = "v2, length known",
		INPUT(V2_PROXY "\x11\x01\x00"),
		INCOMPLETE(256),
	},
	{
		.name = "v2 LOCAL, length not zero",
		INPUT(V2_LOCAL "\x11\x00\x54"
			       "\x03"),
		INCOMPLETE(83),
	},
	{0},
};
