/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* endpoint.c - see endpoint.h. Main thread only. */
#include "endpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "listen.h"
#include "store.h"

static bool is_any4(const struct address *address)
{
	return address->sa.sa_family == AF_INET &&
	       address->in.sin_addr.s_addr == htonl(INADDR_ANY);
}

bool endpoint_needs_v6only(const struct config *config,
			   const struct address *address)
{
	if (address->sa.sa_family != AF_INET6)
		return false;
	if (!IN6_IS_ADDR_UNSPECIFIED(&address->in6.sin6_addr))
		return true;
	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *other = &config->listeners[i];

		/* The port is in the same place in both families. */
		for (size_t j = 0; j < other->n_listen; j++) {
			if (is_any4(&other->listen[j]) &&
			    other->listen[j].in.sin_port ==
				    address->in6.sin6_port)
				return true;
		}
	}
	return false;
}

/* Takes over the descriptors. */
static int make_acceptors(struct endpoint *endpoint, int *fds, size_t n,
			  bool shared)
{
	endpoint->acceptors = calloc(n, sizeof(*endpoint->acceptors));
	for (size_t i = 0; i < n; i++) {
		if (endpoint->acceptors)
			endpoint->acceptors[i] = acceptor_new(fds[i], shared);
		if (!endpoint->acceptors || !endpoint->acceptors[i]) {
			listen_close(fds + i, n - i);
			return -ENOMEM;
		}
		endpoint->n_acceptors = i + 1;
	}
	return 0;
}

static bool is_one_of(const struct endpoint *endpoint,
		      const struct inherited *inherited)
{
	if (inherited->fd < 0 ||
	    !address_equal(&inherited->address, &endpoint->address))
		return false;
	/* What a .socket unit says is as its owner wants it. */
	return !inherited->stored || inherited->v6only == endpoint->v6only;
}

/*
 * Descriptors of our own for inherited sockets: each at least once, and, where
 * there are more threads than sockets, some for more than one thread.
 */
static int adopt(struct endpoint *endpoint, size_t n_threads,
		 struct inherited *inherited, size_t n_inherited)
{
	size_t found = 0, n;
	int *fds, error = 0;

	for (size_t i = 0; i < n_inherited; i++)
		found += is_one_of(endpoint, &inherited[i]);
	if (!found)
		return -ENOENT;
	n = found < n_threads ? n_threads : found;
	fds = calloc(n, sizeof(*fds));
	if (!fds)
		return -ENOMEM;
	for (size_t i = 0, next = 0; !error && next < n;
	     i = (i + 1) % n_inherited) {
		if (!is_one_of(endpoint, &inherited[i]))
			continue;
		endpoint->ours = inherited[i].stored;
		endpoint->left = endpoint->ours;
		error = listen_adopt(inherited[i].fd, fds + next, 1);
		if (error)
			listen_close(fds, next);
		else
			next++;
	}
	endpoint->n_sockets = found;
	if (!error)
		error = make_acceptors(endpoint, fds, n, found < n_threads);
	for (size_t i = 0; i < n_inherited && !error; i++) {
		if (!is_one_of(endpoint, &inherited[i]))
			continue;
		close(inherited[i].fd);
		inherited[i].fd = -1;
	}
	free(fds);
	return error;
}

int endpoint_open(struct endpoint *endpoint, size_t n_threads, bool shared,
		  struct inherited *inherited, size_t n_inherited)
{
	int *fds, error;

	error = adopt(endpoint, n_threads, inherited, n_inherited);
	if (error != -ENOENT)
		return error;
	endpoint->ours = true;
	fds = calloc(n_threads, sizeof(*fds));
	if (!fds)
		return -ENOMEM;
	error = listen_open(&endpoint->address, endpoint->v6only, shared, fds,
			    n_threads);
	endpoint->n_sockets = n_threads;
	if (!error)
		error = make_acceptors(endpoint, fds, n_threads, false);
	free(fds);
	return error;
}

void endpoint_close(struct endpoint *endpoint)
{
	if (endpoint->kept)
		return;
	for (size_t i = 0; i < endpoint->n_acceptors; i++)
		acceptor_free(endpoint->acceptors[i]);
	free(endpoint->acceptors);
	endpoint->acceptors = NULL;
	endpoint->n_acceptors = 0;
}

/* Returns how many there is no room for. */
static size_t store_more(struct endpoint *endpoint, const char *name)
{
	for (; endpoint->n_stored < endpoint->n_sockets; endpoint->n_stored++) {
		int fd = endpoint->acceptors[endpoint->n_stored]->watch.fd;

		if (!store_keep(name, &fd, 1))
			break;
	}
	return endpoint->n_sockets - endpoint->n_stored;
}

size_t endpoint_store(struct endpoint *endpoint)
{
	char name[STORE_NAME_MAX];
	size_t missing;

	if (!endpoint->ours || !store_available())
		return 0;
	store_listen_name(&endpoint->address, endpoint->v6only, name);
	missing = store_more(endpoint, name);
	/* The store may be full of more of them than we have counted. */
	if (missing && endpoint->left) {
		endpoint_unstore(endpoint);
		missing = store_more(endpoint, name);
	}
	endpoint->left = false;
	return missing;
}

void endpoint_unstore(struct endpoint *endpoint)
{
	char name[STORE_NAME_MAX];

	if (endpoint->ours)
		store_forget(store_listen_name(&endpoint->address,
					       endpoint->v6only, name),
			     endpoint->n_stored);
	endpoint->n_stored = 0;
}

struct endpoint *endpoints_find(const struct endpoints *endpoints,
				const struct address *address, bool v6only)
{
	for (size_t i = 0; i < endpoints->n; i++) {
		struct endpoint *endpoint = &endpoints->all[i];

		if (address_equal(&endpoint->address, address) &&
		    endpoint->v6only == v6only)
			return endpoint;
	}
	return NULL;
}
