/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * attach.h - the ports that `realpeerctl attach` made PROXY-aware: inline
 * listeners that no configuration file names. They are added to every
 * configuration that is loaded, for those addresses that no listener of the
 * files has: its word is the same operator's, and later. So they are until they
 * are detached, or have no address left.
 */
#ifndef REALPEER_ATTACH_H
#define REALPEER_ATTACH_H

#include <stddef.h>
#include <stdint.h>

#include "config.h"

/*
 * A listener that attach made is named so. A name has one number in the maps:
 * the port of one that a file names so is not attached.
 */
#define ATTACH_NAME_FORMAT "port-%u"

struct attached_port {
	uint16_t port;
	struct prefix *trusted; /* array, owned; NULL: the global ones */
	size_t n_trusted;
};

struct attached {
	struct attached_port *ports; /* array, owned */
	size_t n;
};

/*
 * Copies `trusted`; n_trusted 0 stands for the global ones. 0, -EEXIST or
 * -ENOMEM.
 */
int attached_add(struct attached *attached, uint16_t port,
		 const struct prefix *trusted, size_t n_trusted);

/* 0 or -ENOENT. */
int attached_remove(struct attached *attached, uint16_t port);

/*
 * Removes it into *ret, for attached_put_back() should it have to stay, else
 * for free(ret->trusted). 0 or -ENOENT.
 */
int attached_take(struct attached *attached, uint16_t port,
		  struct attached_port *ret);
void attached_put_back(struct attached *attached,
		       const struct attached_port *taken);

void attached_clear(struct attached *attached);

/*
 * The listener of the files that has the port on [::], which is every address
 * that no other has, or the name; and which of them, in words. Or NULL.
 */
const struct listener_config *attached_rival(const struct config *config,
					     uint16_t port,
					     const char **ret_what);

/*
 * Adds the listeners to a configuration that nobody else has seen yet, but for
 * those of ports with a rival; without 0.0.0.0 if it is taken. 0 or -ENOMEM.
 */
int attached_extend(const struct attached *attached, struct config *config);

#endif
