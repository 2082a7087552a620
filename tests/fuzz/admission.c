// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * admission.c - fuzzes the daemon's way from accept() to the handler: what
 * comes in pieces, with pauses in which timers run out, reaches the handler
 * without its header and otherwise whole, or not at all. The worker has no
 * thread here, and sockets are of AF_UNIX, so that each step is taken when
 * the target says so.
 *
 * An input is two bytes, enum choice and the seed of the pieces, then the
 * stream.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "connection.h"
#include "emit.h"
#include "fuzz.h"
#include "realpeer/proxy_header.h"
#include "worker.h"

enum choice {
	CHOICE_LISTENER = 0x0f, /* of the configuration's */
	CHOICE_TIMEOUT = 0x10,	/* the timer runs out between two pieces */
	CHOICE_HALF = 0x20,	/* the client ends its stream, and waits */
};

#define CHUNK_MAX  64 /* bytes of a piece, if it is not the whole rest */
#define HEADER_MAX 600
#define LISTENERS  10
#define ANSWER	   "and back" /* the handler's */
#define PEER_PORT  40001
#define STREAM_MAX 8192
#define SEEN_MAX   (STREAM_MAX + EMIT_V2_MAX)

static struct worker worker;
static struct listener *listeners[LISTENERS];
static int handler;

/* Modes and client_address, each with each; then peers without trust. */
static const char *const kinds[LISTENERS] = {
	"proxy_protocol = required",
	"proxy_protocol = enabled",
	"proxy_protocol = disabled",
	"proxy_protocol = required\nclient_address = proxy-v1",
	"proxy_protocol = enabled\nclient_address = proxy-v1",
	"proxy_protocol = required\nclient_address = proxy-v2\n"
	"forward_tlvs = authority, unique_id, ssl, aws_vpce_id",
	"proxy_protocol = enabled\nclient_address = proxy-v2",
	"proxy_protocol = required\nspecial_source = accept",
	"proxy_protocol = required\ntrusted = 192.0.2.0/24\n"
	"untrusted = direct",
	"proxy_protocol = required\ntrusted = 192.0.2.0/24\n"
	"untrusted = reset",
};

static struct config *make_config(const char *handler_path)
{
	struct config *config = NULL;
	char path[128], text[4096];
	size_t n;

	n = snprintf(text, sizeof(text),
		     "[global]\noffload = off\nheader_max = %d\n"
		     "trusted = 127.0.0.1\nheader_timeout = 10m\n",
		     HEADER_MAX);
	for (int i = 0; i < LISTENERS; i++)
		n += snprintf(text + n, sizeof(text) - n,
			      "[listener l%d]\nlisten = 127.0.0.1:%d\n"
			      "delivery = relay\nhandler = unix:%s\n%s\n",
			      i, 1000 + i, handler_path, kinds[i]);
	holds(n < sizeof(text));
	snprintf(path, sizeof(path), "%s/realpeer.conf", fuzz_directory());
	fuzz_write(path, text, n);
	holds(config_load(path, stderr, &config) == 0);
	return config;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct config *config;

	(void)argc;
	(void)argv;
	log_set_level(LOG_LEVEL_ERROR);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/handler",
		 fuzz_directory());
	handler =
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	holds(bind(handler, (void *)&address, sizeof(address)) == 0);
	holds(listen(handler, 8) == 0);
	worker.handover.watch.fd = -1;
	worker.buffer = malloc(WORKER_BUFFER_SIZE);
	holds(worker.buffer && loop_open(&worker.loop) == 0);
	config = make_config(address.sun_path);
	for (int i = 0; i < LISTENERS; i++)
		holds(listener_new(&worker, config, i, i, &listeners[i]) == 0);
	config_unref(config);
	return 0;
}

/* One connection, between a client and a handler that are both ours. */
struct talk {
	const struct listener *listener;
	const uint8_t *stream; /* what the client says, in memory of its own */
	size_t len, sent;
	int client;
	int handled; /* -1: the handler was not asked */
	size_t n_seen;
	bool ended;	 /* the handler read an end of stream */
	bool timed_out;	 /* while nothing was decided */
	size_t timed_at; /* after so many bytes */
	uint8_t seen[SEEN_MAX];
};

static void read_handled(struct talk *talk)
{
	ssize_t n = 1;

	if (talk->handled < 0)
		talk->handled = accept4(handler, NULL, NULL,
					SOCK_NONBLOCK | SOCK_CLOEXEC);
	while (talk->handled >= 0 && n > 0) {
		n = recv(talk->handled, talk->seen + talk->n_seen,
			 SEEN_MAX - talk->n_seen, 0);
		if (n > 0)
			talk->n_seen += n;
		else
			talk->ended = n == 0 || errno != EAGAIN;
	}
	holds(talk->n_seen < SEEN_MAX);
}

