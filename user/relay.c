/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * relay.c - see relay.h.
 */
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/*
 * Full reads after which splice(2) is worth its system calls, if there was
 * one at least each time that there was something to read.
 */
#define SPLICE_AFTER 3
/* Splices in a row below SPLICE_SMALL bytes after which it isn't. */
#define COPY_AFTER   4
#define SPLICE_SMALL (32 << 10)

/* What stopped a direction. */
enum step {
	STEP_ON,      /* nothing yet */
	STEP_DRY,     /* nothing to read */
	STEP_BLOCKED, /* nowhere to write */
	STEP_BUDGET,
	STEP_ENDED,
	STEP_BROKEN, /* the receiver is gone */
	STEP_FAILED, /* the sender is, or memory */
};

void relay_event(struct relay *relay, int side, uint32_t events)
{
	struct relay_side *s = &relay->side[side];

	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		s->readable = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		s->writable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		s->read_on = true;
	if (events & EPOLLPRI) {
		/* recv(2) stops at the urgent byte, and splice(2) for ever. */
		s->read_on = true;
		relay->direction[side].no_splice = true;
		relay->direction[side].splicing = false;
	}
	if (events & EPOLLERR)
		s->error = true;
}

int relay_hold(struct relay_direction *direction, const void *data, size_t len)
{
	uint8_t *held;

	if (len == 0)
		return 0;
	held = malloc(len);
	if (!held)
		return -ENOMEM;
	memcpy(held, data, len);
	direction->held = held;
	direction->held_at = 0;
	direction->held_len = len;
	return 0;
}

static void drop_held(struct relay_direction *direction)
{
	free(direction->held);
	direction->held = NULL;
	direction->held_at = 0;
	direction->held_len = 0;
}

void relay_release(struct relay *relay, struct pipes *pipes)
{
	for (int i = UP; i <= DOWN; i++) {
		struct relay_direction *direction = &relay->direction[i];

		drop_held(direction);
		pipes_put(pipes, direction->pipe, direction->piped == 0);
		direction->pipe = NULL;
		direction->piped = 0;
	}
}

/* A write that failed: for now, or because nobody will ever read it. */
static enum step write_failed(struct relay_side *to)
{
	if (errno != EAGAIN)
		return STEP_BROKEN;
	to->writable = false;
	return STEP_BLOCKED;
}

static enum step read_failed(struct relay_side *from)
{
	if (errno != EAGAIN)
		return STEP_FAILED;
	from->readable = false;
	return STEP_DRY;
}

/* Writes what is held, then what is in the pipe. */
static enum step flush(struct relay_direction *direction, struct relay_side *to)
{
	while (direction->held_len > 0) {
		ssize_t n;

		if (!to->writable)
			return STEP_BLOCKED;
		n = send(to->watch.fd, direction->held + direction->held_at,
			 direction->held_len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return write_failed(to);
		direction->held_at += n;
		direction->held_len -= n;
	}
	if (direction->held)
		drop_held(direction);
	while (direction->piped > 0) {
		ssize_t n;

		if (!to->writable)
			return STEP_BLOCKED;
		n = splice(direction->pipe->out, NULL, to->watch.fd, NULL,
			   direction->piped, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n < 0)
			return write_failed(to);
		if (n == 0)
			return STEP_BROKEN;
		direction->piped -= n;
	}
	return STEP_ON;
}

/* One direction, with what it runs between. */
struct flow {
	struct relay_direction *direction;
	const struct relay_direction *opposite;
	struct relay_side *from, *to;
	struct relay_context *context;
	uint64_t moved;
};

/* After its reset a socket may tell an end of stream that nobody meant. */
static enum step end_of_stream(struct flow *flow)
{
	if (flow->opposite->state == RELAY_BROKEN)
		return STEP_FAILED;
	flow->direction->state = RELAY_ENDING;
	return STEP_ON;
}

/*
 * One read into the buffer and one write out of it. A read that came short
 * emptied the socket, and what comes later is an event of its own; unless a
 * FIN or reset was seen already, which is reported only once, or urgent data.
 */
static enum step copy(struct flow *flow)
{
	struct relay_direction *direction = flow->direction;
	uint8_t *buffer = flow->context->buffer;
	ssize_t n, sent;

	n = recv(flow->from->watch.fd, buffer, RELAY_BUFFER_SIZE, MSG_DONTWAIT);
	if (n < 0)
		return read_failed(flow->from);
	if (n == 0)
		return end_of_stream(flow);
	flow->moved += n;
	if (n < RELAY_BUFFER_SIZE) {
		flow->from->readable = flow->from->read_on;
		if (flow->moved < RELAY_BUFFER_SIZE)
			direction->streak = 0;
	} else if (!direction->no_splice &&
		   ++direction->streak >= SPLICE_AFTER) {
		direction->splicing = true;
		direction->streak = 0;
	}
	sent = send(flow->to->watch.fd, buffer, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent == n)
		return STEP_ON;
	if (sent < 0 && errno != EAGAIN)
		return STEP_BROKEN;
	flow->to->writable = false;
	if (sent < 0)
		sent = 0;
	if (relay_hold(direction, buffer + sent, n - sent)) {
		flow->context->no_memory = true;
		return STEP_FAILED;
	}
	return STEP_BLOCKED;
}

/*
 * Fills the empty pipe; flush() empties it. How much one splice(2) takes does
 * not tell whether more is there, so only EAGAIN ends it.
 */
static enum step fill(struct flow *flow)
{
	struct relay_direction *direction = flow->direction;
	ssize_t n;

