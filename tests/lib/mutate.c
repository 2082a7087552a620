// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * mutate.c - headers made by chance.
 *
 * Most mistakes hide behind others, so lengths and checksums are often put
 * right after the damage is done.
 */
#include "mutate.h"

#include <string.h>

#include "realpeer/crc32c.h"
#include "vectors.h"

static __u32 random_state;

void random_seed(__u32 seed)
{
	random_state = seed;
}

/* Marsaglia's xorshift: the same numbers on every machine. */
__u32 random_below(__u32 n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state % n;
}

static const struct vector *vectors_all[1024];
static size_t n_vectors;

static void collect(const struct vector *vector)
{
	if (n_vectors < sizeof(vectors_all) / sizeof(vectors_all[0]))
		vectors_all[n_vectors++] = vector;
}

static size_t put(__u8 *bytes, size_t len, const void *from, size_t n)
{
	if (n > MUTATED_MAX - len)
		n = MUTATED_MAX - len;
	memcpy(bytes + len, from, n);
	return len + n;
}

static __u8 random_byte(void)
{
	static const __u8 telling[] = "\0\1\2\3\4\5\x20\x22\x7f\xff\r\n :.0";

	if (random_below(2))
		return random_below(256);
	return telling[random_below(sizeof(telling) - 1)];
}

/* One small damage. */
static size_t damage(__u8 *bytes, size_t len)
{
	size_t at = random_below(len + 1);
	size_t n = 1 + random_below(8);

	switch (random_below(6)) {
	case 0:
		if (at < len)
			bytes[at] ^= 1 << random_below(8);
		return len;
	case 1:
		if (at < len)
			bytes[at] = random_byte();
		return len;
	case 2: /* cut off */
		return at;
	case 3: /* leave out */
		if (n > len - at)
			n = len - at;
		memmove(bytes + at, bytes + at + n, len - at - n);
		return len - n;
	case 4: /* put in */
		if (len + n > MUTATED_MAX)
			return len;
		memmove(bytes + at + n, bytes + at, len - at);
		for (size_t i = 0; i < n; i++)
			bytes[at + i] = random_byte();
		return len + n;
	default: /* in the fixed part */
		if (len > 12)
			bytes[12 + random_below(len < 20 ? len - 12 : 8)] =
				random_byte();
		return len;
	}
}

static size_t damaged_vector(__u8 *bytes)
{
	const struct vector *vector = vectors_all[random_below(n_vectors)];
	size_t len = put(bytes, 0, vector->bytes, vector->len);

	for (__u32 n = random_below(4); n > 0; n--)
		len = damage(bytes, len);
	return len;
}

static size_t random_tlv(__u8 *bytes, size_t len)
{
	static const __u8 types[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x20,
				     0x20, 0x22, 0x30, 0xe0, 0xea, 0xee};
	static const __u8 sizes[] = {0, 1, 2, 4, 4, 5, 8, 13, 16, 128, 129};
	__u8 value[256], head[3];
	size_t n = sizes[random_below(sizeof(sizes))];

	head[0] = types[random_below(sizeof(types))];
	head[1] = random_below(50) ? 0 : random_byte();
	head[2] = random_below(20) ? n : random_byte();
	for (size_t i = 0; i < n; i++)
		value[i] = random_byte();
	if (n)
		value[0] = random_below(3); /* vendors' subtypes */
	if (n > 8 && random_below(2)) {	    /* a CN in TLS's */
		memcpy(value + 5, "\x22\0", 3);
		value[7] = n - 8;
		if (random_below(2))
			memset(value + 8, 'c', n - 8);
	}
	len = put(bytes, len, head, sizeof(head));
	return put(bytes, len, value, n);
}

static size_t random_v2(__u8 *bytes)
{
	static const __u8 families[] = {0x11, 0x11, 0x21, 0x00, 0x12, 0x31};
	static const __u8 blocks[] = {12, 12, 36, 0, 12, 216};
	__u32 family = random_below(sizeof(families));
	__u8 block[216];
	size_t len = put(bytes, 0, "\r\n\r\n\0\r\nQUIT\n\x21", 13);

	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = random_below(256);
	len = put(bytes, len, &families[family], 1);
	len = put(bytes, len, "\0\0", 2);
	len = put(bytes, len, block, blocks[family]);
	for (__u32 n = random_below(8); n > 0; n--)
		len = random_tlv(bytes, len);
	return len;
}

static size_t random_v1(__u8 *bytes)
{
	static const char *const pieces[] = {
		"PROXY ",
		"TCP4",
		"TCP6",
		"UNKNOWN",
		" ",
		" ",
		" ",
		":",
		"::",
		".",
		"0",
		"1",
		"255",
		"256",
		"65535",
		"65536",
		"192.0.2.1",
		"2001:db8::1",
		"::ffff:1.2.3.4",
		"abcd",
		"\r",
		"\n",
		"\r\n",
	};
	static const char *const starts[] = {"PROXY TCP4 192.0.2.1 ",
					     "PROXY TCP6 ",
					     "PROXY TCP4 ",
					     "PROXY TCP6 ::1 ",
					     "PROXY TCP4 1.2.3.4 1.2.3.4 ",
					     "PROXY ",
					     ""};
	const char *start = starts[random_below(7)];
	size_t len = put(bytes, 0, start, strlen(start));

	for (__u32 n = 1 + random_below(12); n > 0; n--) {
		const char *piece = pieces[random_below(23)];

		len = put(bytes, len, piece, strlen(piece));
	}
	return len;
}

/* Makes the length field true, and the checksum if it stands first. */
static void repair(__u8 *bytes, size_t len)
{
	__u32 crc = ~0u;
	size_t block = 28;

	if (len < 16 || memcmp(bytes, "\r\n\r\n\0\r\nQUIT\n", 12) != 0)
		return;
	bytes[14] = (len - 16) >> 8;
	bytes[15] = len - 16;
	if (bytes[13] == 0x21)
		block = 52;
	if (len < block + 7 || memcmp(bytes + block, "\x03\0\x04", 3) != 0)
		return;
	memset(bytes + block + 3, 0, 4);
	for (size_t i = 0; i < len; i++)
		crc = rp_crc32c(crc, bytes[i]);
	for (int i = 0; i < 4; i++)
		bytes[block + 3 + i] = ~crc >> (24 - 8 * i);
}

size_t mutated(__u8 ret[static MUTATED_MAX])
{
	__u32 kind = random_below(8);
	size_t len;

	if (!n_vectors)
		vectors_each(collect);
	if (kind < 4)
		len = damaged_vector(ret);
	else if (kind < 7)
		len = random_v2(ret);
	else
		len = random_v1(ret);
	if (random_below(3))
		repair(ret, len);
	if (!random_below(4)) /* and payload behind */
		len = put(ret, len, "GET / HTTP/1.1\r\n\r\n", 18);
	return len;
}

__u32 mutated_header_max(void)
{
	static const __u32 limits[] = {16, 27, 28, 107, 232, 536};

	return random_below(8) ? VECTOR_HEADER_MAX : limits[random_below(6)];
}
