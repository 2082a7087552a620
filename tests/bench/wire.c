/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * wire.c - see wire.h; proxy-protocol.txt sections 2.1 and 2.2.
 */
#include "wire.h"

#include <arpa/inet.h>
#include <string.h>

#include "realpeer/crc32c.h"

#define SIGNATURE     "\r\n\r\n\0\r\nQUIT\n"
#define SIGNATURE_LEN 12
#define FIXED_LEN     16 /* signature, version, family, length */

#define TLV_CRC32C 0x03
#define TLV_NOOP   0x04
#define TLV_HEAD   3
#define CRC32C_LEN 4
#define NLB_LENGTH 84 /* what AWS NLB says in the length field */

static size_t put(uint8_t *out, size_t at, const void *data, size_t len)
{
	memcpy(out + at, data, len);
	return at + len;
}

static size_t write_v1(const union endpoint *source,
		       const union endpoint *destination, uint8_t *out)
{
	const union endpoint *const ends[] = {source, destination};
	char text[2][ENDPOINT_TEXT_MAX], *port[2];
	size_t port_len[2], len = put(out, 0, "PROXY TCP4 ", 11);

	if (source->sa.sa_family == AF_INET6)
		out[len - 2] = '6';
	for (int i = 0; i < 2; i++) {
		port_len[i] = endpoint_format(ends[i], text[i]);
		port[i] = strchr(text[i], ' ') + 1;
		port_len[i] -= port[i] - text[i];
		len = put(out, len, text[i], port[i] - text[i]);
	}
	len = put(out, len, port[0], port_len[0]);
	out[len++] = ' ';
	len = put(out, len, port[1], port_len[1]);
	return put(out, len, "\r\n", 2);
}

static size_t put_addresses(uint8_t *out, size_t at,
			    const union endpoint *source,
			    const union endpoint *destination)
{
	if (source->sa.sa_family == AF_INET6) {
		at = put(out, at, &source->v6.sin6_addr, 16);
		at = put(out, at, &destination->v6.sin6_addr, 16);
	} else {
		at = put(out, at, &source->v4.sin_addr, 4);
		at = put(out, at, &destination->v4.sin_addr, 4);
	}
	at = put(out, at, &source->v4.sin_port, 2);
	return put(out, at, &destination->v4.sin_port, 2);
}

static void set_length(uint8_t *out, size_t len)
{
	uint16_t field = htons(len - FIXED_LEN);

	memcpy(out + FIXED_LEN - sizeof(field), &field, sizeof(field));
}

/* Pads to NLB's length; the sum is over the whole header, itself zeroed. */
static size_t add_crc32c(uint8_t *out, size_t at)
{
	size_t len = FIXED_LEN + NLB_LENGTH;
	size_t noop = len - (at + 2 * TLV_HEAD + CRC32C_LEN);
	uint8_t *sum = out + at + TLV_HEAD;
	uint32_t crc = ~0u;

	memset(out + at, 0, len - at);
	out[at] = TLV_CRC32C;
	out[at + 2] = CRC32C_LEN;
	at += TLV_HEAD + CRC32C_LEN;
	out[at] = TLV_NOOP;
	out[at + 2] = noop;
	set_length(out, len);
	for (size_t i = 0; i < len; i++)
		crc = rp_crc32c(crc, out[i]);
	crc = htonl(~crc);
	memcpy(sum, &crc, sizeof(crc));
	return len;
}

static size_t write_v2(enum wire_header kind, const union endpoint *source,
		       const union endpoint *destination, uint8_t *out)
{
	size_t len = put(out, 0, SIGNATURE, SIGNATURE_LEN);

	out[len++] = 0x21; /* version 2, PROXY */
	out[len++] = source->sa.sa_family == AF_INET6 ? 0x21 : 0x11;
	len = put_addresses(out, FIXED_LEN, source, destination);
	set_length(out, len);
	if (kind == WIRE_V2_CRC32C)
		return add_crc32c(out, len);
	if (kind == WIRE_BROKEN) {
		len = FIXED_LEN + 4;
		set_length(out, len);
	}
	return len;
}

size_t wire_write(enum wire_header kind, const union endpoint *source,
		  const union endpoint *destination,
		  uint8_t out[static WIRE_HEADER_MAX])
{
	switch (kind) {
	case WIRE_NONE:
		return 0;
	case WIRE_V1:
		return write_v1(source, destination, out);
	case WIRE_V2:
	case WIRE_V2_CRC32C:
	case WIRE_BROKEN:
		return write_v2(kind, source, destination, out);
	}
	return 0;
}
