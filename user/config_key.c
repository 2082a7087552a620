/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config_key.c - see config_key.h. Values only; must not know of files,
 * inheritance or what one key means for another.
 */
#include "config_key.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define HEADER_TIMEOUT_MAX_MS (10u * 60 * 1000)
#define DRAIN_TIMEOUT_MAX_MS  (60u * 60 * 1000)
#define HEADER_MAX_MIN	      107 /* the longest header of version 1 */
#define HEADER_MAX_MAX	      65535
#define THREADS_MAX	      1024
#define CONNECTIONS_MAX_MAX   (1u << 22)

/* What a key's value goes into, and where its mistakes are told. */
struct target {
	const char *key;
	struct config *config;
	struct listener_config *listener;
	struct config_place *place;
};

struct word {
	const char *name;
	unsigned int value;
};

static const struct word modes[] = {
	{"disabled", RP_MODE_DISABLED},
	{"enabled", RP_MODE_ENABLED},
	{"required", RP_MODE_REQUIRED},
};

static const struct word offloads[] = {
	{"auto", OFFLOAD_WANTED_AUTO},
	{"accept", OFFLOAD_WANTED_ACCEPT},
	{"peek", OFFLOAD_WANTED_PEEK},
	{"off", OFFLOAD_WANTED_OFF},
};

static const struct word untrusted_words[] = {
	{"reset", RP_UNTRUSTED_RESET},
	{"direct", RP_UNTRUSTED_DIRECT},
};

static const struct word special_source_words[] = {
	{"refuse", false},
	{"accept", true},
};

static const struct word deliveries[] = {
	{"inline", RP_DELIVERY_INLINE},
	{"relay", RP_DELIVERY_RELAY},
};

static const struct word client_addresses[] = {
	{"none", CLIENT_ADDRESS_NONE},
	{"getpeername", CLIENT_ADDRESS_GETPEERNAME},
	{"proxy-v1", CLIENT_ADDRESS_PROXY_V1},
	{"proxy-v2", CLIENT_ADDRESS_PROXY_V2},
};

static const struct word tlvs[] = {
	{"authority", RP_TLV_AUTHORITY},
	{"unique_id", RP_TLV_UNIQUE_ID},
	{"alpn", RP_TLV_ALPN},
	{"ssl", RP_TLV_SSL},
	{"aws_vpce_id", RP_TLV_AWS_VPCE_ID},
	{"azure_link_id", RP_TLV_AZURE_LINK_ID},
	{"gcp_psc_id", RP_TLV_GCP_PSC_ID},
};

void config_error(struct config_place *place, const char *format, ...)
{
	va_list args;

	place->n_errors++;
	fprintf(place->errors, "%s:%u: ", place->file, place->line);
	va_start(args, format);
	vfprintf(place->errors, format, args);
	va_end(args);
	fputc('\n', place->errors);
}

/* Tells that `text` is none of `words`. */
static int word_error(struct target *target, const char *text,
		      const struct word *words, size_t n)
{
	char list[160] = "", escaped[80];
	size_t have = 0;

	for (size_t i = 0; i < n; i++)
		have += (size_t)snprintf(list + have, sizeof(list) - have,
					 "%s%s", i ? ", " : "", words[i].name);
	config_error(target->place, "%s: '%s' is not one of %s", target->key,
		     log_escape(text, strlen(text), escaped, sizeof(escaped)),
		     list);
	return -EINVAL;
}

static int word_find(const char *text, const struct word *words, size_t n,
		     unsigned int *ret)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(text, words[i].name) == 0) {
			*ret = words[i].value;
			return 0;
		}
	}
	return -EINVAL;
}

static const char *word_name(const struct word *words, size_t n,
			     unsigned int value)
{
	for (size_t i = 0; i < n; i++) {
		if (words[i].value == value)
			return words[i].name;
	}
	return "?";
}

static int value_error(struct target *target, const char *text,
		       const char *wanted)
{
	char escaped[120];

	config_error(target->place, "%s: '%s' is not %s", target->key,
		     log_escape(text, strlen(text), escaped, sizeof(escaped)),
		     wanted);
	return -EINVAL;
}

