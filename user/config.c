/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config.c - see config.h. Owns what inherits from what, and what one key
 * means for another; config_file.c knows the files, config_key.c the values.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config_file.h"

/* What is overridden goes first: it must be right, too. */
static int apply_setting(struct config_files *files, enum config_key key,
			 const struct setting *setting, struct config *config,
			 struct listener_config *listener)
{
	int r;

	if (setting->overridden)
		apply_setting(files, key, setting->overridden, config,
			      listener);
	r = config_key_apply(key, setting->text, config, listener,
			     config_files_at(files, setting->file,
					     setting->line));
	if (r == -ENOMEM)
		files->no_memory = true;
	return r;
}

static void apply_section(struct config_files *files, struct section *section,
			  struct config *config,
			  struct listener_config *listener)
{
	for (enum config_key key = 0; key < KEY_COUNT; key++) {
		if (section->settings[key].text &&
		    apply_setting(files, key, &section->settings[key], config,
				  listener) < 0)
			section->doubted |= 1u << key;
	}
}

/* Unset and empty inherit. */
static void apply_environment(struct config_files *files, const char *variable,
			      enum rp_mode *mode)
{
	const char *text = getenv(variable);
	char escaped[80];

	if (!text || !*text)
		return;
	if (config_mode_parse(text, mode) < 0)
		config_error(&files->place,
			     "environment variable %s: '%s' is not one of "
			     "disabled, enabled, required",
			     variable,
			     log_escape(text, strlen(text), escaped,
					sizeof(escaped)));
}

static void listener_variable(const char *name, char out[64])
{
	char *p = out + sprintf(out, "REALPEER_");

	for (; *name; name++) {
		if (*name >= 'a' && *name <= 'z')
			*p++ = (char)(*name - 'a' + 'A');
		else if ((*name >= 'A' && *name <= 'Z') ||
			 (*name >= '0' && *name <= '9'))
			*p++ = *name;
		else
			*p++ = '_';
	}
	strcpy(p, "_PROXY_PROTOCOL");
}

/* Two names may give one variable; that is a mistake once it is set. */
static void apply_listener_environment(struct config_files *files, size_t index,
				       struct listener_config *listener)
{
	char variable[64], other[64];
	const char *text;

	listener_variable(listener->name, variable);
	text = getenv(variable);
	if (!text || !*text)
		return;
	for (size_t i = 0; i < index; i++) {
		const struct section *section = &files->listeners[i];

		listener_variable(section->name, other);
		if (strcmp(variable, other) == 0) {
			config_error(&files->place,
				     "environment variable %s means listener "
				     "'%s' as well, %s:%u",
				     variable, section->name, section->file,
				     section->line);
			return;
		}
	}
	apply_environment(files, variable, &listener->mode);
}

static bool is_loopback(const struct address *address)
{
	if (address->sa.sa_family == AF_INET)
		return ntohl(address->in.sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&address->in6.sin6_addr);
}

/* Would a wildcard take what is sent to the loopback address `to`? */
static bool takes_loopback(const struct address *listen,
			   const struct address *to)
{
	/* The port is in the same place in both families. */
	if (listen->in.sin_port != to->in.sin_port || !is_loopback(to))
		return false;
	if (listen->sa.sa_family == AF_INET6)
		return IN6_IS_ADDR_UNSPECIFIED(&listen->in6.sin6_addr);
	return to->sa.sa_family == AF_INET &&
	       listen->in.sin_addr.s_addr == htonl(INADDR_ANY);
}

/* Where connect() goes: for the unspecified address, to the loopback one. */
static struct address destination(const struct address *handler)
{
	struct address to = *handler;

	if (to.sa.sa_family == AF_INET6) {
		if (IN6_IS_ADDR_UNSPECIFIED(&to.in6.sin6_addr))
			to.in6.sin6_addr = in6addr_loopback;
	} else if (to.in.sin_addr.s_addr == htonl(INADDR_ANY)) {
		to.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	}
	return to;
}

/* Would a connection to the handler come back to the listener? */
static bool handler_is_listener(const struct listener_config *listener)
{
	struct address to = destination(&listener->handler);

	for (size_t i = 0; i < listener->n_listen; i++) {
		if (address_equal(&to, &listener->listen[i]) ||
		    takes_loopback(&listener->listen[i], &to))
			return true;
	}
	return false;
}

