/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * handler.c - see handler.h.
 *
 * connect() towards this host is over before it returns EINPROGRESS, so the
 * first bytes are tried at once; only EAGAIN makes it wait for epoll.
 */
#include "handler.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "connection.h"
#include "emit.h"
#include "registry.h"

/*
 * connect() returns EAGAIN only for a unix socket whose backlog is full; it
 * is tried again with another socket, as this one would tell nothing.
 */
#define RETRIES_MAX (HANDLER_TIMEOUT_MS / HANDLER_RETRY_MS)

_Static_assert(RETRIES_MAX <= UINT8_MAX, "connection.retries");

/*
 * Where the connection goes on to. Inline, that is the server that the kernel
 * would have given it to: on the address that the proxy connected to.
 */
static struct address handler_address(const struct connection *c)
{
	const struct listener_config *settings = c->listener->settings;
	struct address local = {.len = sizeof(local.in6)}, handler;
	uint16_t port;
	uint8_t ip[16];

	if (settings->delivery == RP_DELIVERY_RELAY)
		return settings->handler;
	if (getsockname(c->relay.side[FRONT].watch.fd, &local.sa, &local.len))
		return (struct address){.sa.sa_family = AF_UNSPEC};
	address_split(&local.sa, ip, &port);
	if (settings->handler_port)
		port = settings->handler_port;
	handler = address_make(ip, port);
	if (handler.sa.sa_family == AF_INET6)
		handler.in6.sin6_scope_id = local.in6.sin6_scope_id;
	return handler;
}

static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS ||
	       error == ENOMEM;
}

static void fail(struct connection *c, int error)
{
	static struct log_limit limit = {.burst = 10};
	const struct listener_config *settings = c->listener->settings;
	char client[ENDPOINT_TEXT_MAX], handler[ADDRESS_TEXT_MAX];
	struct address address = handler_address(c);
	unsigned int suppressed;

	if (is_shortage(error)) {
		listener_shortage(c->listener, "handler not reached", error);
		connection_close(c, true);
		return;
	}
	listener_count(c->listener, RP_STAT_HANDLER_FAILED);
	if (log_limit_pass(&limit, &suppressed))
		log_error("msg=\"handler not reached\" listener=%s handler=%s "
			  "client=%s error=\"%s\" suppressed=%u",
			  settings->name, address_format(&address.sa, handler),
			  endpoint_format(c->record.client,
					  c->record.client_port, client),
			  strerror(error), suppressed);
	connection_close(c, true);
}

/* Keeps what could not be sent: all behind the first `sent` bytes. */
static int hold_rest(struct connection *c, const struct iovec parts[2],
		     size_t sent)
{
	struct relay_direction *up = &c->relay.direction[UP];
	size_t total = parts[0].iov_len + parts[1].iov_len, skip = sent;
	uint8_t *held, *end;

	if (sent == total)
		return 0;
	held = malloc(total - sent);
	if (!held)
		return -ENOMEM;
	end = held;
	for (int i = 0; i < 2; i++) {
		size_t gone = skip < parts[i].iov_len ? skip : parts[i].iov_len;
		size_t len = parts[i].iov_len - gone;

		skip -= gone;
		if (len)
			memcpy(end, (uint8_t *)parts[i].iov_base + gone, len);
		end += len;
	}
	up->held = held;
	up->held_at = 0;
	up->held_len = total - sent;
	return 0;
}

/* Waits for the socket to tell, or for the time to try again. */
static void wait(struct connection *c, const struct iovec parts[2], uint32_t ms)
{
	if (hold_rest(c, parts, 0)) {
		fail(c, ENOMEM);
		return;
	}
	timer_arm(&connection_worker(c)->loop, &c->handler_timer, ms);
}

static void drop_held(struct relay_direction *up)
{
	free(up->held);
	up->held = NULL;
	up->held_len = 0;
}

/* Our own header goes first; what a gate holds next is the client's. */
static int send_held(struct connection *c)
{
	struct relay_direction *up = &c->relay.direction[UP];
	ssize_t sent;

	sent = send(c->relay.side[BACK].watch.fd, up->held, up->held_len,
		    MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < (ssize_t)up->held_len)
		return sent < 0 ? -errno : -ENOBUFS;
	drop_held(up);
	return 0;
}

/*
 * The answer to connect(). Only a handler that had accepted can have reset
 * the connection; what it said before that is still to be read.
 */
static void on_answer(struct connection *c, int error)
{
	struct relay_direction *up = &c->relay.direction[UP];
	struct relay_side *back = &c->relay.side[BACK];

	back->writable = true;
	if (!error && up->gated && up->held_len)
		error = -send_held(c);
	if (error == ECONNRESET || error == EPIPE) {
		/* Not what the client said first: it is nobody's. */
		drop_held(up);
		up->gated = false;
		up->state = RELAY_BROKEN;
		back->readable = true;
		back->read_on = true;
	} else if (error) {
		fail(c, error);
		return;
	}
	connection_relay(c);
}

