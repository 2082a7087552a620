/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * admission.h - who is let in: trusted peers, the header, its deadline, and
 * what becomes of everybody else. Each refusal is counted under its reason.
 */
#ifndef REALPEER_ADMISSION_H
#define REALPEER_ADMISSION_H

#include <stddef.h>
#include <stdint.h>

struct connection;

/* Just accepted: who is the peer? Leaves trusted ones in CONNECTION_HEADER. */
void admission_begin(struct connection *connection);

/* CONNECTION_HEADER: reads what came, and decides if it can. */
void admission_read(struct connection *connection);

/* Gated: looks at the first bytes of a peer that may send no header. */
void admission_screen(struct connection *connection);

/*
 * For takeover.c, in CONNECTION_HEADER or gated: goes on where another daemon
 * had read `len` bytes. The time for the header begins anew. 0 or -ENOMEM.
 */
int admission_resume(struct connection *connection, const uint8_t *data,
		     size_t len);

/* header_timer expired. */
void admission_timeout(struct connection *connection);

#endif
