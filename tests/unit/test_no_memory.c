/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_no_memory.c - each allocation of a start, a reload and an answer fails
 * once, the others succeed: nothing is done by halves, what was there stays,
 * and (with SAN=1) nothing leaks. The linker leads our code's allocations to
 * the functions here; libraries have their own.
 */
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "loopback.h"
#include "server.h"
#include "setup.h"
#include "status.h"
#include "temp_dir.h"
#include "view.h"

static pthread_t counted; /* the thread whose allocations fail */
static long allocations, failing;

/* Is it the turn of this one? */
static bool refuse(void)
{
	if (!failing || !pthread_equal(pthread_self(), counted))
		return false;
	if (++allocations != failing)
		return false;
	errno = ENOMEM;
	return true;
}

#define WRAP(type, name, parameters, arguments)                   \
	type __real_##name parameters;                            \
	type __wrap_##name parameters;                            \
	type __wrap_##name parameters                             \
	{                                                         \
		return refuse() ? NULL : __real_##name arguments; \
	}

WRAP(void *, malloc, (size_t size), (size))
WRAP(void *, calloc, (size_t n, size_t size), (n, size))
WRAP(void *, realloc, (void *old, size_t size), (old, size))
WRAP(void *, reallocarray, (void *old, size_t n, size_t size), (old, n, size))
WRAP(char *, strdup, (const char *text), (text))
WRAP(char *, strndup, (const char *text, size_t n), (text, n))

int __wrap_asprintf(char **ret, const char *format, ...);
int __wrap_asprintf(char **ret, const char *format, ...)
{
	va_list args;
	int n;

	if (refuse())
		return -1;
	va_start(args, format);
	n = vasprintf(ret, format, args);
	va_end(args);
	return n;
}

/* libjansson's, which is told to use them. */
static void *json_malloc(size_t size)
{
	return malloc(size);
}

/*
 * Calls `once`, which must fail, for each of the allocations that it makes
 * when none fails; and at last so. It leaves nothing behind.
 */
static void each_allocation(int (*once)(void))
{
	counted = pthread_self();
	for (failing = 1;; failing++) {
		int error;

		allocations = 0;
		error = once();
		if (allocations < failing) {
			failing = 0;
			assert_int_equal(error, 0);
			return;
		}
		/* The latter: "FILE:LINE: out of memory". */
		if (error != -ENOMEM && error != -EINVAL)
			fail_msg("allocation %ld: %d", failing, error);
	}
}

static const char *file;
static uint16_t ports[2];
static FILE *out;

/* Two listeners, a list over several files, and a variable. */
static int setup(void **state)
{
	char text[512];

	if (temp_dir_setup(state))
		return -1;
	ports[0] = port_free();
	do {
		ports[1] = port_free();
	} while (ports[1] == ports[0]);
	snprintf(text, sizeof(text),
		 "[global]\nthreads = 2\ntrusted = 127.0.0.1, 10.0.0.0/8\n"
		 "offload = off\nlog_level = error\n"
		 "[listener one]\nlisten = 127.0.0.1:%u\n"
		 "delivery = relay\nhandler = 127.0.0.1:9\n",
		 ports[0]);
	file = temp_text(state, "a.conf", text);
	snprintf(text, sizeof(text),
		 "[listener two]\nlisten = 127.0.0.1:%u,\n"
		 "  127.0.0.2:%u\ndelivery = relay\nhandler = unix:/nowhere\n"
		 "trusted = ::1\n",
		 ports[1], ports[1]);
	temp_text(state, "conf.d/b.conf", text);
	setenv("REALPEER_TWO_PROXY_PROTOCOL", "enabled", 1);
	out = fopen("/dev/null", "we");
	return out ? 0 : -1;
}

static int teardown(void **state)
{
	failing = 0;
	json_set_alloc_funcs(malloc, free);
	unsetenv("REALPEER_TWO_PROXY_PROTOCOL");
	fclose(out);
	return temp_dir_teardown(state);
}

static int load_once(void)
{
	struct prefix trusted = {.length = 128};
	struct attached attached = {0};
	struct setup loaded = {0};
	int error = attached_add(&attached, 7, &trusted, 1);

	if (!error)
		error = attached_add(&attached, 8, NULL, 0);
	if (!error)
		error = setup_load(file, &attached, out, &loaded);
	if (!error)
		assert_int_equal(loaded.config->n_listeners, 4);
	else
		assert_null(loaded.config);
	setup_clear(&loaded);
	attached_clear(&attached);
	return error;
}

static void load(void **state)
{
	(void)state;
	each_allocation(load_once);
}

