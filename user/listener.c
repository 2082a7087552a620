/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * listener.c - see listener.h. Opens no listening socket; listen.c does.
 */
#include "listener.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "worker.h"

int listener_new(struct worker *worker, struct config *config, size_t index,
		 uint32_t number, struct listener **ret_listener)
{
	const struct listener_config *settings = &config->listeners[index];
	struct listener *listener = calloc(1, sizeof(*listener));

	if (!listener)
		return -ENOMEM;
	listener->counts = counters_take(&worker->counters, number);
	if (!listener->counts ||
	    prefix_set_make(settings->trusted, settings->n_trusted,
			    &listener->trusted)) {
		if (listener->counts)
			counters_release(&worker->counters, number);
		free(listener);
		return -ENOMEM;
	}
	listener->references = 1;
	listener->worker = worker;
	listener->config = config_ref(config);
	listener->settings = settings;
	listener->number = number;
	listener->offload = datapath_offload(worker->datapath, settings);
	listener->shows_client =
		settings->delivery == RP_DELIVERY_INLINE ||
		(settings->client_address == CLIENT_ADDRESS_GETPEERNAME &&
		 settings->handler_here);
	*ret_listener = listener;
	return 0;
}

struct listener *listener_ref(struct listener *listener)
{
	listener->references++;
	return listener;
}

void listener_unref(struct listener *listener)
{
	if (!listener || --listener->references > 0)
		return;
	counters_release(&listener->worker->counters, listener->number);
	prefix_set_free(&listener->trusted);
	config_unref(listener->config);
	free(listener);
}

void listener_shortage(struct listener *listener, const char *what, int error)
{
	static struct log_limit limit = {.burst = 1};
	unsigned int suppressed;

	listener_count(listener, RP_STAT_RESOURCE);
	if (log_limit_pass(&limit, &suppressed))
		log_error("msg=\"%s\" listener=%s error=\"%s\" suppressed=%u",
			  what, listener->settings->name, strerror(error),
			  suppressed);
}
