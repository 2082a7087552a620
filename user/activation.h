/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * activation.h - the descriptors that systemd passes (sd_listen_fds(3)):
 * sockets of a .socket unit, and what a daemon before this one left in the
 * store.
 */
#ifndef REALPEER_ACTIVATION_H
#define REALPEER_ACTIVATION_H

#include <stdbool.h>
#include <stddef.h>

#include "address.h"

struct inherited {
	int fd;			/* owned until taken, which makes it -1 */
	struct address address; /* not set: no listening TCP socket */
	bool v6only;
	bool stored; /* left by a daemon; else of a .socket unit */
};

struct activation {
	struct inherited *sockets; /* array, owned; never NULL */
	size_t n;
	int connections; /* of takeover.h, owned; -1: none */
};

/* All of them, non-blocking; the environment forgets them. 0 or -errno. */
int activation_take(struct activation *ret);

/* Closes what nobody took, and says so. Frees. */
void activation_finish(struct activation *activation);

#endif
