// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * control.c - fuzzes the daemon's end of the control socket, with the real
 * verbs behind it: whatever bytes a client sends, in whatever pieces, each
 * line gets one answer, which depends on the line alone, and nothing is left
 * of a client that went. Only putting a configuration into force is missing.
 *
 * An input is what a client sends, but for the byte FILL: it stands for many
 * spaces, so that a short input can be a long line.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "control.h"
#include "daemon.h"
#include "fuzz.h"

#define FILL	   0xfe
#define FILLED	   512
#define INPUT_MAX  1024
#define SENT_MAX   (3 * CONTROL_REQUEST_MAX)
#define ANSWER_MAX (2u << 20)

static struct daemon daemon_;
static struct sockaddr_un address = {.sun_family = AF_UNIX};

/*
 * The one of daemon_setup.c needs a host to configure. Here half of the ports
 * cannot be had, and one, once it was had, cannot be given up.
 */
#define STICKY 9

static bool stuck;

int daemon_reload(struct daemon *daemon, char **ret_text)
{
	bool sticky = false;

	for (size_t i = 0; i < daemon->attached.n; i++) {
		uint16_t port = daemon->attached.ports[i].port;

		sticky = sticky || port == STICKY;
		if (port % 2)
			continue;
		holds(asprintf(ret_text, "attach:%u: \"refused\"\n", port) > 0);
		return -EINVAL;
	}
	if (stuck && !sticky)
		return -EBUSY;
	stuck = sticky;
	return 0;
}

static void load_setup(void)
{
	static const char text[] = "[global]\ntrusted = 10.0.0.0/8\n"
				   "[listener echo]\ndelivery = relay\n"
				   "listen = 127.0.0.1:1, [::1]:1\n"
				   "handler = 127.0.0.1:2\n";
	static char path[128];

	snprintf(path, sizeof(path), "%s/realpeer.conf", fuzz_directory());
	fuzz_write(path, text, strlen(text));
	daemon_.options.config_path = path;
	holds(setup_load(path, &daemon_.attached, stderr, &daemon_.setup) == 0);
}

/* Threads that serve nothing, but can be asked for their connections. */
static void start_server(void)
{
	struct config *config = NULL;
	char path[128];

	snprintf(path, sizeof(path), "%s/server.conf", fuzz_directory());
	fuzz_write(path, "[global]\nthreads = 1\n", 21);
	holds(config_load(path, stderr, &config) == 0);
	holds(server_start(config, NULL, NULL, NULL, 0, &daemon_.server) == 0);
	config_unref(config);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	load_setup();
	start_server();
	setenv("REALPEER_RUN", fuzz_directory(), 1);
	holds(control_path(address.sun_path) == 0);
	holds(daemon_open_control(&daemon_) == 0 && daemon_.control);
	return 0;
}

static int connect_client(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	holds(fd >= 0);
	holds(connect(fd, (void *)&address, sizeof(address)) == 0);
	return fd;
}

struct answers {
	size_t len;
	bool closed; /* by the daemon */
	char text[ANSWER_MAX + 1];
};

static struct answers whole, pieces, others;

static void receive(int fd, struct answers *answers)
{
	ssize_t n;

	while ((n = recv(fd, answers->text + answers->len,
			 ANSWER_MAX - answers->len, 0)) > 0) {
		answers->len += n;
		holds(answers->len < ANSWER_MAX);
	}
	answers->text[answers->len] = '\0';
	if (n == 0 || errno != EAGAIN)
		answers->closed = true;
}

/* How much to send at once: anything, or up to near the end of a line. */
static size_t piece(const uint8_t *data, size_t len, struct dice *dice)
{
	const uint8_t *newline = memchr(data, '\n', len);
	size_t n;

	if (newline && dice_below(dice, 4) == 0)
		n = newline - data + dice_below(dice, 3);
	else
		n = 1 + dice_below(dice, dice_below(dice, 4) ? 48 : 4096);
	if (n == 0)
		n = 1;
	return n < len ? n : len;
}

/* Sends it all, in pieces if there are dice for them; reads what comes. */
static void talk(int fd, const uint8_t *data, size_t len, struct dice *dice,
		 struct answers *answers)
{
	size_t sent = 0, before;
	int idle = 0;

	while (sent < len && !answers->closed) {
		size_t n = dice ? piece(data + sent, len - sent, dice)
				: len - sent;
		ssize_t m = send(fd, data + sent, n, MSG_NOSIGNAL);

		if (m < 0 && errno != EAGAIN)
			break;
		sent += m > 0 ? m : 0;
		control_dispatch(daemon_.control);
		receive(fd, answers);
	}
	while (idle < 3) {
		before = answers->len;
		control_dispatch(daemon_.control);
		receive(fd, answers);
		idle = answers->len == before ? idle + 1 : 0;
	}
}

