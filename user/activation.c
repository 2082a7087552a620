/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* activation.c - see activation.h. */
#include "activation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>

int activation_take(struct inherited **ret_inherited, size_t *ret_n)
{
	int n = sd_listen_fds(1);
	struct inherited *inherited;

	if (n < 0)
		return n;
	inherited = calloc((size_t)n + 1, sizeof(*inherited));
	if (!inherited)
		return -ENOMEM;
	for (int i = 0; i < n; i++) {
		struct inherited *one = &inherited[i];

		one->fd = SD_LISTEN_FDS_START + i;
		if (sd_is_socket_inet(one->fd, AF_UNSPEC, SOCK_STREAM, 1, 0) <=
		    0)
			continue;
		fcntl(one->fd, F_SETFL, O_NONBLOCK);
		one->address.len = sizeof(one->address.in6);
		if (getsockname(one->fd, &one->address.sa, &one->address.len) <
		    0)
			one->address.len = 0;
	}
	*ret_inherited = inherited;
	*ret_n = (size_t)n;
	return 0;
}
