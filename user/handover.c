/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * handover.c - see handover.h. Which listener it is is found as the kernel
 * finds it, in bpf/listeners.h.
 */
#include "handover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "acceptor.h"
#include "connection.h"
#include "listen.h"

#define CONTAINER(pointer, member)                                       \
	((struct handover *)((char *)(pointer)-offsetof(struct handover, \
							member)))

int handover_open(struct handover *handover, struct worker *worker)
{
	static const uint8_t v4[16] = {
		[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};
	/* v4-mapped: the kernel makes a socket on ::1 IPv6 only. */
	struct address loopback = {
		.in6 = {.sin6_family = AF_INET6},
		.len = sizeof(loopback.in6),
	};

	handover->worker = worker;
	handover->watch.fd = -1;
	memcpy(&loopback.in6.sin6_addr, v4, sizeof(v4));
	if (listen_open(&loopback, false, false, &handover->watch.fd, 1) == 0)
		return 0;
	/* No IPv6 on this host: then none is handed over either. */
	loopback = address_make(v4, 0);
	return listen_open(&loopback, false, false, &handover->watch.fd, 1);
}

/* How well a listening address suits a local one: 0 not at all. */
static int match(const struct address *listen, const uint8_t ip[16],
		 uint16_t port)
{
	static const uint8_t any4[16] = {[10] = 0xff, [11] = 0xff};
	static const uint8_t any6[16];
	uint8_t listen_ip[16];
	uint16_t listen_port;

	address_split(&listen->sa, listen_ip, &listen_port);
	if (listen_port != port)
		return 0;
	if (memcmp(listen_ip, ip, 16) == 0)
		return 3;
	if (memcmp(listen_ip, any4, 16) == 0)
		return ip_is_v4(ip) ? 2 : 0;
	return memcmp(listen_ip, any6, 16) == 0 ? 1 : 0;
}

static struct listener *find_listener(const struct handover *handover, int fd)
{
	struct sockaddr_storage local;
	socklen_t len = sizeof(local);
	struct listener *found = NULL;
	uint16_t port;
	uint8_t ip[16];
	int best = 0;

	if (getsockname(fd, (struct sockaddr *)&local, &len))
		return NULL;
	address_split((struct sockaddr *)&local, ip, &port);
	for (size_t i = 0; i < handover->n; i++) {
		const struct listener_config *settings =
			handover->listeners[i]->settings;

		for (size_t j = 0; j < settings->n_listen; j++) {
			int now = match(&settings->listen[j], ip, port);

			if (now > best) {
				best = now;
				found = handover->listeners[i];
			}
		}
	}
	return found;
}

/* 0, or errno of accept4(). */
static int accept_one(struct handover *handover)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	struct listener *listener;
	int fd;

	fd = accept4(handover->watch.fd, (struct sockaddr *)&peer, &len,
		     SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return errno;
	listener = find_listener(handover, fd);
	if (listener) {
		listener_count(listener, RP_STAT_HANDED_OVER);
		connection_accept(listener, fd, (struct sockaddr *)&peer,
				  false);
		return 0;
	}
	/* Somebody found the port, or the listener is gone by now. */
	connection_reset(fd);
	return 0;
}

void handover_take(struct handover *handover)
{
	unsigned int turns = SOMAXCONN;

	if (handover->watch.fd < 0)
		return;
	while (turns-- > 0 && accept_one(handover) == 0)
		;
}

/* Whose they are nobody knows before they are accepted: no counter. */
static void pause_accepting(struct handover *handover, int error)
{
	static struct log_limit limit = {.burst = 1};
	unsigned int suppressed;

	if (log_limit_pass(&limit, &suppressed))
		log_error("msg=\"cannot accept what the kernel hands over, "
			  "pausing\" error=\"%s\" suppressed=%u",
			  strerror(error), suppressed);
	loop_unwatch(&handover->worker->loop, &handover->watch);
	timer_arm(&handover->worker->loop, &handover->pause, ACCEPTOR_PAUSE_MS);
}

static void on_queue(struct watch *watch, uint32_t events)
{
	struct handover *handover = CONTAINER(watch, watch);
	int error = 0;

	(void)events;
	for (int i = 0; i < ACCEPTOR_BURST_MAX && !error; i++)
		error = accept_one(handover);
	if (error == EMFILE || error == ENFILE || error == ENOBUFS ||
	    error == ENOMEM)
		pause_accepting(handover, error);
}

static void watch_queue(struct handover *handover)
{
	if (loop_watch(&handover->worker->loop, &handover->watch, EPOLLIN))
		timer_arm(&handover->worker->loop, &handover->pause,
			  ACCEPTOR_PAUSE_MS);
}

static void on_pause_over(struct timer *timer)
{
	watch_queue(CONTAINER(timer, pause));
}

static void drop_listeners(struct handover *handover)
{
	for (size_t i = 0; i < handover->n; i++)
		listener_unref(handover->listeners[i]);
	free(handover->listeners);
	handover->listeners = NULL;
	handover->n = 0;
}

void handover_serve(struct handover *handover, struct listener **listeners,
		    size_t n)
{
	if (handover->watch.fd >= 0 && !handover->watch.ready) {
		handover->watch.ready = on_queue;
		handover->pause.expired = on_pause_over;
		watch_queue(handover);
	}
	drop_listeners(handover);
	handover->listeners = listeners;
	handover->n = n;
}

void handover_stop(struct handover *handover)
{
	timer_cancel(&handover->pause);
	if (handover->watch.fd >= 0)
		close(handover->watch.fd);
	handover->watch.fd = -1;
	drop_listeners(handover);
}
