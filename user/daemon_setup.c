/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * daemon_setup.c - see daemon.h. A configuration is loaded, planned and put
 * into force in all parts, or in none.
 */
#include "daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "log.h"
#include "plan.h"

int daemon_run_step(struct daemon *daemon,
		    int (*step)(struct daemon *daemon, FILE *errors),
		    char **ret_text)
{
	char *text = NULL, *line, *rest;
	size_t len;
	FILE *errors = open_memstream(&text, &len);
	int r = errors ? step(daemon, errors) : -ENOMEM;

	if (r == -ENOMEM)
		log_error("msg=\"out of memory\"");
	if (errors && fclose(errors) == 0 && text) {
		if (ret_text)
			*ret_text = strdup(text);
		for (rest = text; (line = strsep(&rest, "\n"));) {
			if (*line)
				log_mistake(line);
		}
	}
	free(text);
	return r;
}

static void log_listener(const struct listener_config *listener,
			 const struct plan *plan)
{
	char listen[512], why[2 * PLAN_TEXT_MAX];

	log_info("listener=%s listen=%s delivery=%s offload=%s why=\"%s\" "
		 "mode=%s client_address=%s",
		 listener->name,
		 setup_listen_format(listener, listen, sizeof(listen)),
		 delivery_name(listener->delivery), offload_name(plan->offload),
		 log_escape(plan->why, strlen(plan->why), why, sizeof(why)),
		 mode_name(listener->mode),
		 client_address_name(listener->client_address));
	if (plan->warning)
		log_warning("listener=%s msg=\"%s\"", listener->name,
			    plan->warning);
	if (setup_warning(listener))
		log_warning("listener=%s msg=\"%s\"", listener->name,
			    setup_warning(listener));
	/* What else there is to say of it, setup_look() does. */
	if (setup_target(listener) == SETUP_TARGET_AWAITED)
		log_notice("listener=%s msg=\"%s\"", listener->name,
			   setup_target_text(SETUP_TARGET_AWAITED));
}

void daemon_log_listeners(const struct daemon *daemon)
{
	for (size_t i = 0; i < daemon->setup.config->n_listeners; i++)
		log_listener(&daemon->setup.config->listeners[i],
			     &daemon->setup.plans[i]);
}

static int load(const struct daemon *daemon, FILE *errors, struct setup *ret)
{
	return setup_load(daemon->options.config_path, &daemon->attached,
			  errors, ret);
}

/* Those ports of which the files in force have left nothing. */
static void drop_rivalled(struct daemon *daemon)
{
	struct attached *attached = &daemon->attached;
	const struct listener_config *rival;
	const char *what;
	uint16_t port;

	for (size_t i = attached->n; i-- > 0;) {
		port = attached->ports[i].port;
		rival = attached_rival(daemon->setup.config, port, &what);
		if (!rival)
			continue;
		log_warning("msg=\"port %u is not attached: listener "
			    "'%s' has %s, %s:%u\"",
			    port, rival->name, what, rival->file, rival->line);
		attached_remove(attached, port);
	}
}

int daemon_load(struct daemon *daemon, FILE *errors)
{
	struct setup setup;
	int r = load(daemon, errors, &setup);

	if (r < 0)
		return r;
	setup_clear(&daemon->setup);
	daemon->setup = setup;
	drop_rivalled(daemon);
	return 0;
}

void daemon_number(struct daemon *daemon, struct setup *setup)
{
	bool taken[RP_LISTENERS_MAX] = {false};

	server_mark_numbers(daemon->server, taken);
	if (daemon->datapath)
		datapath_number(daemon->datapath, setup->config, taken,
				setup->numbers);
	else
		plan_numbers(daemon->setup.config, daemon->setup.numbers,
			     setup->config, taken, setup->numbers);
	for (size_t i = 0; i < setup->config->n_listeners; i++) {
		uint32_t number = setup->numbers[i];

		/* A name that had none begins at zero. */
		if (number < RP_LISTENERS_MAX && !taken[number])
			server_clear_counts(daemon->server, number);
	}
}

