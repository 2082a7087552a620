/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * connection.h - one accepted connection, from accept() to close().
 *
 *	HEADER ──▶ CONNECTING ──▶ RELAYING ──▶ CLOSED
 *
 * admission.c decides in HEADER whether and as whom it goes on, handler.c
 * reaches the handler in CONNECTING, relay.c moves the bytes in RELAYING; each
 * may end it. connection.c has the life cycle and what all of them need.
 *
 * A client that is not trusted is connected to the handler at once, and one
 * that says nothing at header_timeout, but with their way up gated until their
 * first bytes are seen to be no header.
 *
 * Idle, it is this structure and nothing else.
 */
#ifndef REALPEER_CONNECTION_H
#define REALPEER_CONNECTION_H

#include "listener.h"
#include "record.h"
#include "relay.h"
#include "worker.h"

enum connection_state {
	CONNECTION_HEADER,
	CONNECTION_CONNECTING,
	CONNECTION_RELAYING,
	CONNECTION_CLOSED,
};

struct connection {
	struct connection *next, **link; /* of worker->connections */
	struct listener *listener;	 /* counted reference */
	struct relay relay;		 /* with both descriptors, owned */
	struct record record;
	struct timer header_timer;
	struct timer handler_timer;
	struct task turn; /* another turn, or its end */
	uint64_t cookie;  /* of its entry in `connections`; 0: none */
	uint32_t wanted;  /* bytes that make it worth parsing again */
	uint8_t state;	  /* enum connection_state */
	uint8_t retries;  /* of a unix handler with a full backlog */
	bool recorded;	  /* the entry is ours to remove */
	bool announced;	  /* to the kernel part, until it ends */
	bool reviewed;	  /* and the handler's side surely exists */
	bool headless;	  /* the header may have been read already */
};

/*
 * Takes over `fd`, just accepted from `peer`. `headless`: the kernel may have
 * read the header already, and started the socket behind it.
 */
void connection_accept(struct listener *listener, int fd,
		       const struct sockaddr *peer, bool headless);

/*
 * For takeover.c: one that another daemon had, in CONNECTION_HEADER, with the
 * descriptors fd[FRONT] and fd[BACK], the latter -1 if it has no handler yet;
 * to be filled, and then to go on. NULL: no memory, the caller still has both.
 */
struct connection *connection_new(struct listener *listener, const int fd[2]);
void connection_resume(struct connection *connection);

/* Closes with a reset a socket that no connection owns. */
void connection_reset(int fd);

/* How it ends when its last descriptor is closed, by whomever. */
void connection_reset_on_close(int fd, bool reset);

/* The only way from one state to another. */
void connection_enter(struct connection *connection,
		      enum connection_state state);

/* The handler is reached: relay from now on. */
void connection_relay(struct connection *connection);

/*
 * Closes both sides, with a reset or in order, and frees at the end of the
 * loop's turn.
 */
void connection_close(struct connection *connection, bool reset);

/* The cookie under which it stands in `connections`, or would. */
uint64_t connection_cookie(const struct connection *connection);

/* "192.0.2.1:80" or "[2001:db8::1]:80", for the log. */
#define ENDPOINT_TEXT_MAX 64
const char *endpoint_format(const uint8_t ip[16], uint16_t port,
			    char out[ENDPOINT_TEXT_MAX]);

static inline struct worker *connection_worker(const struct connection *c)
{
	return c->listener->worker;
}

#endif
