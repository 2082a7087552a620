/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* capability.c - see capability.h. */
#include "capability.h"

#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool has(uint64_t effective, unsigned int capability)
{
	return effective >> capability & 1;
}

uint64_t capability_effective(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data))
		return UINT64_MAX;
	return (uint64_t)data[1].effective << 32 | data[0].effective;
}

const char *capability_missing(uint64_t effective,
			       char out[CAPABILITY_TEXT_MAX])
{
	/* CAP_SYS_ADMIN was split; the kernel takes it for the new ones. */
	bool old = has(effective, CAP_SYS_ADMIN);
	const struct {
		const char *name;
		bool missing;
	} needs[] = {
		{"CAP_BPF", !old && !has(effective, CAP_BPF)},
		{"CAP_PERFMON", !old && !has(effective, CAP_PERFMON)},
		{"CAP_NET_ADMIN", !has(effective, CAP_NET_ADMIN)},
	};
	unsigned int n = 0, told = 0;
	size_t have = 0;

	for (size_t i = 0; i < 3; i++)
		n += needs[i].missing;
	out[0] = '\0';
	for (size_t i = 0; i < 3; i++) {
		if (!needs[i].missing)
			continue;
		told++;
		have += (size_t)snprintf(out + have, CAPABILITY_TEXT_MAX - have,
					 "%s%s", needs[i].name,
					 told + 1 < n	 ? ", "
					 : told + 1 == n ? " and "
					 : n > 1	 ? " are missing"
							 : " is missing");
	}
	return out;
}
