/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * loaded.c - see loaded.h.
 */
#include "loaded.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "temp_dir.h"

extern char **environ;

struct config *config;
char *told;

int loaded_setup(void **state)
{
	/* Nothing that the tests' caller has set. */
	for (char **variable = environ; *variable;) {
		char name[64];

		if (strncmp(*variable, "REALPEER_", 9) != 0) {
			variable++;
			continue;
		}
		snprintf(name, sizeof(name), "%.*s",
			 (int)strcspn(*variable, "="), *variable);
		unsetenv(name);
	}
	return temp_dir_setup(state);
}

int loaded_teardown(void **state)
{
	config_unref(config);
	config = NULL;
	free(told);
	told = NULL;
	return temp_dir_teardown(state);
}

int load(void **state, const char *text)
{
	const char *path = temp_text(state, "a.conf", text);
	size_t len, directory_len = strlen(*state);
	char *found;
	FILE *errors;
	int r;

	config_unref(config);
	config = NULL;
	free(told);
	errors = open_memstream(&told, &len);
	assert_non_null(errors);
	r = config_load(path, errors, &config);
	assert_int_equal(fclose(errors), 0);
	while ((found = strstr(told, *state))) {
		*found = '@';
		memmove(found + 1, found + directory_len,
			strlen(found + directory_len) + 1);
	}
	return r;
}

void good(void **state, const char *text)
{
	int r = load(state, text);

	assert_string_equal(told, "");
	assert_int_equal(r, 0);
	assert_non_null(config);
}

void bad(void **state, const char *text, const char *expected)
{
	assert_int_equal(load(state, text), -EINVAL);
	assert_string_equal(told, expected);
	assert_null(config);
}

const struct listener_config *listener(const char *name)
{
	for (size_t i = 0; i < config->n_listeners; i++) {
		if (strcmp(config->listeners[i].name, name) == 0)
			return &config->listeners[i];
	}
	fail_msg("no listener %s", name);
	return NULL;
}
