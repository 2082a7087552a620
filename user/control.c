/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * control.c - the daemon's end of control.h. Owns the sockets and what a
 * client may cost; must not know what the verbs do.
 */
#include "control.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "view.h"

struct client {
	int fd; /* owned; -1: the place is free */
	size_t n_in;
	size_t n_out, sent; /* of `out` */
	char *out;	    /* owned; NULL: waits for a request */
	bool last;	    /* closed after this answer */
	uint64_t deadline;  /* ms of CLOCK_MONOTONIC */
	char in[CONTROL_REQUEST_MAX];
};

struct control {
	int epoll;  /* owned */
	int listen; /* owned */
	const struct control_verb *verbs;
	size_t n_verbs;
	void *arg;
	uint64_t paused_until; /* ms of CLOCK_MONOTONIC; 0: it accepts */
	char path[CONTROL_PATH_MAX];
	struct client clients[CONTROL_CLIENTS_MAX];
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int control_path(char out[CONTROL_PATH_MAX])
{
	const char *run = getenv("REALPEER_RUN");

	if (!run || !*run)
		run = "/run/realpeer";
	if (strlen(run) + sizeof("/control") > CONTROL_PATH_MAX)
		return -ENAMETOOLONG;
	sprintf(out, "%s/control", run);
	return 0;
}

static void watch(const struct control *control, int operation, int fd,
		  uint32_t events, struct client *client)
{
	struct epoll_event event = {.events = events, .data.ptr = client};

	epoll_ctl(control->epoll, operation, fd, &event);
}

/* Takes new clients only while there is a place for one. */
static void watch_listen(const struct control *control, bool accepting)
{
	watch(control, EPOLL_CTL_MOD, control->listen, accepting ? EPOLLIN : 0,
	      NULL);
}

static void drop(const struct control *control, struct client *client)
{
	close(client->fd);
	client->fd = -1;
	free(client->out);
	client->out = NULL;
	watch_listen(control, true);
}

/* The client goes on to wait; asking for it again and again helps nobody. */
static void pause_accepting(struct control *control)
{
	watch_listen(control, false);
	control->paused_until = now_ms() + CONTROL_PAUSE_MS;
}

static void accept_client(struct control *control)
{
	struct client *client = NULL;
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int fd;

	for (size_t i = 0; i < CONTROL_CLIENTS_MAX && !client; i++) {
		if (control->clients[i].fd < 0)
			client = &control->clients[i];
	}
	if (!client) {
		watch_listen(control, false);
		return;
	}
	fd = accept4(control->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
			pause_accepting(control);
		return;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ||
	    (peer.uid != 0 && peer.uid != geteuid())) {
		close(fd);
		return;
	}
	client->fd = fd;
	client->n_in = 0;
	client->last = false;
	client->deadline = now_ms() + CONTROL_DEADLINE_MS;
	watch(control, EPOLL_CTL_ADD, fd, EPOLLIN, client);
}

/* The answer of `verb`, from malloc(); NULL without memory. */
static char *run_verb(const struct control *control,
		      const struct control_verb *verb, const json_t *request,
		      size_t *ret_len)
{
	static const char success[] = "{\"ok\":true,\"result\":";
	char *text = NULL, *answer = NULL;
	json_t *error;
	FILE *out = open_memstream(&text, ret_len);
	int r;

	if (!out)
		return NULL;
	fputs(success, out);
	r = verb->run(request, out, control->arg);
	if (r == 0)
		fputs("}\n", out);
	if (fclose(out) != 0 || !text) {
		free(text);
		return NULL;
	}
	if (r == 0)
		return text;
	error = view_text(text + strlen(success), *ret_len - strlen(success));
	if (error)
		answer = json_dumps(error, JSON_ENCODE_ANY);
	json_decref(error);
	free(text);
	if (!answer)
		return NULL;
	r = asprintf(&text, "{\"ok\":false,\"error\":%s}\n", answer);
	free(answer);
	if (r < 0)
		return NULL;
	*ret_len = (size_t)r;
	return text;
}

static int refuse(const json_t *request, FILE *out, void *arg)
{
	(void)request;
	(void)arg;
	fputs("no such verb, or no JSON object with one", out);
	return -EINVAL;
}

static int refuse_length(const json_t *request, FILE *out, void *arg)
{
	(void)request;
	(void)arg;
	fputs("request too long", out);
	return -E2BIG;
}

static const struct control_verb *find_verb(const struct control *control,
					    const json_t *request)
{
	static const struct control_verb unknown = {"", refuse};
	const char *name = json_string_value(json_object_get(request, "verb"));

	for (size_t i = 0; name && i < control->n_verbs; i++) {
		if (strcmp(name, control->verbs[i].name) == 0)
			return &control->verbs[i];
	}
	return &unknown;
}

static void answer(struct control *control, struct client *client,
		   const struct control_verb *verb, const json_t *request)
{
	client->out = run_verb(control, verb, request, &client->n_out);
	client->sent = 0;
	/* Answering may have taken long, and not through the client's fault. */
	client->deadline = now_ms() + CONTROL_DEADLINE_MS;
	if (!client->out)
		drop(control, client);
}

/* Answers the first request in the buffer, if one is complete. */
static bool take_request(struct control *control, struct client *client)
{
	static const struct control_verb too_long = {"", refuse_length};
	char *end = memchr(client->in, '\n', client->n_in);
	json_t *request;
	size_t len;

	if (!end) {
		if (client->n_in < sizeof(client->in))
			return false;
		client->last = true;
		answer(control, client, &too_long, NULL);
		return true;
	}
	len = (size_t)(end - client->in);
	request = json_loadb(client->in, len, JSON_REJECT_DUPLICATES, NULL);
	client->n_in -= len + 1;
	memmove(client->in, end + 1, client->n_in);
	answer(control, client, find_verb(control, request), request);
	json_decref(request);
	return true;
}

/* False: there is nothing to read now, or the client is gone. */
static bool read_some(const struct control *control, struct client *client)
{
	ssize_t n = recv(client->fd, client->in + client->n_in,
			 sizeof(client->in) - client->n_in, 0);

	if (n > 0) {
		client->n_in += (size_t)n;
		return true;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		drop(control, client);
	return false;
}

/* False: the client does not take more now, or is gone. */
static bool write_some(const struct control *control, struct client *client)
{
	ssize_t n = send(client->fd, client->out + client->sent,
			 client->n_out - client->sent, MSG_NOSIGNAL);

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			drop(control, client);
		return false;
	}
	client->sent += (size_t)n;
	if (client->sent < client->n_out)
		return true;
	free(client->out);
	client->out = NULL;
	client->deadline = now_ms() + CONTROL_DEADLINE_MS;
	if (client->last)
		drop(control, client);
	return !client->last;
}

/* One request of one client at a time: others have their turn between. */
static void serve(struct control *control, struct client *client)
{
	bool more = true;

	while (more && client->fd >= 0 && !client->out) {
		if (take_request(control, client))
			break;
		more = read_some(control, client);
	}
	while (client->fd >= 0 && client->out) {
		if (!write_some(control, client))
			break;
	}
	if (client->fd < 0)
		return;
	/* A request that is complete already makes no socket readable. */
	watch(control, EPOLL_CTL_MOD, client->fd,
	      client->out || memchr(client->in, '\n', client->n_in) ? EPOLLOUT
								    : EPOLLIN,
	      client);
}

void control_dispatch(struct control *control)
{
	struct epoll_event events[CONTROL_CLIENTS_MAX + 1];
	int n = epoll_wait(control->epoll, events, CONTROL_CLIENTS_MAX + 1, 0);
	uint64_t now;

	for (int i = 0; i < n; i++) {
		if (events[i].data.ptr)
			serve(control, events[i].data.ptr);
		else
			accept_client(control);
	}
	now = now_ms();
	if (control->paused_until && control->paused_until <= now) {
		control->paused_until = 0;
		watch_listen(control, true);
	}
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct client *client = &control->clients[i];

		if (client->fd >= 0 && client->deadline <= now)
			drop(control, client);
	}
}

