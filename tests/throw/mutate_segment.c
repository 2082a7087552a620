// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * mutate_segment.c - see mutate_segment.h. A payload is never changed here
 * but behind a checksum: that of a segment follows from its sequence number.
 */
#include "mutate_segment.h"

#include <net/ethernet.h>
#include <netinet/in.h>
#include <string.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static bool one_in(struct dice *dice, size_t n)
{
	return dice_below(dice, n) == 0;
}

/* Small, or anything. */
static uint32_t some_number(struct dice *dice)
{
	static const uint32_t telling[] = {
		0,	    1,		2,	0xffffffff, 0xfffffffe,
		0x7fffffff, 0x80000000, 0xffff, 0x10000,
	};

	switch (dice_below(dice, 3)) {
	case 0:
		return telling[dice_below(dice, ARRAY_SIZE(telling))];
	case 1:
		return dice_below(dice, 64) - 32;
	default:
		return dice_below(dice, UINT32_MAX);
	}
}

static void change_flags(struct segment *s, struct dice *dice)
{
	if (one_in(dice, 2))
		s->flags ^= 1 << dice_below(dice, 8);
	else
		s->flags = dice_below(dice, 256);
}

static void change_seq(struct segment *s, struct dice *dice)
{
	s->seq += some_number(dice);
}

static void change_ack(struct segment *s, struct dice *dice)
{
	if (one_in(dice, 4))
		s->ack = some_number(dice);
	else
		s->ack += some_number(dice);
}

static void change_window(struct segment *s, struct dice *dice)
{
	s->window = some_number(dice);
}

static void change_urgent(struct segment *s, struct dice *dice)
{
	s->flags |= one_in(dice, 2) ? URG : 0;
	s->urgent = some_number(dice);
}

static void set_options(struct segment *s, const void *options, size_t n)
{
	memset(s->options, 1, sizeof(s->options)); /* NOP */
	memcpy(s->options, options, n);
	s->n_options = (n + 3) / 4 * 4;
}

static void change_options(struct segment *s, struct dice *dice)
{
	static const struct {
		const char *bytes;
		size_t n;
	} strange[] = {
		{"\x02\x04\x00\x00", 4}, /* MSS 0 */
		{"\x02\x04\x00\x01\x03\x03\xff", 7},
		{"\x02\x04\xff\xff\x04\x02", 6},
		{"\x02\x00", 2},	 /* of length 0 */
		{"\x02\x01\x05\xb4", 4}, /* of length 1 */
		{"\x02\xff\x05\xb4", 4}, /* beyond the header */
		{"\x08\x0a\xff\xff\xff\xff\xff\xff\xff\xff", 10},
		{"\x08\x02", 2},
		{"\x05\x0a\x00\x00\x00\x01\xff\xff\xff\xff", 10}, /* SACK */
		{"\x22\x02", 2}, /* Fast Open */
		{"\x22\x0a\x01\x02\x03\x04\x05\x06\x07\x08", 10},
		{"\x13\x12"
		 "0123456789abcdef",
		 18}, /* MD5 */
		{"\x1d\x10"
		 "0123456789abcd",
		 16}, /* TCP-AO */
		{"\xfe\x04\xf9\x89", 4},
		{"\x00\x02\x04\x05\xb4", 5}, /* behind the end */
	};
	size_t i = dice_below(dice, ARRAY_SIZE(strange) + 2);

	if (i < ARRAY_SIZE(strange)) {
		set_options(s, strange[i].bytes, strange[i].n);
		return;
	}
	if (i == ARRAY_SIZE(strange) && s->n_options > 0) {
		s->options[dice_below(dice, s->n_options)] ^=
			1 << dice_below(dice, 8);
		return;
	}
	s->n_options = dice_below(dice, 11) * 4;
	for (size_t at = 0; at < s->n_options; at++)
		s->options[at] = dice_below(dice, 40);
}

/* The payload goes with it: what is said is what there is, if it can be. */
static void change_doff(struct segment *s, struct dice *dice)
{
	int doff = dice_below(dice, 16);

	if (doff < 5) {
		s->doff = doff;
		return;
	}
	for (size_t at = s->n_options; at < SEGMENT_OPTIONS_MAX; at++)
		s->options[at] = 0;
	s->n_options = (doff - 5) * 4;
}

