/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * wall_clock.c - what test_fault_clock.py preloads into the daemon: somebody
 * has set the time of day. Every way to ask for it is shifted by the seconds
 * that stand in the file $WALL_CLOCK, which the test changes; all other clocks
 * go on as they are.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t shift(void)
{
	static const int64_t *seconds;
	const char *path = getenv("WALL_CLOCK");
	int fd;

	if (!seconds && path) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			abort();
		seconds = mmap(NULL, sizeof(*seconds), PROT_READ, MAP_SHARED,
			       fd, 0);
		if (seconds == MAP_FAILED)
			abort();
		close(fd);
	}
	return seconds ? *seconds : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	if (syscall(SYS_clock_gettime, clock, now))
		return -1;
	if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
		now->tv_sec += shift();
	return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec exact;

	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &exact))
		return -1;
	now->tv_sec = exact.tv_sec;
	now->tv_usec = exact.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *ret)
{
	struct timespec exact;

	if (clock_gettime(CLOCK_REALTIME, &exact))
		return -1;
	if (ret)
		*ret = exact.tv_sec;
	return exact.tv_sec;
}
