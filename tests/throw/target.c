// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * target.c - see target.h. Knows nothing of segments.
 *
 * A client that means well begins with GOOD instead, and is told whom the
 * server sees, then gets back what it sends.
 */
#include "target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"
#include "stream.h"

#define GOOD	   "good client "
#define GOOD_LEN   12
#define EVENTS_MAX 64
#define WRONG_TOLD 20 /* more lines tell no more */

struct client {
	struct client *next, **link;
	int fd;
	uint8_t ip[16]; /* as accept() has it */
	uint16_t port;
	uint64_t since; /* ms: the last sign of life */
	uint64_t n;	/* bytes that came */
	uint8_t begin[STREAM_MARKER];
	struct stream *stream; /* owned; NULL: not known yet */
	bool good;	       /* means well */
	bool ignored;	       /* has been told of */
};

struct target {
	int listening, epoll;
	uint64_t seed;
	const uint8_t *answered; /* by number of the stream */
	size_t n_answered;
	struct client *clients;
	unsigned int n_clients;
	struct target_counts counts;
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

static const char *shown(const struct client *client, char out[80])
{
	char ip[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET6, client->ip, ip, sizeof(ip));
	snprintf(out, 80, "[%s]:%u", ip, client->port);
	return out;
}

static void wrong(struct target *target, struct client *client,
		  const char *what)
{
	char text[80];

	client->ignored = true;
	if (target->counts.wrong++ >= WRONG_TOLD)
		return;
	fprintf(stderr,
		"WRONG: %s; client %s, %llu bytes came, flow %lld, "
		"begins with",
		what, shown(client, text), (unsigned long long)client->n,
		client->stream ? (long long)client->stream->number : -1);
	for (size_t i = 0; i < client->n && i < STREAM_MARKER; i++)
		fprintf(stderr, " %02x", client->begin[i]);
	fputc('\n', stderr);
}

static void drop(struct target *target, struct client *client)
{
	struct linger linger = {.l_onoff = 1};

	/* Those that never answer would be asked for minutes. */
	setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(client->fd);
	*client->link = client->next;
	if (client->next)
		client->next->link = client->link;
	free(client->stream);
	free(client);
	target->n_clients--;
}

static void accept_one(struct target *target, int fd,
		       const struct sockaddr_in6 *peer)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct client *client = calloc(1, sizeof(*client));
	struct sockaddr_in6 again = {0};
	socklen_t len = sizeof(again);

	holds(client);
	client->fd = fd;
	client->since = now_ms();
	client->port = ntohs(peer->sin6_port);
	memcpy(client->ip, &peer->sin6_addr, 16);
	client->next = target->clients;
	client->link = &target->clients;
	if (client->next)
		client->next->link = &client->next;
	target->clients = client;
	target->n_clients++;
	target->counts.accepted++;
	event.data.ptr = client;
	holds(epoll_ctl(target->epoll, EPOLL_CTL_ADD, fd, &event) == 0);
	if (getpeername(fd, (struct sockaddr *)&again, &len)) {
		target->counts.closed++; /* ENOTCONN */
		drop(target, client);
	} else if (memcmp(&again.sin6_addr, &peer->sin6_addr, 16) != 0 ||
		   again.sin6_port != peer->sin6_port) {
		wrong(target, client, "getpeername() says another client");
	}
}

/* The payload has told its number: is all of this as it should be? */
static void identify(struct target *target, struct client *client)
{
	const uint8_t *at = client->begin + STREAM_MAGIC;
	uint32_t number =
		(uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];

	client->stream = malloc(sizeof(*client->stream));
	holds(client->stream);
	stream_make(client->stream, target->seed, number);
	if (!client->stream->served)
		wrong(target, client, "a stream that nobody should see");
	else if (!target->answered[number % target->n_answered])
		wrong(target, client, "its peer had no SYN-ACK");
	else if (memcmp(client->stream->client, client->ip, 16) != 0 ||
		 client->stream->client_port != client->port)
		wrong(target, client, "another client");
	else
		target->counts.checked++;
}

static void check_byte(struct target *target, struct client *client,
		       uint8_t byte)
{
	uint64_t at = client->n++;

	if (at < STREAM_MARKER)
		client->begin[at] = byte;
	if (at < STREAM_MAGIC && byte != stream_magic[at]) {
		wrong(target, client, "no payload begins so");
		return;
	}
	if (at + 1 == STREAM_MARKER)
		identify(target, client);
	if (client->stream && byte != stream_payload(client->stream, at)) {
		wrong(target, client, "not the payload's byte");
		return;
	}
	target->counts.bytes++;
}

static void serve_good(struct target *target, struct client *client,
		       const uint8_t *bytes, size_t n)
{
	char text[80];

	if (client->n == 0) {
		client->good = true;
		target->counts.good++;
		shown(client, text);
		strcat(text, "\n");
		send(client->fd, text, strlen(text), MSG_NOSIGNAL);
	}
	client->n += n;
	send(client->fd, bytes, n, MSG_NOSIGNAL);
}

static void read_client(struct target *target, struct client *client)
{
	uint8_t bytes[16384];
	ssize_t n = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		drop(target, client);
		return;
	}
	client->since = now_ms();
	if (client->good || (client->n == 0 && n >= GOOD_LEN &&
			     memcmp(bytes, GOOD, GOOD_LEN) == 0)) {
		serve_good(target, client, bytes, n);
		return;
	}
	for (ssize_t i = 0; i < n && !client->ignored; i++)
		check_byte(target, client, bytes[i]);
}

static void accept_all(struct target *target)
{
	struct sockaddr_in6 peer;
	socklen_t len = sizeof(peer);
	int fd;

	while ((fd = accept4(target->listening, (struct sockaddr *)&peer, &len,
			     SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		accept_one(target, fd, &peer);
}

struct target *target_new(int fd, uint64_t seed, const uint8_t *answered,
			  size_t n)
{
	struct target *target = calloc(1, sizeof(*target));
	int one = 1;

	holds(target);
	/* RFC 6093: else a byte would be missing where urgent data ends. */
	holds(setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof(one)) == 0);
	target->listening = fd;
	target->seed = seed;
	target->answered = answered;
	target->n_answered = n;
	target->epoll = epoll_create1(EPOLL_CLOEXEC);
	holds(target->epoll >= 0);
	return target;
}

void target_serve(struct target *target, bool accepting)
{
	struct epoll_event events[EVENTS_MAX];
	int n;

	if (accepting)
		accept_all(target);
	n = epoll_wait(target->epoll, events, EVENTS_MAX, 0);
	for (int i = 0; i < n; i++)
		read_client(target, events[i].data.ptr);
}

unsigned int target_close_idle(struct target *target, uint64_t ms)
{
	struct client *client = target->clients, *next;
	uint64_t now = now_ms();

	for (; client; client = next) {
		next = client->next;
		if (client->since + ms <= now)
			drop(target, client);
	}
	return target->n_clients;
}

struct target_counts target_counts(const struct target *target)
{
	return target->counts;
}
