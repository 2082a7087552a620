// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* test_attach.c - ports that are attached, and what they become. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "attach.h"

/* As config_load() leaves it: counted, with arrays of its own. */
static struct config *make_config(enum rp_mode mode)
{
	struct config *config = calloc(1, sizeof(*config));

	assert_non_null(config);
	config->references = 1;
	config->global.mode = mode;
	config->global.header_max = 4096;
	config->global.offload = OFFLOAD_WANTED_PEEK;
	config->global.trusted = calloc(1, sizeof(struct prefix));
	config->global.n_trusted = 1;
	assert_int_equal(prefix_parse("10.0.0.0/8", config->global.trusted), 0);
	return config;
}

static void add_listener(struct config *config, const char *listen)
{
	struct listener_config *listener = calloc(1, sizeof(*listener));

	strcpy(listener->name, "mqtt");
	listener->file = strdup("a.conf");
	listener->line = 7;
	listener->listen = calloc(1, sizeof(*listener->listen));
	listener->n_listen = 1;
	assert_int_equal(address_parse(listen, listener->listen), 0);
	config->listeners = listener;
	config->n_listeners = 1;
}

static void test_add_and_remove(void **state)
{
	struct attached attached = {0};

	(void)state;
	assert_int_equal(attached_add(&attached, 1883, NULL, 0), 0);
	assert_int_equal(attached_add(&attached, 5672, NULL, 0), 0);
	assert_int_equal(attached_add(&attached, 1883, NULL, 0), -EEXIST);
	assert_int_equal(attached.n, 2);
	assert_int_equal(attached_remove(&attached, 1883), 0);
	assert_int_equal(attached_remove(&attached, 1883), -ENOENT);
	assert_int_equal(attached.n, 1);
	assert_int_equal(attached.ports[0].port, 5672);
	attached_clear(&attached);
	assert_int_equal(attached.n, 0);
}

/* Taken by a detach that then fails: as if nothing had been. */
static void test_put_back(void **state)
{
	struct attached attached = {0};
	struct attached_port taken;
	struct prefix trusted;

	(void)state;
	assert_int_equal(prefix_parse("192.0.2.0/24", &trusted), 0);
	assert_int_equal(attached_add(&attached, 1883, &trusted, 1), 0);
	assert_int_equal(attached_add(&attached, 5672, NULL, 0), 0);
	assert_int_equal(attached_take(&attached, 1884, &taken), -ENOENT);
	assert_int_equal(attached_take(&attached, 1883, &taken), 0);
	assert_int_equal(attached.n, 1);
	assert_int_equal(attached_remove(&attached, 1883), -ENOENT);
	attached_put_back(&attached, &taken);
	assert_int_equal(attached.n, 2);
	assert_int_equal(attached.ports[1].port, 1883);
	assert_int_equal(attached.ports[1].n_trusted, 1);
	assert_memory_equal(attached.ports[1].trusted, &trusted,
			    sizeof(trusted));
	assert_int_equal(attached_remove(&attached, 1883), 0);
	attached_clear(&attached);
}

static void test_listener(void **state)
{
	struct config *config = make_config(RP_MODE_ENABLED);
	struct attached attached = {0};
	const struct listener_config *listener;
	char text[ADDRESS_TEXT_MAX];
	struct prefix trusted;

	(void)state;
	add_listener(config, "0.0.0.0:5672");
	assert_int_equal(prefix_parse("192.0.2.0/24", &trusted), 0);
	assert_int_equal(attached_add(&attached, 1883, &trusted, 1), 0);
	assert_int_equal(attached_extend(&attached, config), 0);
	assert_int_equal(config->n_listeners, 2);
	listener = &config->listeners[1];
	assert_string_equal(listener->name, "port-1883");
	assert_int_equal(listener->attached, RP_ATTACHED_OWN);
	assert_int_equal(listener->delivery, RP_DELIVERY_INLINE);
	assert_int_equal(listener->mode, RP_MODE_ENABLED);
	assert_int_equal(listener->offload, OFFLOAD_WANTED_AUTO);
	assert_int_equal(listener->header_max, 4096);
	assert_int_equal(listener->n_trusted, 1);
	assert_memory_equal(listener->trusted, &trusted, sizeof(trusted));
	assert_int_equal(listener->n_listen, 2);
	assert_string_equal(address_format(&listener->listen[0].sa, text),
			    "0.0.0.0:1883");
	assert_string_equal(address_format(&listener->listen[1].sa, text),
			    "[::]:1883");
	config_unref(config);
	attached_clear(&attached);
}