/* The status tells the time, which is another one the next time. */
static void hide_uptime(char *text)
{
	static const char name[] = "\"uptime\":";

	while ((text = strstr(text, name))) {
		for (text += strlen(name); *text >= '0' && *text <= '9'; text++)
			*text = '1';
	}
}

static void ask(const uint8_t *data, size_t len, struct dice *dice,
		struct answers *answers)
{
	int fd = connect_client(), other = connect_client();

	answers->len = others.len = 0;
	answers->closed = others.closed = false;
	attached_clear(&daemon_.attached);
	stuck = false;
	/* Somebody else is in the middle of a line all the time. */
	holds(send(other, "{\"verb\":", 8, MSG_NOSIGNAL) == 8);
	talk(fd, data, len, dice, answers);
	talk(other, (const uint8_t *)"\"x\"}\n", 5, NULL, &others);
	holds(!others.closed && strstr(others.text, "no such verb"));
	if (!answers->closed && dice && dice_below(dice, 2)) {
		shutdown(fd, SHUT_WR);
		talk(fd, NULL, 0, NULL, answers);
		holds(answers->closed);
	}
	close(fd);
	close(other);
	control_dispatch(daemon_.control);
	/* No client, no deadline. */
	holds(control_timeout_ms(daemon_.control) == -1);
	hide_uptime(answers->text);
}

/* Ports that are attached, as the answers have it. */
static bool attached[UINT16_MAX + 1];
static size_t n_attached;

/* The result of `verb` names the port of its request, and is believed. */
static void check_port(const char *verb, const json_t *request,
		       const json_t *result)
{
	bool attach = strcmp(verb, "attach") == 0;
	json_int_t port = json_integer_value(json_object_get(request, "port"));

	holds(port > 0 && port <= UINT16_MAX);
	holds(json_integer_value(json_object_get(
		      result, attach ? "attached" : "detached")) == port);
	holds(attached[port] != attach);
	attached[port] = attach;
	n_attached += attach ? 1 : -1;
}

/* "ok" and a result, or not and an error text. */
static void check_answer(const char *line, size_t len, const json_t *request)
{
	const char *verb = json_string_value(json_object_get(request, "verb"));
	json_t *answer = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	json_t *result = json_object_get(answer, "result");
	bool ok = json_is_true(json_object_get(answer, "ok"));

	holds(json_is_boolean(json_object_get(answer, "ok")));
	holds(json_object_size(answer) == 2);
	holds(ok ? verb && result
		 : json_string_length(json_object_get(answer, "error")) > 0);
	if (verb &&
	    (strcmp(verb, "status") == 0 || strcmp(verb, "stats") == 0 ||
	     strcmp(verb, "connections") == 0))
		holds(ok);
	else if (ok && strcmp(verb, "reload") != 0)
		check_port(verb, request, result);
	json_decref(answer);
}

/* What was refused has changed nothing. */
static void check_attached(void)
{
	holds(daemon_.attached.n == n_attached);
	for (size_t i = 0; i < n_attached; i++)
		holds(attached[daemon_.attached.ports[i].port]);
}

/* One answer for each line, up to one that is too long. */
static void check_answers(const uint8_t *data, size_t len)
{
	const char *line = whole.text, *end;
	const uint8_t *request = data, *newline;
	json_t *json;

	memset(attached, 0, sizeof(attached));
	n_attached = 0;
	while ((newline = memchr(request, '\n', data + len - request)) &&
	       newline - request < CONTROL_REQUEST_MAX) {
		end = strchr(line, '\n');
		holds(end);
		json = json_loadb((const char *)request, newline - request,
				  JSON_REJECT_DUPLICATES, NULL);
		check_answer(line, end - line, json);
		json_decref(json);
		request = newline + 1;
		line = end + 1;
	}
	check_attached();
	if (data + len - request < CONTROL_REQUEST_MAX) {
		holds(*line == '\0');
		return;
	}
	holds(strcmp(line, "{\"ok\":false,\"error\":\"request too long\"}\n") ==
	      0);
	holds(whole.closed);
}

/*
 * Seen to find, each within 2 s: take_request() leaves a byte behind, or takes
 * a line that just fits for too long; parse_port() takes 65537; an attach or a
 * detach that failed has changed what is attached.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct dice dice = dice_make(data, len);
	static uint8_t sent[SENT_MAX];
	size_t n = 0;

	if (len > INPUT_MAX)
		return 0;
	for (size_t i = 0; i < len && n + FILLED <= SENT_MAX; i++) {
		if (data[i] != FILL) {
			sent[n++] = data[i];
			continue;
		}
		memset(sent + n, ' ', FILLED);
		n += FILLED;
	}
	ask(sent, n, NULL, &whole);
	check_answers(sent, n);
	ask(sent, n, &dice, &pieces);
	holds(strcmp(whole.text, pieces.text) == 0);
	attached_clear(&daemon_.attached);
	return 0;
}
