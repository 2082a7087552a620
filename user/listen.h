/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * listen.h - opens listening sockets, one for each thread and address, that
 * share the address with SO_REUSEPORT.
 */
#ifndef REALPEER_LISTEN_H
#define REALPEER_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

#include "address.h"

/*
 * Opens `n` sockets that listen on `address`, for [::] on IPv4 as well
 * unless `v6only`. An address that somebody else listens on is refused with
 * -EADDRINUSE even where SO_REUSEPORT would let us take a share of it, unless
 * `shared`: this process has sockets of its own on that port. 0 or -errno;
 * nothing is left open then.
 */
int listen_open(const struct address *address, bool v6only, bool shared,
		int *ret_fds, size_t n);

/* `n` descriptors of one listening socket that was passed to us. */
int listen_adopt(int fd, int *ret_fds, size_t n);

void listen_close(int *fds, size_t n);

#endif