	if (!direction->pipe)
		direction->pipe = pipes_take(flow->context->pipes);
	if (!direction->pipe) {
		direction->splicing = false;
		return STEP_ON;
	}
	n = splice(flow->from->watch.fd, NULL, direction->pipe->in, NULL,
		   direction->pipe->size, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (n < 0 && errno == EINVAL) {
		direction->no_splice = true;
		direction->splicing = false;
		return STEP_ON;
	}
	if (n < 0)
		return read_failed(flow->from);
	if (n == 0)
		return end_of_stream(flow);
	flow->moved += n;
	direction->piped = n;
	if (n >= SPLICE_SMALL) {
		direction->streak = 0;
	} else if (++direction->streak >= COPY_AFTER) {
		direction->splicing = false;
		direction->streak = 0;
	}
	return STEP_ON;
}

/* Everything is written: the end of one direction, perhaps of both. */
static enum step finish(struct flow *flow)
{
	/* Closing both sides says the same, and is the caller's next step. */
	if (flow->opposite->state < RELAY_ENDED &&
	    shutdown(flow->to->watch.fd, SHUT_WR) < 0)
		return STEP_BROKEN;
	flow->direction->state = RELAY_ENDED;
	return STEP_ENDED;
}

static enum step pump(struct relay *relay, int way,
		      struct relay_context *context)
{
	struct relay_direction *direction = &relay->direction[way];
	struct flow flow = {
		.direction = direction,
		.opposite = &relay->direction[!way],
		.from = &relay->side[way],
		.to = &relay->side[!way],
		.context = context,
	};
	enum step step;

	do {
		step = flush(direction, flow.to);
		if (step != STEP_ON)
			break;
		if (direction->state == RELAY_ENDING)
			step = finish(&flow);
		else if (!flow.from->readable)
			step = STEP_DRY;
		else if (flow.moved >= RELAY_BUDGET)
			step = STEP_BUDGET;
		else
			step = direction->splicing ? fill(&flow) : copy(&flow);
	} while (step == STEP_ON);
	context->moved[way] += flow.moved;
	if (direction->piped == 0) {
		pipes_put(context->pipes, direction->pipe, true);
		direction->pipe = NULL;
	}
	return step;
}

/*
 * The receiver of a direction is gone. What it had sent before may still be
 * on its way back, so the opposite direction goes on until it runs dry; then
 * the connection fails, as the end of stream that it will read is no orderly
 * one. An opposite direction that had ended before is not spoiled.
 */
static enum relay_outcome on_broken(struct relay *relay, int way)
{
	struct relay_direction *opposite = &relay->direction[!way];
	struct relay_side *receiver = &relay->side[!way];

	relay->direction[way].state = RELAY_BROKEN;
	if (opposite->state == RELAY_ENDED)
		return RELAY_DONE;
	if (opposite->state == RELAY_BROKEN || opposite->gated)
		return RELAY_FAILED;
	receiver->readable = true;
	receiver->read_on = true;
	return RELAY_AGAIN;
}

/*
 * It ended its side in order, and was reset afterwards, so it waits for no
 * answer: a handler that has none yet would show it by no read or write.
 */
static bool is_client_gone(const struct relay *relay)
{
	return relay->direction[UP].state == RELAY_ENDED &&
	       relay->side[FRONT].error;
}

static enum relay_outcome run_one(struct relay *relay, int way,
				  struct relay_context *context)
{
	struct relay_direction *direction = &relay->direction[way];
	const struct relay_direction *opposite = &relay->direction[!way];

	if (way == UP && is_client_gone(relay))
		return RELAY_FAILED;
	if (direction->gated || direction->state >= RELAY_ENDED)
		return RELAY_WAITS;
	switch (pump(relay, way, context)) {
	case STEP_ON:
	case STEP_DRY:
		return RELAY_WAITS;
	case STEP_BLOCKED:
		/* A reset sender is not kept waiting for the receiver. */
		return relay->side[way].error ? RELAY_FAILED : RELAY_WAITS;
	case STEP_BUDGET:
		return RELAY_AGAIN;
	case STEP_ENDED:
		return opposite->state >= RELAY_ENDED ? RELAY_DONE
						      : RELAY_WAITS;
	case STEP_BROKEN:
		return on_broken(relay, way);
	case STEP_FAILED:
		return RELAY_FAILED;
	}
	return RELAY_FAILED;
}

enum relay_outcome relay_run(struct relay *relay, struct relay_context *context)
{
	enum relay_outcome up, down;

	up = run_one(relay, UP, context);
	if (up == RELAY_DONE || up == RELAY_FAILED)
		return up;
	down = run_one(relay, DOWN, context);
	return down > up ? down : up;
}
