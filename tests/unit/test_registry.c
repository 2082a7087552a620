/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_registry.c - user/registry.c without a kernel part: what a connection
 * is listed as. With one: tests/bpf/test_registry.c.
 */
#include "registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "connection.h"
#include "loopback.h"

static void cookies(void **state)
{
	uint16_t port;
	int listener = tcp_listen(&port), client = tcp_connect(port);
	int fd = stream_accept(listener);

	(void)state;
	assert_true(socket_cookie(fd) != 0);
	assert_true(socket_cookie(fd) == socket_cookie(fd));
	assert_true(socket_cookie(fd) != socket_cookie(client));
	assert_true(socket_cookie(-1) == 0);
	close(fd);
	close(client);
	close(listener);
}

static void whole_record(void **state)
{
	const struct listener_config settings = {.name = "mqtt"};
	struct listener listener = {
		.settings = &settings,
		.number = 17,
		.offload = RP_OFFLOAD_PEEK,
	};
	struct connection connection = {
		.listener = &listener,
		.record = {.client_port = 5555, .version = 2},
	};
	struct rp_connection record;
	struct rp_tlvs tlvs;

	(void)state;
	assert_false(registry_record(&connection, &record, &tlvs));
	assert_int_equal(record.delivery, RP_DELIVERY_RELAY);
	assert_int_equal(record.offload, RP_OFFLOAD_PEEK);
	assert_int_equal(record.listener, 17);
	assert_string_equal(record.listener_name, "mqtt");
	assert_int_equal(record.client_port, 5555);
	assert_int_equal(record.version, 2);
	assert_int_equal(record.shown, 0);
}

/* Without a kernel part there is nobody to tell. */
static void nobody_to_tell(void **state)
{
	struct worker *worker = calloc(1, sizeof(*worker));
	struct listener listener = {.worker = worker};
	struct connection connection = {.listener = &listener};

	(void)state;
	assert_non_null(worker);
	registry_add(&connection, -1);
	assert_false(connection.recorded);
	assert_true(connection.cookie == 0);
	registry_remove(&connection);
	free(worker);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cookies),
		cmocka_unit_test(whole_record),
		cmocka_unit_test(nobody_to_tell),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
