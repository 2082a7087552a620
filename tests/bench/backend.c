/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * backend.c - the server of a benchmark: knows nothing of the PROXY protocol
 * and says whom it believes to be talking to. One process, one thread, epoll.
 * See `usage` for what it answers.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "endpoint.h"
#include "samples.h"

#define EVENTS_MAX  256
#define BUFFER_SIZE (256 << 10)
#define LINE_MAX_   64
#define BACKLOG	    4096

static const char usage[] =
	"Usage: backend [OPTION]... ADDRESS:PORT\n"
	"A TCP server for benchmarks. A client begins with one line:\n"
	"\n"
	"  WHO      answered with \"ADDRESS PORT\", what accept() returned;\n"
	"           any number of times\n"
	"  ECHO     whatever follows is sent back\n"
	"  SINK     whatever follows is thrown away, and at its end the number\n"
	"           of bytes is answered as a line\n"
	"  SEND N   N bytes are sent, then the connection is closed\n"
	"\n"
	"Anything else, such as a PROXY header, is counted and reset. At SIGINT\n"
	"or SIGTERM the counts are written to standard output, as JSON:\n"
	"connections, unexpected (first lines), headers (of those, PROXY headers),\n"
	"bytes_in, bytes_out, cpu_seconds.\n"
	"\n"
	"  -b, --backlog=N   of listen(), 4096 by default\n"
	"  -r, --reuse-port  several of them share ADDRESS:PORT\n"
	"  -h, --help        this text\n";

struct options {
	union endpoint address;
	int backlog;
	bool reuse_port;
};

enum state { STATE_COMMAND, STATE_ECHO, STATE_SINK, STATE_SEND, STATE_ENDED };

struct session {
	int fd; /* owned */
	enum state state;
	union endpoint peer;
	uint64_t count; /* received by SINK, still to be sent by SEND */
	uint8_t *held;	/* owned; an echo that could not be sent */
	uint32_t held_at, held_len;
	uint8_t line_len;
	bool wants_out; /* epoll tells when it can be written */
	char line[LINE_MAX_];
};

static int epoll = -1;
static uint8_t buffer[BUFFER_SIZE];
static volatile sig_atomic_t stopped;
static struct {
	uint64_t connections, unexpected, headers, in, out;
} counts;

static void on_signal(int number)
{
	(void)number;
	stopped = 1;
}

static void session_close(struct session *session, bool reset)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};

	if (reset)
		setsockopt(session->fd, SOL_SOCKET, SO_LINGER, &linger,
			   sizeof(linger));
	close(session->fd);
	free(session->held);
	free(session);
}

static int watch(struct session *session, bool out)
{
	struct epoll_event event = {
		.events = out ? EPOLLOUT : EPOLLIN,
		.data.ptr = session,
	};

	if (out == session->wants_out)
		return 0;
	session->wants_out = out;
	return epoll_ctl(epoll, EPOLL_CTL_MOD, session->fd, &event);
}

