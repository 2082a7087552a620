/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * endpoint.c - see endpoint.h.
 */
#include "endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POOL_BITS_MAX 20

static int address_parse(const char *text, union endpoint *ret)
{
	union endpoint parsed = {.sa.sa_family = AF_UNSPEC};

	if (inet_pton(AF_INET, text, &parsed.v4.sin_addr) == 1)
		parsed.sa.sa_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &parsed.v6.sin6_addr) == 1)
		parsed.sa.sa_family = AF_INET6;
	else
		return -EINVAL;
	*ret = parsed;
	return 0;
}

static int number_parse(const char *text, unsigned long max, unsigned long *ret)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	*ret = strtoul(text, &end, 10);
	return *end || *ret > max ? -EINVAL : 0;
}

int endpoint_parse(const char *text, union endpoint *ret)
{
	char copy[INET6_ADDRSTRLEN + 2];
	const char *colon = strrchr(text, ':');
	size_t len = colon ? colon - text : 0;
	union endpoint parsed;
	unsigned long port;
	bool bracketed;

	if (len == 0 || len >= sizeof(copy))
		return -EINVAL;
	bracketed = text[0] == '[' && text[len - 1] == ']';
	memcpy(copy, text + bracketed, len - 2 * bracketed);
	copy[len - 2 * bracketed] = '\0';
	if (number_parse(colon + 1, 65535, &port) ||
	    address_parse(copy, &parsed) ||
	    bracketed != (parsed.sa.sa_family == AF_INET6))
		return -EINVAL;
	/* Both structures have the port at the same place. */
	parsed.v4.sin_port = htons(port);
	*ret = parsed;
	return 0;
}

socklen_t endpoint_size(const union endpoint *endpoint)
{
	return endpoint->sa.sa_family == AF_INET6 ? sizeof(endpoint->v6)
						  : sizeof(endpoint->v4);
}

/* Returns where the digits end. */
static char *put_decimal(char *out, unsigned int number)
{
	char digits[10], *first = digits + sizeof(digits);

	do {
		*--first = '0' + number % 10;
	} while (number /= 10);
	return mempcpy(out, first, digits + sizeof(digits) - first);
}

static char *put_ipv4(char *out, const uint8_t *octet)
{
	out = put_decimal(out, octet[0]);
	for (int i = 1; i < 4; i++) {
		*out++ = '.';
		out = put_decimal(out, octet[i]);
	}
	return out;
}

/* printf() takes microseconds, which would be counted as the connection's. */
int endpoint_format(const union endpoint *endpoint,
		    char out[static ENDPOINT_TEXT_MAX])
{
	const struct in6_addr *v6 = &endpoint->v6.sin6_addr;
	char *end;

	if (endpoint->sa.sa_family == AF_INET)
		end = put_ipv4(out, (uint8_t *)&endpoint->v4.sin_addr);
	else if (IN6_IS_ADDR_V4MAPPED(v6))
		end = put_ipv4(out, &v6->s6_addr[12]);
	else
		end = out +
		      strlen(inet_ntop(AF_INET6, v6, out, INET6_ADDRSTRLEN));
	*end++ = ' ';
	end = put_decimal(end, ntohs(endpoint->v4.sin_port));
	*end = '\0';
	return (int)(end - out);
}

int pool_parse(const char *text, struct pool *ret)
{
	char copy[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	unsigned long bits, prefix;
	union endpoint first;

	if (len >= sizeof(copy))
		return -EINVAL;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (address_parse(copy, &first))
		return -EINVAL;
	bits = first.sa.sa_family == AF_INET6 ? 128 : 32;
	prefix = bits;
	if (slash && number_parse(slash + 1, bits, &prefix))
		return -EINVAL;
	bits -= prefix;
	ret->first = first;
	ret->count = 1u << (bits < POOL_BITS_MAX ? bits : POOL_BITS_MAX);
	return 0;
}

void pool_address(const struct pool *pool, uint32_t i, union endpoint *ret)
{
	bool is_v6 = pool->first.sa.sa_family == AF_INET6;
	uint8_t *last = is_v6 ? &ret->v6.sin6_addr.s6_addr[12]
			      : (uint8_t *)&ret->v4.sin_addr;
	uint32_t word;

	*ret = pool->first;
	memcpy(&word, last, sizeof(word));
	word = htonl(ntohl(word) + i % pool->count);
	memcpy(last, &word, sizeof(word));
}
