/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * realpeerctl.c - the command-line tool: asks the daemon, and reads the
 * pinned maps itself where they know more or the daemon is dead.
 */
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "control.h"
#include "pins.h"
#include "view.h"

enum {
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

/* What follows the verb on the command line. */
struct call {
	const char *verb;
	bool json;
	json_t *trusted; /* array of text; --trusted */
	int argc;
	char **argv;
};

static int failed(const char *what, const char *why)
{
	fprintf(stderr, "realpeerctl: %s: %s\n", what, why);
	return EXIT_FAILED;
}

/* Prints one JSON value and frees it. */
static int print_json(json_t *json)
{
	int r = json ? json_dumpf(json, stdout, JSON_INDENT(2)) : -1;

	json_decref(json);
	if (r < 0)
		return failed("JSON", ferror(stdout) ? strerror(errno)
						     : "out of memory");
	putchar('\n');
	return EXIT_SUCCESS;
}

/* Why the daemon did not answer, for people. */
static const char *reason(int r)
{
	switch (r) {
	case -ENOENT:
	case -ECONNREFUSED:
		return "realpeerd is not running";
	case -ECONNRESET:
	case -EPIPE: /* it closed before it answered */
		if (geteuid() == 0)
			return "realpeerd closed the connection";
		return "realpeerd talks to root and its own user only";
	case -EACCES:
		return "realpeerd talks to root and its own user only";
	default:
		return strerror(-r);
	}
}

/*
 * Sends the daemon a request, which is taken. 0 or -errno; *ret_error, to be
 * freed, may say more.
 */
static int ask_with(json_t *request, json_t **ret_result, char **ret_error)
{
	char path[CONTROL_PATH_MAX];
	int r = control_path(path);

	*ret_error = NULL;
	if (r == 0)
		r = request ? control_call(path, request, ret_result, ret_error)
			    : -ENOMEM;
	json_decref(request);
	return r;
}

static int ask(const char *verb, json_t **ret_result, char **ret_error)
{
	return ask_with(json_pack("{s:s}", "verb", verb), ret_result,
			ret_error);
}

static int status(const struct call *call)
{
	json_t *result = NULL;
	char *error;
	int r = ask("status", &result, &error);

	if (r < 0) {
		failed("status", error ? error : reason(r));
		free(error);
		result = json_pack("{s:b}", "running", 0);
	}
	if (call->json) {
		if (print_json(result) != EXIT_SUCCESS)
			return EXIT_FAILED;
	} else {
		if (r == 0)
			view_status_table(result, stdout);
		json_decref(result);
	}
	return r < 0 ? EXIT_FAILED : EXIT_SUCCESS;
}

/* Connections of the map, then those that only the daemon knows. */
struct merge {
	json_t *connections; /* array, owned */
	json_t *seen;	     /* object, the identities, owned */
	bool no_memory;
};

/*
 * What tells connections apart. Not the cookie: with client_address =
 * getpeername the map has that of the handler's socket, which the daemon
 * cannot know.
 */
static void identity(const json_t *connection, char *out, size_t size)
{
	const char *listener, *client, *proxy;
	int client_port, proxy_port;

	if (json_unpack((json_t *)connection, "{s:s, s:s, s:i, s:s, s:i}",
			"listener", &listener, "client", &client, "client_port",
			&client_port, "proxy", &proxy, "proxy_port",
			&proxy_port) < 0)
		snprintf(out, size, "?");
	else
		snprintf(out, size, "%s %s %d %s %d", listener, client,
			 client_port, proxy, proxy_port);
}

/* Takes `connection`, NULL if it could not be built. */
static void add_connection(struct merge *merge, json_t *connection)
{
	char key[RP_NAME_LEN + 2 * INET6_ADDRSTRLEN + 32];

	identity(connection, key, sizeof(key));
	if (json_object_set_new(merge->seen, key, json_true()) < 0 ||
	    json_array_append_new(merge->connections, connection) < 0)
		merge->no_memory = true;
}

static void add_pinned(uint64_t cookie, const struct rp_connection *record,
		       const struct rp_tlvs *tlvs, void *arg)
{
	add_connection(arg, view_connection(cookie, record, tlvs));
}

static void add_asked(struct merge *merge, const json_t *asked)
{
	char key[RP_NAME_LEN + 2 * INET6_ADDRSTRLEN + 32];
	json_t *connection;
	size_t i;

	json_array_foreach(asked, i, connection)
	{
		identity(connection, key, sizeof(key));
		if (!json_object_get(merge->seen, key))
			add_connection(merge, json_incref(connection));
	}
}

static int connections(const struct call *call)
{
	struct merge merge = {.connections = json_array(),
			      .seen = json_object()};
	json_t *asked = NULL;
	char *error;
	int pinned = pins_connections(NULL, add_pinned, &merge);
	int r = ask("connections", &asked, &error), code;

	add_asked(&merge, asked);
	json_decref(asked);
	json_decref(merge.seen);
	if (pinned < 0 && r < 0) {
		code = failed("connections", error ? error : reason(r));
		failed("pinned maps", strerror(-pinned));
	} else if (merge.no_memory) {
		code = failed("connections", "out of memory");
	} else if (call->json) {
		code = print_json(json_incref(merge.connections));
	} else {
		view_connections_table(merge.connections, stdout);
		code = EXIT_SUCCESS;
	}
	/* A daemon that answers, but not this, hides connections. */
	if (r == -EREMOTEIO && pinned == 0)
		code = failed("connections", error ? error : reason(r));
	free(error);
	json_decref(merge.connections);
	return code;
}

/* Counts of the map by listener's number. */
struct pinned_stats {
	struct {
		uint32_t number;
		char name[RP_NAME_LEN + 1];
		uint64_t counts[RP_STAT_COUNT];
	} * listeners; /* array, owned */
	size_t n;
	bool no_memory;
};

static void add_listener(uint32_t number, const struct rp_listener *listener,
			 void *arg)
{
	struct pinned_stats *stats = arg;
	void *grown = reallocarray(stats->listeners, stats->n + 1,
				   sizeof(*stats->listeners));

	if (!grown) {
		stats->no_memory = true;
		return;
	}
	stats->listeners = grown;
	memset(&stats->listeners[stats->n], 0, sizeof(*stats->listeners));
	stats->listeners[stats->n].number = number;
	memcpy(stats->listeners[stats->n].name, listener->name, RP_NAME_LEN);
	stats->n++;
}

static void add_count(const struct rp_stat_key *key, uint64_t value, void *arg)
{
	struct pinned_stats *stats = arg;

	for (size_t i = 0; i < stats->n; i++) {
		if (stats->listeners[i].number == key->listener &&
		    key->stat < RP_STAT_COUNT)
			stats->listeners[i].counts[key->stat] += value;
	}
}

/* What the kernel counted, when there is no daemon to add its own counts. */
static int pinned_stats(json_t **ret)
{
	struct pinned_stats stats = {0};
	json_t *listeners = json_object();
	int r = pins_listeners(NULL, add_listener, &stats);

	if (r == 0)
		r = pins_stats(NULL, add_count, &stats);
	for (size_t i = 0; r == 0 && i < stats.n; i++) {
		if (json_object_set_new(listeners, stats.listeners[i].name,
					view_stats(stats.listeners[i].counts)) <
		    0)
			stats.no_memory = true;
	}
	free(stats.listeners);
	if (r == 0 && stats.no_memory)
		r = -ENOMEM;
	if (r < 0) {
		json_decref(listeners);
		return r;
	}
	*ret = json_pack("{s:o}", "listeners", listeners);
	return *ret ? 0 : -ENOMEM;
}

static int stats(const struct call *call)
{
	json_t *result = NULL;
	char *error;
	int r = ask("stats", &result, &error), pinned, code = EXIT_SUCCESS;

	if (r < 0) {
		pinned = pinned_stats(&result);
		if (pinned < 0) {
			failed("stats", error ? error : reason(r));
			failed("pinned maps", strerror(-pinned));
			free(error);
			return EXIT_FAILED;
		}
		/* A daemon that runs has counts that are not pinned. */
		if (r != -ENOENT && r != -ECONNREFUSED)
			code = failed("stats", error ? error : reason(r));
	}
	free(error);
	if (call->json)
		return print_json(result) == EXIT_SUCCESS ? code : EXIT_FAILED;
	view_stats_table(result, stdout);
	json_decref(result);
	return code;
}

/* {"file", "valid", "listeners": [names], "errors": [lines]} */
static json_t *check_json(const char *file, const struct config *config,
			  char *errors)
{
	json_t *listeners = json_array(), *lines = json_array();
	char *line;

	for (size_t i = 0; config && i < config->n_listeners; i++)
		json_array_append_new(listeners,
				      json_string(config->listeners[i].name));
	while ((line = strsep(&errors, "\n"))) {
		if (*line)
			json_array_append_new(lines,
					      view_text(line, strlen(line)));
	}
	return json_pack("{s:o, s:b, s:o, s:o}", "file",
			 view_text(file, strlen(file)), "valid", config != NULL,
			 "listeners", listeners, "errors", lines);
}

static int check(const struct call *call)
{
	struct config *config = NULL;
	const char *file = call->argv[0];
	char *text = NULL;
	size_t len;
	FILE *errors = open_memstream(&text, &len);
	int r = errors ? config_load(file, errors, &config) : -ENOMEM;
	int code = r < 0 ? EXIT_FAILED : EXIT_SUCCESS;

	if (!errors || fclose(errors) != 0)
		return failed("check", strerror(ENOMEM));
	fputs(text, stderr);
	if (call->json) {
		if (print_json(check_json(file, config, text)) != EXIT_SUCCESS)
			code = EXIT_FAILED;
	} else if (r == 0) {
		printf("%s: %zu listeners, no errors\n", file,
		       config->n_listeners);
	} else if (r != -EINVAL) {
		failed("check", strerror(-r));
	}
	config_unref(config);
	free(text);
	return code;
}

static int reload(const struct call *call)
{
	json_t *result = NULL;
	char *error;
	int r = ask("reload", &result, &error);

	if (r == -EREMOTEIO && error)
		fputs(error, stderr);
	if (r < 0)
		failed("reload",
		       r == -EREMOTEIO ? "the old configuration stays in force"
				       : reason(r));
	else if (call->json)
		print_json(json_incref(result));
	json_decref(result);
	free(error);
	return r < 0 ? EXIT_FAILED : EXIT_SUCCESS;
}

static int usage_error(const char *what, const char *word);

/* attach PORT [--trusted CIDR[,CIDR...]]..., detach PORT */
static int change_port(const struct call *call)
{
	json_t *result = NULL, *request, *cidr;
	struct prefix prefix;
	uint16_t port;
	char *error;
	size_t i;
	int r;

	if (port_parse(call->argv[0], &port) < 0)
		return usage_error("no port:", call->argv[0]);
	json_array_foreach(call->trusted, i, cidr)
	{
		if (prefix_parse(json_string_value(cidr), &prefix) < 0)
			return usage_error("no CIDR:", json_string_value(cidr));
	}
	request = json_pack("{s:s, s:i, s:O}", "verb", call->verb, "port",
			    (int)port, "trusted", call->trusted);
	r = ask_with(request, &result, &error);
	if (r < 0)
		failed(call->verb,
		       r == -EREMOTEIO && error ? error : reason(r));
	else if (call->json)
		print_json(json_incref(result));
	json_decref(result);
	free(error);
	return r < 0 ? EXIT_FAILED : EXIT_SUCCESS;
}

static int version(const struct call *call)
{
	if (call->json)
		return print_json(json_pack("{s:s, s:i}", "version",
					    REALPEER_VERSION, "abi",
					    RP_ABI_VERSION));
	puts("realpeerctl " REALPEER_VERSION);
	return EXIT_SUCCESS;
}

static const struct {
	const char *name;
	int (*function)(const struct call *call);
	int argc; /* operands */
	const char *operands;
	const char *description;
} verbs[] = {
	{"status", status, 0, "", "what the daemon and its listeners do"},
	{"connections", connections, 0, "",
	 "who is connected, through which proxy"},
	{"stats", stats, 0, "", "what was counted, by listener"},
	{"attach", change_port, 1, "PORT",
	 "make a running server's port PROXY-aware"},
	{"detach", change_port, 1, "PORT", "undo that"},
	{"reload", reload, 0, "", "read the configuration again"},
	{"check", check, 1, "FILE", "look for mistakes in a configuration"},
	{"version", version, 0, "", "print the version"},
};

static void print_usage(FILE *out)
{
	fputs("Usage: realpeerctl VERB [--json]\n\n", out);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		fprintf(out, "  %-11s %-4s  %s\n", verbs[i].name,
			verbs[i].operands, verbs[i].description);
	fputs("\n--json prints one JSON object or array.\n"
	      "attach: --trusted CIDR[,CIDR...] names the load balancers, in "
	      "place of\n[global]'s.\n",
	      out);
}

static int usage_error(const char *what, const char *word)
{
	fprintf(stderr, "realpeerctl: %s '%s'\n", what, word);
	print_usage(stderr);
	return EXIT_USAGE;
}

static int run(struct call *call)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(call->verb, verbs[i].name) != 0)
			continue;
		if (call->argc != verbs[i].argc)
			return usage_error("wrong operands for", call->verb);
		return verbs[i].function(call);
	}
	return usage_error("unknown verb", call->verb);
}

