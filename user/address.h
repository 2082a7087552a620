/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * address.h - socket addresses and IP prefixes, as text and as bytes.
 *
 * Numeric only: names are refused, as a resolver in the data path would be a
 * hidden dependency. Parsers return 0 or -EINVAL and leave *ret untouched on
 * failure.
 */
#ifndef REALPEER_ADDRESS_H
#define REALPEER_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

/* A socket address; `len` is what bind() and connect() take. */
struct address {
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	};
	socklen_t len; /* 0: not set */
};

/* An IP prefix; IPv4 a.b.c.d/n is kept as ::ffff:a.b.c.d/(96 + n). */
struct prefix {
	uint8_t address[16]; /* network order, host bits zero */
	uint8_t length;	     /* 0 to 128 */
};

/* 1 to 65535, decimal digits only. */
int port_parse(const char *text, uint16_t *ret);

/*
 * "192.0.2.1:80", "[2001:db8::1]:80", "unix:/path"; "[::ffff:192.0.2.1]:80" is
 * the first of these, since that is where its connections go.
 */
int address_parse(const char *text, struct address *ret);

/* CIDR or one address; host bits are cleared. ::/0 holds IPv4 as well. */
int prefix_parse(const char *text, struct prefix *ret);
bool prefix_contains(const struct prefix *prefix, const uint8_t address[16]);

/* The same family, address and port (or path)? */
bool address_equal(const struct address *a, const struct address *b);

/*
 * IP and port of an AF_INET or AF_INET6 address; IPv4 becomes v4-mapped.
 * Another family gives :: and port 0.
 */
void address_split(const struct sockaddr *sa, uint8_t ret_ip[16],
		   uint16_t *ret_port);

/* May one of this host's sockets have it? 1, 0, or -errno. */
int address_is_local(const struct address *address);

/* As address_parse() takes it, for IP and unix addresses; terminated. */
#define ADDRESS_TEXT_MAX 128
const char *address_format(const struct sockaddr *sa,
			   char out[ADDRESS_TEXT_MAX]);

/* The reverse: AF_INET for v4-mapped, else AF_INET6. */
struct address address_make(const uint8_t ip[16], uint16_t port);

/* "192.0.2.1" for v4-mapped, "2001:db8::1" otherwise. */
const char *ip_format(const uint8_t ip[16], char out[INET6_ADDRSTRLEN]);

#endif