/* Bytes sent, 0 if none can be now, -1 if the client is gone. */
static ssize_t send_some(struct session *session, const void *data, size_t len)
{
	ssize_t n = send(session->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN ? 0 : -1;
	counts.out += n;
	return n;
}

static int reply(struct session *session, const char *text, size_t len)
{
	return send_some(session, text, len) == (ssize_t)len ? 0 : -1;
}

static int reply_peer(struct session *session)
{
	char text[ENDPOINT_TEXT_MAX + 1];
	int len = endpoint_format(&session->peer, text);

	text[len++] = '\n';
	return reply(session, text, len);
}

static int reply_count(struct session *session)
{
	char text[24];
	int len = snprintf(text, sizeof(text), "%" PRIu64 "\n", session->count);

	return reply(session, text, len);
}

static int echo(struct session *session, const uint8_t *data, size_t len)
{
	ssize_t n = send_some(session, data, len);

	if (n < 0)
		return -1;
	if ((size_t)n == len)
		return 0;
	session->held_at = 0;
	session->held_len = len - n;
	session->held = malloc(session->held_len);
	if (!session->held)
		return -1;
	memcpy(session->held, data + n, session->held_len);
	return watch(session, true);
}

/* SEND: as much as goes; the end of it is the end of the connection. */
static int send_on(struct session *session)
{
	while (session->count > 0) {
		size_t len = session->count < BUFFER_SIZE ? session->count
							  : BUFFER_SIZE;
		ssize_t n = send_some(session, buffer, len);

		if (n < 0)
			return -1;
		if (n == 0)
			return watch(session, true);
		session->count -= n;
	}
	session->state = STATE_ENDED;
	shutdown(session->fd, SHUT_WR);
	return watch(session, false);
}

static int unexpected(const struct session *session)
{
	counts.unexpected++;
	if (memcmp(session->line, "PROXY ", 6) == 0 ||
	    memcmp(session->line, "\r\n", 2) == 0)
		counts.headers++;
	return -1;
}

static int command(struct session *session)
{
	char *line = session->line;

	if (strcmp(line, "WHO\n") == 0)
		return reply_peer(session);
	if (strcmp(line, "ECHO\n") == 0) {
		session->state = STATE_ECHO;
		return 0;
	}
	if (strcmp(line, "SINK\n") == 0) {
		session->state = STATE_SINK;
		return 0;
	}
	if (sscanf(line, "SEND %" SCNu64 "\n", &session->count) == 1) {
		session->state = STATE_SEND;
		return send_on(session);
	}
	return unexpected(session);
}

/* Takes what belongs to the line; returns how much, or -1. */
static ssize_t feed_line(struct session *session, const uint8_t *data,
			 size_t len)
{
	size_t room = sizeof(session->line) - 1 - session->line_len;
	size_t n = len < room ? len : room;
	const uint8_t *end = memchr(data, '\n', n);

	if (end)
		n = end - data + 1;
	memcpy(session->line + session->line_len, data, n);
	session->line_len += n;
	session->line[session->line_len] = '\0';
	if (!end && session->line_len < sizeof(session->line) - 1)
		return n;
	session->line_len = 0;
	return command(session) ? -1 : (ssize_t)n;
}

static int feed(struct session *session, const uint8_t *data, size_t len)
{
	while (session->state == STATE_COMMAND && len > 0) {
		ssize_t n = feed_line(session, data, len);

		if (n < 0)
			return -1;
		data += n;
		len -= n;
	}
	if (session->state == STATE_SINK)
		session->count += len;
	return session->state == STATE_ECHO && len ? echo(session, data, len)
						   : 0;
}

static int on_writable(struct session *session)
{
	ssize_t n;

	if (session->state == STATE_SEND)
		return send_on(session);
	n = send_some(session, session->held + session->held_at,
		      session->held_len);
	if (n < 0)
		return -1;
	session->held_at += n;
	session->held_len -= n;
	if (session->held_len)
		return 0;
	free(session->held);
	session->held = NULL;
	return watch(session, false);
}

static int on_readable(struct session *session)
{
	ssize_t n = recv(session->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN ? 0 : -1;
	if (n > 0) {
		counts.in += n;
		return feed(session, buffer, n);
	}
	if (session->state == STATE_SINK)
		reply_count(session);
	session_close(session, false);
	return 0;
}

static void on_event(struct session *session, uint32_t events)
{
	int error =
		events & EPOLLOUT ? on_writable(session) : on_readable(session);

	if (error)
		session_close(session, true);
}

static void on_connection(int fd, const union endpoint *peer)
{
	struct session *session = calloc(1, sizeof(*session));
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = session};

	if (!session) {
		close(fd);
		return;
	}
	counts.connections++;
	session->fd = fd;
	session->peer = *peer;
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		session_close(session, true);
}

static void on_queue(int listening)
{
	union endpoint peer;
	socklen_t len = sizeof(peer);
	int fd;

	while ((fd = accept4(listening, &peer.sa, &len,
			     SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		on_connection(fd, &peer);
		len = sizeof(peer);
	}
	if (errno == EMFILE || errno == ENFILE) {
		perror("backend: accept");
		exit(EXIT_FAILURE);
	}
}

static void serve(int listening)
{
	struct epoll_event events[EVENTS_MAX];

	while (!stopped) {
		int n = epoll_wait(epoll, events, EVENTS_MAX, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				on_event(events[i].data.ptr, events[i].events);
			else
				on_queue(listening);
		}
	}
}

static int listen_on(const struct options *options)
{
	const union endpoint *address = &options->address;
	int one = 1, fd;

	fd = socket(address->sa.sa_family,
		    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (options->reuse_port)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (bind(fd, &address->sa, endpoint_size(address)) ||
	    listen(fd, options->backlog)) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

static void catch_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

/* Returns true if `listening` is being watched. */
static bool prepare(int listening)
{
	struct rlimit files = {.rlim_cur = 1 << 17, .rlim_max = 1 << 17};
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

	if (setrlimit(RLIMIT_NOFILE, &files) &&
	    getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	epoll = epoll_create1(EPOLL_CLOEXEC);
	return epoll >= 0 &&
	       epoll_ctl(epoll, EPOLL_CTL_ADD, listening, &event) == 0;
}

/* Exits after --help and, with status 2, when something is wrong. */
static void parse(int argc, char **argv, struct options *ret)
{
	static const struct option long_options[] = {
		{"backlog", required_argument, NULL, 'b'},
		{"reuse-port", no_argument, NULL, 'r'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int option;

	*ret = (struct options){.backlog = BACKLOG};
	while ((option = getopt_long(argc, argv, "b:rh", long_options, NULL)) !=
	       -1) {
		switch (option) {
		case 'b':
			ret->backlog = atoi(optarg);
			break;
		case 'r':
			ret->reuse_port = true;
			break;
		case 'h':
			fputs(usage, stdout);
			exit(EXIT_SUCCESS);
		default:
			fputs(usage, stderr);
			exit(2);
		}
	}
	if (optind + 1 != argc || endpoint_parse(argv[optind], &ret->address)) {
		fputs(usage, stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct options options;
	int listening;

	parse(argc, argv, &options);
	catch_signals();
	listening = listen_on(&options);
	if (listening < 0 || !prepare(listening)) {
		fprintf(stderr, "backend: %s: %s\n", argv[optind],
			strerror(listening < 0 ? -listening : errno));
		return EXIT_FAILURE;
	}
	serve(listening);
	printf("{\"connections\":%" PRIu64 ",\"unexpected\":%" PRIu64
	       ",\"headers\":%" PRIu64 ",\"bytes_in\":%" PRIu64
	       ",\"bytes_out\":%" PRIu64 ",\"cpu_seconds\":%.6f}\n",
	       counts.connections, counts.unexpected, counts.headers, counts.in,
	       counts.out, cpu_seconds());
	return EXIT_SUCCESS;
}
