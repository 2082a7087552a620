/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * connection.c - see connection.h. Decides nothing about headers.
 */
#include "connection.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admission.h"
#include "handler.h"
#include "registry.h"

#define CONTAINER(pointer, member)                                           \
	((struct connection *)((char *)(pointer)-offsetof(struct connection, \
							  member)))

void connection_enter(struct connection *c, enum connection_state state)
{
	if (c->state == CONNECTION_RELAYING)
		counters_add(c->listener->counts, COUNTERS_ACTIVE, -1);
	if (state == CONNECTION_RELAYING)
		counters_add(c->listener->counts, COUNTERS_ACTIVE, 1);
	c->state = state;
}

/* Nothing of its client's stream is lost quietly: the peer sees a reset. */
void connection_reset_on_close(int fd, bool reset)
{
	struct linger linger = {.l_onoff = reset, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

void connection_reset(int fd)
{
	connection_reset_on_close(fd, true);
	close(fd);
}

static void free_connection(struct task *turn)
{
	struct connection *c = CONTAINER(turn, turn);

	listener_unref(c->listener);
	free(c);
}

void connection_close(struct connection *c, bool reset)
{
	struct worker *worker = connection_worker(c);

	if (c->state == CONNECTION_CLOSED)
		return;
	connection_enter(c, CONNECTION_CLOSED);
	timer_cancel(&c->header_timer);
	timer_cancel(&c->handler_timer);
	for (int i = FRONT; i <= BACK; i++) {
		struct watch *watch = &c->relay.side[i].watch;

		if (watch->fd < 0)
			continue;
		if (reset)
			connection_reset_on_close(watch->fd, true);
		close(watch->fd);
		watch->fd = -1;
	}
	relay_release(&c->relay, &worker->pipes);
	registry_remove(c);
	record_end(&c->record);
	if (worker->cursor == c)
		worker->cursor = c->next;
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
	c->turn.run = free_connection;
	task_queue(&worker->loop, &c->turn);
}

/* Brings epoll up to date: once when added, once more if a side ever blocks. */
static void settle(struct connection *c)
{
	struct worker *worker = connection_worker(c);

	for (int i = FRONT; i <= BACK; i++) {
		struct relay_side *side = &c->relay.side[i];
		uint32_t events = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET;
		int error;

		if (side->watch.fd < 0)
			continue;
		if (!side->writable || side->interest & EPOLLOUT)
			events |= EPOLLOUT;
		if (events == side->interest)
			continue;
		error = side->interest ? loop_rewatch(&worker->loop,
						      &side->watch, events)
				       : loop_watch(&worker->loop, &side->watch,
						    events);
		if (error) {
			listener_shortage(c->listener, "cannot watch a socket",
					  -error);
			connection_close(c, true);
			return;
		}
		side->interest = events;
	}
}

static void log_end(const struct connection *c, enum relay_outcome outcome)
{
	char client[ENDPOINT_TEXT_MAX];

	if (!log_enabled(LOG_LEVEL_DEBUG))
		return;
	log_debug("msg=\"connection ended\" listener=%s client=%s how=%s",
		  c->listener->settings->name,
		  endpoint_format(c->record.client, c->record.client_port,
				  client),
		  outcome == RELAY_DONE ? "closed" : "reset");
}

/* Moves bytes as far as they go now. */
static void relay(struct connection *c)
{
	struct worker *worker = connection_worker(c);
	struct relay_context context = {.buffer = worker->buffer,
					.pipes = &worker->pipes};
	enum relay_outcome outcome;

	outcome = relay_run(&c->relay, &context);
	counters_add(c->listener->counts, RP_STAT_BYTES_UP, context.moved[UP]);
	counters_add(c->listener->counts, RP_STAT_BYTES_DOWN,
		     context.moved[DOWN]);
	registry_review(c, context.moved[DOWN] > 0);
	if (context.no_memory)
		listener_shortage(c->listener, "no room for bytes on their way",
				  ENOMEM);
	switch (outcome) {
	case RELAY_WAITS:
		break;
	case RELAY_AGAIN:
		task_queue(&worker->loop, &c->turn);
		break;
	case RELAY_DONE:
	case RELAY_FAILED:
		log_end(c, outcome);
		connection_close(c, outcome == RELAY_FAILED);
		break;
	}
}

/* Something became possible: goes on from state to state as far as it can. */
static void proceed(struct connection *c)
{
	if (c->state == CONNECTION_HEADER)
		admission_read(c);
	if (c->state == CONNECTION_CONNECTING)
		handler_check(c);
	if (c->state == CONNECTION_RELAYING && c->relay.direction[UP].gated)
		admission_screen(c);
	if (c->state == CONNECTION_RELAYING)
		relay(c);
	if (c->state != CONNECTION_CLOSED)
		settle(c);
}

static void on_front(struct watch *watch, uint32_t events)
{
	struct connection *c = CONTAINER(watch, relay.side[FRONT].watch);

	relay_event(&c->relay, FRONT, events);
	proceed(c);
}

static void on_back(struct watch *watch, uint32_t events)
{
	struct connection *c = CONTAINER(watch, relay.side[BACK].watch);

	relay_event(&c->relay, BACK, events);
	proceed(c);
}

static void on_turn(struct task *turn)
{
	proceed(CONTAINER(turn, turn));
}

static void on_header_timer(struct timer *timer)
{
	struct connection *c = CONTAINER(timer, header_timer);

	admission_timeout(c);
	proceed(c);
}

static void on_handler_timer(struct timer *timer)
{
	struct connection *c = CONTAINER(timer, handler_timer);

	handler_timeout(c);
	proceed(c);
}

void connection_relay(struct connection *c)
{
	char client[ENDPOINT_TEXT_MAX], proxy[ENDPOINT_TEXT_MAX];

	timer_cancel(&c->handler_timer);
	connection_enter(c, CONNECTION_RELAYING);
	listener_count(c->listener, RP_STAT_CONNECTIONS);
	if (log_enabled(LOG_LEVEL_DEBUG))
		log_debug("msg=\"connection relayed\" listener=%s client=%s "
			  "proxy=%s version=%u",
			  c->listener->settings->name,
			  endpoint_format(c->record.client,
					  c->record.client_port, client),
			  endpoint_format(c->record.proxy, c->record.proxy_port,
					  proxy),
			  c->record.version);
}

struct connection *connection_new(struct listener *listener, const int fd[2])
{
	struct connection **all = &listener->worker->connections;
	struct connection *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->listener = listener_ref(listener);
	c->header_timer.expired = on_header_timer;
	c->handler_timer.expired = on_handler_timer;
	c->turn.run = on_turn;
	c->relay.side[FRONT] = (struct relay_side){
		.watch = {.ready = on_front, .fd = fd[FRONT]},
		.readable = true,
		.writable = true,
	};
	c->relay.side[BACK] = (struct relay_side){
		.watch = {.ready = on_back, .fd = fd[BACK]},
		.readable = fd[BACK] >= 0,
		.writable = fd[BACK] >= 0,
	};
	c->link = all;
	c->next = *all;
	if (c->next)
		c->next->link = &c->next;
	*all = c;
	return c;
}

void connection_resume(struct connection *c)
{
	proceed(c);
}

void connection_accept(struct listener *listener, int fd,
		       const struct sockaddr *peer, bool headless)
{
	const int fds[] = {[FRONT] = fd, [BACK] = -1};
	struct connection *c = connection_new(listener, fds);
	uint16_t port;
	uint8_t ip[16];

	if (!c) {
		listener_shortage(listener, "no room for a connection", ENOMEM);
		connection_reset(fd);
		return;
	}
	address_split(peer, ip, &port);
	record_begin(&c->record, ip, port);
	c->headless = headless;
	admission_begin(c);
	proceed(c);
}

uint64_t connection_cookie(const struct connection *c)
{
	return c->cookie ? c->cookie
			 : socket_cookie(c->relay.side[FRONT].watch.fd);
}

const char *endpoint_format(const uint8_t ip[16], uint16_t port,
			    char out[ENDPOINT_TEXT_MAX])
{
	char text[INET6_ADDRSTRLEN];

	snprintf(out, ENDPOINT_TEXT_MAX, ip_is_v4(ip) ? "%s:%u" : "[%s]:%u",
		 ip_format(ip, text), port);
	return out;
}