static void send_first(struct connection *c, const struct iovec parts[2])
{
	struct msghdr message = {.msg_iov = (struct iovec *)parts,
				 .msg_iovlen = 2};
	size_t total = parts[0].iov_len + parts[1].iov_len;
	ssize_t sent;

	if (total == 0) {
		wait(c, parts, HANDLER_TIMEOUT_MS);
		return;
	}
	sent = sendmsg(c->relay.side[BACK].watch.fd, &message,
		       MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0 && errno == EAGAIN)
		wait(c, parts, HANDLER_TIMEOUT_MS);
	else if (sent < 0)
		on_answer(c, errno);
	else if (hold_rest(c, parts, sent))
		fail(c, ENOMEM);
	else
		on_answer(c, 0);
}

/* `speaks`: there are bytes to send as soon as it is connected. */
static int open_socket(const struct address *handler, bool speaks)
{
	int fd, one = 1, zero = 0;

	fd = socket(handler->sa.sa_family,
		    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0 && handler->sa.sa_family != AF_UNIX) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		/* As those that listen.c opens. */
		setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof(one));
		/* They carry the ACK of the SYN-ACK; tcp(7). */
		if (speaks)
			setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &zero,
				   sizeof(zero));
	}
	return fd;
}

/* One attempt: 0 also if the answer is still to come, or -errno. */
static int attempt(struct connection *c, bool speaks)
{
	struct address handler = handler_address(c);
	int error, fd = open_socket(&handler, speaks);

	if (fd < 0)
		return -errno;
	error = registry_add(c, fd);
	if (!error && connect(fd, &handler.sa, handler.len) &&
	    errno != EINPROGRESS)
		error = -errno;
	if (error) {
		registry_withdraw(c);
		close(fd);
		return error;
	}
	c->relay.side[BACK].watch.fd = fd;
	return 0;
}

static size_t emit(const struct connection *c, const uint8_t *header,
		   size_t header_len, uint8_t out[EMIT_V2_MAX])
{
	const struct listener_config *settings = c->listener->settings;
	const uint8_t *v2 = c->record.version == 2 ? header : NULL;

	switch (settings->client_address) {
	case CLIENT_ADDRESS_NONE:
	case CLIENT_ADDRESS_GETPEERNAME:
		return 0;
	case CLIENT_ADDRESS_PROXY_V1:
		return emit_v1(&c->record, out);
	case CLIENT_ADDRESS_PROXY_V2:
		return emit_v2(&c->record, v2, header_len,
			       settings->tlvs_forwarded, out);
	}
	return 0;
}

void handler_open(struct connection *c, const uint8_t *header,
		  size_t header_len, const uint8_t *payload, size_t payload_len)
{
	uint8_t emitted[EMIT_V2_MAX];
	struct iovec parts[2] = {
		{.iov_base = emitted,
		 .iov_len = emit(c, header, header_len, emitted)},
		{.iov_base = (uint8_t *)payload, .iov_len = payload_len},
	};
	int error;

	connection_enter(c, CONNECTION_CONNECTING);
	error = attempt(c, parts[0].iov_len + parts[1].iov_len > 0);
	if (error == 0)
		send_first(c, parts);
	else if (error == -EAGAIN)
		wait(c, parts, HANDLER_RETRY_MS);
	else
		fail(c, -error);
}

void handler_check(struct connection *c)
{
	const struct relay_side *back = &c->relay.side[BACK];
	socklen_t len = sizeof(int);
	int error = 0;

	if (!back->writable)
		return;
	if (back->error &&
	    getsockopt(back->watch.fd, SOL_SOCKET, SO_ERROR, &error, &len))
		error = errno;
	on_answer(c, error);
}

void handler_timeout(struct connection *c)
{
	struct pollfd back = {.fd = c->relay.side[BACK].watch.fd,
			      .events = POLLOUT};
	int error;

	if (c->state != CONNECTION_CONNECTING)
		return;
	/* Stopped, or with too much to do, we may be late to hear of it. */
	if (back.fd >= 0 && poll(&back, 1, 0) > 0) {
		relay_event(&c->relay, BACK, back.revents);
		handler_check(c);
		return;
	}
	/* A descriptor: the answer to connect() did not come. */
	if (back.fd >= 0 || ++c->retries > RETRIES_MAX) {
		fail(c, ETIMEDOUT);
		return;
	}
	error = attempt(c, false); /* only unix sockets try again */
	if (error == 0)
		on_answer(c, 0);
	else if (error == -EAGAIN)
		timer_arm(&connection_worker(c)->loop, &c->handler_timer,
			  HANDLER_RETRY_MS);
	else
		fail(c, -error);
}
