/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_pins.c - user/pins.c, on maps of the layouts of abi.h that the test
 * pins in a directory of its own. Skipped without the rights to make maps.
 */
#include "pins.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#include "temp_dir.h"

/* A bpffs of its own on the temporary directory, if we may mount. */
static bool mounted;

static int setup(void **state)
{
	if (temp_dir_setup(state) < 0)
		return -1;
	mounted = mount("bpf", *state, "bpf", 0, "mode=0700") == 0;
	return 0;
}

static int teardown(void **state)
{
	if (mounted && umount(*state) < 0)
		return -1;
	return temp_dir_teardown(state);
}

static void need_bpf(void)
{
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "test", 4, 4, 1, NULL);

	if (fd < 0 || !mounted)
		skip();
	close(fd);
}

static int make_map(void **state, enum bpf_map_type type, const char *name,
		    uint32_t key_size, uint32_t value_size, uint32_t entries)
{
	int fd =
		bpf_map_create(type, name, key_size, value_size, entries, NULL);

	assert_true(fd >= 0);
	assert_int_equal(bpf_obj_pin(fd, temp_path(state, name)), 0);
	return fd;
}

static void make_settings(void **state, uint32_t abi)
{
	struct rp_settings settings = {.abi = abi};
	uint32_t zero = 0;
	int fd = make_map(state, BPF_MAP_TYPE_ARRAY, "settings", 4,
			  sizeof(settings), 1);

	assert_int_equal(bpf_map_update_elem(fd, &zero, &settings, BPF_ANY), 0);
	close(fd);
}

struct seen {
	size_t n;
	uint8_t cookies[2000];
	bool wrong;
};

static void see_connection(uint64_t cookie, const struct rp_connection *record,
			   const struct rp_tlvs *tlvs, void *arg)
{
	struct seen *seen = arg;

	seen->n++;
	if (cookie >= sizeof(seen->cookies) || !record->tlvs != !tlvs ||
	    (tlvs && tlvs->ssl_verify != cookie) ||
	    record->client_port != (uint16_t)(cookie * 7))
		seen->wrong = true;
	else
		seen->cookies[cookie]++;
}

/* Every entry once, for sizes around that of a batch. */
static void connections(void **state)
{
	static const size_t sizes[] = {0, 1, 2, 255, 256, 257, 1500};
	struct seen seen;
	size_t have = 0;
	int fd, tlvs;

	need_bpf();
	make_settings(state, RP_ABI_VERSION);
	fd = make_map(state, BPF_MAP_TYPE_HASH, "connections", sizeof(uint64_t),
		      sizeof(struct rp_connection), 2000);
	tlvs = make_map(state, BPF_MAP_TYPE_HASH, "tlvs", sizeof(uint64_t),
			sizeof(struct rp_tlvs), 2000);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (; have < sizes[i]; have++) {
			uint64_t cookie = have + 1;
			struct rp_connection record = {
				.client_port = (uint16_t)(cookie * 7),
				.tlvs = cookie % 3 == 1 ? cookie : 0,
			};
			struct rp_tlvs its = {.ssl_verify = cookie};

			if (record.tlvs)
				assert_int_equal(
					bpf_map_update_elem(tlvs, &cookie, &its,
							    BPF_ANY),
					0);
			assert_int_equal(bpf_map_update_elem(fd, &cookie,
							     &record, BPF_ANY),
					 0);
		}
		memset(&seen, 0, sizeof(seen));
		assert_int_equal(
			pins_connections(*state, see_connection, &seen), 0);
		assert_false(seen.wrong);
		assert_int_equal(seen.n, sizes[i]);
		for (size_t j = 0; j < sizes[i]; j++)
			assert_int_equal(seen.cookies[j + 1], 1);
	}
	close(fd);
	close(tlvs);
}

/* What a program writes to see if there is room, and what is over already. */
static void no_connections(void **state)
{
	struct rp_connection record = {0}, closed = {.closed = 1};
	uint64_t nobody = 0, cookie = 7;
	struct seen seen = {0};
	int fd, tlvs;

	need_bpf();
	make_settings(state, RP_ABI_VERSION);
	fd = make_map(state, BPF_MAP_TYPE_HASH, "connections", sizeof(uint64_t),
		      sizeof(struct rp_connection), 10);
	tlvs = make_map(state, BPF_MAP_TYPE_HASH, "tlvs", sizeof(uint64_t),
			sizeof(struct rp_tlvs), 10);
	assert_int_equal(bpf_map_update_elem(fd, &nobody, &record, BPF_ANY), 0);
	assert_int_equal(bpf_map_update_elem(fd, &cookie, &closed, BPF_ANY), 0);
	assert_int_equal(pins_connections(*state, see_connection, &seen), 0);
	assert_int_equal(seen.n, 0);
	close(fd);
	close(tlvs);
}