/* Decimal digits only; what is above UINT32_MAX counts as UINT32_MAX. */
static int digits_parse(const char *text, const char **ret_end, uint32_t *ret)
{
	uint64_t value = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		value = value * 10 + (uint64_t)(*p - '0');
		if (value > UINT32_MAX)
			value = UINT32_MAX;
	}
	if (p == text)
		return -EINVAL;
	*ret_end = p;
	*ret = (uint32_t)value;
	return 0;
}

static int number_parse(struct target *target, const char *text, uint32_t least,
			uint32_t most, uint32_t *ret)
{
	const char *end;
	uint32_t value;

	if (digits_parse(text, &end, &value) < 0 || *end)
		return value_error(target, text, "a whole number");
	if (value < least || value > most) {
		config_error(target->place, "%s: %u is not between %u and %u",
			     target->key, value, least, most);
		return -EINVAL;
	}
	*ret = value;
	return 0;
}

static int duration_parse(struct target *target, const char *text,
			  uint32_t least, uint32_t most, const char *bounds,
			  uint32_t *ret)
{
	const char *end;
	uint64_t unit;
	uint32_t value;

	if (digits_parse(text, &end, &value) < 0)
		return value_error(target, text,
				   "a duration (such as 500ms, 3s or 1m)");
	if (!*end)
		return value_error(
			target, text,
			"a duration: the unit (ms, s or m) is missing");
	if (strcmp(end, "ms") == 0)
		unit = 1;
	else if (strcmp(end, "s") == 0)
		unit = 1000;
	else if (strcmp(end, "m") == 0)
		unit = 60 * 1000;
	else
		return value_error(target, text,
				   "a duration: units are ms, s and m");
	if (value * unit < least || value * unit > most)
		return value_error(target, text, bounds);
	*ret = (uint32_t)(value * unit);
	return 0;
}