/* As many turns as can follow from one event. */
static void serve(struct talk *talk)
{
	for (int i = 0; i < 4; i++) {
		loop_turn(&worker.loop, 0);
		read_handled(talk);
	}
}

static void run_out(struct talk *talk)
{
	struct connection *c = worker.connections;

	if (!c || !c->header_timer.link)
		return;
	timer_cancel(&c->header_timer);
	c->header_timer.expired(&c->header_timer);
	talk->timed_out = true;
	talk->timed_at = talk->sent;
	serve(talk);
}

/* Says it all, unless the daemon closes the connection before. */
static void send_pieces(struct talk *talk, bool timeout, struct dice *dice)
{
	size_t left;

	while ((left = talk->len - talk->sent) > 0) {
		size_t n = 1 + dice_below(dice, CHUNK_MAX);

		if (n > left || dice_below(dice, 8) == 0)
			n = left;
		if (timeout && dice_below(dice, 4) == 0) {
			run_out(talk);
			timeout = false;
		}
		if (send(talk->client, talk->stream + talk->sent, n,
			 MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n)
			return;
		talk->sent += n;
		serve(talk);
	}
	if (timeout)
		run_out(talk);
}

/* What must come of it. */
struct outcome {
	enum rp_stat refused; /* RP_STAT_COUNT: it goes on to the handler */
	bool header;	      /* as that of this header */
	struct rp_header h;
	size_t payload; /* begins there */
};

static struct outcome of_header(const struct talk *talk, struct rp_header h)
{
	if (h.command == RP_COMMAND_PROXY && !rp_source_usable(&h) &&
	    !talk->listener->settings->special_source)
		return (struct outcome){.refused = RP_STAT_BAD_SOURCE};
	return (struct outcome){RP_STAT_COUNT, true, h, h.length};
}

/* Do the first `len` bytes begin with a whole signature? */
static bool has_signature(const struct talk *talk, size_t len)
{
	return (len >= 6 && memcmp(talk->stream, "PROXY ", 6) == 0) ||
	       (len >= 12 &&
		memcmp(talk->stream, "\r\n\r\n\0\r\nQUIT\n", 12) == 0);
}

static struct outcome of_untrusted(const struct talk *talk)
{
	if (talk->listener->settings->untrusted == RP_UNTRUSTED_RESET)
		return (struct outcome){.refused = RP_STAT_UNTRUSTED};
	/* Only the beginning of a signature is waited for. */
	if (has_signature(talk, talk->len) || talk->timed_out)
		return (struct outcome){.refused = RP_STAT_UNTRUSTED_HEADER};
	return (struct outcome){.refused = RP_STAT_COUNT};
}

static struct outcome expect(const struct talk *talk)
{
	enum rp_mode mode = talk->listener->settings->mode;
	struct outcome plain = {.refused = RP_STAT_COUNT};
	struct rp_header h;

	if (mode == RP_MODE_DISABLED)
		return plain;
	if (talk->listener->settings->untrusted != RP_UNTRUSTED_RESET ||
	    talk->listener == listeners[LISTENERS - 1])
		return of_untrusted(talk);
	if (talk->timed_out && mode == RP_MODE_REQUIRED)
		return (struct outcome){.refused = RP_STAT_TIMEOUT};
	/* Silent until then, it may begin with no header; else it had its time.
	 */
	if (talk->timed_out &&
	    has_signature(talk, talk->timed_at ? talk->timed_at : talk->len))
		return (struct outcome){.refused = RP_STAT_TIMEOUT};
	if (talk->timed_out)
		return plain;
	switch (rp_parse(talk->stream, talk->len, HEADER_MAX, &h)) {
	case RP_HEADER:
		return of_header(talk, h);
	case RP_INCOMPLETE:
		if (mode == RP_MODE_ENABLED && talk->len > 0 &&
		    !has_signature(talk, talk->len))
			return plain;
		return (struct outcome){.refused = RP_STAT_CLOSED_EARLY};
	case RP_NOT_HEADER:
		if (mode == RP_MODE_ENABLED)
			return plain;
		return (struct outcome){.refused = RP_STAT_NOT_HEADER};
	case RP_MALFORMED:
		return (struct outcome){.refused = RP_STAT_MALFORMED};
	case RP_TOO_LONG:
		break;
	}
	return (struct outcome){.refused = RP_STAT_TOO_LONG};
}

/* The header that the daemon writes itself; returns its length. */
static size_t check_emitted(const struct talk *talk,
			    const struct outcome *outcome)
{
	enum client_address how = talk->listener->settings->client_address;
	struct rp_header h;

	if (how == CLIENT_ADDRESS_NONE)
		return 0;
	holds(rp_parse(talk->seen, talk->n_seen, RP_V2_MAX, &h) == RP_HEADER);
	holds(h.version == (how == CLIENT_ADDRESS_PROXY_V1 ? 1 : 2));
	if (!outcome->header) {
		holds(h.command == RP_COMMAND_PROXY && h.present == 0);
		holds(h.source_port == PEER_PORT);
		return h.length;
	}
	holds(h.command == outcome->h.command);
	if (h.command == RP_COMMAND_PROXY) {
		holds(memcmp(h.source, outcome->h.source, 16) == 0);
		holds(h.source_port == outcome->h.source_port);
	}
	return h.length;
}

static uint64_t counted(const struct talk *talk, enum rp_stat stat)
{
	return counters_read(&worker.counters, talk->listener->number, stat);
}

static void check(const struct talk *talk, const struct outcome *outcome)
{
	static const enum rp_stat refusals[] = {
		RP_STAT_CLOSED_EARLY, RP_STAT_UNTRUSTED,
		RP_STAT_NOT_HEADER,   RP_STAT_UNTRUSTED_HEADER,
		RP_STAT_MALFORMED,    RP_STAT_TOO_LONG,
		RP_STAT_TIMEOUT,      RP_STAT_BAD_SOURCE,
	};
	size_t emitted, payload = talk->len - outcome->payload;

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
		holds(counted(talk, refusals[i]) ==
		      (refusals[i] == outcome->refused));
	if (outcome->refused != RP_STAT_COUNT) {
		/* Who has no trust, or was silent, may be connected already. */
		holds(talk->n_seen ==
		      (talk->handled < 0 ? 0 : check_emitted(talk, outcome)));
		holds(talk->handled < 0 || talk->ended);
		return;
	}
	holds(talk->handled >= 0);
	emitted = check_emitted(talk, outcome);
	holds(talk->n_seen - emitted == payload);
	holds(memcmp(talk->seen + emitted, talk->stream + outcome->payload,
		     payload) == 0);
	holds(counted(talk, RP_STAT_CONNECTIONS) == 1);
	holds(counted(talk, RP_STAT_BYTES_UP) == payload);
}

/* The client has ended its stream, and waits for an answer. */
static void check_answer(struct talk *talk)
{
	char answer[sizeof(ANSWER)] = "";

	if (talk->handled < 0)
		return;
	holds(send(talk->handled, ANSWER, strlen(ANSWER), MSG_NOSIGNAL) ==
	      (ssize_t)strlen(ANSWER));
	close(talk->handled);
	for (int i = 0; i < 4; i++)
		loop_turn(&worker.loop, 0);
	holds(recv(talk->client, answer, sizeof(answer), 0) ==
	      (ssize_t)strlen(ANSWER));
	holds(strcmp(answer, ANSWER) == 0);
	holds(recv(talk->client, answer, sizeof(answer), 0) == 0);
}

static void begin(struct talk *talk)
{
	struct sockaddr_in peer = {.sin_family = AF_INET,
				   .sin_port = htons(PEER_PORT),
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int pair[2];

	memset(talk->listener->counts, 0,
	       COUNTERS_COLUMNS * sizeof(*talk->listener->counts));
	holds(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
			 pair) == 0);
	talk->client = pair[0];
	talk->handled = -1;
	connection_accept((struct listener *)talk->listener, pair[1],
			  (struct sockaddr *)&peer, false);
	serve(talk);
}

/*
 * Seen to find, each within 5 s: decide() does not count bytes that it waits
 * with; screen() lets the beginning of a header pass; admit() leaves the
 * header's timer running.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct talk talk;
	struct outcome outcome;
	struct dice dice;
	bool half;

	if (len < 2 || len > STREAM_MAX)
		return 0;
	half = data[0] & CHOICE_HALF;
	dice = dice_make(data + 1, 1);
	talk = (struct talk){
		.listener = listeners[(data[0] & CHOICE_LISTENER) % LISTENERS],
		.stream = data + 2,
		.len = len - 2,
	};
	begin(&talk);
	send_pieces(&talk, data[0] & CHOICE_TIMEOUT, &dice);
	if (half)
		shutdown(talk.client, SHUT_WR);
	else
		close(talk.client);
	serve(&talk);
	outcome = expect(&talk);
	check(&talk, &outcome);
	if (half && outcome.refused == RP_STAT_COUNT)
		check_answer(&talk);
	else if (talk.handled >= 0)
		close(talk.handled);
	if (half)
		close(talk.client);
	for (int i = 0; i < 4; i++)
		loop_turn(&worker.loop, 0);
	holds(!worker.connections);
	return 0;
}
