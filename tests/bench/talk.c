/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * talk.c - see talk.h.
 */
#include "talk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define BUFFER_SIZE (256 << 10)

/* Long enough that every receiver sees that it is no header. */
#define NOT_A_HEADER "GET / HTTP/1.1\r\nHost: b\r\n\r\n"

static uint8_t buffer[BUFFER_SIZE];

const char *talk_line(const struct options *options, char out[FIRST_LINE_MAX])
{
	switch (options->mode) {
	case MODE_CONNECT:
	case MODE_IDLE:
		return "WHO\n";
	case MODE_REQUEST:
		return "ECHO\n";
	case MODE_UP:
		return "SINK\n";
	case MODE_DOWN:
		snprintf(out, FIRST_LINE_MAX, "SEND %" PRIu64 "\n",
			 options->bytes);
		return out;
	case MODE_REFUSE:
		break;
	}
	switch (options->rubbish) {
	case RUBBISH_HEADER:
	case RUBBISH_BROKEN:
		return "WHO\n";
	case RUBBISH_PAYLOAD:
		return NOT_A_HEADER;
	case RUBBISH_SILENT:
		break;
	}
	return "";
}

static enum talk error_of(struct load *load, int error)
{
	if (!load->error)
		load->error = error;
	return TALK_ERROR;
}

static enum talk upload(struct load *load, struct client *client)
{
	while (client->left > 0) {
		size_t len =
			client->left < BUFFER_SIZE ? client->left : BUFFER_SIZE;
		ssize_t n = client_send(client, load->epoll, buffer, len);

		if (n < 0)
			return error_of(load, -n);
		client->left -= n;
		load->bytes += n;
		if ((size_t)n < len)
			return TALK_ON;
	}
	client_watch(client, load->epoll, false);
	shutdown(client->fd, SHUT_WR);
	return TALK_ON;
}

enum talk talk_ask(struct load *load, struct client *client)
{
	const struct options *o = load->options;
	bool idle = o->mode == MODE_IDLE;
	ssize_t n;

	client->asked = clock_ns();
	client->left = o->size;
	/* One at a time: there is room for it, or the socket is broken. */
	n = client_send(client, load->epoll,
			idle ? (const uint8_t *)"WHO\n" : buffer,
			idle ? 4 : o->size);
	if (n < 0)
		return error_of(load, -n);
	return (size_t)n == (idle ? 4 : o->size) ? TALK_ON
						 : error_of(load, ENOBUFS);
}

enum talk talk_begin(struct load *load, struct client *client)
{
	switch (load->options->mode) {
	case MODE_UP:
		client->left = load->options->bytes;
		return upload(load, client);
	case MODE_REQUEST:
		return talk_ask(load, client);
	case MODE_DOWN:
		client->left = load->options->bytes;
		return TALK_ON;
	case MODE_CONNECT:
	case MODE_IDLE:
	case MODE_REFUSE:
		break;
	}
	return TALK_ON;
}

/* Bytes received, 0 if there are none now, or -errno; -EPIPE at the end. */
static ssize_t take(struct client *client, void *data, size_t len)
{
	ssize_t n = recv(client->fd, data, len, MSG_DONTWAIT);

	if (n == 0)
		return -EPIPE;
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	return n;
}

/* 1 when client->answer is a whole line, its end taken off; 0; or -errno. */
static int take_line(struct client *client)
{
	size_t room = sizeof(client->answer) - client->answer_len;
	ssize_t n = take(client, client->answer + client->answer_len, room);

	if (n <= 0)
		return n;
	client->answer_len += n;
	if (client->answer[client->answer_len - 1] != '\n')
		return client->answer_len < sizeof(client->answer) ? 0
								   : -EPROTO;
	client->answer[client->answer_len - 1] = '\0';
	client->answer_len = 0;
	return 1;
}

static void check_peer(struct load *load, const struct client *client)
{
	char want[ENDPOINT_TEXT_MAX];
	union endpoint identity;

	if (!load->options->check)
		return;
	client_identity(load->options, client->index, &identity);
	endpoint_format(&identity, want);
	if (strcmp(want, client->answer) == 0)
		return;
	if (load->wrong_peer++ == 0)
		snprintf(load->wrong, sizeof(load->wrong), "%s instead of %s",
			 client->answer, want);
}

static enum talk on_peer(struct load *load, struct client *client)
{
	bool again = client->ready;
	uint64_t since = again ? client->asked : client->started;
	int have = take_line(client);

	if (have < 0)
		return error_of(load, -have);
	if (have == 0)
		return TALK_ON;
	samples_add(&load->samples, clock_ns() - since);
	check_peer(load, client);
	if (load->options->mode == MODE_CONNECT || again)
		return TALK_DONE;
	client->ready = true;
	load->ready++;
	return TALK_ON;
}

static enum talk on_echo(struct load *load, struct client *client)
{
	const struct options *o = load->options;
	ssize_t n = take(client, buffer, client->left);
	uint64_t now;

	if (n < 0)
		return error_of(load, -n);
	client->left -= n;
	if (client->left > 0)
		return TALK_ON;
	if (!client->ready) {
		client->ready = true;
		load->ready++;
		return TALK_ON;
	}
	now = clock_ns();
	samples_add(&load->samples, now - client->asked);
	load->ended = now;
	/* Those that are under way count too. */
	if (++load->answers + load->active > o->requests)
		return TALK_DONE;
	return talk_ask(load, client);
}

static enum talk on_counted(struct load *load, struct client *client)
{
	int have = take_line(client);

	if (have < 0)
		return error_of(load, -have);
	if (have == 0)
		return TALK_ON;
	if (client->left ||
	    strtoull(client->answer, NULL, 10) != load->options->bytes)
		return error_of(load, EPROTO);
	return TALK_DONE;
}

static enum talk on_download(struct load *load, struct client *client)
{
	ssize_t n = take(client, buffer, BUFFER_SIZE);

	if (n == -EPIPE && client->left == 0)
		return TALK_DONE;
	if (n < 0 || (uint64_t)n > client->left)
		return error_of(load, n < 0 ? -n : EPROTO);
	client->left -= n;
	load->bytes += n;
	return TALK_ON;
}

static enum talk on_refusal(struct load *load, struct client *client)
{
	if (take(client, buffer, BUFFER_SIZE) > 0) {
		load->answered++;
		return TALK_DONE;
	}
	samples_add(&load->samples, clock_ns() - client->started);
	return TALK_REFUSED;
}

enum talk talk_go_on(struct load *load, struct client *client, uint32_t events)
{
	switch (load->options->mode) {
	case MODE_CONNECT:
	case MODE_IDLE:
		return on_peer(load, client);
	case MODE_REQUEST:
		return on_echo(load, client);
	case MODE_UP:
		return events & EPOLLOUT ? upload(load, client)
					 : on_counted(load, client);
	case MODE_DOWN:
		return on_download(load, client);
	case MODE_REFUSE:
		return on_refusal(load, client);
	}
	return TALK_ERROR;
}
