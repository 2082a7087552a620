/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * load.c - the load generator of a benchmark: opens connections as a load
 * balancer does, and says how it went. One process, one thread, epoll. Its
 * other half is backend.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "talk.h"

#define EVENTS_MAX  256
#define NS_PER_S    1000000000ull
#define SAMPLES_MAX (1 << 26)

/* Seldom: whoever pauses is hardly ever closed meanwhile. */
static void forget_pause(struct load *load, struct client *client)
{
	struct client **link = &load->waiting;

	while (*link != client)
		link = &(*link)->next;
	*link = client->next;
	if (load->waiting_end == &client->next)
		load->waiting_end = link;
	client->paused = false;
}

static void finish(struct load *load, struct client *client, enum talk talk)
{
	if (talk == TALK_ON)
		return;
	if (talk == TALK_ERROR)
		load->failed++;
	if (talk == TALK_REFUSED)
		load->refused++;
	if (client->paused)
		forget_pause(load, client);
	client_close(client);
	client->next = load->spare;
	load->spare = client;
	load->active--;
	load->done++;
	load->ended = clock_ns();
}

static void pause_client(struct load *load, struct client *client)
{
	client->paused = true;
	client->next = NULL;
	*load->waiting_end = client;
	load->waiting_end = &client->next;
}

static void begin(struct load *load, struct client *client)
{
	bool refused = load->options->mode == MODE_REFUSE;

	switch (client_begin(client, load->options, load->epoll)) {
	case SENT_ALL:
		finish(load, client, talk_begin(load, client));
		break;
	case SENT_PAUSED:
		pause_client(load, client);
		break;
	case SENT_BLOCKED:
		break;
	case SENT_FAILED:
		if (!refused && !load->error)
			load->error = errno;
		finish(load, client, refused ? TALK_REFUSED : TALK_ERROR);
		break;
	}
}

static void open_client(struct load *load, struct client *client)
{
	char line[FIRST_LINE_MAX];
	const struct options *o = load->options;
	int error = client_open(client, o, load->epoll, load->opened++,
				talk_line(o, line));

	load->active++;
	if (error == 0) {
		begin(load, client);
	} else if (error == -ECONNREFUSED && o->mode == MODE_REFUSE) {
		finish(load, client, TALK_REFUSED);
	} else {
		if (!load->error)
			load->error = -error;
		finish(load, client, TALK_ERROR);
	}
}

/* When connection number `opened` is due; 0: now. */
static uint64_t due(const struct load *load)
{
	return load->started + load->opened * load->options->rate_ns;
}

static bool may_open(const struct load *load)
{
	const struct options *o = load->options;

	return load->opened < o->connections &&
	       load->active - (o->mode == MODE_IDLE ? load->ready : 0) <
		       o->in_flight;
}

static void open_more(struct load *load)
{
	while (may_open(load)) {
		struct client *client = load->spare;

		if (load->options->rate_ns && due(load) > clock_ns())
			return;
		load->spare = client->next;
		open_client(load, client);
	}
}

static void resume(struct load *load)
{
	uint64_t now = clock_ns();

	while (load->waiting && load->waiting->resume_at <= now) {
		struct client *client = load->waiting;

		load->waiting = client->next;
		if (!load->waiting)
			load->waiting_end = &load->waiting;
		client->paused = false;
		begin(load, client);
	}
}

static void on_event(struct load *load, struct client *client, uint32_t events)
{
	bool refused = load->options->mode == MODE_REFUSE;

	if (client->fd < 0)
		return;
	/* A paused client has nothing to read, so it was closed. */
	if (client->paused || (events & EPOLLERR && !client_begun(client)))
		finish(load, client, refused ? TALK_REFUSED : TALK_ERROR);
	else if (!client_begun(client))
		begin(load, client);
	else
		finish(load, client, talk_go_on(load, client, events));
}

/* How long epoll may sleep: until a connection or a piece is due. */
static struct timespec patience(const struct load *load)
{
	uint64_t now = clock_ns(), until = now + load->options->timeout_ns;

	if (load->options->rate_ns && may_open(load) && due(load) < until)
		until = due(load);
	if (load->waiting && load->waiting->resume_at < until)
		until = load->waiting->resume_at;
	until = until > now ? until - now : 0;
	return (struct timespec){.tv_sec = until / NS_PER_S,
				 .tv_nsec = until % NS_PER_S};
}

