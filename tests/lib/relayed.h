/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * relayed.h - a running server with one listener, "test", for the tests of
 * what connections go through; the test itself is client and handler.
 */
#ifndef REALPEER_TESTS_RELAYED_H
#define REALPEER_TESTS_RELAYED_H

#include "loopback.h"
#include "server.h"

#define RELAYED_LISTENER 7 /* its number without a datapath */

/* A header that every test may use, and what it says. */
#define RELAYED_V1     "PROXY TCP4 203.0.113.7 192.0.2.1 5555 80\r\n"
#define RELAYED_CLIENT "203.0.113.7"

struct relayed {
	struct datapath *datapath; /* set before the start, or NULL */
	struct config *config;
	struct server *server;
	int handler;   /* a listening socket of 127.0.0.1 */
	uint16_t port; /* that clients connect to */
	uint16_t handler_port;
	uint32_t number; /* RELAYED_LISTENER, or what the datapath says */
};

/*
 * Loads a configuration from text, in which %LISTEN% and %HANDLER% stand for
 * addresses of 127.0.0.1 with the two ports. Errors fail the test.
 */
struct config *relayed_config(const struct relayed *relayed, const char *text);

/*
 * Starts a server whose listener has the lines of `settings`, above that
 * trusts 127.0.0.1 and has a header_timeout of a minute.
 */
void relayed_start(struct relayed *relayed, const char *settings);

/* Stops at once, and checks that nothing was left. */
void relayed_stop(struct relayed *relayed);

/* Waits until a counter has that value. */
void expect_stat(struct relayed *relayed, enum rp_stat stat, uint64_t value);

/* Waits until no connection is relayed any more. */
void expect_idle(struct relayed *relayed);

#endif
