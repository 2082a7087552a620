// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * seeds.c - writes the vectors of tests/lib as first inputs of those targets
 * that take headers: seeds DIRECTORY makes DIRECTORY/TARGET/NAME.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"
#include "vectors.h"

#define SEED_MAX 8192 /* the longest vectors have no place in a corpus */

static const char *root;

/* "v2 TCP4, payload behind" is v2-TCP4-payload-behind. */
static void file_name(const char *name, char *out, size_t size)
{
	size_t n = 0;

	for (; *name && n + 1 < size; name++) {
		bool plain = strchr("abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.",
				    *name);

		if (plain)
			out[n++] = *name;
		else if (n > 0 && out[n - 1] != '-')
			out[n++] = '-';
	}
	out[n] = '\0';
}

/* The `first` bytes that the target takes for itself, then the vector's. */
static void write_seed(const char *target, const struct vector *vector,
		       const char *first, size_t first_len,
		       const uint8_t *bytes, size_t len)
{
	char name[128], path[1024];
	uint8_t seed[SEED_MAX + 8];

	if (len > SEED_MAX)
		return;
	file_name(vector->name, name, sizeof(name));
	snprintf(path, sizeof(path), "%s/%s", root, target);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/%s/%s", root, target, name);
	memcpy(seed, first, first_len);
	memcpy(seed + first_len, bytes, len);
	fuzz_write(path, seed, first_len + len);
}

/* What was found once, and is no header. */
static void write_findings(void)
{
	static const struct vector silent = {
		.name = "silent until the timer runs out",
		.bytes = (const uint8_t *)"",
	};

	/* admit() added 0 to NULL; clang's UBSan sees it, gcc's does not. */
	write_seed("admission", &silent, "\x11\0", 2, silent.bytes, 0);
}

static void write_seeds(const struct vector *vector)
{
	const uint8_t *bytes = vector->bytes;
	size_t len = vector->len;

	write_seed("parser", vector, "", 0, bytes, len);
	write_seed("admission", vector, "\0\0", 2, bytes, len);
	if (len > 28 && memcmp(bytes + 12, "\x21\x11", 2) == 0)
		write_seed("tlv", vector, "\x08", 1, bytes + 28, len - 28);
	if (len > 52 && memcmp(bytes + 12, "\x21\x21", 2) == 0)
		write_seed("tlv", vector, "\x09", 1, bytes + 52, len - 52);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	root = argv[1];
	mkdir(root, 0755);
	vectors_each(write_seeds);
	write_findings();
	return 0;
}