/* Returns false when nothing has happened for too long. */
static bool turn(struct load *load)
{
	struct epoll_event events[EVENTS_MAX];
	struct timespec wait = patience(load);
	int n;

	n = epoll_pwait2(load->epoll, events, EVENTS_MAX, &wait, NULL);
	for (int i = 0; i < n; i++)
		on_event(load, events[i].data.ptr, events[i].events);
	resume(load);
	if (n > 0 || load->active == 0)
		load->progress = clock_ns();
	return clock_ns() - load->progress < load->options->timeout_ns;
}

static void give_up(struct load *load)
{
	if (!load->error)
		load->error = ETIMEDOUT;
	load->failed += load->options->connections - load->done;
	load->done = load->options->connections;
	load->ended = clock_ns();
}

/*
 * Until all is said; or, in the modes that hold connections, until all are
 * ready. Returns false when it gave up.
 */
static bool run(struct load *load, bool until_ready)
{
	const struct options *o = load->options;

	load->progress = clock_ns();
	while (load->done < o->connections) {
		open_more(load);
		if (until_ready && load->ready + load->done >= o->connections)
			break;
		if (load->done == o->connections) /* refused at once */
			break;
		if (!turn(load)) {
			give_up(load);
			return false;
		}
	}
	return true;
}

static void ask_all(struct load *load)
{
	for (uint32_t i = 0; i < load->opened; i++) {
		struct client *client = &load->clients[i];

		if (client->fd >= 0)
			finish(load, client, talk_ask(load, client));
	}
}

static void hold(struct load *load)
{
	char byte;

	printf("{\"ready\":%" PRIu32 "}\n", load->ready);
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	/* Only what follows counts. */
	load->samples.n = 0;
}

static void report(struct load *load)
{
	const struct options *o = load->options;
	double seconds = (load->ended - load->started) / 1e9;
	uint64_t done = o->mode == MODE_REQUEST ? load->answers
						: load->done - load->failed;

	printf("{\"mode\":\"%s\",\"connections\":%" PRIu32
	       ",\"failed\":%" PRIu32
	       ",\"error\":\"%s\",\"wrong_peer\":%" PRIu32
	       ",\"wrong\":\"%s\",\"refused\":%" PRIu32 ",\"answered\":%" PRIu32
	       ",\"done\":%" PRIu64 ",\"seconds\":%.6f,\"per_second\":%.1f"
	       ",\"bytes\":%" PRIu64 ",\"cpu_seconds\":%.6f,\"latency_us\":",
	       o->mode_name, load->opened, load->failed,
	       load->error ? strerror(load->error) : "", load->wrong_peer,
	       load->wrong, load->refused, load->answered, done, seconds,
	       seconds > 0 ? done / seconds : 0, load->bytes,
	       cpu_seconds() - load->cpu_before);
	samples_print(&load->samples, stdout);
	printf("}\n");
}

static int prepare(struct load *load, const struct options *o)
{
	struct rlimit files = {.rlim_cur = 1 << 17, .rlim_max = 1 << 17};
	uint64_t samples =
		o->mode == MODE_REQUEST ? o->requests : o->connections;
	uint32_t places = o->mode == MODE_IDLE ? o->connections : o->in_flight;

	if (setrlimit(RLIMIT_NOFILE, &files) &&
	    getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	*load = (struct load){.options = o,
			      .waiting_end = &load->waiting,
			      .epoll = epoll_create1(EPOLL_CLOEXEC),
			      .cpu_before = cpu_seconds()};
	load->clients = calloc(places, sizeof(*load->clients));
	if (load->epoll < 0)
		return -errno;
	if (!load->clients)
		return -ENOMEM;
	for (uint32_t i = places; i-- > 0;) {
		load->clients[i].fd = -1;
		load->clients[i].next = load->spare;
		load->spare = &load->clients[i];
	}
	return samples_open(&load->samples,
			    samples < SAMPLES_MAX ? samples : SAMPLES_MAX);
}

int main(int argc, char **argv)
{
	struct options options;
	struct load load;
	bool good;
	int error;

	options_parse(argc, argv, &options);
	error = prepare(&load, &options);
	if (error) {
		fprintf(stderr, "load: %s\n", strerror(-error));
		return EXIT_FAILURE;
	}
	load.started = clock_ns();
	if (options.mode != MODE_IDLE && options.mode != MODE_REQUEST) {
		run(&load, false);
	} else if (run(&load, true)) {
		if (options.mode == MODE_IDLE)
			hold(&load);
		load.started = clock_ns();
		ask_all(&load);
		run(&load, false);
	}
	report(&load);
	good = load.failed == 0 && load.wrong_peer == 0 && load.answered == 0;
	samples_close(&load.samples);
	free(load.clients);
	return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
