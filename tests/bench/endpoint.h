/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * endpoint.h - addresses as people write them, and sets of addresses that are
 * taken one after the other. Asks no name server.
 */
#ifndef BENCH_ENDPOINT_H
#define BENCH_ENDPOINT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

union endpoint {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* "203.0.113.255 65535", "2001:db8::... 65535" */
#define ENDPOINT_TEXT_MAX 56

/* "127.0.0.1:80" or "[::1]:80"; 0 or -EINVAL. */
int endpoint_parse(const char *text, union endpoint *ret);

socklen_t endpoint_size(const union endpoint *endpoint);

/*
 * Writes the address and, behind a blank, the port; IPv4 within IPv6 as IPv4.
 * Returns the length.
 */
int endpoint_format(const union endpoint *endpoint,
		    char out[static ENDPOINT_TEXT_MAX]);

/* Addresses of a prefix; at most a million of them are used. */
struct pool {
	union endpoint first;
	uint32_t count; /* 0: there is none */
};

/* "198.18.0.0/15", "2001:db8::/64", or one address; 0 or -EINVAL. */
int pool_parse(const char *text, struct pool *ret);

/* Number i, round and round; the port is left as it is. */
void pool_address(const struct pool *pool, uint32_t i, union endpoint *ret);

#endif