/* More options than there are bytes. */
static void cut_header(struct segment *s, struct dice *dice)
{
	s->len = 0;
	s->doff = 6 + s->n_options / 4 + dice_below(dice, 4);
	s->doff = s->doff < 15 ? s->doff : 15;
}

static void change_check(struct segment *s, struct dice *dice)
{
	s->check = 1 + dice_below(dice, 0xfffe);
	s->damaged = false;
}

static void damage(struct segment *s, struct dice *dice)
{
	(void)dice;
	s->damaged = true;
	s->check = 0;
}

static void change_ip_length(struct segment *s, struct dice *dice)
{
	s->more = (int)dice_below(dice, 128) - 100;
	if (one_in(dice, 8))
		s->more = dice_below(dice, 65536);
	if (one_in(dice, 2)) /* so that nothing else is missing */
		s->trailing = s->more > 0 && s->more < 64 ? s->more : 0;
}

static void change_frame(struct segment *s, struct dice *dice)
{
	switch (dice_below(dice, 6)) {
	case 0:
		s->cut = 1 + dice_below(dice, 80);
		break;
	case 1:
		s->type = s->v6 ? ETHERTYPE_IP : ETHERTYPE_IPV6;
		break;
	case 2:
		s->other_station = true;
		break;
	case 3:
		s->vlan = true;
		break;
	default:
		s->trailing = 1 + dice_below(dice, 60);
	}
}

static void change_ip4(struct segment *s, struct dice *dice)
{
	switch (dice_below(dice, 9)) {
	case 0: /* options: NOPs, or a route that is recorded, or rubbish */
		s->n_extra = 4 * (1 + dice_below(dice, 10));
		memset(s->extra, one_in(dice, 2), s->n_extra);
		if (one_in(dice, 2))
			memcpy(s->extra, "\x07\x07\x04\0\0\0\0\0", 4);
		break;
	case 1:
		s->ihl = dice_below(dice, 16);
		break;
	case 2:
		s->fragment = 1 << dice_below(dice, 16);
		break;
	case 3:
		s->ip_check = 1 + dice_below(dice, 0xfffe);
		break;
	case 4:
		s->ttl = dice_below(dice, 3);
		break;
	case 5:
		s->next = dice_below(dice, 256);
		break;
	case 6:
		s->version = dice_below(dice, 16);
		break;
	case 7:
		s->tos = dice_below(dice, 256);
		break;
	default:
		s->id = dice_below(dice, 65536);
	}
}

static void change_ip6(struct segment *s, struct dice *dice)
{
	/* Hop-by-hop, routing, fragment, authentication, destination, ... */
	static const uint8_t types[] = {0, 43, 44, 51, 60, 135, 139, 140, 59};
	size_t n;

	switch (dice_below(dice, 6)) {
	case 0:
	case 1:
		n = 8 * (1 + dice_below(dice, 4));
		memset(s->extra, 0, n);
		s->next = types[dice_below(dice, one_in(dice, 3) ? sizeof(types)
								 : 5)];
		s->extra[0] = one_in(dice, 4) ? types[dice_below(dice, 5)]
					      : IPPROTO_TCP;
		s->extra[1] = n / 8 - 1;
		s->extra[2] = dice_below(dice, 6); /* PadN, a routing type */
		s->extra[3] = n - 4;
		s->n_extra = n;
		break;
	case 2:
		s->next = dice_below(dice, 256);
		break;
	case 3:
		s->version = dice_below(dice, 16);
		break;
	case 4:
		s->ttl = dice_below(dice, 3);
		break;
	default:
		s->tos = dice_below(dice, 256);
		s->id = dice_below(dice, 65536);
	}
}

static void change_ip(struct segment *s, struct dice *dice)
{
	if (s->v6)
		change_ip6(s, dice);
	else
		change_ip4(s, dice);
}

static void change_pieces(struct segment *s, struct dice *dice)
{
	s->pieces = 1 + dice_below(dice, 6);
	s->backwards = one_in(dice, 3);
}

