/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * address.c - see address.h. Pure functions; must not resolve names or log.
 */
#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const uint8_t v4_mapped[12] = {[10] = 0xff, [11] = 0xff};

/* A decimal number of at most `max`, which is below 2^27. */
static int number_parse(const char *text, size_t len, uint32_t max,
			uint32_t *ret)
{
	uint32_t value = 0;

	if (len == 0 || len > 5)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		value = value * 10 + (uint32_t)(text[i] - '0');
	}
	if (value > max)
		return -EINVAL;
	*ret = value;
	return 0;
}

int port_parse(const char *text, uint16_t *ret)
{
	uint32_t port;

	if (number_parse(text, strlen(text), UINT16_MAX, &port) < 0 ||
	    port == 0)
		return -EINVAL;
	*ret = (uint16_t)port;
	return 0;
}

static int unix_parse(const char *path, struct address *ret)
{
	size_t len = strlen(path);
	struct address address = {0};

	/* The name ends in a NUL inside sun_path, which connect() counts. */
	if (path[0] != '/' || len >= sizeof(address.un.sun_path))
		return -EINVAL;
	address.un.sun_family = AF_UNIX;
	memcpy(address.un.sun_path, path, len + 1);
	address.len =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	*ret = address;
	return 0;
}

int address_parse(const char *text, struct address *ret)
{
	char host[INET6_ADDRSTRLEN];
	struct address address = {0};
	const char *colon, *start = text;
	uint16_t port;
	size_t len;
	bool v6;

	if (strncmp(text, "unix:", 5) == 0)
		return unix_parse(text + 5, ret);
	colon = strrchr(text, ':');
	if (!colon || port_parse(colon + 1, &port) < 0)
		return -EINVAL;
	len = (size_t)(colon - text);
	v6 = text[0] == '[';
	if (v6) {
		if (len < 2 || colon[-1] != ']')
			return -EINVAL;
		start++;
		len -= 2;
	}
	if (len >= sizeof(host))
		return -EINVAL;
	memcpy(host, start, len);
	host[len] = '\0';
	if (v6) {
		uint8_t ip[16];

		if (inet_pton(AF_INET6, host, ip) != 1)
			return -EINVAL;
		address = address_make(ip, port);
	} else {
		address.in.sin_family = AF_INET;
		address.in.sin_port = htons(port);
		address.len = sizeof(address.in);
		if (inet_pton(AF_INET, host, &address.in.sin_addr) != 1)
			return -EINVAL;
	}
	*ret = address;
	return 0;
}

/* Clears the bits of `address` behind the first `length`. */
static void mask(uint8_t address[16], unsigned int length)
{
	for (unsigned int i = 0; i < 16; i++) {
		if (i * 8 >= length)
			address[i] = 0;
		else if (i * 8 + 8 > length)
			address[i] &= (uint8_t)(0xff00u >> (length - i * 8));
	}
}

int prefix_parse(const char *text, struct prefix *ret)
{
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	char host[INET6_ADDRSTRLEN];
	struct prefix prefix = {0};
	uint32_t bits, most;

	if (len >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	if (inet_pton(AF_INET, host, prefix.address + 12) == 1) {
		memcpy(prefix.address, v4_mapped, sizeof(v4_mapped));
		most = 32;
	} else if (inet_pton(AF_INET6, host, prefix.address) == 1) {
		most = 128;
	} else {
		return -EINVAL;
	}
	bits = most;
	if (slash &&
	    number_parse(slash + 1, strlen(slash + 1), most, &bits) < 0)
		return -EINVAL;
	prefix.length = (uint8_t)(bits + 128 - most);
	mask(prefix.address, prefix.length);
	*ret = prefix;
	return 0;
}

bool prefix_contains(const struct prefix *prefix, const uint8_t address[16])
{
	uint8_t network[16];

	memcpy(network, address, sizeof(network));
	mask(network, prefix->length);
	return memcmp(network, prefix->address, sizeof(network)) == 0;
}

bool address_equal(const struct address *a, const struct address *b)
{
	if (a->len != b->len || (a->len && a->sa.sa_family != b->sa.sa_family))
		return false;
	if (a->len == 0)
		return true;
	switch (a->sa.sa_family) {
	case AF_INET:
		return a->in.sin_port == b->in.sin_port &&
		       a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
	case AF_INET6:
		return a->in6.sin6_port == b->in6.sin6_port &&
		       memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, 16) == 0;
	default:
		return memcmp(&a->sa, &b->sa, a->len) == 0;
	}
}

struct address address_make(const uint8_t ip[16], uint16_t port)
{
	struct address address = {0};

	if (memcmp(ip, v4_mapped, sizeof(v4_mapped)) == 0) {
		address.in.sin_family = AF_INET;
		address.in.sin_port = htons(port);
		memcpy(&address.in.sin_addr, ip + 12, 4);
		address.len = sizeof(address.in);
	} else {
		address.in6.sin6_family = AF_INET6;
		address.in6.sin6_port = htons(port);
		memcpy(&address.in6.sin6_addr, ip, 16);
		address.len = sizeof(address.in6);
	}
	return address;
}

void address_split(const struct sockaddr *sa, uint8_t ret_ip[16],
		   uint16_t *ret_port)
{
	const struct sockaddr_in6 *in6 = (const void *)sa;
	const struct sockaddr_in *in = (const void *)sa;

	memset(ret_ip, 0, 16);
	*ret_port = 0;
	if (sa->sa_family == AF_INET) {
		memcpy(ret_ip, v4_mapped, sizeof(v4_mapped));
		memcpy(ret_ip + 12, &in->sin_addr, 4);
		*ret_port = ntohs(in->sin_port);
	} else if (sa->sa_family == AF_INET6) {
		memcpy(ret_ip, &in6->sin6_addr, 16);
		*ret_port = ntohs(in6->sin6_port);
	}
}

const char *address_format(const struct sockaddr *sa,
			   char out[ADDRESS_TEXT_MAX])
{
	const struct sockaddr_in6 *in6 = (const void *)sa;
	const struct sockaddr_in *in = (const void *)sa;
	const struct sockaddr_un *un = (const void *)sa;
	char host[INET6_ADDRSTRLEN];

	switch (sa->sa_family) {
	case AF_INET:
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(out, ADDRESS_TEXT_MAX, "%s:%u", host,
			 ntohs(in->sin_port));
		break;
	case AF_INET6:
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(out, ADDRESS_TEXT_MAX, "[%s]:%u", host,
			 ntohs(in6->sin6_port));
		break;
	case AF_UNIX:
		snprintf(out, ADDRESS_TEXT_MAX, "unix:%.*s",
			 (int)sizeof(un->sun_path), un->sun_path);
		break;
	default:
		snprintf(out, ADDRESS_TEXT_MAX, "family:%u", sa->sa_family);
		break;
	}
	return out;
}

const char *ip_format(const uint8_t ip[16], char out[INET6_ADDRSTRLEN])
{
	if (memcmp(ip, v4_mapped, sizeof(v4_mapped)) == 0)
		inet_ntop(AF_INET, ip + 12, out, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, ip, out, INET6_ADDRSTRLEN);
	return out;
}

/* Only what the kernel would bind to can be connected to on this host. */
int address_is_local(const struct address *address)
{
	struct address any_port = *address;
	int fd, local;

	if (address->sa.sa_family == AF_INET)
		any_port.in.sin_port = 0;
	else if (address->sa.sa_family == AF_INET6)
		any_port.in6.sin6_port = 0;
	else
		return 0;
	fd = socket(address->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	local = bind(fd, &any_port.sa, any_port.len) == 0;
	close(fd);
	return local;
}
