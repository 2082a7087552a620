/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_clock.c - user/clock.c */
#include "clock.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

#define NS_PER_S 1000000000ull
#define LATER_S	 5000

struct reading {
	uint64_t boot_ns;      /* clock_boot_ns() */
	struct timespec clock; /* what the system call says */
};

/* In a process of its own: clocks are read for the namespace it began in. */
static struct reading read_in_child(void)
{
	struct reading reading;
	int ends[2], status;
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		reading.boot_ns = clock_boot_ns();
		clock_gettime(CLOCK_BOOTTIME, &reading.clock);
		_exit(write(ends[1], &reading, sizeof(reading)) !=
		      sizeof(reading));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(read(ends[0], &reading, sizeof(reading)),
			 sizeof(reading));
	close(ends[0]);
	close(ends[1]);
	return reading;
}

static void goes_on(void **state)
{
	uint64_t first = clock_boot_ns(), second = clock_boot_ns();

	(void)state;
	assert_true(second >= first);
	assert_true(second < first + NS_PER_S);
}

/* The same time there as here, though the system call says another. */
static void other_namespace(void **state)
{
	static const char later[] = "boottime 5000 0\n";
	struct reading here = read_in_child(), there;
	int fd;

	(void)state;
	if (unshare(CLONE_NEWTIME))
		skip(); /* no right to, or a kernel before 5.6 */
	fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, later, strlen(later)), strlen(later));
	close(fd);
	there = read_in_child();
	assert_true(there.clock.tv_sec >= here.clock.tv_sec + LATER_S);
	assert_true(there.boot_ns >= here.boot_ns);
	assert_true(there.boot_ns < here.boot_ns + 60 * NS_PER_S);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_namespace),
		cmocka_unit_test(goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