/* What nobody must believe: TCP drops what acknowledges more than was sent. */
static void lie(struct segment *s, struct dice *dice)
{
	static const char *const lies[] = {
		"PROXY TCP4 6.6.6.6 192.0.2.1 6 1883\r\nno payload",
		"PROXY UNKNOWN\r\n",
		"PROX",
		"no header",
	};

	s->lie = lies[dice_below(dice, ARRAY_SIZE(lies))];
	if (!s->len)
		s->len = strlen(s->lie);
	s->ack += 1u << 30;
}

/* Addresses that no peer has, or that look like the other family's. */
static void change_address(struct segment *s, struct dice *dice)
{
	static const uint8_t strange[][16] = {
		{[10] = 0xff, 0xff, 127, 0, 0, 1},
		{[10] = 0xff, 0xff, 0, 0, 0, 0},
		{[10] = 0xff, 0xff, 255, 255, 255, 255},
		{[10] = 0xff, 0xff, 224, 0, 0, 1},
		{[10] = 0xff, 0xff, 10, 77, 0, 2},
		{[10] = 0xff, 0xff, 10, 77, 0, 1},
		{[10] = 0xff, 0xff, 10, 77, 0, 255},
		{0},
		{[15] = 1},
		{0xff, 0x02, [15] = 1},
		{0xfd, 0x77, [15] = 2},
		{0xfd, 0x77, [15] = 1},
		{0xfe, 0x80, [15] = 9},
	};
	const uint8_t *address = strange[dice_below(dice, ARRAY_SIZE(strange))];

	if (one_in(dice, 4))
		memcpy(s->destination, address, 16);
	else
		memcpy(s->source, address, 16);
}

static void change_port(struct segment *s, struct dice *dice)
{
	if (one_in(dice, 2))
		s->source_port = some_number(dice);
	else
		s->destination_port = some_number(dice);
}

static void leave_checksum(struct segment *s, struct dice *dice)
{
	(void)dice;
	s->offload = OFFLOAD_CHECKSUM;
}

static void (*const mutators[])(struct segment *s, struct dice *dice) = {
	change_flags,	change_flags,	change_seq,	  change_seq,
	change_ack,	change_ack,	change_window,	  change_urgent,
	change_options, change_options, change_doff,	  cut_header,
	change_check,	damage,		change_ip_length, change_ip_length,
	change_frame,	change_ip,	change_ip,	  change_pieces,
	change_address, change_port,	leave_checksum,
};

/*
 * Options must not become payload, nor payload options: a header that is said
 * to be longer than it is has nothing behind it.
 */
static void keep_payload_right(struct segment *s)
{
	int words = 5 + s->n_options / 4;

	if (s->doff > words)
		s->len = 0;
	else if (s->doff >= 5)
		s->doff = -1;
	/* Two wrongs must not make a right sum. */
	if (s->more)
		s->damaged = false;
}

/* A device that would finish it must be able to. */
static void keep_offload_possible(struct segment *s)
{
	if (s->more || s->cut || s->trailing || s->pieces || s->n_extra ||
	    s->doff >= 0 || s->ihl >= 0 || s->vlan ||
	    s->version != (s->v6 ? 6 : 4))
		s->offload = OFFLOAD_NONE;
	if (s->len > SEGMENT_MTU - 140 && s->offload != OFFLOAD_GSO)
		s->len = SEGMENT_MTU - 140;
}

void mutate_segment(struct segment *segment, struct dice *dice)
{
	bool syn = segment->flags & SYN;

	/* Alone, lest another change makes it true. */
	if (!syn && one_in(dice, 8)) {
		lie(segment, dice);
		keep_offload_possible(segment);
		return;
	}
	for (size_t n = 1 + dice_below(dice, 3); n > 0; n--)
		mutators[dice_below(dice, ARRAY_SIZE(mutators))](segment, dice);
	/*
	 * A SYN begins another stream: far away, so that no byte of this one
	 * can be taken for one of that.
	 */
	if (!syn && segment->flags & SYN)
		segment->seq += 0x2a345678;
	keep_payload_right(segment);
	keep_offload_possible(segment);
}
