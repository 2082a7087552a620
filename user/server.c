/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * server.c - see server.h. Runs in the main thread: opens what is listened on
 * and tells the threads; never touches a connection itself.
 */
#include "server.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "acceptor.h"
#include "connection.h"
#include "listen.h"
#include "registry.h"
#include "worker.h"

/* Handed from a thread to the main thread in one go. */
#define LIST_BATCH 64

#define DRAIN_POLL_MS 20

/* One address that is listened on, by one acceptor in each thread. */
struct endpoint {
	struct address address;
	bool v6only;
	size_t listener;	     /* index in the configuration */
	struct acceptor **acceptors; /* array, owned */
	bool kept; /* acceptors taken over from, or by, another */
};

struct endpoints {
	struct endpoint *all; /* array, owned */
	size_t n;
};

struct server {
	struct worker **workers; /* array, owned */
	size_t n_workers;
	struct endpoints endpoints;
};

/* A configuration that is about to be put in force. */
struct change {
	struct server *server;
	struct config *config;
	struct endpoints *before;
	struct endpoints after;
	struct listener **listeners; /* [worker * n_listeners + listener] */
	size_t worker;		     /* the one that carries it out now */
};

static unsigned int count_threads(const struct config *config)
{
	cpu_set_t cpus;

	if (config->threads)
		return config->threads;
	if (sched_getaffinity(0, sizeof(cpus), &cpus))
		return 1;
	return CPU_COUNT(&cpus);
}

static uint16_t port_of(const struct address *address)
{
	return address->sa.sa_family == AF_INET ? address->in.sin_port
						: address->in6.sin6_port;
}

static bool is_any6(const struct address *address)
{
	return address->sa.sa_family == AF_INET6 &&
	       IN6_IS_ADDR_UNSPECIFIED(&address->in6.sin6_addr);
}

static bool is_any4(const struct address *address)
{
	return address->sa.sa_family == AF_INET &&
	       address->in.sin_addr.s_addr == htonl(INADDR_ANY);
}

/* [::] takes IPv4 as well, unless 0.0.0.0 is listed with the same port. */
static bool needs_v6only(const struct config *config,
			 const struct address *address)
{
	if (!is_any6(address))
		return address->sa.sa_family == AF_INET6;
	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *other = &config->listeners[i];

		for (size_t j = 0; j < other->n_listen; j++) {
			if (is_any4(&other->listen[j]) &&
			    port_of(&other->listen[j]) == port_of(address))
				return true;
		}
	}
	return false;
}

static void free_endpoint(struct endpoint *endpoint, size_t n_workers)
{
	if (endpoint->kept || !endpoint->acceptors)
		return;
	for (size_t i = 0; i < n_workers; i++) {
		if (endpoint->acceptors[i])
			acceptor_free(endpoint->acceptors[i]);
	}
	free(endpoint->acceptors);
}

/* Takes over descriptors for the acceptors of all threads. */
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
	}
	return 0;
}

/* Do we listen on that port already, now or in what is to come? */
static bool is_our_port(const struct change *change,
			const struct address *address)
{
	for (size_t i = 0; i < change->before->n; i++) {
		if (port_of(&change->before->all[i].address) ==
		    port_of(address))
			return true;
	}
	for (size_t i = 0; i < change->after.n; i++) {
		if (port_of(&change->after.all[i].address) == port_of(address))
			return true;
	}
	return false;
}

static int open_endpoint(struct change *change, struct endpoint *endpoint,
			 const struct inherited *inherited)
{
	size_t n = change->server->n_workers;
	int *fds = calloc(n, sizeof(*fds)), error;

	if (!fds)
		return -ENOMEM;
	if (inherited)
		error = listen_adopt(inherited->fd, fds, n);
	else
		error = listen_open(&endpoint->address, endpoint->v6only,
				    is_our_port(change, &endpoint->address),
				    fds, n);
	if (!error)
		error = make_acceptors(endpoint, fds, n, inherited != NULL);
	free(fds);
	return error;
}

