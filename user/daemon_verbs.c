/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * daemon_verbs.c - see daemon.h. What realpeerctl asks for; the answers'
 * form is status.c's.
 */
#include "daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "status.h"

static struct status status_of(const struct daemon *daemon)
{
	return (struct status){
		.config_path = daemon->options.config_path,
		.config = daemon->setup.config,
		.plans = daemon->setup.plans,
		.numbers = daemon->setup.numbers,
		.server = daemon->server,
		.datapath = daemon->datapath,
		.started = daemon->started,
	};
}

static int verb_status(const json_t *request, FILE *out, void *arg)
{
	struct status status = status_of(arg);

	(void)request;
	return status_write(&status, out);
}

static int verb_connections(const json_t *request, FILE *out, void *arg)
{
	struct status status = status_of(arg);

	(void)request;
	return status_write_connections(&status, out);
}

static int verb_stats(const json_t *request, FILE *out, void *arg)
{
	struct status status = status_of(arg);

	(void)request;
	return status_write_stats(&status, out);
}

static int verb_reload(const json_t *request, FILE *out, void *arg)
{
	char *text = NULL;
	int r = daemon_reload(arg, &text);

	(void)request;
	if (r < 0)
		fputs(text && *text ? text : strerror(-r), out);
	else
		fputs("{\"reloaded\":true}", out);
	free(text);
	return r;
}

/* Puts a changed set of attached ports into force, and says how it went. */
static int reload_attached(struct daemon *daemon, FILE *out)
{
	char *text = NULL;
	int r = daemon_reload(daemon, &text);

	if (r < 0)
		fputs(text && *text ? text : strerror(-r), out);
	free(text);
	return r;
}

static int parse_port(const json_t *request, FILE *out, uint16_t *ret_port)
{
	const json_t *port = json_object_get(request, "port");

	if (!json_is_integer(port) || json_integer_value(port) < 1 ||
	    json_integer_value(port) > UINT16_MAX) {
		fputs("port: 1 to 65535", out);
		return -EINVAL;
	}
	*ret_port = (uint16_t)json_integer_value(port);
	return 0;
}

/* At most CONFIG_TRUSTED_MAX prefixes; *ret_n may be 0. */
static int parse_trusted(const json_t *request, FILE *out,
			 struct prefix trusted[CONFIG_TRUSTED_MAX],
			 size_t *ret_n)
{
	const json_t *list = json_object_get(request, "trusted"), *one;
	size_t i;

	if (json_array_size(list) > CONFIG_TRUSTED_MAX) {
		fputs("trusted: too many", out);
		return -E2BIG;
	}
	json_array_foreach(list, i, one)
	{
		const char *text = json_string_value(one);

		if (!text || prefix_parse(text, &trusted[i]) < 0) {
			fprintf(out, "trusted: '%s' is no CIDR",
				text ? text : "");
			return -EINVAL;
		}
	}
	*ret_n = json_array_size(list);
	return 0;
}

/* Has a listener of the files taken all of the port, or its name? */
static bool tell_rival(const struct daemon *daemon, uint16_t port, FILE *out)
{
	const char *what;
	const struct listener_config *rival =
		attached_rival(daemon->setup.config, port, &what);

	if (rival)
		fprintf(out,
			"%s:%u: port %u cannot be attached: listener '%s' has "
			"%s",
			rival->file, rival->line, port, rival->name, what);
	return rival;
}

static int attach(struct daemon *daemon, uint16_t port,
		  const struct prefix *trusted, size_t n, FILE *out)
{
	int r;

	if (!n && !daemon->setup.config->global.n_trusted) {
		fputs("whose headers? Name the load balancers with --trusted "
		      "CIDR, or with trusted = in [global]",
		      out);
		return -EINVAL;
	}
	if (tell_rival(daemon, port, out))
		return -EADDRINUSE;
	r = attached_add(&daemon->attached, port, trusted, n);
	if (r < 0) {
		fputs(r == -EEXIST ? "it is attached already" : strerror(-r),
		      out);
		return r;
	}
	r = reload_attached(daemon, out);
	if (r < 0) {
		attached_remove(&daemon->attached, port);
		return r;
	}
	/* The files may be others by now. */
	if (tell_rival(daemon, port, out))
		return -EADDRINUSE;
	fprintf(out, "{\"attached\":%u}", port);
	return 0;
}

static int verb_attach(const json_t *request, FILE *out, void *arg)
{
	struct prefix *trusted = calloc(CONFIG_TRUSTED_MAX, sizeof(*trusted));
	uint16_t port;
	size_t n;
	int r = parse_port(request, out, &port);

	if (r == 0)
		r = trusted ? parse_trusted(request, out, trusted, &n)
			    : -ENOMEM;
	if (r == 0)
		r = attach(arg, port, trusted, n, out);
	free(trusted);
	return r;
}

static int verb_detach(const json_t *request, FILE *out, void *arg)
{
	struct daemon *daemon = arg;
	struct attached_port taken;
	uint16_t port;
	int r = parse_port(request, out, &port);

	if (r < 0)
		return r;
	if (attached_take(&daemon->attached, port, &taken) < 0) {
		fputs("it is not attached", out);
		return -ENOENT;
	}
	r = reload_attached(daemon, out);
	if (r < 0) {
		/* It is still in force: another detach must find it. */
		attached_put_back(&daemon->attached, &taken);
		return r;
	}
	free(taken.trusted);
	fprintf(out, "{\"detached\":%u}", port);
	return 0;
}

static const struct control_verb verbs[] = {
	{"status", verb_status}, {"connections", verb_connections},
	{"stats", verb_stats},	 {"reload", verb_reload},
	{"attach", verb_attach}, {"detach", verb_detach},
};

int daemon_open_control(struct daemon *daemon)
{
	char path[CONTROL_PATH_MAX] = "";
	int r = control_path(path);

	if (r == 0)
		r = control_open(path, verbs, sizeof(verbs) / sizeof(verbs[0]),
				 daemon, &daemon->control);
	if (r == -EADDRINUSE) {
		log_error("msg=\"another realpeerd is running; REALPEER_RUN "
			  "names another place\" control=%s",
			  path);
		return r;
	}
	if (r < 0)
		log_warning("msg=\"no control socket, realpeerctl cannot ask "
			    "this daemon\" control=%s error=\"%s\"",
			    path, strerror(-r));
	return 0;
}
