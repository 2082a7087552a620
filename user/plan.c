/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* plan.c - see plan.h. Pure functions. */
#include "plan.h"

#include <stdio.h>
#include <string.h>

static void refuse_offload(const struct datapath_features *features,
			   const struct listener_config *listener,
			   struct plan *plan)
{
	if (listener->offload != OFFLOAD_WANTED_AUTO &&
	    (enum rp_offload)listener->offload > features->offload)
		snprintf(plan->refused, sizeof(plan->refused),
			 "offload = %s cannot be had: %s",
			 offload_name((enum rp_offload)listener->offload),
			 features->why);
	else if (listener->delivery == RP_DELIVERY_INLINE &&
		 plan->offload < RP_OFFLOAD_ACCEPT)
		snprintf(plan->refused, sizeof(plan->refused),
			 "delivery = inline needs offload accept: %s",
			 features->offload == RP_OFFLOAD_ACCEPT
				 ? "the configuration asks for less"
				 : features->why);
}

void plan_listener(const struct datapath_features *features,
		   const struct listener_config *listener, struct plan *ret)
{
	struct plan plan = {0};
	const char *why;

	plan.offload = datapath_choose(features, listener, &why);
	snprintf(plan.why, sizeof(plan.why), "%s", why);
	if (listener->mode != RP_MODE_DISABLED)
		refuse_offload(features, listener, &plan);
	if (!plan.refused[0] && !features->getpeername &&
	    listener->delivery == RP_DELIVERY_RELAY &&
	    listener->client_address == CLIENT_ADDRESS_GETPEERNAME)
		snprintf(plan.refused, sizeof(plan.refused),
			 "client_address = getpeername needs BPF programs on "
			 "cgroup2: %s",
			 features->why);
	if (features->no_probes && plan.offload == RP_OFFLOAD_ACCEPT &&
	    listener->mode == RP_MODE_ENABLED)
		plan.warning = "CAP_NET_RAW is missing: the server sees a "
			       "client that says nothing only when it speaks";
	*ret = plan;
}

void plan_numbers(const struct config *old, const uint32_t *old_numbers,
		  const struct config *config, bool taken[RP_LISTENERS_MAX],
		  uint32_t *ret_numbers)
{
	uint32_t next = 1;

	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *before =
			old ? plan_find(old, config->listeners[i].name) : NULL;

		ret_numbers[i] =
			before ? old_numbers[before - old->listeners] : 0;
	}
	for (size_t i = 0; old && i < old->n_listeners; i++)
		taken[old_numbers[i]] = true;
	for (size_t i = 0; i < config->n_listeners; i++) {
		if (ret_numbers[i])
			continue;
		while (next < RP_LISTENERS_MAX && taken[next])
			next++;
		ret_numbers[i] = next++;
	}
}

const struct listener_config *plan_find(const struct config *config,
					const char *name)
{
	for (size_t i = 0; i < config->n_listeners; i++) {
		if (strcmp(config->listeners[i].name, name) == 0)
			return &config->listeners[i];
	}
	return NULL;
}

static bool listen_differs(const struct listener_config *old,
			   const struct listener_config *new)
{
	if (old->n_listen != new->n_listen)
		return true;
	for (size_t i = 0; i < old->n_listen; i++) {
		if (!address_equal(&old->listen[i], &new->listen[i]))
			return true;
	}
	return false;
}

static bool trusted_differs(const struct listener_config *old,
			    const struct listener_config *new)
{
	/* A prefix is bytes only: it has no padding. */
	return old->n_trusted != new->n_trusted ||
	       (old->n_trusted &&
		memcmp(old->trusted, new->trusted,
		       old->n_trusted * sizeof(*old->trusted)));
}

struct difference {
	const char *key;
	bool differs;
};

static const char *join(const struct difference *settings, size_t n,
			char out[PLAN_TEXT_MAX])
{
	size_t have = 0;

	out[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		if (settings[i].differs)
			have += (size_t)snprintf(out + have,
						 PLAN_TEXT_MAX - have, "%s%s",
						 have ? "," : "",
						 settings[i].key);
	}
	return out;
}

const char *plan_changes(const struct listener_config *old,
			 const struct listener_config *new,
			 char out[PLAN_TEXT_MAX])
{
	const struct difference settings[] = {
		{"listen", listen_differs(old, new)},
		{"delivery", old->delivery != new->delivery},
		{"handler", !address_equal(&old->handler, &new->handler) ||
				    old->handler_port != new->handler_port},
		{"client_address", old->client_address != new->client_address},
		{"forward_tlvs", old->tlvs_forwarded != new->tlvs_forwarded},
		{"proxy_protocol", old->mode != new->mode},
		{"trusted", trusted_differs(old, new)},
		{"untrusted", old->untrusted != new->untrusted},
		{"special_source", old->special_source != new->special_source},
		{"offload", old->offload != new->offload},
		{"header_timeout",
		 old->header_timeout_ms != new->header_timeout_ms},
		{"header_max", old->header_max != new->header_max},
	};

	return join(settings, sizeof(settings) / sizeof(settings[0]), out);
}

const char *plan_global_changes(const struct config *old,
				const struct config *new,
				char out[PLAN_TEXT_MAX])
{
	const struct difference settings[] = {
		{"log_level", old->log_level != new->log_level},
		{"drain_timeout",
		 old->drain_timeout_ms != new->drain_timeout_ms},
		{"threads", old->threads != new->threads},
		{"connections_max",
		 old->connections_max != new->connections_max},
	};

	return join(settings, sizeof(settings) / sizeof(settings[0]), out);
}