int control_fd(const struct control *control)
{
	return control->epoll;
}

int control_timeout_ms(const struct control *control)
{
	uint64_t now = now_ms(), first = UINT64_MAX;

	if (control->paused_until)
		first = control->paused_until;
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		const struct client *client = &control->clients[i];

		if (client->fd >= 0 && client->deadline < first)
			first = client->deadline;
	}
	if (first == UINT64_MAX)
		return -1;
	return first > now ? (int)(first - now) : 0;
}

/* A socket file that nobody answers on was left by a daemon that died. */
static int remove_stale(const struct sockaddr_un *address)
{
	struct stat info;
	int fd, r;

	if (lstat(address->sun_path, &info) < 0)
		return -errno;
	if (!S_ISSOCK(info.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	r = connect(fd, (const void *)address, sizeof(*address)) < 0 ? -errno
								     : 0;
	close(fd);
	if (r != -ECONNREFUSED)
		return r == 0 || r == -EAGAIN ? -EADDRINUSE : r;
	return unlink(address->sun_path) < 0 ? -errno : 0;
}

static int bind_private(int fd, const struct sockaddr_un *address)
{
	/* The mode of the file is the first guard, SO_PEERCRED the second. */
	mode_t mask = umask(0177);
	int r = bind(fd, (const void *)address, sizeof(*address)) < 0 ? -errno
								      : 0;

	umask(mask);
	return r;
}

static int listen_on(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char *slash;
	int fd, r;

	strcpy(address.sun_path, path);
	slash = strrchr(address.sun_path, '/');
	if (slash && slash != address.sun_path) {
		*slash = '\0';
		if (mkdir(address.sun_path, 0755) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	r = bind_private(fd, &address);
	if (r == -EADDRINUSE) {
		r = remove_stale(&address);
		if (r == 0)
			r = bind_private(fd, &address);
	}
	if (r == 0 && listen(fd, CONTROL_CLIENTS_MAX) < 0) {
		r = -errno;
		unlink(path);
	}
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

int control_open(const char *path, const struct control_verb *verbs,
		 size_t n_verbs, void *arg, struct control **ret_control)
{
	struct control *control;
	int r;

	if (strlen(path) >= CONTROL_PATH_MAX)
		return -ENAMETOOLONG;
	control = calloc(1, sizeof(*control));
	if (!control)
		return -ENOMEM;
	control->verbs = verbs;
	control->n_verbs = n_verbs;
	control->arg = arg;
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
		control->clients[i].fd = -1;
	control->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (control->epoll < 0) {
		r = -errno;
		free(control);
		return r;
	}
	control->listen = listen_on(path);
	if (control->listen < 0) {
		r = control->listen;
		control_close(control);
		return r;
	}
	strcpy(control->path, path);
	watch(control, EPOLL_CTL_ADD, control->listen, EPOLLIN, NULL);
	*ret_control = control;
	return 0;
}

void control_close(struct control *control)
{
	if (!control)
		return;
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		if (control->clients[i].fd >= 0)
			drop(control, &control->clients[i]);
	}
	if (control->listen >= 0) {
		unlink(control->path);
		close(control->listen);
	}
	close(control->epoll);
	free(control);
}
