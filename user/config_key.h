/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * config_key.h - the keys of realpeer.conf: their names, where each may
 * stand, and how its value is read.
 */
#ifndef REALPEER_CONFIG_KEY_H
#define REALPEER_CONFIG_KEY_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"

/* In the order in which they are applied. */
enum config_key {
	KEY_PROXY_PROTOCOL,
	KEY_TRUSTED,
	KEY_HEADER_TIMEOUT,
	KEY_HEADER_MAX,
	KEY_OFFLOAD,
	KEY_UNTRUSTED,
	KEY_SPECIAL_SOURCE,
	KEY_LOG_LEVEL,
	KEY_DRAIN_TIMEOUT,
	KEY_THREADS,
	KEY_CONNECTIONS_MAX,
	KEY_LISTEN,
	KEY_DELIVERY,
	KEY_HANDLER,
	KEY_CLIENT_ADDRESS,
	KEY_FORWARD_TLVS,
	KEY_COUNT,
	KEY_NONE = KEY_COUNT,
};

/* Where an error is said to be, and how many there were. */
struct config_place {
	FILE *errors;
	const char *file;
	unsigned int line;
	size_t n_errors;
};

void config_error(struct config_place *place, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* KEY_NONE for a name that is no key. */
enum config_key config_key_find(const char *name);
const char *config_key_name(enum config_key key);
bool config_key_in_global(enum config_key key);
bool config_key_in_listener(enum config_key key);

/* The key that `name` may have meant; NULL when none is close. */
const char *config_key_guess(const char *name, bool listener);

/* At most `most` single-character edits between the two? */
bool config_close(const char *a, const char *b, size_t most);

/*
 * Reads `text` into `config` (keys of [global] only) or `listener`. Mistakes
 * are told with config_error() and change nothing. 0, -EINVAL or -ENOMEM.
 */
int config_key_apply(enum config_key key, const char *text,
		     struct config *config, struct listener_config *listener,
		     struct config_place *place);

/* "disabled", "enabled", "required" into *ret; 0 or -EINVAL. */
int config_mode_parse(const char *text, enum rp_mode *ret);

#endif
