/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_status.c - user/status.c, with a server that really listens (on
 * loopback) and no BPF.
 */
#include "status.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "setup.h"
#include "temp_dir.h"

static const struct attached nothing;

static struct setup loaded;
static struct status told;
static int handler = -1;
static uint16_t ports[2];

/* A port of loopback that is free now; its socket stays if it listens. */
static uint16_t free_port(bool keep)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (void *)&address, len) < 0 ||
	    listen(fd, 8) < 0 || getsockname(fd, (void *)&address, &len) < 0)
		return 0;
	if (keep)
		handler = fd;
	else
		close(fd);
	return ntohs(address.sin_port);
}

static int start(void **state)
{
	static const struct datapath_features none = {.why = "a test"};
	struct timespec now;
	char text[600];

	if (temp_dir_setup(state) < 0)
		return -1;
	ports[0] = free_port(true);
	ports[1] = free_port(false);
	snprintf(text, sizeof(text),
		 "[global]\nthreads = 1\ntrusted = 127.0.0.0/8\n"
		 "special_source = accept\nlog_level = error\n"
		 "[listener one]\nlisten = 127.0.0.1:%u\ndelivery = relay\n"
		 "handler = 127.0.0.1:%u\n"
		 "[listener two]\nlisten = 127.0.0.2:%u\nhandler = 99\n"
		 "proxy_protocol = disabled\n"
		 "[listener three]\nlisten = 127.0.0.3:%u\n"
		 "proxy_protocol = disabled\n",
		 ports[1], ports[0], ports[1], ports[1]);
	if (setup_load(temp_text(state, "a.conf", text), &nothing, stderr,
		       &loaded) < 0 ||
	    setup_plan(&loaded, &none, stderr) < 0)
		return -1;
	for (uint32_t i = 0; i < 3; i++)
		loaded.numbers[i] = i + 1;
	clock_gettime(CLOCK_BOOTTIME, &now);
	told = (struct status){
		.config_path = "/x/a.conf",
		.config = loaded.config,
		.plans = loaded.plans,
		.numbers = loaded.numbers,
		.started = (uint64_t)now.tv_sec - 100,
	};
	return server_start(loaded.config, loaded.numbers, NULL, NULL, 0,
			    &told.server);
}

static int stop(void **state)
{
	server_stop(told.server, 0);
	setup_clear(&loaded);
	close(handler);
	return temp_dir_teardown(state);
}

static json_t *answer(int (*write)(const struct status *status, FILE *out))
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	json_t *json;

	assert_non_null(out);
	assert_int_equal(write(&told, out), 0);
	assert_int_equal(fclose(out), 0);
	assert_null(strchr(text, '\n'));
	json = json_loads(text, 0, NULL);
	assert_non_null(json);
	free(text);
	return json;
}

static void path_of_any_bytes(void **state)
{
	json_t *json, *listener;

	(void)state;
	assert_int_equal(address_parse("unix:/a\xff",
				       &loaded.config->listeners[0].handler),
			 0);
	told.config_path = "/b\xff.conf";
	json = answer(status_write);
	assert_string_equal(json_string_value(json_object_get(json, "config")),
			    "/b\\xff.conf");
	listener = json_array_get(json_object_get(json, "listeners"), 0);
	assert_string_equal(
		json_string_value(json_object_get(listener, "handler")),
		"unix:/a\\xff");
	json_decref(json);
}

static void status(void **state)
{
	json_t *json = answer(status_write), *listeners, *listener;
	char listen[40], *shown;

	(void)state;
	assert_true(json_is_true(json_object_get(json, "running")));
	assert_true(json_string_length(json_object_get(json, "version")) >= 5);
	assert_int_equal(json_integer_value(json_object_get(json, "pid")),
			 getpid());
	assert_in_range(json_integer_value(json_object_get(json, "uptime")),
			100, 130);
	assert_string_equal(json_string_value(json_object_get(json, "config")),
			    "/x/a.conf");
	listeners = json_object_get(json, "listeners");
	assert_int_equal(json_array_size(listeners), 3);
	listener = json_array_get(listeners, 0);
	snprintf(listen, sizeof(listen), "127.0.0.1:%u", ports[1]);
	assert_string_equal(json_string_value(json_array_get(
				    json_object_get(listener, "listen"), 0)),
			    listen);
	snprintf(listen, sizeof(listen), "127.0.0.1:%u", ports[0]);
	assert_string_equal(
		json_string_value(json_object_get(listener, "handler")),
		listen);
	assert_int_equal(json_object_del(listener, "listen"), 0);
	assert_int_equal(json_object_del(listener, "handler"), 0);
	shown = json_dumps(listener, JSON_COMPACT);
	assert_string_equal(shown,
			    "{\"name\":\"one\",\"mode\":\"required\","
			    "\"delivery\":\"relay\",\"offload\":\"off\","
			    "\"why\":\"a test\",\"client_address\":\"none\","
			    "\"active\":0}");
	free(shown);
	assert_string_equal(json_string_value(json_object_get(
				    json_array_get(listeners, 1), "handler")),
			    "port 99");
	assert_true(json_is_null(
		json_object_get(json_array_get(listeners, 2), "handler")));
	json_decref(json);
}

