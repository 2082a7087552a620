/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * client.c - see client.h.
 */
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "samples.h"

#define PORT_FIRST 1024
#define PORTS	   (65536 - PORT_FIRST)

_Static_assert(WIRE_HEADER_MAX + FIRST_LINE_MAX <= UINT8_MAX, "preface_len");

void client_identity(const struct options *options, uint32_t index,
		     union endpoint *ret)
{
	uint32_t round = index / options->clients.count;

	pool_address(&options->clients, index, ret);
	ret->v4.sin_port = htons(PORT_FIRST + (index + round) % PORTS);
}

static void write_preface(struct client *client, const struct options *options,
			  const char *line)
{
	union endpoint identity;
	size_t len;

	client_identity(options, client->index, &identity);
	client->header_len = wire_write(options->header, &identity,
					&options->target, client->preface);
	len = strlen(line);
	memcpy(client->preface + client->header_len, line, len);
	client->preface_len = client->header_len + len;
	client->preface_at = 0;
}

static int bind_source(int fd, const struct options *options, uint32_t index)
{
	union endpoint source;
	int one = 1;

	pool_address(&options->sources, index, &source);
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	return bind(fd, &source.sa, endpoint_size(&source));
}

static int open_socket(const struct options *options, uint32_t index)
{
	bool several = options->pieces > 1 || options->apart ||
		       options->mode == MODE_REQUEST;
	int fd, error, one = 1;

	fd = socket(options->target.sa.sa_family,
		    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (several)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if ((options->sources.count && bind_source(fd, options, index)) ||
	    (connect(fd, &options->target.sa,
		     endpoint_size(&options->target)) &&
	     errno != EINPROGRESS)) {
		error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

int client_open(struct client *client, const struct options *options, int epoll,
		uint32_t index, const char *line)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
	int error;

	*client = (struct client){.fd = -1, .index = index};
	write_preface(client, options, line);
	client->started = clock_ns();
	client->fd = open_socket(options, index);
	if (client->fd < 0)
		return client->fd;
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event)) {
		error = -errno;
		client_close(client);
		return error;
	}
	return 0;
}

void client_close(struct client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
}

void client_watch(struct client *client, int epoll, bool out)
{
	struct epoll_event event = {
		.events = EPOLLIN | (out ? EPOLLOUT : 0),
		.data.ptr = client,
	};

	if (out == client->wants_out)
		return;
	client->wants_out = out;
	epoll_ctl(epoll, EPOLL_CTL_MOD, client->fd, &event);
}

ssize_t client_send(struct client *client, int epoll, const void *data,
		    size_t len)
{
	ssize_t n = send(client->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN)
		return -errno;
	client_watch(client, epoll, n < 0 || (size_t)n < len);
	return n < 0 ? 0 : n;
}

/* Where the piece that begins at preface_at ends. */
static size_t piece_end(const struct client *client,
			const struct options *options)
{
	size_t end = 0;

	for (size_t i = 1; i <= options->pieces; i++) {
		end = client->header_len * i / options->pieces;
		if (end > client->preface_at)
			break;
	}
	if (end <= client->preface_at)
		return client->preface_len;
	return end == client->header_len && !options->apart
		       ? client->preface_len
		       : end;
}

enum sent client_begin(struct client *client, const struct options *options,
		       int epoll)
{
	while (!client_begun(client)) {
		size_t end = piece_end(client, options);
		ssize_t n = client_send(client, epoll,
					client->preface + client->preface_at,
					end - client->preface_at);

		if (n < 0)
			return SENT_FAILED;
		client->preface_at += n;
		if (client->preface_at < end)
			return SENT_BLOCKED;
		if (!client_begun(client) && options->pause_ns) {
			client->resume_at = clock_ns() + options->pause_ns;
			return SENT_PAUSED;
		}
	}
	return SENT_ALL;
}
