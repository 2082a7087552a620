/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * clock.h - the clock of records, which programs in the kernel read as well.
 */
#ifndef REALPEER_CLOCK_H
#define REALPEER_CLOCK_H

#include <stdint.h>

/*
 * Nanoseconds of CLOCK_BOOTTIME as bpf_ktime_get_boot_ns() tells them: those
 * of the host, in whatever time namespace we are.
 */
uint64_t clock_boot_ns(void);

#endif