static void see_listener(uint32_t number, const struct rp_listener *listener,
			 void *arg)
{
	char *text = arg;

	sprintf(text + strlen(text), "%u=%s;", number, listener->name);
}

static void listeners(void **state)
{
	struct rp_listener listener = {.name = "mqtt"};
	uint32_t number = 7;
	char text[200] = "";
	int fd;

	need_bpf();
	make_settings(state, RP_ABI_VERSION);
	fd = make_map(state, BPF_MAP_TYPE_HASH, "listeners", sizeof(number),
		      sizeof(listener), 10);
	assert_int_equal(bpf_map_update_elem(fd, &number, &listener, BPF_ANY),
			 0);
	close(fd);
	assert_int_equal(pins_listeners(*state, see_listener, text), 0);
	assert_string_equal(text, "7=mqtt;");
}

static void see_stat(const struct rp_stat_key *key, uint64_t value, void *arg)
{
	char *text = arg;

	sprintf(text + strlen(text), "%u.%u=%llu;", key->listener, key->stat,
		(unsigned long long)value);
}

static void stats(void **state)
{
	int cpus = libbpf_num_possible_cpus(), fd;
	uint64_t *values, sum = 0;
	struct rp_stat_key key = {.listener = 3, .stat = RP_STAT_TIMEOUT};
	char text[200] = "", expected[100];

	need_bpf();
	values = calloc((size_t)cpus, sizeof(*values));
	assert_non_null(values);
	make_settings(state, RP_ABI_VERSION);
	fd = make_map(state, BPF_MAP_TYPE_PERCPU_HASH, "stats", sizeof(key),
		      sizeof(uint64_t), 10);
	for (int i = 0; i < cpus; i++) {
		values[i] = 1ull << (i % 60);
		sum += values[i];
	}
	assert_int_equal(bpf_map_update_elem(fd, &key, values, BPF_ANY), 0);
	close(fd);
	free(values);
	assert_int_equal(pins_stats(*state, see_stat, text), 0);
	snprintf(expected, sizeof(expected), "3.%d=%llu;", RP_STAT_TIMEOUT,
		 (unsigned long long)sum);
	assert_string_equal(text, expected);
}

static void nothing_pinned(void **state)
{
	struct seen seen = {0};

	need_bpf();
	assert_int_equal(pins_connections(temp_path(state, "none"),
					  see_connection, &seen),
			 -ENOENT);
	assert_int_equal(seen.n, 0);
}

static void found_by_environment(void **state)
{
	char text[200] = "";

	need_bpf();
	assert_int_equal(setenv("REALPEER_BPFFS", *state, 1), 0);
	assert_int_equal(pins_listeners(NULL, see_listener, text), -ENOENT);
	make_settings(state, RP_ABI_VERSION);
	close(make_map(state, BPF_MAP_TYPE_HASH, "listeners", 4,
		       sizeof(struct rp_listener), 10));
	assert_int_equal(pins_listeners(NULL, see_listener, text), 0);
	assert_int_equal(unsetenv("REALPEER_BPFFS"), 0);
}

/* Neither another version's number nor another layout is read. */
static void other_abi(void **state)
{
	struct seen seen = {0};

	need_bpf();
	make_settings(state, RP_ABI_VERSION + 1);
	close(make_map(state, BPF_MAP_TYPE_HASH, "connections",
		       sizeof(uint64_t), sizeof(struct rp_connection), 10));
	assert_int_equal(pins_connections(*state, see_connection, &seen),
			 -EPROTO);
}

static void other_layout(void **state)
{
	struct seen seen = {0};

	need_bpf();
	make_settings(state, RP_ABI_VERSION);
	close(make_map(state, BPF_MAP_TYPE_HASH, "connections",
		       sizeof(uint64_t), sizeof(struct rp_connection) + 8, 10));
	/* Nor without a map that belongs to it. */
	assert_int_equal(pins_connections(*state, see_connection, &seen),
			 -ENOENT);
	close(make_map(state, BPF_MAP_TYPE_HASH, "tlvs", sizeof(uint64_t),
		       sizeof(struct rp_tlvs), 10));
	assert_int_equal(pins_connections(*state, see_connection, &seen),
			 -EPROTO);
}

static void long_directory(void **state)
{
	struct seen seen = {0};
	char directory[5000];

	(void)state;
	memset(directory, 'x', sizeof(directory) - 1);
	directory[sizeof(directory) - 1] = '\0';
	assert_int_equal(pins_connections(directory, see_connection, &seen),
			 -ENAMETOOLONG);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(connections),    TEST(no_connections),
		TEST(listeners),      TEST(stats),
		TEST(nothing_pinned), TEST(found_by_environment),
		TEST(other_abi),      TEST(other_layout),
		TEST(long_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
