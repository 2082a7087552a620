/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * activation.h - the listening sockets that systemd hands over
 * (sd_listen_fds(3)).
 */
#ifndef REALPEER_ACTIVATION_H
#define REALPEER_ACTIVATION_H

#include <stddef.h>

#include "server.h"

/*
 * All of them, non-blocking, in *ret_inherited to be freed, which is never
 * NULL on success; the environment forgets them. What is no listening TCP
 * socket has no address. 0 or -errno.
 */
int activation_take(struct inherited **ret_inherited, size_t *ret_n);

#endif