static void check_inline(struct config_files *files, struct section *section,
			 struct listener_config *listener)
{
	const struct setting *handler = &section->settings[KEY_HANDLER];
	const struct setting *client = &section->settings[KEY_CLIENT_ADDRESS];

	if (handler->text && listener->handler.len)
		config_error(config_files_at(files, handler->file,
					     handler->line),
			     "handler: with delivery = inline it is a local "
			     "port number");
	if (client->text)
		config_error(config_files_at(files, client->file, client->line),
			     "client_address: only with delivery = relay");
	/* However a connection reaches the server, it sees the same. */
	listener->client_address = CLIENT_ADDRESS_GETPEERNAME;
}

static void check_relay(struct config_files *files, struct section *section,
			struct listener_config *listener)
{
	const struct setting *handler = &section->settings[KEY_HANDLER];
	const struct setting *client = &section->settings[KEY_CLIENT_ADDRESS];

	if (section_doubts(section, KEY_HANDLER))
		return;
	if (!handler->text)
		config_error(config_files_at(files, section->file,
					     section->line),
			     "handler: delivery = relay needs one");
	else if (!listener->handler.len)
		config_error(config_files_at(files, handler->file,
					     handler->line),
			     "handler: with delivery = relay it is host:port "
			     "or unix:/path");
	else if (listener->handler.sa.sa_family == AF_UNIX &&
		 listener->client_address == CLIENT_ADDRESS_GETPEERNAME &&
		 !section_doubts(section, KEY_CLIENT_ADDRESS))
		config_error(config_files_at(files, client->file, client->line),
			     "client_address: getpeername needs a handler "
			     "with host:port, a unix socket has no address");
	else if (listener->handler.sa.sa_family != AF_UNIX &&
		 !section_doubts(section, KEY_LISTEN) &&
		 handler_is_listener(listener))
		config_error(config_files_at(files, handler->file,
					     handler->line),
			     "handler: it is the listener itself");
}

/*
 * What the keys mean for each other. A key in doubt tells nothing, and whether
 * it is missing is not known.
 */
static void check_listener(struct config_files *files, struct section *section,
			   struct listener_config *listener)
{
	const struct setting *tlvs = &section->settings[KEY_FORWARD_TLVS];
	bool delivery_known = !section_doubts(section, KEY_DELIVERY);
	bool client_known = !section_doubts(section, KEY_CLIENT_ADDRESS);

	if (!section->settings[KEY_LISTEN].text &&
	    !section_doubts(section, KEY_LISTEN))
		config_error(config_files_at(files, section->file,
					     section->line),
			     "listen: listener '%s' needs one", section->name);
	if (delivery_known && listener->delivery == RP_DELIVERY_INLINE) {
		check_inline(files, section, listener);
		client_known = true;
	} else if (delivery_known) {
		check_relay(files, section, listener);
	}
	if (tlvs->text && client_known &&
	    listener->client_address != CLIENT_ADDRESS_PROXY_V2)
		config_error(config_files_at(files, tlvs->file, tlvs->line),
			     "forward_tlvs: only with client_address = "
			     "proxy-v2");
}

/* A copy of what `global` hands on; a listener has no more at first. */
static int inherit(struct listener_config *listener,
		   const struct listener_config *global,
		   const struct section *section)
{
	*listener = *global;
	listener->trusted = NULL;
	listener->n_trusted = 0;
	listener->line = section->line;
	memcpy(listener->name, section->name, sizeof(listener->name));
	listener->file = strdup(section->file);
	if (!listener->file)
		return -ENOMEM;
	if (global->n_trusted == 0)
		return 0;
	listener->trusted =
		malloc(global->n_trusted * sizeof(*listener->trusted));
	if (!listener->trusted)
		return -ENOMEM;
	memcpy(listener->trusted, global->trusted,
	       global->n_trusted * sizeof(*listener->trusted));
	listener->n_trusted = global->n_trusted;
	return 0;
}

static void resolve_listener(struct config_files *files, size_t index,
			     struct config *config)
{
	struct section *section = &files->listeners[index];
	struct listener_config *listener = &config->listeners[index];

	config->n_listeners++;
	if (inherit(listener, &config->global, section) < 0) {
		files->no_memory = true;
		return;
	}
	apply_section(files, section, config, listener);
	config_files_at(files, section->file, section->line);
	apply_listener_environment(files, index, listener);
	check_listener(files, section, listener);
}