/* Number 0 is the one in force. */
static struct setup setups[2];
static struct server *server;

static void load_setup(struct setup *ret)
{
	static const struct attached nothing;

	assert_int_equal(setup_load(file, &nothing, stderr, ret), 0);
	for (uint32_t i = 0; i < ret->config->n_listeners; i++)
		ret->numbers[i] = i + 1;
}

static size_t count_fds(void)
{
	DIR *fds = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(fds);
	while (readdir(fds))
		n++;
	closedir(fds);
	return n;
}

static void check_listens(bool one, bool two)
{
	int fds[] = {tcp_try_connect(ports[0]), tcp_try_connect(ports[1])};

	assert_int_equal(fds[0] >= 0, one);
	assert_int_equal(fds[1] >= 0, two);
	for (int i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
}

static int start_once(void)
{
	size_t fds = count_fds();
	int error = server_start(setups[0].config, setups[0].numbers, NULL,
				 NULL, 0, &server);

	if (!error) {
		check_listens(true, true);
		server_stop(server, 0);
	}
	assert_int_equal(setups[0].config->references, 1);
	assert_int_equal(count_fds(), fds);
	return error;
}

static void start(void **state)
{
	(void)state;
	load_setup(&setups[0]);
	each_allocation(start_once);
	setup_clear(&setups[0]);
}

static size_t fds_open;

/* The server ends the connections of check_listens() in its own time. */
static bool has_nothing_more(void *argument)
{
	(void)argument;
	return count_fds() == fds_open &&
	       __atomic_load_n(&setups[1].config->references,
			       __ATOMIC_ACQUIRE) == 1;
}

/* The second listener comes with the reload, and goes again. */
static int reload_once(void)
{
	struct config *before = setups[0].config;
	int error;

	before->n_listeners = 1;
	error = server_reload(server, setups[1].config, setups[1].numbers);
	check_listens(true, !error);
	if (!error) {
		failing = 0;
		assert_int_equal(
			server_reload(server, before, setups[0].numbers), 0);
		server_settle(server);
		failing = allocations + 1;
	}
	before->n_listeners = 2;
	wait_until(has_nothing_more, NULL);
	return error;
}

static void reload(void **state)
{
	(void)state;
	load_setup(&setups[0]);
	load_setup(&setups[1]);
	setups[0].config->n_listeners = 1;
	assert_int_equal(server_start(setups[0].config, setups[0].numbers, NULL,
				      NULL, 0, &server),
			 0);
	setups[0].config->n_listeners = 2;
	fds_open = count_fds();
	each_allocation(reload_once);
	server_stop(server, 0);
	setup_clear(&setups[0]);
	setup_clear(&setups[1]);
}

static int answer_once(void)
{
	struct status status = {
		.config_path = "/x",
		.config = setups[0].config,
		.plans = setups[0].plans,
		.numbers = setups[0].numbers,
		.server = server,
	};
	char *text;
	size_t len;
	FILE *memory = open_memstream(&text, &len);
	int error;

	assert_non_null(memory);
	error = status_write(&status, memory);
	fclose(memory);
	/* The path that failed is tried in another way, with the same result.
	 */
	if (!error && allocations >= failing) {
		assert_non_null(strstr(text, "\"config\":\"/x\""));
		error = -ENOMEM;
	}
	free(text);
	return error ? error : status_write_stats(&status, out);
}

static int view_once(void)
{
	struct rp_connection record = {.version = 2,
				       .command = RP_COMMAND_PROXY};
	struct rp_tlvs tlvs = {
		.present = UINT8_MAX,
		.authority_len = 1,
		.authority = "a",
		.unique_id_len = 2,
		.unique_id = {1, 2},
		.truncated = UINT8_MAX,
		.ssl_cn_len = 1,
		.ssl_cn = "c",
	};
	json_t *json = view_connection(1, &record, &tlvs);

	if (!json)
		return -ENOMEM;
	json_decref(json);
	/* A text that failed is tried in another way. */
	return allocations < failing ? 0 : -ENOMEM;
}

static void answer(void **state)
{
	(void)state;
	load_setup(&setups[0]);
	assert_int_equal(server_start(setups[0].config, setups[0].numbers, NULL,
				      NULL, 0, &server),
			 0);
	json_set_alloc_funcs(json_malloc, free);
	each_allocation(answer_once);
	each_allocation(view_once);
	server_stop(server, 0);
	setup_clear(&setups[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(load, setup, teardown),
		cmocka_unit_test_setup_teardown(start, setup, teardown),
		cmocka_unit_test_setup_teardown(reload, setup, teardown),
		cmocka_unit_test_setup_teardown(answer, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
