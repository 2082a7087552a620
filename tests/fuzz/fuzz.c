// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * fuzz.c - see fuzz.h. Knows nothing of what is fuzzed.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Noreturn void fuzz_failed(const char *condition, const char *file,
			   unsigned int line)
{
	fprintf(stderr, "%s:%u: does not hold: %s\n", file, line, condition);
	abort();
}

/* FNV-1a */
struct dice dice_make(const uint8_t *data, size_t len)
{
	struct dice dice = {0xcbf29ce484222325};

	while (len--)
		dice.state = (dice.state ^ *data++) * 0x100000001b3;
	return dice;
}

/* Steele's splitmix64 */
size_t dice_below(struct dice *dice, size_t n)
{
	uint64_t z = dice->state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (z ^ z >> 31) % n;
}

uint8_t *fuzz_copy(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	holds(copy);
	memcpy(copy, data, len);
	return copy;
}

static char directory[64];

static int remove_entry(const char *path, const struct stat *info, int type,
			struct FTW *walk)
{
	(void)info;
	(void)type;
	(void)walk;
	return remove(path);
}

static void remove_directory(void)
{
	nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_directory(void)
{
	if (*directory)
		return directory;
	/* In memory if there is such a file system: it is written often. */
	snprintf(directory, sizeof(directory), "%s/realpeer-fuzz-XXXXXX",
		 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	holds(mkdtemp(directory));
	atexit(remove_directory);
	return directory;
}

void fuzz_write(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	holds(fd >= 0);
	holds(write(fd, data, len) == (ssize_t)len);
	close(fd);
}
