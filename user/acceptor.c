/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * acceptor.c - see acceptor.h. Leaves every decision about a connection to
 * connection.c.
 */
#include "acceptor.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connection.h"

/* After so many turns that took all they may, they may take twice as much. */
#define FULL_TURNS 4

/* Level-triggered: what one turn leaves in the queue comes with the next. */
static int watch_queue(struct acceptor *acceptor)
{
	uint32_t events = EPOLLIN | (acceptor->shared ? EPOLLEXCLUSIVE : 0);

	return loop_watch(&acceptor->listener->worker->loop, &acceptor->watch,
			  events);
}

/* Out of something, mostly: waiting may help, spinning makes it worse. */
static void pause_accepting(struct acceptor *acceptor, int error)
{
	struct loop *loop = &acceptor->listener->worker->loop;

	listener_shortage(acceptor->listener, "cannot accept, pausing", error);
	loop_unwatch(loop, &acceptor->watch);
	timer_arm(loop, &acceptor->pause, ACCEPTOR_PAUSE_MS);
}

static void on_pause_over(struct timer *timer)
{
	struct acceptor *acceptor =
		(struct acceptor *)((char *)timer -
				    offsetof(struct acceptor, pause));
	int error = watch_queue(acceptor);

	if (error)
		pause_accepting(acceptor, -error);
}

/* 0, or errno of accept4(). */
static int accept_one(struct acceptor *acceptor)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	int fd;

	fd = accept4(acceptor->watch.fd, (struct sockaddr *)&peer, &len,
		     SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		acceptor->inherited &= errno != EAGAIN;
		return errno;
	}
	connection_accept(acceptor->listener, fd, (struct sockaddr *)&peer,
			  acceptor->headless || acceptor->inherited);
	return 0;
}

/* accept(2): errors of one connection, not of the listening socket. */
static bool is_passing(int error)
{
	switch (error) {
	case 0:
	case ECONNABORTED:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case EINTR:
	case ENETDOWN:
	case ENETUNREACH:
	case ENONET:
	case ENOPROTOOPT:
	case EOPNOTSUPP:
	case EPERM:
	case EPROTO:
		return true;
	}
	return false;
}

/*
 * A call that finds the queue empty costs about as much as one that doesn't,
 * so as many are made as the last turn found useful.
 */
static void on_queue(struct watch *watch, uint32_t events)
{
	struct acceptor *acceptor =
		(struct acceptor *)((char *)watch -
				    offsetof(struct acceptor, watch));
	unsigned int taken = 0;
	int error = 0;

	(void)events;
	while (taken < acceptor->burst) {
		error = accept_one(acceptor);
		if (!is_passing(error))
			break;
		taken++;
	}
	if (error != EAGAIN && !is_passing(error)) {
		pause_accepting(acceptor, error);
		return;
	}
	if (taken < acceptor->burst) {
		acceptor->burst = taken ? taken : 1;
		acceptor->full = 0;
	} else if (++acceptor->full == FULL_TURNS) {
		acceptor->full = 0;
		if (acceptor->burst < ACCEPTOR_BURST_MAX)
			acceptor->burst *= 2;
	}
}

static void on_end(struct task *end)
{
	free((char *)end - offsetof(struct acceptor, end));
}

struct acceptor *acceptor_new(int fd, bool shared)
{
	struct acceptor *acceptor = calloc(1, sizeof(*acceptor));

	if (!acceptor)
		return NULL;
	acceptor->watch.ready = on_queue;
	acceptor->watch.fd = fd;
	acceptor->pause.expired = on_pause_over;
	acceptor->end.run = on_end;
	acceptor->burst = 1;
	acceptor->shared = shared;
	return acceptor;
}

/* Already, so for a daemon before this one. */
static bool is_somebody_waiting(const struct acceptor *acceptor)
{
	struct pollfd queue = {.fd = acceptor->watch.fd, .events = POLLIN};

	return poll(&queue, 1, 0) > 0;
}

void acceptor_serve(struct acceptor *acceptor, struct listener *listener)
{
	struct listener *before = acceptor->listener;
	int error;

	acceptor->listener = listener_ref(listener);
	acceptor->headless |= listener->offload == RP_OFFLOAD_ACCEPT;
	if (before) {
		listener_unref(before);
		return;
	}
	acceptor->inherited = is_somebody_waiting(acceptor);
	error = watch_queue(acceptor);
	if (error)
		pause_accepting(acceptor, -error);
}

void acceptor_stop(struct acceptor *acceptor)
{
	unsigned int turns = SOMAXCONN;
	int error;

	/* They were told that somebody listens. */
	do {
		error = accept_one(acceptor);
	} while (is_passing(error) && --turns > 0);
	acceptor_leave(acceptor);
}

void acceptor_leave(struct acceptor *acceptor)
{
	struct listener *listener = acceptor->listener;

	timer_cancel(&acceptor->pause);
	/* Whoever else has the socket keeps it open, and epoll knows files. */
	loop_unwatch(&listener->worker->loop, &acceptor->watch);
	close(acceptor->watch.fd);
	acceptor->watch.fd = -1;
	task_queue(&listener->worker->loop, &acceptor->end);
	listener_unref(listener);
}

void acceptor_free(struct acceptor *acceptor)
{
	close(acceptor->watch.fd);
	free(acceptor);
}