/* Waits until the server counts `n` connections through the first listener. */
static void wait_active(uint64_t n)
{
	for (int i = 0; i < 200 && server_active(told.server, 1) != n; i++)
		usleep(10 * 1000);
	assert_int_equal(server_active(told.server, 1), n);
}

static int64_t count(const char *listener, const char *name)
{
	json_t *json = answer(status_write_stats), *counts;
	int64_t value;

	counts = json_object_get(json_object_get(json, "listeners"), listener);
	assert_int_equal(json_object_size(counts), RP_STAT_COUNT);
	value = json_integer_value(json_object_get(counts, name));
	json_decref(json);
	return value;
}

static int connect_client(void)
{
	static const char header[] =
		"PROXY TCP4 203.0.113.7 198.51.100.1 4444 1883\r\nhi";
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(ports[1])};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (void *)&address, sizeof(address)), 0);
	assert_int_equal(send(fd, header, strlen(header), 0), strlen(header));
	return fd;
}

static void connection(void **state)
{
	json_t *json, *first;
	char text[2];
	int fd, accepted;

	(void)state;
	assert_int_equal(count("one", "connections"), 0);
	json = answer(status_write_connections);
	assert_int_equal(json_array_size(json), 0);
	json_decref(json);

	fd = connect_client();
	accepted = accept(handler, NULL, NULL);
	assert_true(accepted >= 0);
	assert_int_equal(recv(accepted, text, 2, MSG_WAITALL), 2);
	wait_active(1);

	json = answer(status_write_connections);
	assert_int_equal(json_array_size(json), 1);
	first = json_array_get(json, 0);
	assert_string_equal(json_string_value(json_object_get(first, "client")),
			    "203.0.113.7");
	assert_int_equal(
		json_integer_value(json_object_get(first, "client_port")),
		4444);
	assert_string_equal(
		json_string_value(json_object_get(first, "listener")), "one");
	json_decref(json);
	json = answer(status_write);
	assert_int_equal(
		json_integer_value(json_object_get(
			json_array_get(json_object_get(json, "listeners"), 0),
			"active")),
		1);
	json_decref(json);
	assert_int_equal(count("one", "connections"), 1);
	assert_int_equal(count("one", "header_v1"), 1);
	assert_int_equal(count("two", "connections"), 0);
	close(accepted);
	close(fd);
	wait_active(0);
}

/*
 * More than one answer may have, which is said instead. Two connections, each
 * counted as often as the list has its listener. Fails without the limit.
 */
static void too_many_connections(void **state)
{
	static uint32_t numbers[STATUS_CONNECTIONS_MAX / 2 + 1];
	struct config many = {.n_listeners =
				      sizeof(numbers) / sizeof(*numbers)};
	struct status status = told;
	int fds[2], accepted[2];
	char *text;
	size_t len;
	FILE *out;

	(void)state;
	for (int i = 0; i < 2; i++) {
		fds[i] = connect_client();
		accepted[i] = accept(handler, NULL, NULL);
		assert_true(accepted[i] >= 0);
	}
	wait_active(2);
	for (size_t i = 0; i < many.n_listeners; i++)
		numbers[i] = 1;
	status.config = &many;
	status.numbers = numbers;
	out = open_memstream(&text, &len);
	assert_non_null(out);
	assert_int_equal(status_write_connections(&status, out), -EFBIG);
	fclose(out);
	assert_string_equal(text,
			    "200002 connections are too many for one answer");
	free(text);
	for (int i = 0; i < 2; i++) {
		close(fds[i]);
		close(accepted[i]);
	}
	wait_active(0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
	const struct CMUnitTest tests[] = {
		TEST(status),
		TEST(path_of_any_bytes),
		TEST(connection),
		TEST(too_many_connections),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