/* Nothing was said of whom to trust: those of [global] are. */
static void test_global_trusted(void **state)
{
	struct config *config = make_config(RP_MODE_DISABLED);
	struct attached attached = {0};

	(void)state;
	assert_int_equal(attached_add(&attached, 1883, NULL, 0), 0);
	assert_int_equal(attached_extend(&attached, config), 0);
	assert_int_equal(config->listeners[0].attached, RP_ATTACHED_GLOBAL);
	assert_int_equal(config->listeners[0].n_trusted, 1);
	assert_memory_equal(config->listeners[0].trusted,
			    config->global.trusted, sizeof(struct prefix));
	/* attach asks for headers to be read, whatever the rest does. */
	assert_int_equal(config->listeners[0].mode, RP_MODE_REQUIRED);
	config_unref(config);
	attached_clear(&attached);
}

/* An address of the files is taken away, and no other. */
static void test_taken_address(void **state)
{
	static const char *const taken[] = {"127.0.0.1:1883", "[::1]:1883",
					    "0.0.0.0:1883"};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct config *config = make_config(RP_MODE_REQUIRED);
		const struct listener_config *listener;
		struct attached attached = {0};
		const char *what = NULL;
		char text[ADDRESS_TEXT_MAX];

		add_listener(config, taken[i]);
		assert_int_equal(attached_add(&attached, 1883, NULL, 0), 0);
		assert_int_equal(attached_extend(&attached, config), 0);
		assert_null(attached_rival(config, 1883, &what));
		assert_int_equal(config->n_listeners, 2);
		listener = &config->listeners[1];
		assert_int_equal(listener->n_listen, i == 2 ? 1 : 2);
		address_format(&listener->listen[listener->n_listen - 1].sa,
			       text);
		assert_string_equal(text, "[::]:1883");
		config_unref(config);
		attached_clear(&attached);
	}
}

/* Whoever wrote the port into a file shall have what is written there. */
static void test_rival(void **state)
{
	struct config *config = make_config(RP_MODE_REQUIRED);
	struct attached attached = {0};
	const char *what = NULL;

	(void)state;
	add_listener(config, "[::]:1883");
	assert_int_equal(attached_add(&attached, 1883, NULL, 0), 0);
	assert_int_equal(attached_add(&attached, 5672, NULL, 0), 0);
	assert_int_equal(attached_extend(&attached, config), 0);
	assert_int_equal(config->n_listeners, 2);
	assert_string_equal(config->listeners[1].name, "port-5672");
	assert_ptr_equal(attached_rival(config, 1883, &what),
			 config->listeners);
	assert_string_equal(what, "it");
	assert_null(attached_rival(config, 5672, &what));
	config_unref(config);
	attached_clear(&attached);
}

/* A name has one number: its listener is the one that a file names so. */
static void test_namesake(void **state)
{
	struct config *config = make_config(RP_MODE_REQUIRED);
	struct attached attached = {0};
	const char *what = NULL;

	(void)state;
	add_listener(config, "192.0.2.1:80");
	strcpy(config->listeners[0].name, "port-1883");
	assert_int_equal(attached_add(&attached, 1883, NULL, 0), 0);
	assert_int_equal(attached_add(&attached, 80, NULL, 0), 0);
	assert_int_equal(attached_extend(&attached, config), 0);
	assert_int_equal(config->n_listeners, 2);
	assert_string_equal(config->listeners[1].name, "port-80");
	assert_ptr_equal(attached_rival(config, 1883, &what),
			 config->listeners);
	assert_string_equal(what, "its name");
	assert_null(attached_rival(config, 80, &what));
	config_unref(config);
	attached_clear(&attached);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_and_remove),
		cmocka_unit_test(test_put_back),
		cmocka_unit_test(test_listener),
		cmocka_unit_test(test_global_trusted),
		cmocka_unit_test(test_taken_address),
		cmocka_unit_test(test_rival),
		cmocka_unit_test(test_namesake),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
