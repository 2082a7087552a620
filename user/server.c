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

#include "connection.h"
#include "endpoint.h"
#include "registry.h"
#include "takeover.h"
#include "worker.h"

/* Handed from a thread to the main thread in one go. */
#define LIST_BATCH 64

#define DRAIN_POLL_MS 20

/* How long handlers may take to accept what shall be packed. */
#define LEAVE_TIMEOUT_MS 1000

struct server {
	struct worker **workers; /* array, owned */
	size_t n_workers;
	struct endpoints endpoints;
	size_t unstored; /* listening sockets that systemd does not keep */
};

/* A configuration that is about to be put in force. */
struct change {
	struct server *server;
	struct config *config;
	struct inherited *inherited; /* borrowed */
	size_t n_inherited;
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

/* Do we listen on that port, now, or before us, or in what is to come? */
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
	for (size_t i = 0; i < change->n_inherited; i++) {
		if (change->inherited[i].stored &&
		    port_of(&change->inherited[i].address) == port_of(address))
			return true;
	}
	return false;
}

/* Takes over the sockets of an address, or opens them. */
static int take_endpoint(struct change *change, size_t listener,
			 const struct address *address)
{
	struct endpoint *endpoint = &change->after.all[change->after.n];
	struct endpoint *before;
	int error;

	*endpoint = (struct endpoint){
		.address = *address,
		.v6only = endpoint_needs_v6only(change->config, address),
		.listener = listener,
	};
	before = endpoints_find(change->before, address, endpoint->v6only);
	if (before) {
		endpoint->acceptors = before->acceptors;
		endpoint->n_acceptors = before->n_acceptors;
		endpoint->n_sockets = before->n_sockets;
		endpoint->n_stored = before->n_stored;
		endpoint->ours = before->ours;
		endpoint->kept = true;
		change->after.n++;
		return 0;
	}
	error = endpoint_open(endpoint, change->server->n_workers,
			      is_our_port(change, address), change->inherited,
			      change->n_inherited);
	if (error) {
		char text[ADDRESS_TEXT_MAX];

		log_error("msg=\"cannot listen\" listener=%s address=%s "
			  "error=\"%s\"",
			  change->config->listeners[listener].name,
			  address_format(&address->sa, text), strerror(-error));
		endpoint_close(endpoint);
		return error;
	}
	change->after.n++;
	return 0;
}

