/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * client.h - one connection of the load generator, from connect() until its
 * header and first line are sent, and its reading and writing after that.
 * What is talked about is load.c's.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include "options.h"

#define FIRST_LINE_MAX 32

struct client {
	struct client *next; /* of those that are spare, or that pause */
	int fd;		     /* owned; -1: none */
	uint32_t index;	     /* of the client that it plays */
	uint64_t started;
	uint64_t asked;	    /* when the request was sent */
	uint64_t resume_at; /* when the next piece is due */
	uint64_t left;	    /* of what is to be sent or received */
	uint8_t preface_at, preface_len, header_len;
	uint8_t answer_len;
	bool wants_out; /* epoll tells when it can be written */
	bool paused;
	bool ready; /* has had its first answer */
	char answer[ENDPOINT_TEXT_MAX + 1];
	uint8_t preface[WIRE_HEADER_MAX + FIRST_LINE_MAX];
};

/* Whom the header of connection `index` names. */
void client_identity(const struct options *options, uint32_t index,
		     union endpoint *ret);

/*
 * Opens connection `index`, whose stream begins with a header and with
 * `line`. 0, or -errno with nothing left open.
 */
int client_open(struct client *client, const struct options *options, int epoll,
		uint32_t index, const char *line);
void client_close(struct client *client);

enum sent {
	SENT_ALL,
	SENT_PAUSED, /* the next piece is due at client->resume_at */
	SENT_BLOCKED,
	SENT_FAILED,
};

/* Sends what is left of header and first line, as far as it goes now. */
enum sent client_begin(struct client *client, const struct options *options,
		       int epoll);

static inline bool client_begun(const struct client *client)
{
	return client->preface_at == client->preface_len;
}

/* Bytes sent, 0 if it must wait, in which case epoll will tell; or -errno. */
ssize_t client_send(struct client *client, int epoll, const void *data,
		    size_t len);

/* Epoll tells of space to write in, or only of bytes to read. */
void client_watch(struct client *client, int epoll, bool out);

#endif