static void log_changes(const struct setup *old, const struct setup *new)
{
	char changes[PLAN_TEXT_MAX];

	for (size_t i = 0; i < new->config->n_listeners; i++) {
		const struct listener_config *now = &new->config->listeners[i];
		const struct listener_config *before =
			plan_find(old->config, now->name);

		if (!before)
			log_notice("reload listener=%s change=added",
				   now->name);
		else if (*plan_changes(before, now, changes))
			log_notice("reload listener=%s change=%s", now->name,
				   changes);
		else
			continue;
		log_listener(now, &new->plans[i]);
	}
	for (size_t i = 0; i < old->config->n_listeners; i++) {
		const char *name = old->config->listeners[i].name;

		if (!plan_find(new->config, name))
			log_notice("reload listener=%s change=removed", name);
	}
	if (*plan_global_changes(old->config, new->config, changes))
		log_notice("reload global=%s", changes);
	if (old->config->threads != new->config->threads)
		log_warning("reload msg=\"threads changes with the next "
			    "start\"");
	if (old->config->connections_max != new->config->connections_max)
		log_warning("reload msg=\"connections_max changes with the "
			    "next start after a stop\"");
}

void daemon_apply_log_level(const struct daemon *daemon)
{
	log_set_level(daemon->options.verbose
			      ? LOG_LEVEL_DEBUG
			      : daemon->setup.config->log_level);
}

/* The threads first: the kernel hands over as soon as it knows. */
static int put_in_force(struct daemon *daemon, const struct setup *setup,
			FILE *errors)
{
	const struct setup *old = &daemon->setup;
	int r = server_reload(daemon->server, setup->config, setup->numbers);

	if (r < 0)
		return r;
	r = datapath_configure(daemon->datapath, setup->config, setup->numbers);
	if (r < 0 && server_reload(daemon->server, old->config, old->numbers)) {
		/* Not settled, so that who was served before still is. */
		fprintf(errors, "%s:0: the kernel part is as before: %s\n",
			daemon->options.config_path, strerror(-r));
		return -ENOTRECOVERABLE;
	}
	server_settle(daemon->server);
	server_store(daemon->server);
	return r;
}

/*
 * Puts `setup` into force and takes it; on failure what was in force stays, or,
 * with -ENOTRECOVERABLE, a part of it.
 */
static int switch_setup(struct daemon *daemon, struct setup *setup,
			FILE *errors)
{
	int r;

	daemon_number(daemon, setup);
	r = put_in_force(daemon, setup, errors);
	if (r < 0) {
		fprintf(errors, "%s:0: cannot be put into force: %s\n",
			daemon->options.config_path, strerror(-r));
		return r;
	}
	log_changes(&daemon->setup, setup);
	setup_clear(&daemon->setup);
	daemon->setup = *setup;
	drop_rivalled(daemon);
	daemon_apply_log_level(daemon);
	*setup = (struct setup){0};
	return 0;
}

void daemon_notify_ready(const struct daemon *daemon)
{
	sd_notifyf(0, "READY=1\nSTATUS=%zu listeners",
		   daemon->setup.config->n_listeners);
}

static int reload_into(struct daemon *daemon, FILE *errors)
{
	struct setup setup;
	int r = load(daemon, errors, &setup);

	if (r < 0)
		return r;
	r = setup_plan(&setup, &daemon->features, errors);
	if (r == 0)
		r = switch_setup(daemon, &setup, errors);
	setup_clear(&setup);
	return r;
}

int daemon_reload(struct daemon *daemon, char **ret_text)
{
	struct timespec now;
	int r;

	clock_gettime(CLOCK_MONOTONIC, &now);
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
		   now.tv_sec * 1000000ULL + now.tv_nsec / 1000);
	r = daemon_run_step(daemon, reload_into, ret_text);
	if (r == -ENOTRECOVERABLE) {
		log_error(
			"reload msg=\"failed, and what is in force is neither "
			"the old configuration nor the new one\"");
	} else if (r < 0) {
		log_error("reload msg=\"failed, the old configuration stays in "
			  "force\"");
	} else {
		datapath_try_again(daemon->datapath);
		log_notice("reload msg=done listeners=%zu",
			   daemon->setup.config->n_listeners);
	}
	daemon_notify_ready(daemon);
	return r;
}
