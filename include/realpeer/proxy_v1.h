/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * proxy_v1.h - the human-readable header, section 2.1, byte by byte:
 *
 *	PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n
 *	PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n
 *	PROXY UNKNOWN ...\r\n
 *
 * The line is judged at each byte, so that a bad one is refused at once, but
 * nothing counts before the LF.
 */
#ifndef REALPEER_PROXY_V1_H
#define REALPEER_PROXY_V1_H

#include "realpeer/proxy_input.h"

enum rp_v1_state {
	RP_V1_TOKEN, /* up to the space behind TCP4 */
	RP_V1_GROUP, /* of an IPv6 address: hexadecimal */
	RP_V1_OCTET, /* of an IPv4 address or an IPv6 one's dotted end */
	RP_V1_PORT,
	RP_V1_IGNORED, /* behind UNKNOWN */
	RP_V1_LF,
};

enum rp_v1_field {
	RP_V1_SOURCE,
	RP_V1_DESTINATION,
	RP_V1_SOURCE_PORT,
	RP_V1_DESTINATION_PORT,
};

#define RP_V1_TCP_MIN	22 /* "PROXY TCP6 :: :: 0 0\r\n" */
#define RP_V1_NO_GAP	0xff
#define RP_V1_NO_NUMBER (1 << 16) /* and no digits behind it lower it */

enum rp_v1_family {
	RP_V1_TCP4,
	RP_V1_TCP6,
	RP_V1_UNKNOWN,
};

/* How a line of each family begins; powers of two for rp_index(). */
static const char rp_v1_start[4][16] = {
	[RP_V1_TCP4] = "PROXY TCP4 ",
	[RP_V1_TCP6] = "PROXY TCP6 ",
	[RP_V1_UNKNOWN] = "PROXY UNKNOWN ",
};

RP_INLINE long rp_v1_begin_number(struct rp_v1 *v1, enum rp_v1_state state)
{
	v1->state = state;
	v1->digits = 0;
	v1->colons = 0;
	v1->decimal = 0;
	v1->hex = 0;
	return 0;
}

RP_INLINE long rp_v1_begin_field(struct rp_v1 *v1, enum rp_v1_field field)
{
	v1->field = field;
	if (field > RP_V1_DESTINATION)
		return rp_v1_begin_number(v1, RP_V1_PORT);

	__builtin_memset(v1->address, 0, sizeof(v1->address));
	v1->gap = RP_V1_NO_GAP;
	v1->octets = 0;
	v1->filled = 0;
	if (v1->family == RP_V1_TCP6)
		return rp_v1_begin_number(v1, RP_V1_GROUP);
	v1->address[10] = 0xff; /* ::ffff:a.b.c.d */
	v1->address[11] = 0xff;
	v1->filled = 12;
	return rp_v1_begin_number(v1, RP_V1_OCTET);
}

RP_INLINE void rp_v1_append(struct rp_v1 *v1, __u8 byte)
{
	v1->address[rp_index(v1->filled, 16)] = byte;
	v1->filled++;
}

/* False for what is no digit, or makes a number with a leading zero. */
RP_INLINE bool rp_v1_digit(struct rp_v1 *v1, __u8 c)
{
	bool good = c >= '0' && c <= '9' && (!v1->digits || v1->decimal);

	v1->decimal = good ? v1->decimal * 10 + (c - '0') : RP_V1_NO_NUMBER;
	v1->digits++;
	return good;
}