static struct endpoint *find_endpoint(struct endpoints *endpoints,
				      const struct address *address,
				      bool v6only)
{
	for (size_t i = 0; i < endpoints->n; i++) {
		struct endpoint *endpoint = &endpoints->all[i];

		if (address_equal(&endpoint->address, address) &&
		    endpoint->v6only == v6only)
			return endpoint;
	}
	return NULL;
}

static struct inherited *find_inherited(struct inherited *inherited, size_t n,
					const struct address *address)
{
	for (size_t i = 0; i < n; i++) {
		if (inherited[i].fd >= 0 &&
		    address_equal(&inherited[i].address, address))
			return &inherited[i];
	}
	return NULL;
}

/* Takes over the sockets of an address, or opens them. */
static int take_endpoint(struct change *change, size_t listener,
			 const struct address *address,
			 struct inherited *inherited, size_t n_inherited)
{
	struct endpoint *endpoint = &change->after.all[change->after.n];
	struct endpoint *before;
	int error;

	*endpoint = (struct endpoint){
		.address = *address,
		.v6only = needs_v6only(change->config, address),
		.listener = listener,
	};
	before = find_endpoint(change->before, address, endpoint->v6only);
	if (before) {
		endpoint->acceptors = before->acceptors;
		endpoint->kept = true;
		change->after.n++;
		return 0;
	}
	error = open_endpoint(change, endpoint,
			      find_inherited(inherited, n_inherited, address));
	if (error) {
		char text[ADDRESS_TEXT_MAX];

		log_error("msg=\"cannot listen\" listener=%s address=%s "
			  "error=\"%s\"",
			  change->config->listeners[listener].name,
			  address_format(&address->sa, text), strerror(-error));
		free_endpoint(endpoint, change->server->n_workers);
		return error;
	}
	change->after.n++;
	return 0;
}

/* Every address is tried, so that all that cannot be had are in the log. */
static int open_endpoints(struct change *change, struct inherited *inherited,
			  size_t n_inherited)
{
	const struct config *config = change->config;
	int error, first = 0;
	size_t n = 0;

	for (size_t i = 0; i < config->n_listeners; i++)
		n += config->listeners[i].n_listen;
	change->after.all = calloc(n + 1, sizeof(*change->after.all));
	if (!change->after.all)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *l = &config->listeners[i];

		if (l->delivery != RP_DELIVERY_RELAY)
			continue;
		for (size_t j = 0; j < l->n_listen; j++) {
			error = take_endpoint(change, i, &l->listen[j],
					      inherited, n_inherited);
			if (error && !first)
				first = error;
		}
	}
	return first;
}

static int make_listeners(struct change *change, const uint32_t *numbers)
{
	struct config *config = change->config;
	size_t n = config->n_listeners;

	change->listeners = calloc(change->server->n_workers * n + 1,
				   sizeof(*change->listeners));
	if (!change->listeners)
		return -ENOMEM;
	for (size_t w = 0; w < change->server->n_workers; w++) {
		for (size_t i = 0; i < n; i++) {
			int error = listener_new(change->server->workers[w],
						 config, i, numbers[i],
						 &change->listeners[w * n + i]);

			if (error)
				return error;
		}
	}
	return 0;
}

static void drop_change(struct change *change)
{
	size_t n = change->server->n_workers;

	for (size_t i = 0; i < change->after.n; i++)
		free_endpoint(&change->after.all[i], n);
	free(change->after.all);
	for (size_t i = 0;
	     change->listeners && i < n * change->config->n_listeners; i++)
		listener_unref(change->listeners[i]);
	free(change->listeners);
}

/* The listeners whose undecided connections the kernel hands over. */
static void serve_handover(struct worker *worker, struct listener **listeners,
			   size_t n)
{
	struct listener **all = calloc(n + 1, sizeof(*all));
	size_t taken = 0;

	/* Without memory the old ones go on: better than none. */
	if (!all)
		return;
	for (size_t i = 0; i < n; i++) {
		if (listeners[i]->offload == RP_OFFLOAD_ACCEPT)
			all[taken++] = listener_ref(listeners[i]);
	}
	handover_serve(&worker->handover, all, taken);
}

