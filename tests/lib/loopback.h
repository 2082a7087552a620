/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * loopback.h - blocking sockets on the loopback device for tests that play
 * client and handler at once. Nothing waits longer than LOOPBACK_LIMIT_MS;
 * what does not come as expected fails the test.
 */
#ifndef REALPEER_TESTS_LOOPBACK_H
#define REALPEER_TESTS_LOOPBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOOPBACK_LIMIT_MS 5000

/* A TCP port of 127.0.0.1 that nobody has, below those of clients. */
uint16_t port_free(void);

/* Listens on a free port of 127.0.0.1, or of ::1. */
int tcp_listen(uint16_t *ret_port);
int tcp_listen6(uint16_t *ret_port);

/* Connects from any address to 127.0.0.1, or to ::1. */
int tcp_connect(uint16_t port);
int tcp_connect6(uint16_t port);

/* Connects from `source`, an address of 127.0.0.0/8. */
int tcp_connect_from(const char *source, uint16_t port);

/* -1 instead of a failure when nobody listens. */
int tcp_try_connect(uint16_t port);

/* The next connection, of TCP or unix sockets. */
int stream_accept(int listener);
bool stream_waiting(int listener, int ms); /* is there one? */

void stream_send(int fd, const void *data, size_t len);
void stream_text(int fd, const char *text);

void expect_bytes(int fd, const void *data, size_t len);
void expect_text(int fd, const char *text);
void expect_end(int fd);
void expect_reset(int fd);
void expect_silence(int fd, int ms); /* open, and nothing to read */

/* Closes with a reset. */
void stream_reset(int fd);

uint16_t local_port(int fd);

void sleep_ms(unsigned int ms);

/* Calls `done` until it is true; fails after LOOPBACK_LIMIT_MS. */
void wait_until(bool (*done)(void *argument), void *argument);

#endif