/* Each address belongs to one listener. */
static void check_addresses(struct config_files *files,
			    const struct config *config, size_t index)
{
	const struct listener_config *listener = &config->listeners[index];
	const struct setting *setting = &files->listeners[index]
						 .settings[KEY_LISTEN],
			     *first;
	char text[ADDRESS_TEXT_MAX];

	for (size_t i = 0; i < index; i++) {
		const struct listener_config *other = &config->listeners[i];

		for (size_t j = 0; j < listener->n_listen * other->n_listen;
		     j++) {
			const struct address *address =
				&listener->listen[j / other->n_listen];

			if (!address_equal(address,
					   &other->listen[j % other->n_listen]))
				continue;
			first = &files->listeners[i].settings[KEY_LISTEN];
			config_error(config_files_at(files, setting->file,
						     setting->line),
				     "listen: %s belongs to listener '%s', "
				     "%s:%u",
				     address_format(&address->sa, text),
				     other->name, first->file, first->line);
		}
	}
}

/* Turns what the files say into what each listener does. */
static void resolve(struct config_files *files, struct config *config)
{
	size_t n_trusted = 0;

	apply_section(files, &files->global, config, &config->global);
	if (files->global.file)
		config_files_at(files, files->global.file, files->global.line);
	else
		config_files_at(files, files->names[0], 0);
	apply_environment(files, "REALPEER_PROXY_PROTOCOL",
			  &config->global.mode);
	config->listeners = calloc(files->n_listeners ? files->n_listeners : 1,
				   sizeof(*config->listeners));
	if (!config->listeners) {
		files->no_memory = true;
		return;
	}
	for (size_t i = 0; i < files->n_listeners; i++) {
		resolve_listener(files, i, config);
		check_addresses(files, config, i);
		n_trusted += config->listeners[i].n_trusted;
	}
	if (n_trusted > RP_TRUSTED_MAX)
		config_error(config_files_at(files, files->names[0], 0),
			     "trusted: more than %d prefixes over all "
			     "listeners",
			     RP_TRUSTED_MAX);
}

static struct config *config_new(void)
{
	struct config *config = calloc(1, sizeof(*config));

	if (!config)
		return NULL;
	config->references = 1;
	config->log_level = LOG_LEVEL_INFO;
	config->drain_timeout_ms = 30 * 1000;
	config->global.mode = RP_MODE_REQUIRED;
	config->global.delivery = RP_DELIVERY_INLINE;
	config->global.untrusted = RP_UNTRUSTED_RESET;
	config->global.offload = OFFLOAD_WANTED_AUTO;
	config->global.client_address = CLIENT_ADDRESS_NONE;
	config->global.header_timeout_ms = 3 * 1000;
	config->global.header_max = 4096;
	return config;
}

/* For those that getpeername() shall tell the client. */
static int find_handlers(struct config *config)
{
	for (size_t i = 0; i < config->n_listeners; i++) {
		struct listener_config *listener = &config->listeners[i];
		int here;

		if (listener->delivery != RP_DELIVERY_RELAY ||
		    listener->client_address != CLIENT_ADDRESS_GETPEERNAME)
			continue;
		here = address_is_local(&listener->handler);
		if (here < 0)
			return here;
		listener->handler_here = here;
	}
	return 0;
}

int config_load(const char *path, FILE *errors, struct config **ret_config)
{
	struct config_files files = {.place.errors = errors};
	struct config *config = config_new();
	int r = 0;

	if (!config)
		return -ENOMEM;
	config_files_read(&files, path);
	if (!files.no_memory)
		resolve(&files, config);
	if (files.no_memory)
		r = -ENOMEM;
	else if (files.place.n_errors)
		r = -EINVAL;
	config_files_clear(&files);
	if (r == 0) {
		r = find_handlers(config);
		if (r < 0)
			fprintf(errors, "%s:0: handler: %s\n", path,
				strerror(-r));
	}
	if (r < 0) {
		config_unref(config);
		return r;
	}
	*ret_config = config;
	return 0;
}

struct config *config_ref(struct config *config)
{
	__atomic_add_fetch(&config->references, 1, __ATOMIC_RELAXED);
	return config;
}

static void listener_clear(struct listener_config *listener)
{
	free(listener->file);
	free(listener->listen);
	free(listener->trusted);
}

void config_unref(struct config *config)
{
	if (!config ||
	    __atomic_sub_fetch(&config->references, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	for (size_t i = 0; i < config->n_listeners; i++)
		listener_clear(&config->listeners[i]);
	listener_clear(&config->global);
	free(config->listeners);
	free(config);
}