/* In a worker: serves the new endpoints, then stops what is gone. */
static void carry_out(struct worker *worker, void *argument)
{
	struct change *change = argument;
	size_t n = change->config->n_listeners;
	struct listener **listeners = change->listeners + change->worker * n;

	serve_handover(worker, listeners, n);
	for (size_t i = 0; i < change->after.n; i++) {
		struct endpoint *endpoint = &change->after.all[i];

		acceptor_serve(endpoint->acceptors[change->worker],
			       listeners[endpoint->listener]);
	}
	for (size_t i = 0; i < change->before->n; i++) {
		struct endpoint *endpoint = &change->before->all[i];

		if (!endpoint->kept)
			acceptor_stop(endpoint->acceptors[change->worker]);
	}
	for (size_t i = 0; i < n; i++)
		listener_unref(listeners[i]);
}

/* Marks what the change takes over from what is in force. */
static void mark_kept(struct change *change)
{
	for (size_t i = 0; i < change->before->n; i++) {
		struct endpoint *before = &change->before->all[i];

		before->kept = find_endpoint(&change->after, &before->address,
					     before->v6only) != NULL;
	}
}

/* Cannot fail: everything that could was done. */
static void put_in_force(struct change *change)
{
	struct server *server = change->server;

	mark_kept(change);
	for (size_t w = 0; w < server->n_workers; w++) {
		change->worker = w;
		worker_call(server->workers[w], carry_out, change);
	}
	for (size_t i = 0; i < change->before->n; i++) {
		if (!change->before->all[i].kept)
			free(change->before->all[i].acceptors);
	}
	free(change->before->all);
	free(change->listeners);
	for (size_t i = 0; i < change->after.n; i++)
		change->after.all[i].kept = false;
	server->endpoints = change->after;
}

static int apply(struct server *server, struct config *config,
		 const uint32_t *numbers, struct inherited *inherited,
		 size_t n_inherited)
{
	struct change change = {
		.server = server,
		.config = config,
		.before = &server->endpoints,
	};
	int error = make_listeners(&change, numbers);

	if (!error)
		error = open_endpoints(&change, inherited, n_inherited);
	if (error) {
		drop_change(&change);
		return error;
	}
	put_in_force(&change);
	return 0;
}

/* Inherited sockets that are served now through descriptors of our own. */
static void close_inherited(struct server *server, struct inherited *inherited,
			    size_t n)
{
	for (size_t i = 0; i < server->endpoints.n; i++) {
		struct inherited *served = find_inherited(
			inherited, n, &server->endpoints.all[i].address);

		if (served) {
			close(served->fd);
			served->fd = -1;
		}
	}
}

static int tell_handover(struct server *server, struct datapath *datapath)
{
	int *sockets = calloc(server->n_workers, sizeof(*sockets)), error;

	if (!sockets)
		return -ENOMEM;
	for (size_t w = 0; w < server->n_workers; w++)
		sockets[w] = server->workers[w]->handover.watch.fd;
	error = datapath_set_handover(datapath, sockets, server->n_workers);
	free(sockets);
	return error;
}

int server_start(struct config *config, const uint32_t *numbers,
		 struct datapath *datapath, struct inherited *inherited,
		 size_t n_inherited, struct server **ret_server)
{
	struct server *server = calloc(1, sizeof(*server));
	size_t n = count_threads(config);
	int error = 0;

	if (!server)
		return -ENOMEM;
	server->workers = calloc(n, sizeof(*server->workers));
	if (!server->workers)
		error = -ENOMEM;
	while (!error && server->n_workers < n) {
		error = worker_start(datapath, server->n_workers,
				     &server->workers[server->n_workers]);
		if (!error)
			server->n_workers++;
	}
	if (!error)
		error = apply(server, config, numbers, inherited, n_inherited);
	if (!error && datapath_can_accept(datapath))
		error = tell_handover(server, datapath);
	if (error) {
		server_stop(server, 0);
		return error;
	}
	close_inherited(server, inherited, n_inherited);
	*ret_server = server;
	return 0;
}

