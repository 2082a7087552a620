/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * handler.h - reaching the protocol handler behind a connection, and telling
 * it who the client is.
 */
#ifndef REALPEER_HANDLER_H
#define REALPEER_HANDLER_H

#include <stddef.h>
#include <stdint.h>

struct connection;

/* Longer than any handshake that works. */
#define HANDLER_TIMEOUT_MS 5000

/* A unix socket with a full backlog tells nobody when it has room again. */
#define HANDLER_RETRY_MS 25

/*
 * Connects, with the record filled in. `header` is what came in front of
 * `payload` (both are copied if they cannot be sent at once); NULL: nothing.
 */
void handler_open(struct connection *connection, const uint8_t *header,
		  size_t header_len, const uint8_t *payload,
		  size_t payload_len);

/* CONNECTION_CONNECTING: goes on if the socket says how it went. */
void handler_check(struct connection *connection);

/* handler_timer expired. */
void handler_timeout(struct connection *connection);

#endif
