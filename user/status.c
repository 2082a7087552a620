/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* status.c - see status.h. */
#include "status.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "setup.h"
#include "view.h"

static int no_memory(FILE *out)
{
	fputs("out of memory", out);
	return -ENOMEM;
}

/* Takes `json`, NULL if it could not be built. */
static int write_json(json_t *json, FILE *out)
{
	int r = json ? json_dumpf(json, out, JSON_COMPACT) : -1;

	json_decref(json);
	return r < 0 ? no_memory(out) : 0;
}

static json_t *listen_json(const struct listener_config *listener)
{
	json_t *array = json_array();
	char text[ADDRESS_TEXT_MAX];

	for (size_t i = 0; i < listener->n_listen; i++) {
		if (json_array_append_new(
			    array, json_string(address_format(
					   &listener->listen[i].sa, text)))) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

/* Where connections go; null for the port that clients use. */
static json_t *handler_json(const struct listener_config *listener)
{
	char text[ADDRESS_TEXT_MAX], escaped[4 * ADDRESS_TEXT_MAX];

	/* The path of a unix socket may be any bytes, JSON takes UTF-8 only. */
	if (listener->delivery == RP_DELIVERY_RELAY) {
		address_format(&listener->handler.sa, text);
		return json_string(log_escape(text, strlen(text), escaped,
					      sizeof(escaped)));
	}
	return listener->handler_port
		       ? json_sprintf("port %u", listener->handler_port)
		       : json_null();
}

/* Why the listener's connections get no more than they do. */
static const char *why(const struct status *status, size_t i)
{
	const char *target;

	if (status->plans[i].offload != RP_OFFLOAD_ACCEPT)
		return status->plans[i].why;
	if (datapath_is_losing(status->datapath))
		return "relayed: the kernel loses the sockets that TC assigns, "
		       "as NAT rules make it";
	target = setup_target_text(setup_target(&status->config->listeners[i]));
	return target ? target : status->plans[i].why;
}

static json_t *listener_json(const struct status *status, size_t i)
{
	const struct listener_config *listener = &status->config->listeners[i];

	return json_pack(
		"{s:s, s:o, s:s, s:s, s:s, s:s, s:o, s:s, s:I}", "name",
		listener->name, "listen", listen_json(listener), "mode",
		mode_name(listener->mode), "delivery",
		delivery_name(listener->delivery), "offload",
		offload_name(status->plans[i].offload), "why", why(status, i),
		"handler", handler_json(listener), "client_address",
		client_address_name(listener->client_address), "active",
		(json_int_t)server_active(status->server, status->numbers[i]));
}

int status_write(const struct status *status, FILE *out)
{
	json_t *listeners = json_array();
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	for (size_t i = 0; i < status->config->n_listeners; i++) {
		if (json_array_append_new(listeners, listener_json(status, i)) <
		    0) {
			json_decref(listeners);
			return no_memory(out);
		}
	}
	return write_json(
		json_pack("{s:b, s:s, s:i, s:I, s:o, s:o}", "running", 1,
			  "version", REALPEER_VERSION, "pid", (int)getpid(),
			  "uptime",
			  (json_int_t)((uint64_t)now.tv_sec - status->started),
			  "config",
			  view_text(status->config_path,
				    strlen(status->config_path)),
			  "listeners", listeners),
		out);
}

int status_write_stats(const struct status *status, FILE *out)
{
	json_t *listeners = json_object();

	for (size_t i = 0; i < status->config->n_listeners; i++) {
		uint32_t number = status->numbers[i];
		uint64_t counts[RP_STAT_COUNT];

		for (enum rp_stat stat = 0; stat < RP_STAT_COUNT; stat++)
			counts[stat] =
				server_stat(status->server, number, stat) +
				datapath_stat(status->datapath, number, stat);
		if (json_object_set_new(listeners,
					status->config->listeners[i].name,
					view_stats(counts)) < 0) {
			json_decref(listeners);
			return no_memory(out);
		}
	}
	return write_json(json_pack("{s:o}", "listeners", listeners), out);
}

struct connections_answer {
	FILE *out;
	bool first;
	bool no_memory;
};

/* One at a time: a tree of all of them would take several times the room. */
static void write_connection(uint64_t cookie,
			     const struct rp_connection *record,
			     const struct rp_tlvs *tlvs, void *arg)
{
	struct connections_answer *answer = arg;
	json_t *json = view_connection(cookie, record, tlvs);

	if (!answer->first)
		fputc(',', answer->out);
	answer->first = false;
	if (!json || json_dumpf(json, answer->out, JSON_COMPACT) < 0)
		answer->no_memory = true;
	json_decref(json);
}

int status_write_connections(const struct status *status, FILE *out)
{
	struct connections_answer answer = {.out = out, .first = true};
	uint64_t n = 0;

	for (size_t i = 0; i < status->config->n_listeners; i++)
		n += server_active(status->server, status->numbers[i]);
	if (n > STATUS_CONNECTIONS_MAX) {
		fprintf(out,
			"%" PRIu64 " connections are too many for one answer",
			n);
		return -EFBIG;
	}
	fputc('[', out);
	server_connections(status->server, write_connection, &answer);
	fputc(']', out);
	return answer.no_memory ? -ENOMEM : 0;
}
