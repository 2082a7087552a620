/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* setup.c - see setup.h. */
#include "setup.h"

#include <errno.h>
#include <stdlib.h>

#include "log.h"
#include "target.h"

/* Servers that one setup_look() looks for. */
#define LOOKS_MAX 16

int setup_load(const char *path, const struct attached *attached, FILE *errors,
	       struct setup *ret)
{
	struct setup setup = {0};
	int r = config_load(path, errors, &setup.config);

	if (r == 0)
		r = attached_extend(attached, setup.config);
	if (r < 0) {
		setup_clear(&setup);
		return r;
	}
	/* One more, so that none is no special case. */
	setup.plans =
		calloc(setup.config->n_listeners + 1, sizeof(*setup.plans));
	setup.numbers =
		calloc(setup.config->n_listeners + 1, sizeof(*setup.numbers));
	setup.seen = calloc(setup.config->n_listeners + 1, sizeof(*setup.seen));
	if (!setup.plans || !setup.numbers || !setup.seen) {
		setup_clear(&setup);
		return -ENOMEM;
	}
	*ret = setup;
	return 0;
}

void setup_clear(struct setup *setup)
{
	config_unref(setup->config);
	free(setup->plans);
	free(setup->numbers);
	free(setup->seen);
	*setup = (struct setup){0};
}

int setup_plan(struct setup *setup, const struct datapath_features *features,
	       FILE *errors)
{
	int r = 0;

	for (size_t i = 0; i < setup->config->n_listeners; i++) {
		const struct listener_config *listener =
			&setup->config->listeners[i];
		struct plan *plan = &setup->plans[i];

		plan_listener(features, listener, plan);
		if (!plan->refused[0])
			continue;
		fprintf(errors, "%s:%u: listener '%s': %s\n", listener->file,
			listener->line, listener->name, plan->refused);
		r = -EINVAL;
	}
	return r;
}

const char *setup_warning(const struct listener_config *listener)
{
	if (listener->mode != RP_MODE_DISABLED && listener->n_trusted == 0)
		return listener->untrusted == RP_UNTRUSTED_RESET
			       ? "no trusted proxies, every connection is reset"
			       : "no trusted proxies, no header is ever looked "
				 "for";
	if (listener->delivery == RP_DELIVERY_RELAY &&
	    listener->client_address == CLIENT_ADDRESS_GETPEERNAME &&
	    !listener->handler_here)
		return "the handler's address is none of this host's: "
		       "getpeername() there tells ours, until a reload finds "
		       "it here";
	return NULL;
}

enum setup_target setup_target(const struct listener_config *listener)
{
	struct target target;
	uint16_t port = listener->handler_port;
	uint8_t ip[16];

	if (listener->delivery != RP_DELIVERY_INLINE ||
	    listener->mode == RP_MODE_DISABLED)
		return SETUP_TARGET_FINE;
	if (!port)
		address_split(&listener->listen[0].sa, ip, &port);
	if (target_find(port, &target) < 0)
		return SETUP_TARGET_FINE;
	if (!target.found)
		return SETUP_TARGET_AWAITED;
	if (target.mptcp)
		return SETUP_TARGET_MPTCP;
	return datapath_covers(target.cgroup) ? SETUP_TARGET_FINE
					      : SETUP_TARGET_CGROUP;
}

const char *setup_target_text(enum setup_target target)
{
	static const char *const texts[] = {
		[SETUP_TARGET_FINE] = NULL,
		[SETUP_TARGET_AWAITED] = "no server listens on the port yet",
		[SETUP_TARGET_MPTCP] =
			"the server's socket is MPTCP, for which the kernel "
			"cannot accept: the daemon relays",
		[SETUP_TARGET_CGROUP] =
			"the server's cgroup is not below ours: getpeername() "
			"cannot tell it the client",
	};

	return texts[target];
}

void setup_look(struct setup *setup)
{
	size_t n = setup->config->n_listeners, looked = 0;

	for (size_t i = 0; i < n && looked < LOOKS_MAX; i++) {
		size_t at = setup->look_at++ % n;
		const struct listener_config *listener =
			&setup->config->listeners[at];
		enum setup_target target;

		if (setup->seen[at])
			continue;
		looked++;
		target = setup_target(listener);
		setup->seen[at] = target != SETUP_TARGET_AWAITED;
		if (setup->seen[at] && target != SETUP_TARGET_FINE)
			log_warning("listener=%s msg=\"%s\"", listener->name,
				    setup_target_text(target));
	}
}

const char *setup_listen_format(const struct listener_config *listener,
				char *out, size_t size)
{
	char text[ADDRESS_TEXT_MAX];
	size_t have = 0;

	out[0] = '\0';
	for (size_t i = 0; i < listener->n_listen && have < size; i++)
		have += (size_t)snprintf(
			out + have, size - have, "%s%s", i ? "," : "",
			address_format(&listener->listen[i].sa, text));
	return out;
}

static void print_handler(const struct listener_config *listener, FILE *out)
{
	char text[ADDRESS_TEXT_MAX];

	if (listener->delivery == RP_DELIVERY_RELAY)
		fprintf(out, "  handler         %s, client_address = %s\n",
			address_format(&listener->handler.sa, text),
			client_address_name(listener->client_address));
	else if (listener->handler_port)
		fprintf(out, "  handler         port %u\n",
			listener->handler_port);
}

void setup_print(const struct setup *setup, FILE *out)
{
	for (size_t i = 0; i < setup->config->n_listeners; i++) {
		const struct listener_config *listener =
			&setup->config->listeners[i];
		const struct plan *plan = &setup->plans[i];
		const char *target = setup_target_text(setup_target(listener));
		char listen[CONFIG_LISTEN_MAX * INET6_ADDRSTRLEN];

		fprintf(out, "listener %s\n", listener->name);
		fprintf(out, "  listen          %s\n",
			setup_listen_format(listener, listen, sizeof(listen)));
		fprintf(out, "  proxy_protocol  %s\n",
			mode_name(listener->mode));
		fprintf(out, "  delivery        %s\n",
			delivery_name(listener->delivery));
		print_handler(listener, out);
		fprintf(out, "  offload         %s%s%s\n",
			offload_name(plan->offload), plan->why[0] ? ": " : "",
			plan->why);
		if (plan->refused[0])
			fprintf(out, "  REFUSED         %s\n", plan->refused);
		if (plan->warning)
			fprintf(out, "  warning         %s\n", plan->warning);
		if (setup_warning(listener))
			fprintf(out, "  warning         %s\n",
				setup_warning(listener));
		if (target)
			fprintf(out, "  warning         %s\n", target);
	}
}
