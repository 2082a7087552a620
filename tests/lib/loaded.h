/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * loaded.h - a configuration that a test loads from a text.
 */
#ifndef REALPEER_LOADED_H
#define REALPEER_LOADED_H

#include "config.h"

/* What was loaded last, and the errors, with the directory's name as "@". */
extern struct config *config;
extern char *told;

/* cmocka fixtures: *state is a directory; no REALPEER_ variable is set. */
int loaded_setup(void **state);
int loaded_teardown(void **state);

/* Loads `text` as a.conf of the directory; as config_load() does. */
int load(void **state, const char *text);

/* The same, without a mistake, or with what is expected. */
void good(void **state, const char *text);
void bad(void **state, const char *text, const char *expected);

/* The one of that name. */
const struct listener_config *listener(const char *name);

#endif
