/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_listener.c - user/listener.c: what settings come to, and who keeps them
 */
#include "listener.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker.h"

static struct listener_config settings;
static struct config config = {.listeners = &settings, .n_listeners = 1};
static struct worker *worker;

static int setup(void **state)
{
	(void)state;
	memset(&settings, 0, sizeof(settings));
	config.references = 1;
	worker = calloc(1, sizeof(*worker)); /* no thread is needed */
	return worker ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	counters_free(&worker->counters);
	free(worker);
	return 0;
}

static struct listener *make(uint32_t number)
{
	struct listener *listener = NULL;

	assert_int_equal(listener_new(worker, &config, 0, number, &listener),
			 0);
	return listener;
}

static void references(void **state)
{
	struct listener *listener = make(3);

	(void)state;
	assert_int_equal(config.references, 2);
	assert_ptr_equal(listener_ref(listener), listener);
	listener_unref(listener);
	assert_int_equal(config.references, 2);
	listener_unref(listener);
	assert_int_equal(config.references, 1);
	listener_unref(NULL);
}

static void what_it_knows(void **state)
{
	struct prefix trusted;
	struct listener *listener;

	(void)state;
	assert_int_equal(prefix_parse("10.0.0.0/8", &trusted), 0);
	settings.trusted = &trusted;
	settings.n_trusted = 1;
	settings.mode = RP_MODE_REQUIRED;
	settings.offload = OFFLOAD_WANTED_AUTO;
	listener = make(9);
	assert_ptr_equal(listener->worker, worker);
	assert_ptr_equal(listener->settings, &settings);
	assert_int_equal(listener->number, 9);
	assert_int_equal(listener->offload, RP_OFFLOAD_OFF);
	assert_int_equal(listener->trusted.n, 1);
	assert_true(prefix_set_contains(&listener->trusted, trusted.address));
	listener_count(listener, RP_STAT_DIRECT);
	assert_int_equal(counters_read(&worker->counters, 9, RP_STAT_DIRECT),
			 1);
	listener_unref(listener);
	/* Counts outlive it. */
	assert_int_equal(counters_read(&worker->counters, 9, RP_STAT_DIRECT),
			 1);
}

static void check_shows(bool here, bool shows)
{
	struct listener *listener;

	settings.handler_here = here;
	listener = make(1);
	assert_int_equal(listener->shows_client, shows);
	listener_unref(listener);
}

/* Only sockets of this host have a getpeername() that we can answer. */
static void shows_client(void **state)
{
	(void)state;
	settings.delivery = RP_DELIVERY_RELAY;
	settings.client_address = CLIENT_ADDRESS_GETPEERNAME;
	check_shows(true, true);
	check_shows(false, false);
	settings.client_address = CLIENT_ADDRESS_PROXY_V1;
	check_shows(true, false);
	settings.delivery = RP_DELIVERY_INLINE;
	check_shows(false, true);
}

static void impossible_number(void **state)
{
	struct listener *listener = NULL;

	(void)state;
	assert_int_equal(listener_new(worker, &config, 0, RP_LISTENERS_MAX,
				      &listener),
			 -ENOMEM);
	assert_null(listener);
	assert_int_equal(config.references, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(references),
		TEST(what_it_knows),
		TEST(shows_client),
		TEST(impossible_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
