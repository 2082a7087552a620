// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * stream.c - see stream.h. What is a header is decided by the project's own
 * parser, which other tests judge; here the question is what the kernel
 * makes of the segments.
 */
#include "stream.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "fuzz.h"
#include "mutate.h"
#include "realpeer/crc32c.h"
#include "realpeer/proxy_header.h"

#define HEADER_MAX 4096 /* the listener's, by default */

const uint8_t stream_magic[STREAM_MAGIC] = {0xd3, 0x9e, 0x01, 0xe7,
					    0xb5, 0x80, 0xfa, 0xc4};

void stream_peer(bool v6, bool trusted, unsigned int index, uint8_t ret[16])
{
	static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, 10};
	uint8_t net = trusted ? 77 : 88;

	if (v6) {
		memset(ret, 0, 16);
		ret[0] = 0xfd;
		ret[1] = net / 10 << 4 | net % 10; /* fd77::, fd88:: */
		ret[14] = 1;
		ret[15] = index;
		return;
	}
	memcpy(ret, mapped, 16);
	ret[13] = net;
	ret[15] = 100 + index;
}

/* Another one for each number, so that none is taken for another. */
static void make_client(bool v6, uint32_t number, uint8_t ret[16])
{
	uint32_t low = htonl(number);

	memset(ret, 0, 16);
	if (v6) {
		memcpy(ret, "\x20\x01\x0d\xb8", 4);
	} else {
		memset(ret + 10, 0xff, 2);
		low = htonl(100u << 24 | (number & 0xffffff));
	}
	memcpy(ret + 12, &low, 4);
}

static size_t put_v1(struct stream *stream, bool v6)
{
	char from[INET6_ADDRSTRLEN];

	if (stream->number % 16 == 0)
		return sprintf((char *)stream->start, "PROXY UNKNOWN\r\n");
	inet_ntop(v6 ? AF_INET6 : AF_INET, stream->client + (v6 ? 0 : 12), from,
		  sizeof(from));
	return sprintf((char *)stream->start, "PROXY TCP%c %s %s %u 1883\r\n",
		       v6 ? '6' : '4', from, v6 ? "2001:db8::1" : "192.0.2.1",
		       stream->client_port);
}

static size_t put_tlv(uint8_t *at, uint8_t type, size_t len, int byte)
{
	at[0] = type;
	at[1] = len >> 8;
	at[2] = len & 0xff;
	memset(at + 3, byte, len);
	return 3 + len;
}

static size_t put_tlvs(uint8_t *at, struct dice *dice)
{
	static const uint8_t types[] = {0x01, 0x02, 0x04, 0x05, 0x30, 0xe0};
	size_t len = 0;

	for (size_t n = dice_below(dice, 5); n > 0; n--)
		len += put_tlv(at + len, types[dice_below(dice, sizeof(types))],
			       dice_below(dice, 120), 'x');
	/* Too long for the kernel, not for the daemon. */
	if (dice_below(dice, 16) == 0)
		len += put_tlv(at + len, 0x04, 1800 + dice_below(dice, 1000),
			       0);
	return len;
}

static void put_crc(uint8_t *start, size_t at, size_t len)
{
	uint32_t crc = ~0u;

	for (size_t i = 0; i < len; i++)
		crc = rp_crc32c(crc, start[i]);
	crc = htonl(~crc);
	memcpy(start + at, &crc, 4);
}

static size_t put_v2(struct stream *stream, bool v6, struct dice *dice)
{
	uint8_t *start = stream->start;
	size_t size = v6 ? 16 : 4, len = 16, crc = 0;
	uint16_t port = htons(stream->client_port);

	memcpy(start, "\r\n\r\n\0\r\nQUIT\n", 12);
	start[12] = stream->number % 16 == 0 ? 0x20 : 0x21;
	start[13] = v6 ? 0x21 : 0x11;
	memcpy(start + len, stream->client + 16 - size, size);
	memset(start + len + size, 1, size);
	memcpy(start + len + 2 * size, &port, 2);
	memcpy(start + len + 2 * size + 2, "\x07\x5b", 2);
	len += 2 * size + 4;
	if (dice_below(dice, 3) == 0) {
		crc = len + 3;
		len += put_tlv(start + len, 0x03, 4, 0);
	}
	if (dice_below(dice, 3) == 0)
		len += put_tlvs(start + len, dice);
	start[14] = (len - 16) >> 8;
	start[15] = (len - 16) & 0xff;
	if (crc)
		put_crc(start, crc, len);
	return len;
}

/* The header that was meant, or one that chance made of a vector. */
static size_t put_header(struct stream *stream, struct dice *dice)
{
	bool v6 = dice_below(dice, 2);

	make_client(v6, stream->number, stream->client);
	stream->client_port = 1 + dice_below(dice, 65535);
	switch (dice_below(dice, 6)) {
	case 0:
	case 1:
		return put_v1(stream, v6);
	case 2:
		random_seed(1 + dice_below(dice, UINT32_MAX));
		return mutated(stream->start);
	default:
		return put_v2(stream, v6, dice);
	}
}

/* Reads what was put, as whoever receives all of it will. */
static void judge(struct stream *stream)
{
	struct rp_header h;

	stream->payload = STREAM_START;
	stream->served = false;
	if (rp_parse(stream->start, STREAM_START, HEADER_MAX, &h) != RP_HEADER)
		return;
	stream->payload = h.length;
	stream->served = stream->trusted && rp_source_usable(&h);
	memcpy(stream->client, h.source, 16);
	stream->client_port = h.source_port;
	if (h.command == RP_COMMAND_PROXY)
		return;
	memcpy(stream->client, stream->peer, 16);
	stream->client_port = stream->peer_port;
}

void stream_make(struct stream *stream, uint64_t seed, uint32_t number)
{
	static const char rubbish[] = "PROXY TCP4 9.9.9.9 9.9.9.9 9 9\r\n";
	struct dice dice = {seed ^ (uint64_t)number << 32};
	size_t len;

	stream->number = number;
	stream->v6 = dice_below(&dice, 2);
	stream->trusted = dice_below(&dice, 20);
	stream_peer(stream->v6, stream->trusted,
		    number / STREAM_PORTS % STREAM_PEERS, stream->peer);
	stream->peer_port = STREAM_PORT_FIRST + number % STREAM_PORTS;
	len = put_header(stream, &dice);
	for (; len < STREAM_START; len++)
		stream->start[len] = rubbish[len % (sizeof(rubbish) - 1)];
	judge(stream);
}

uint8_t stream_payload(const struct stream *stream, uint64_t at)
{
	uint64_t mixed = (stream->number + at) * 0x9e3779b97f4a7c15;
	unsigned int shift;

	if (at < STREAM_MAGIC)
		return stream_magic[at];
	if (at >= STREAM_MARKER)
		return mixed >> 56;
	shift = 24 - at % 4 * 8;
	return (at < STREAM_MARKER - 4 ? stream->number : ~stream->number) >>
	       shift;
}

uint8_t stream_byte(const struct stream *stream, int64_t at)
{
	if (at < 0)
		return "PROXY "[-at % 6];
	if ((size_t)at < stream->payload)
		return stream->start[at];
	/* Without a header there is no payload that anybody should see. */
	if (stream->payload == STREAM_START)
		return stream->start[at % STREAM_START];
	return stream_payload(stream, at - stream->payload);
}