int server_reload(struct server *server, struct config *config,
		  const uint32_t *numbers)
{
	return apply(server, config, numbers, NULL, 0);
}

/* Connections in any state; those that wait for their header count as well. */
static void has_connections(struct worker *worker, void *argument)
{
	bool *any = argument;

	*any = *any || worker->connections;
}

static bool is_drained(struct server *server)
{
	bool any = false;

	for (size_t w = 0; w < server->n_workers && !any; w++)
		worker_call(server->workers[w], has_connections, &any);
	return !any;
}

void server_stop(struct server *server, uint32_t timeout_ms)
{
	struct timespec poll = {.tv_nsec = DRAIN_POLL_MS * 1000000};
	struct config nothing = {.references = 1};
	struct change change;
	uint64_t end;

	if (!server)
		return;
	change = (struct change){
		.server = server,
		.config = &nothing,
		.before = &server->endpoints,
	};
	put_in_force(&change);
	for (end = clock_ms() + timeout_ms;
	     clock_ms() < end && !is_drained(server);)
		nanosleep(&poll, NULL);
	for (size_t w = 0; w < server->n_workers; w++)
		worker_stop(server->workers[w]);
	free(server->workers);
	free(server);
}

static uint64_t sum(struct server *server, uint32_t listener,
		    unsigned int column)
{
	uint64_t total = 0;

	for (size_t w = 0; w < server->n_workers; w++)
		total += counters_read(&server->workers[w]->counters, listener,
				       column);
	return total;
}

uint64_t server_stat(struct server *server, uint32_t listener,
		     enum rp_stat stat)
{
	return sum(server, listener, stat);
}

uint64_t server_active(struct server *server, uint32_t listener)
{
	return sum(server, listener, COUNTERS_ACTIVE);
}

struct batch {
	bool begin;
	bool end; /* all were listed */
	size_t n;
	uint64_t cookies[LIST_BATCH];
	struct rp_connection records[LIST_BATCH];
	struct rp_tlvs tlvs[LIST_BATCH];
	bool has_tlvs[LIST_BATCH];
};

/* In a worker: a few at a time, so that bytes go on to flow in between. */
static void list_some(struct worker *worker, void *argument)
{
	struct batch *batch = argument;

	if (batch->begin)
		worker->cursor = worker->connections;
	batch->begin = false;
	batch->n = 0;
	while (worker->cursor && batch->n < LIST_BATCH) {
		const struct connection *c = worker->cursor;

		worker->cursor = c->next;
		if (c->state != CONNECTION_RELAYING)
			continue;
		batch->cookies[batch->n] = connection_cookie(c);
		batch->has_tlvs[batch->n] = registry_record(
			c, &batch->records[batch->n], &batch->tlvs[batch->n]);
		batch->n++;
	}
	batch->end = !worker->cursor;
}

void server_connections(struct server *server,
			void (*each)(uint64_t cookie,
				     const struct rp_connection *record,
				     const struct rp_tlvs *tlvs, void *arg),
			void *arg)
{
	for (size_t w = 0; w < server->n_workers; w++) {
		struct batch batch = {.begin = true};

		do {
			worker_call(server->workers[w], list_some, &batch);
			for (size_t i = 0; i < batch.n; i++)
				each(batch.cookies[i], &batch.records[i],
				     batch.has_tlvs[i] ? &batch.tlvs[i] : NULL,
				     arg);
		} while (!batch.end);
	}
}

uint64_t server_stalled_ms(struct server *server)
{
	uint64_t now = clock_ms(), slowest = 0;

	for (size_t w = 0; w < server->n_workers; w++) {
		uint64_t beat = __atomic_load_n(&server->workers[w]->heartbeat,
						__ATOMIC_RELAXED);

		if (now > beat && now - beat > slowest)
			slowest = now - beat;
	}
	return slowest;
}