RP_INLINE __u32 rp_v1_hex(__u8 c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

/*
 * Six bytes, "PROXY ", decide that this is a header. Then each byte has to be
 * that of the family's line, which the 7th (T or U) and the 10th (4 or 6)
 * choose. UNKNOWN may end at once.
 */
RP_INLINE long rp_v1_token(struct rp_parser *p, __u32 i, __u8 c)
{
	struct rp_v1 *v1 = &p->v1;

	if (i == 6 && c == 'U')
		v1->family = RP_V1_UNKNOWN;
	if (i == 9 && c == '6' && v1->family == RP_V1_TCP4)
		v1->family = RP_V1_TCP6;
	if (i == 13 && c == '\r') { /* only UNKNOWN comes that far */
		v1->state = RP_V1_LF;
		return 0;
	}
	if (c != rp_v1_start[rp_index(v1->family, 4)][rp_index(i, 16)])
		return i < 6 ? rp_end(p, RP_NOT_HEADER)
			     : rp_malformed(p, RP_FAULT_V1_TOKEN);
	if (i == 13)
		v1->state = RP_V1_IGNORED;
	if (i == 10 && v1->family != RP_V1_UNKNOWN)
		return rp_v1_begin_field(v1, RP_V1_SOURCE);
	return 0;
}

/* Moves what follows "::" to the end of the address, last byte first. */
static long rp_v1_move(__u32 i, struct rp_parser **context)
{
	struct rp_v1 *v1 = &(*context)->v1;
	__u32 from = v1->filled - 1 - i;

	v1->address[rp_index(15 - i, 16)] = v1->address[rp_index(from, 16)];
	v1->address[rp_index(from, 16)] = 0;
	return 0;
}

RP_INLINE long rp_v1_end_address(struct rp_parser *p)
{
	struct rp_v1 *v1 = &p->v1;

	if (v1->gap != RP_V1_NO_GAP)
		rp_loop(v1->filled - v1->gap, rp_v1_move, p);
	else if (v1->filled < 16)
		return rp_malformed(p, RP_FAULT_V1_ADDRESS);

	if (v1->field == RP_V1_SOURCE) {
		__builtin_memcpy(p->header.source, v1->address, 16);
		return rp_v1_begin_field(v1, RP_V1_DESTINATION);
	}
	__builtin_memcpy(p->header.destination, v1->address, 16);
	return rp_v1_begin_field(v1, RP_V1_SOURCE_PORT);
}

RP_INLINE long rp_v1_octet(struct rp_parser *p, __u8 c)
{
	struct rp_v1 *v1 = &p->v1;

	if (c != '.' && c != ' ') {
		if (!rp_v1_digit(v1, c) || v1->decimal > 255)
			return rp_malformed(p, RP_FAULT_V1_ADDRESS);
		return 0;
	}
	if (!v1->digits || (v1->octets == 3) != (c == ' '))
		return rp_malformed(p, RP_FAULT_V1_ADDRESS);
	rp_v1_append(v1, v1->decimal);
	v1->octets++;
	if (c == ' ')
		return rp_v1_end_address(p);
	return rp_v1_begin_number(v1, RP_V1_OCTET);
}

/* Room for bytes before the gap and behind it; "::" takes two at least. */
RP_INLINE __u32 rp_v1_room(const struct rp_v1 *v1)
{
	return v1->gap == RP_V1_NO_GAP ? 16 : 14;
}

RP_INLINE void rp_v1_end_group(struct rp_v1 *v1)
{
	if (!v1->digits)
		return;
	rp_v1_append(v1, v1->hex >> 8);
	rp_v1_append(v1, v1->hex);
	rp_v1_begin_number(v1, RP_V1_GROUP);
}

RP_INLINE bool rp_v1_group_digit(struct rp_v1 *v1, __u8 c)
{
	__u32 digit = rp_v1_hex(c);

	if (digit > 15 || v1->digits == 4 || v1->filled >= rp_v1_room(v1))
		return false;
	if (v1->colons == 1 && !v1->filled) /* ":1" */
		return false;
	v1->colons = 0;
	v1->hex = v1->hex << 4 | digit;
	rp_v1_digit(v1, c); /* the group may turn out to be an octet */
	return true;
}

RP_INLINE bool rp_v1_colon(struct rp_v1 *v1)
{
	rp_v1_end_group(v1);
	if (v1->filled >= rp_v1_room(v1))
		return false;
	v1->colons++;
	if (v1->colons == 1)
		return true;
	if (v1->gap != RP_V1_NO_GAP)
		return false;
	v1->gap = v1->filled;
	return true;
}

/* Whether what was read as a group is the first octet of a dotted end. */
RP_INLINE bool rp_v1_dot(const struct rp_v1 *v1)
{
	if (!v1->digits || v1->decimal > 255)
		return false;
	if (v1->gap == RP_V1_NO_GAP)
		return v1->filled == 12;
	return v1->filled + 4u <= rp_v1_room(v1);
}

/* RFC 4291 section 2.2, exactly as inet_pton() takes it. */
RP_INLINE long rp_v1_group(struct rp_parser *p, __u8 c)
{
	struct rp_v1 *v1 = &p->v1;
	bool good;

	switch (c) {
	case ':':
		good = rp_v1_colon(v1);
		break;
	case '.':
		if (rp_v1_dot(v1))
			return rp_v1_octet(p, c);
		good = false;
		break;
	case ' ':
		if (v1->colons != 1) {
			rp_v1_end_group(v1);
			return rp_v1_end_address(p);
		}
		good = false;
		break;
	default:
		good = rp_v1_group_digit(v1, c);
	}
	return good ? 0 : rp_malformed(p, RP_FAULT_V1_ADDRESS);
}

RP_INLINE long rp_v1_port(struct rp_parser *p, __u8 c)
{
	struct rp_v1 *v1 = &p->v1;

	if (v1->digits && v1->field == RP_V1_SOURCE_PORT && c == ' ') {
		p->header.source_port = v1->decimal;
		return rp_v1_begin_field(v1, RP_V1_DESTINATION_PORT);
	}
	if (v1->digits && v1->field == RP_V1_DESTINATION_PORT && c == '\r') {
		p->header.destination_port = v1->decimal;
		v1->state = RP_V1_LF;
		return 0;
	}
	if (!rp_v1_digit(v1, c) || v1->decimal > 65535)
		return rp_malformed(p, RP_FAULT_V1_PORT);
	return 0;
}

RP_INLINE long rp_v1_end_line(struct rp_parser *p, __u32 i)
{
	p->header.length = i + 1;
	p->header.version = 1;
	p->header.command = p->v1.family == RP_V1_UNKNOWN ? RP_COMMAND_LOCAL
							  : RP_COMMAND_PROXY;
	return rp_end(p, RP_HEADER);
}

RP_INLINE long rp_v1_byte(struct rp_parser *p, __u32 i)
{
	enum rp_v1_state state = p->v1.state;
	__u8 c = rp_byte(p, i);

	/* LF stands behind CR, and nothing else does. */
	if (state != RP_V1_TOKEN && (state == RP_V1_LF) != (c == '\n'))
		return rp_malformed(p, RP_FAULT_V1_LINE_END);
	switch (state) {
	case RP_V1_TOKEN:
		return rp_v1_token(p, i, c);
	case RP_V1_GROUP:
		return rp_v1_group(p, c);
	case RP_V1_OCTET:
		return rp_v1_octet(p, c);
	case RP_V1_PORT:
		return rp_v1_port(p, c);
	case RP_V1_IGNORED:
		if (c == '\r')
			p->v1.state = RP_V1_LF;
		return 0;
	case RP_V1_LF:
		return rp_v1_end_line(p, i);
	}
	return 0;
}

#define RP_V1_STEP 8 /* bytes of one round */

static long rp_v1_round(__u32 i, struct rp_parser **context)
{
	struct rp_parser *p = *context;
	__u32 at = i * RP_V1_STEP, end = p->v1.end;

	for (int j = 0; j < RP_V1_STEP && at < end; j++, at++) {
		if (rp_v1_byte(p, at))
			return 1;
	}
	return 0;
}

/* How many bytes the line still has at least. */
RP_INLINE __u32 rp_v1_need(const struct rp_parser *p)
{
	const struct rp_v1 *v1 = &p->v1;
	__u32 need;

	if (v1->state == RP_V1_TOKEN && p->len > 6 &&
	    v1->family != RP_V1_UNKNOWN)
		return RP_V1_TCP_MIN - p->len;
	if (v1->state == RP_V1_TOKEN)
		return RP_V1_MIN - p->len;
	if (v1->state == RP_V1_LF)
		return 1;
	if (v1->state == RP_V1_IGNORED)
		return 2;

	/* CRLF, and a space and a digit for each field that is to come. */
	need = 2 + 2 * (RP_V1_DESTINATION_PORT - v1->field);
	if (v1->field == RP_V1_SOURCE) /* but "::" or "0.0.0.0" for one */
		need += v1->family == RP_V1_TCP6 ? 1 : 6;
	if (v1->state == RP_V1_OCTET) /* ".0" */
		need += 2 * (3 - v1->octets);
	if (!v1->digits && v1->colons != 2)
		need++;
	return need;
}

RP_INLINE void rp_v1_parse(struct rp_parser *p)
{
	__u32 max = p->header_max < RP_V1_MAX ? p->header_max : RP_V1_MAX;
	__u32 need;

	__builtin_memset(&p->v1, 0, sizeof(p->v1));
	p->v1.end = p->len < max ? p->len : max;
	rp_loop((p->v1.end + RP_V1_STEP - 1) / RP_V1_STEP, rp_v1_round, p);
	if (p->verdict != RP_INCOMPLETE)
		return;
	if (p->len >= max) {
		rp_end(p, RP_TOO_LONG);
		return;
	}
	need = rp_v1_need(p);
	p->header.need = need < max - p->len ? need : max - p->len;
}

#endif
