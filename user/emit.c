/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * emit.c - see emit.h. Writes into the caller's buffer and nowhere else.
 */
#include "emit.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define V2_FIXED  16 /* signature, command, family, length */
#define V2_BLOCK4 12 /* two IPv4 addresses, two ports */
#define V2_BLOCK6 36

static bool both_v4(const struct record *record)
{
	return ip_is_v4(record->client) && ip_is_v4(record->destination);
}

/* Section 2.1. */
size_t emit_v1(const struct record *record, uint8_t out[RP_V1_MAX])
{
	char source[INET6_ADDRSTRLEN], destination[INET6_ADDRSTRLEN];
	char line[RP_V1_MAX + 1];
	bool v4 = both_v4(record);
	int len;

	if (record->command == RP_COMMAND_LOCAL) {
		memcpy(out, "PROXY UNKNOWN\r\n", RP_V1_MIN);
		return RP_V1_MIN;
	}
	inet_ntop(v4 ? AF_INET : AF_INET6, record->client + (v4 ? 12 : 0),
		  source, sizeof(source));
	inet_ntop(v4 ? AF_INET : AF_INET6, record->destination + (v4 ? 12 : 0),
		  destination, sizeof(destination));
	len = snprintf(line, sizeof(line), "PROXY TCP%c %s %s %u %u\r\n",
		       v4 ? '4' : '6', source, destination, record->client_port,
		       record->destination_port);
	memcpy(out, line, len);
	return len;
}

/* The bit of a TLV, section 2.2.1 and the vendors' types; 0: not kept. */
static uint16_t tlv_bit(uint8_t type, const uint8_t *value, size_t len)
{
	switch (type) {
	case 0x01:
		return RP_TLV_ALPN;
	case 0x02:
		return RP_TLV_AUTHORITY;
	case 0x05:
		return RP_TLV_UNIQUE_ID;
	case 0x20:
		return RP_TLV_SSL;
	case 0xe0:
		return RP_TLV_GCP_PSC_ID;
	case 0xea:
		return len > 0 && value[0] == 0x01 ? RP_TLV_AWS_VPCE_ID : 0;
	case 0xee:
		return len > 0 && value[0] == 0x01 ? RP_TLV_AZURE_LINK_ID : 0;
	}
	return 0;
}

/* The parser has found every length to be within what holds it. */
static size_t copy_tlvs(const uint8_t *received, size_t received_len,
			uint16_t wanted, uint8_t *out)
{
	size_t at = V2_FIXED, len = 0;

	at += received[13] >> 4 == 1 ? V2_BLOCK4 : V2_BLOCK6;
	while (at + 3 <= received_len) {
		const uint8_t *tlv = received + at;
		size_t value_len = (size_t)tlv[1] << 8 | tlv[2];

		if (value_len > received_len - at - 3)
			break;
		if (tlv_bit(tlv[0], tlv + 3, value_len) & wanted) {
			memcpy(out + len, tlv, 3 + value_len);
			len += 3 + value_len;
		}
		at += 3 + value_len;
	}
	return len;
}

static size_t put_addresses(const struct record *record, uint8_t *out)
{
	bool v4 = both_v4(record);
	size_t skip = v4 ? 12 : 0, size = 16 - skip;
	uint16_t ports[2] = {htons(record->client_port),
			     htons(record->destination_port)};

	memcpy(out, record->client + skip, size);
	memcpy(out + size, record->destination + skip, size);
	memcpy(out + 2 * size, ports, sizeof(ports));
	return 2 * size + sizeof(ports);
}

/* Section 2.2. */
size_t emit_v2(const struct record *record, const uint8_t *received,
	       size_t received_len, uint16_t tlvs, uint8_t out[EMIT_V2_MAX])
{
	static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";
	size_t len = 0;

	memcpy(out, signature, sizeof(signature));
	if (record->command == RP_COMMAND_LOCAL) {
		out[12] = 0x20;
		out[13] = 0x00;
	} else {
		out[12] = 0x21;
		out[13] = both_v4(record) ? 0x11 : 0x21;
		len = put_addresses(record, out + V2_FIXED);
		if (received && tlvs)
			len += copy_tlvs(received, received_len, tlvs,
					 out + V2_FIXED + len);
	}
	out[14] = len >> 8;
	out[15] = len & 0xff;
	return V2_FIXED + len;
}
