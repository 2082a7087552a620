/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* attach.c - see attach.h. Changes configurations only, nothing in force. */
#include "attach.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void *copy(const void *array, size_t n, size_t size)
{
	void *new = calloc(n + 1, size);

	if (new &&n)
		memcpy(new, array, n * size);
	return new;
}

static struct attached_port *find(const struct attached *attached,
				  uint16_t port)
{
	for (size_t i = 0; i < attached->n; i++) {
		if (attached->ports[i].port == port)
			return &attached->ports[i];
	}
	return NULL;
}

int attached_add(struct attached *attached, uint16_t port,
		 const struct prefix *trusted, size_t n_trusted)
{
	struct attached_port *ports,
		new = {.port = port, .n_trusted = n_trusted};

	if (find(attached, port))
		return -EEXIST;
	ports = realloc(attached->ports, (attached->n + 1) * sizeof(*ports));
	if (!ports)
		return -ENOMEM;
	attached->ports = ports;
	new.trusted = copy(trusted, n_trusted, sizeof(*trusted));
	if (!new.trusted)
		return -ENOMEM;
	ports[attached->n++] = new;
	return 0;
}

int attached_take(struct attached *attached, uint16_t port,
		  struct attached_port *ret)
{
	struct attached_port *found = find(attached, port);

	if (!found)
		return -ENOENT;
	*ret = *found;
	*found = attached->ports[--attached->n];
	return 0;
}

/* The array has not become shorter. */
void attached_put_back(struct attached *attached,
		       const struct attached_port *taken)
{
	attached->ports[attached->n++] = *taken;
}

int attached_remove(struct attached *attached, uint16_t port)
{
	struct attached_port taken;
	int r = attached_take(attached, port, &taken);

	if (r == 0)
		free(taken.trusted);
	return r;
}

void attached_clear(struct attached *attached)
{
	for (size_t i = 0; i < attached->n; i++)
		free(attached->ports[i].trusted);
	free(attached->ports);
	*attached = (struct attached){0};
}

static const uint8_t any4[16] = {[10] = 0xff, [11] = 0xff};
static const uint8_t any6[16];

/* The listener of the files that has this very address, or NULL. */
static const struct listener_config *find_listener(const struct config *config,
						   const uint8_t address[16],
						   uint16_t port)
{
	uint16_t listen_port;
	uint8_t ip[16];

	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *listener = &config->listeners[i];

		for (size_t j = 0;
		     !listener->attached && j < listener->n_listen; j++) {
			address_split(&listener->listen[j].sa, ip,
				      &listen_port);
			if (listen_port == port && !memcmp(ip, address, 16))
				return listener;
		}
	}
	return NULL;
}

static void make_name(uint16_t port, char name[RP_NAME_LEN])
{
	snprintf(name, RP_NAME_LEN, ATTACH_NAME_FORMAT, port);
}

const struct listener_config *attached_rival(const struct config *config,
					     uint16_t port,
					     const char **ret_what)
{
	const struct listener_config *rival = find_listener(config, any6, port);
	char name[RP_NAME_LEN];

	if (rival) {
		*ret_what = "it";
		return rival;
	}
	make_name(port, name);
	for (size_t i = 0; i < config->n_listeners; i++) {
		rival = &config->listeners[i];
		if (rival->attached || strcmp(rival->name, name) != 0)
			continue;
		*ret_what = "its name";
		return rival;
	}
	return NULL;
}

/* On 0.0.0.0 and [::], as the server itself listens wherever it likes. */
static int make_listener(const struct attached_port *attached,
			 const struct listener_config *global,
			 struct listener_config *ret)
{
	struct listener_config listener = *global;
	size_t n = attached->n_trusted;

	listener.n_trusted = n ? n : global->n_trusted;
	listener.trusted = copy(n ? attached->trusted : global->trusted,
				listener.n_trusted, sizeof(*listener.trusted));
	listener.file = strdup("attach");
	listener.listen = calloc(2, sizeof(*listener.listen));
	if (!listener.trusted || !listener.file || !listener.listen) {
		free(listener.trusted);
		free(listener.file);
		free(listener.listen);
		return -ENOMEM;
	}
	listener.listen[0] = address_make(any4, attached->port);
	listener.listen[1] = address_make(any6, attached->port);
	listener.n_listen = 2;
	listener.line = attached->port;
	listener.attached = n ? RP_ATTACHED_OWN : RP_ATTACHED_GLOBAL;
	listener.delivery = RP_DELIVERY_INLINE;
	listener.offload = OFFLOAD_WANTED_AUTO;
	listener.client_address = CLIENT_ADDRESS_GETPEERNAME;
	/* Whoever attaches wants headers read. */
	if (listener.mode == RP_MODE_DISABLED)
		listener.mode = RP_MODE_REQUIRED;
	make_name(attached->port, listener.name);
	*ret = listener;
	return 0;
}

int attached_extend(const struct attached *attached, struct config *config)
{
	struct listener_config *listeners;
	int error;

	listeners = realloc(config->listeners,
			    (config->n_listeners + attached->n + 1) *
				    sizeof(*listeners));
	if (!listeners)
		return -ENOMEM;
	config->listeners = listeners;
	for (size_t i = 0; i < attached->n; i++) {
		struct listener_config *new = &listeners[config->n_listeners];
		uint16_t port = attached->ports[i].port;
		const char *what;

		if (attached_rival(config, port, &what))
			continue;
		error = make_listener(&attached->ports[i], &config->global,
				      new);
		if (error)
			return error;
		if (find_listener(config, any4, port))
			new->listen[0] = new->listen[--new->n_listen];
		config->n_listeners++;
	}
	return 0;
}