/* Every address is tried, so that all that cannot be had are in the log. */
static int open_endpoints(struct change *change)
{
	const struct config *config = change->config;
	int error, first = 0;
	size_t n = 0;

	for (size_t i = 0; i < config->n_listeners; i++)
		n += config->listeners[i].n_listen;
	/* Those that go are there until server_settle(). */
	n += change->before->n;
	change->after.all = calloc(n + 1, sizeof(*change->after.all));
	if (!change->after.all)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *l = &config->listeners[i];

		if (l->delivery != RP_DELIVERY_RELAY)
			continue;
		for (size_t j = 0; j < l->n_listen; j++) {
			error = take_endpoint(change, i, &l->listen[j]);
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
		endpoint_close(&change->after.all[i]);
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

/* In a worker: serves the new endpoints. */
static void carry_out(struct worker *worker, void *argument)
{
	struct change *change = argument;
	size_t n = change->config->n_listeners;
	struct listener **listeners = change->listeners + change->worker * n;

	size_t n_workers = change->server->n_workers;

	serve_handover(worker, listeners, n);
	for (size_t i = 0; i < change->after.n; i++) {
		struct endpoint *endpoint = &change->after.all[i];

		for (size_t a = change->worker; a < endpoint->n_acceptors;
		     a += n_workers)
			acceptor_serve(endpoint->acceptors[a],
				       listeners[endpoint->listener]);
	}
	for (size_t i = 0; i < n; i++)
		listener_unref(listeners[i]);
}

/* Cannot fail: everything that could was done. What goes is served still. */
static void put_in_force(struct change *change)
{
	struct server *server = change->server;
	struct endpoints *after = &change->after;
	size_t n = after->n;

	for (size_t w = 0; w < server->n_workers; w++) {
		change->worker = w;
		worker_call(server->workers[w], carry_out, change);
	}
	for (size_t i = 0; i < change->before->n; i++) {
		struct endpoint *before = &change->before->all[i];

		if (endpoints_find(after, &before->address, before->v6only))
			continue;
		after->all[after->n] = *before;
		after->all[after->n++].going = true;
	}
	free(change->before->all);
	free(change->listeners);
	for (size_t i = 0; i < n; i++)
		after->all[i].kept = false;
	server->endpoints = *after;
}

static int apply(struct server *server, struct config *config,
		 const uint32_t *numbers, struct inherited *inherited,
		 size_t n_inherited)
{
	struct change change = {
		.server = server,
		.config = config,
		.inherited = inherited,
		.n_inherited = n_inherited,
		.before = &server->endpoints,
	};
	int error = make_listeners(&change, numbers);

	if (!error)
		error = open_endpoints(&change);
	if (error) {
		drop_change(&change);
		return error;
	}
	put_in_force(&change);
	return 0;
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
		/* What systemd keeps is for the next attempt. */
		for (size_t i = 0; i < server->endpoints.n; i++)
			server->endpoints.all[i].ours = false;
		server_stop(server, 0);
		return error;
	}
	*ret_server = server;
	return 0;
}

int server_reload(struct server *server, struct config *config,
		  const uint32_t *numbers)
{
	return apply(server, config, numbers, NULL, 0);
}

void server_store(struct server *server)
{
	size_t missing = 0;

	for (size_t i = 0; i < server->endpoints.n; i++)
		missing += endpoint_store(&server->endpoints.all[i]);
	if (missing && missing != server->unstored)
		log_warning("msg=\"systemd does not keep all listening "
			    "sockets: while no daemon runs, who connects may "
			    "be refused. If it has no room, raise "
			    "FileDescriptorStoreMax and FDSTORE of the unit\" "
			    "missing=%zu",
			    missing);
	server->unstored = missing;
}

/* The main thread's wish, for one thread after the other. */
struct leave {
	struct server *server;
	struct takeover *takeover;
	size_t worker;
	bool connecting; /* somebody waits for a handler */
};

static void call_all(struct leave *leave,
		     void (*call)(struct worker *worker, void *argument))
{
	struct server *server = leave->server;

	for (leave->worker = 0; leave->worker < server->n_workers;
	     leave->worker++)
		worker_call(server->workers[leave->worker], call, leave);
}

/* In a worker. */
static void stop_going(struct worker *worker, void *argument)
{
	struct leave *leave = argument;
	struct server *server = leave->server;

	(void)worker;
	for (size_t i = 0; i < server->endpoints.n; i++) {
		struct endpoint *endpoint = &server->endpoints.all[i];

		for (size_t a = leave->worker;
		     endpoint->going && a < endpoint->n_acceptors;
		     a += server->n_workers)
			acceptor_stop(endpoint->acceptors[a]);
	}
}

void server_settle(struct server *server)
{
	struct endpoints *endpoints = &server->endpoints;
	size_t n = 0;

	for (size_t i = 0; i < endpoints->n; i++) {
		if (endpoints->all[i].going)
			endpoint_unstore(&endpoints->all[i]);
	}
	call_all(&(struct leave){.server = server}, stop_going);
	for (size_t i = 0; i < endpoints->n; i++) {
		if (endpoints->all[i].going)
			free(endpoints->all[i].acceptors);
		else
			endpoints->all[n++] = endpoints->all[i];
	}
	endpoints->n = n;
}

/* Connections in any state; those that wait for their header count as well. */
static void has_connections(struct worker *worker, void *argument)
{
	bool *any = argument;

	*any = *any || worker->connections;
}

/* In a worker: what the kernel cannot decide is nobody's. */
static void end_handover(struct worker *worker, void *argument)
{
	(void)argument;
	serve_handover(worker, NULL, 0);
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
	uint64_t end;

	if (!server)
		return;
	call_all(&(struct leave){.server = server}, end_handover);
	for (size_t i = 0; i < server->endpoints.n; i++)
		server->endpoints.all[i].going = true;
	server_settle(server);
	free(server->endpoints.all);
	for (end = clock_ms() + timeout_ms;
	     clock_ms() < end && !is_drained(server);)
		nanosleep(&poll, NULL);
	for (size_t w = 0; w < server->n_workers; w++)
		worker_stop(server->workers[w]);
	free(server->workers);
	free(server);
}

/* In a worker: nothing new comes, and what is queued waits for the next. */
static void leave_endpoints(struct worker *worker, void *argument)
{
	struct leave *leave = argument;
	struct server *server = leave->server;

	(void)worker;
	for (size_t i = 0; i < server->endpoints.n; i++) {
		struct endpoint *endpoint = &server->endpoints.all[i];

		for (size_t a = leave->worker; a < endpoint->n_acceptors;
		     a += server->n_workers)
			acceptor_leave(endpoint->acceptors[a]);
	}
}

static void look_for_connecting(struct worker *worker, void *argument)
{
	struct leave *leave = argument;

	for (const struct connection *c = worker->connections; c; c = c->next) {
		if (c->state == CONNECTION_CONNECTING)
			leave->connecting = true;
	}
}

/* What cannot be packed is reset when the thread ends. */
static void pack(struct worker *worker, void *argument)
{
	struct leave *leave = argument;
	struct connection *next;

	handover_take(&worker->handover);
	for (struct connection *c = worker->connections; c; c = next) {
		next = c->next;
		takeover_add(leave->takeover, c);
	}
}

void server_leave(struct server *server, struct takeover *takeover)
{
	struct timespec poll = {.tv_nsec = DRAIN_POLL_MS * 1000000};
	struct leave leave = {.server = server, .takeover = takeover};
	uint64_t end = clock_ms() + LEAVE_TIMEOUT_MS;

	call_all(&leave, leave_endpoints);
	do {
		nanosleep(&poll, NULL);
		leave.connecting = false;
		call_all(&leave, look_for_connecting);
	} while (leave.connecting && clock_ms() < end);
	call_all(&leave, pack);
	for (size_t w = 0; w < server->n_workers; w++)
		worker_stop(server->workers[w]);
	for (size_t i = 0; i < server->endpoints.n; i++)
		free(server->endpoints.all[i].acceptors);
	free(server->endpoints.all);
	free(server->workers);
	free(server);
}

/* Connections that arrive, one after the other. */
struct adoption {
	struct server *server;
	struct arrival *arrival;
	size_t worker;
	uint32_t n;    /* that go on */
	uint32_t lost; /* no descriptors were left for them */
	uint32_t gone; /* their listener is */
};

/* Relayed connections may be those of an inline listener as well. */
static struct listener *find_listener(const struct adoption *adoption,
				      const struct worker *worker)
{
	const char *name = adoption->arrival->entry.record.listener_name;
	const struct endpoints *endpoints = &adoption->server->endpoints;

	for (size_t i = 0; i < endpoints->n; i++) {
		struct listener *listener =
			endpoints->all[i].acceptors[adoption->worker]->listener;

		if (strncmp(listener->settings->name, name, RP_NAME_LEN) == 0)
			return listener;
	}
	for (size_t i = 0; i < worker->handover.n; i++) {
		struct listener *listener = worker->handover.listeners[i];

		if (strncmp(listener->settings->name, name, RP_NAME_LEN) == 0)
			return listener;
	}
	return NULL;
}

static void resume(struct worker *worker, void *argument)
{
	struct adoption *adoption = argument;
	struct listener *listener = find_listener(adoption, worker);

	if (adoption->arrival->fd[FRONT] < 0)
		adoption->lost++;
	else if (!listener)
		adoption->gone++;
	else
		adoption->n++;
	takeover_resume(listener, adoption->arrival);
}

static void adopt(struct arrival *arrival, void *argument)
{
	struct adoption *adoption = argument;
	struct server *server = adoption->server;

	adoption->arrival = arrival;
	worker_call(server->workers[adoption->worker], resume, adoption);
	adoption->worker = (adoption->worker + 1) % server->n_workers;
}

void server_adopt(struct server *server, int parcel)
{
	struct adoption adoption = {.server = server};
	int error = takeover_unpack(parcel, adopt, &adoption);

	if (error == -EPROTO)
		log_warning("msg=\"the relayed connections of the daemon "
			    "before are reset: its version packs them in "
			    "another way\"");
	else if (adoption.lost)
		log_error("msg=\"relayed connections are reset, there are not "
			  "enough descriptors: raise LimitNOFILE\" number=%u",
			  adoption.lost);
	else if (error)
		log_error("msg=\"relayed connections of the daemon before are "
			  "lost\" error=\"%s\"",
			  strerror(-error));
	log_notice("msg=\"relayed connections go on\" number=%u", adoption.n);
	if (adoption.gone)
		log_warning("msg=\"relayed connections are reset, their "
			    "listener is gone\" number=%u",
			    adoption.gone);
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

void server_mark_numbers(const struct server *server,
			 bool taken[RP_LISTENERS_MAX])
{
	for (size_t w = 0; server && w < server->n_workers; w++) {
		for (uint32_t i = 0; i < RP_LISTENERS_MAX; i++)
			taken[i] |= counters_in_use(
				&server->workers[w]->counters, i);
	}
}

void server_clear_counts(struct server *server, uint32_t listener)
{
	for (size_t w = 0; server && w < server->n_workers; w++)
		counters_clear(&server->workers[w]->counters, listener);
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