static void add_trusted(struct call *call, char *list)
{
	char *one;

	while ((one = strsep(&list, ", "))) {
		if (*one)
			json_array_append_new(call->trusted, json_string(one));
	}
}

int main(int argc, char **argv)
{
	json_auto_t *trusted = json_array();
	struct call call = {.argv = argv, .trusted = trusted};
	int code;

	/* Options stand anywhere; what is left are the verb and operands. */
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0) {
			call.json = true;
		} else if (strcmp(argv[i], "--help") == 0 ||
			   strcmp(argv[i], "-h") == 0) {
			print_usage(stdout);
			return EXIT_SUCCESS;
		} else if (strcmp(argv[i], "--version") == 0) {
			call.verb = "version";
		} else if (strcmp(argv[i], "--trusted") == 0) {
			if (i + 1 == argc)
				return usage_error("no CIDR after", argv[i]);
			add_trusted(&call, argv[++i]);
		} else if (argv[i][0] == '-') {
			return usage_error("unknown option", argv[i]);
		} else if (!call.verb) {
			call.verb = argv[i];
		} else {
			argv[call.argc++] = argv[i];
		}
	}
	if (!call.verb) {
		print_usage(stderr);
		return EXIT_USAGE;
	}
	if (json_array_size(call.trusted) && strcmp(call.verb, "attach") != 0)
		return usage_error("no --trusted for", call.verb);
	code = run(&call);
	if (fflush(stdout) != 0 || ferror(stdout))
		return failed("stdout", strerror(errno));
	return code;
}