/* Cuts the next item out of the comma-separated list at *list. */
static char *next_item(char **list)
{
	char *item = strsep(list, ","), *end;

	if (!item)
		return NULL;
	item += strspn(item, " \t");
	end = item + strlen(item);
	while (end > item && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = '\0';
	return item;
}

/*
 * Gives each item of the list `text` to `take`, which stores it as the
 * index-th and returns 0 or -EINVAL (told). All mistakes are told.
 */
static int list_parse(struct target *target, const char *text, size_t most,
		      int (*take)(struct target *target, const char *item,
				  void *out, size_t index),
		      void *out, size_t *ret_n)
{
	char *copy = strdup(text), *rest = copy, *item;
	size_t n = 0;
	int r = 0;

	if (!copy)
		return -ENOMEM;
	while ((item = next_item(&rest))) {
		if (n == most) {
			config_error(target->place,
				     "%s: more than %zu in the list",
				     target->key, most);
			r = -EINVAL;
			break;
		}
		if (take(target, item, out, n) < 0)
			r = -EINVAL;
		else
			n++;
	}
	free(copy);
	if (r == 0)
		*ret_n = n;
	return r;
}

static size_t count_items(const char *text)
{
	size_t n = 1;

	for (; *text; text++)
		n += *text == ',';
	return n;
}

static int take_prefix(struct target *target, const char *item, void *out,
		       size_t index)
{
	struct prefix *prefixes = out;

	if (prefix_parse(item, &prefixes[index]) < 0)
		return value_error(
			target, item,
			"an IP address or a prefix such as 10.0.0.0/8");
	return 0;
}

static int apply_trusted(struct target *target, const char *text)
{
	size_t n = count_items(text);
	struct prefix *prefixes;
	int r;

	if (n > CONFIG_TRUSTED_MAX)
		n = CONFIG_TRUSTED_MAX;
	prefixes = calloc(n, sizeof(*prefixes));
	if (!prefixes)
		return -ENOMEM;
	r = list_parse(target, text, n, take_prefix, prefixes, &n);
	if (r < 0) {
		free(prefixes);
		return r;
	}
	free(target->listener->trusted);
	target->listener->trusted = prefixes;
	target->listener->n_trusted = n;
	return 0;
}

static int take_listen(struct target *target, const char *item, void *out,
		       size_t index)
{
	struct address *addresses = out, address;

	if (address_parse(item, &address) < 0 ||
	    address.sa.sa_family == AF_UNIX)
		return value_error(
			target, item,
			"an address such as 0.0.0.0:1883 or [::]:1883");
	for (size_t i = 0; i < index; i++) {
		if (address_equal(&addresses[i], &address)) {
			config_error(target->place, "%s: %s stands twice",
				     target->key, item);
			return -EINVAL;
		}
	}
	addresses[index] = address;
	return 0;
}

static int apply_listen(struct target *target, const char *text)
{
	size_t n;
	struct address *addresses =
		calloc(CONFIG_LISTEN_MAX, sizeof(*addresses));
	int r;

	if (!addresses)
		return -ENOMEM;
	r = list_parse(target, text, CONFIG_LISTEN_MAX, take_listen, addresses,
		       &n);
	if (r < 0) {
		free(addresses);
		return r;
	}
	free(target->listener->listen);
	target->listener->listen = addresses;
	target->listener->n_listen = n;
	return 0;
}

static int take_tlv(struct target *target, const char *item, void *out,
		    size_t index)
{
	uint16_t *bits = out;
	unsigned int bit;

	(void)index;
	if (word_find(item, tlvs, ARRAY_SIZE(tlvs), &bit) < 0)
		return word_error(target, item, tlvs, ARRAY_SIZE(tlvs));
	*bits |= (uint16_t)bit;
	return 0;
}

static int apply_forward_tlvs(struct target *target, const char *text)
{
	uint16_t bits = 0;
	size_t n;
	int r = list_parse(target, text, ARRAY_SIZE(tlvs), take_tlv, &bits, &n);

	if (r < 0)
		return r;
	target->listener->tlvs_forwarded = bits;
	return 0;
}

/* Which of the two a listener takes depends on its delivery. */
static int apply_handler(struct target *target, const char *text)
{
	struct address address;
	uint16_t port;

	if (port_parse(text, &port) == 0)
		target->listener->handler_port = port;
	else if (address_parse(text, &address) == 0)
		target->listener->handler = address;
	else
		return value_error(
			target, text,
			"host:port with a numeric host, unix:/path or a port");
	return 0;
}

/* An apply_* function for a key whose value is one of `words`. */
#define APPLY_WORD(name, words, type, where)                               \
	static int apply_##name(struct target *target, const char *text)   \
	{                                                                  \
		unsigned int value;                                        \
                                                                           \
		if (word_find(text, words, ARRAY_SIZE(words), &value) < 0) \
			return word_error(target, text, words,             \
					  ARRAY_SIZE(words));              \
		target->where = (type)value;                               \
		return 0;                                                  \
	}

APPLY_WORD(mode, modes, enum rp_mode, listener->mode)
APPLY_WORD(offload, offloads, enum offload_wanted, listener->offload)
APPLY_WORD(untrusted, untrusted_words, enum rp_untrusted, listener->untrusted)
APPLY_WORD(special_source, special_source_words, bool, listener->special_source)
APPLY_WORD(delivery, deliveries, enum rp_delivery, listener->delivery)
APPLY_WORD(client_address, client_addresses, enum client_address,
	   listener->client_address)

static int apply_log_level(struct target *target, const char *text)
{
	if (log_level_parse(text, &target->config->log_level) < 0)
		return value_error(
			target, text,
			"one of error, warning, notice, info, debug");
	return 0;
}

static int apply_header_timeout(struct target *target, const char *text)
{
	return duration_parse(target, text, 1, HEADER_TIMEOUT_MAX_MS,
			      "between 1ms and 10m",
			      &target->listener->header_timeout_ms);
}

static int apply_header_max(struct target *target, const char *text)
{
	return number_parse(target, text, HEADER_MAX_MIN, HEADER_MAX_MAX,
			    &target->listener->header_max);
}

static int apply_drain_timeout(struct target *target, const char *text)
{
	return duration_parse(target, text, 0, DRAIN_TIMEOUT_MAX_MS,
			      "between 0s and 60m",
			      &target->config->drain_timeout_ms);
}

static int apply_threads(struct target *target, const char *text)
{
	return number_parse(target, text, 0, THREADS_MAX,
			    &target->config->threads);
}

static int apply_connections_max(struct target *target, const char *text)
{
	return number_parse(target, text, 0, CONNECTIONS_MAX_MAX,
			    &target->config->connections_max);
}

#define GLOBAL	 1u
#define LISTENER 2u

static const struct {
	const char *name;
	unsigned int scope;
	int (*apply)(struct target *target, const char *text);
} keys[KEY_COUNT] = {
	[KEY_PROXY_PROTOCOL] = {"proxy_protocol", GLOBAL | LISTENER,
				apply_mode},
	[KEY_TRUSTED] = {"trusted", GLOBAL | LISTENER, apply_trusted},
	[KEY_HEADER_TIMEOUT] = {"header_timeout", GLOBAL | LISTENER,
				apply_header_timeout},
	[KEY_HEADER_MAX] = {"header_max", GLOBAL | LISTENER, apply_header_max},
	[KEY_OFFLOAD] = {"offload", GLOBAL | LISTENER, apply_offload},
	[KEY_UNTRUSTED] = {"untrusted", GLOBAL | LISTENER, apply_untrusted},
	[KEY_SPECIAL_SOURCE] = {"special_source", GLOBAL | LISTENER,
				apply_special_source},
	[KEY_LOG_LEVEL] = {"log_level", GLOBAL, apply_log_level},
	[KEY_DRAIN_TIMEOUT] = {"drain_timeout", GLOBAL, apply_drain_timeout},
	[KEY_THREADS] = {"threads", GLOBAL, apply_threads},
	[KEY_CONNECTIONS_MAX] = {"connections_max", GLOBAL,
				 apply_connections_max},
	[KEY_LISTEN] = {"listen", LISTENER, apply_listen},
	[KEY_DELIVERY] = {"delivery", LISTENER, apply_delivery},
	[KEY_HANDLER] = {"handler", LISTENER, apply_handler},
	[KEY_CLIENT_ADDRESS] = {"client_address", LISTENER,
				apply_client_address},
	[KEY_FORWARD_TLVS] = {"forward_tlvs", LISTENER, apply_forward_tlvs},
};

enum config_key config_key_find(const char *name)
{
	enum config_key key = 0;

	while (key < KEY_COUNT && strcmp(name, keys[key].name) != 0)
		key++;
	return key;
}

const char *config_key_name(enum config_key key)
{
	return keys[key].name;
}

bool config_key_in_global(enum config_key key)
{
	return keys[key].scope & GLOBAL;
}

bool config_key_in_listener(enum config_key key)
{
	return keys[key].scope & LISTENER;
}

#define CLOSE_MAX 32 /* characters that are compared */

/* Levenshtein's distance, one row at a time. */
bool config_close(const char *a, const char *b, size_t most)
{
	size_t row[CLOSE_MAX + 1], n = strlen(b);

	if (strlen(a) > CLOSE_MAX || n > CLOSE_MAX)
		return false;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (; *a; a++) {
		size_t diagonal = row[0]++;

		for (size_t j = 1; j <= n; j++) {
			size_t best = diagonal + (*a != b[j - 1]);

			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = row[j];
			row[j] = best;
		}
	}
	return row[n] <= most;
}

const char *config_key_guess(const char *name, bool listener)
{
	for (size_t most = 1; most <= 3; most++) {
		for (size_t i = 0; i < KEY_COUNT; i++) {
			if (!(keys[i].scope & (listener ? LISTENER : GLOBAL)))
				continue;
			/* A guess shares more than half with the name. */
			if (strlen(keys[i].name) > 2 * most &&
			    config_close(name, keys[i].name, most))
				return keys[i].name;
		}
	}
	return NULL;
}

int config_key_apply(enum config_key key, const char *text,
		     struct config *config, struct listener_config *listener,
		     struct config_place *place)
{
	struct target target = {
		.key = keys[key].name,
		.config = config,
		.listener = listener,
		.place = place,
	};

	if (!*text) {
		config_error(place, "%s: the value is missing", target.key);
		return -EINVAL;
	}
	return keys[key].apply(&target, text);
}

int config_mode_parse(const char *text, enum rp_mode *ret)
{
	unsigned int value;

	if (word_find(text, modes, ARRAY_SIZE(modes), &value) < 0)
		return -EINVAL;
	*ret = (enum rp_mode)value;
	return 0;
}

const char *mode_name(enum rp_mode mode)
{
	return word_name(modes, ARRAY_SIZE(modes), mode);
}

const char *delivery_name(enum rp_delivery delivery)
{
	return word_name(deliveries, ARRAY_SIZE(deliveries), delivery);
}

const char *offload_name(enum rp_offload offload)
{
	return word_name(offloads, ARRAY_SIZE(offloads), offload);
}

const char *client_address_name(enum client_address client_address)
{
	return word_name(client_addresses, ARRAY_SIZE(client_addresses),
			 client_address);
}
