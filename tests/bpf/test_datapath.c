// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * test_datapath.c - the life of the kernel part: loaded, fed, left behind,
 * taken over, refused, removed. In a network namespace and a directory of
 * pins of its own.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <cmocka.h>

#include "config.h"
#include "datapath_internal.h"

static char directory[64];
static struct datapath_features features;

static int set_up(void **state)
{
	(void)state;
	log_set_level(LOG_LEVEL_ERROR);
	snprintf(directory, sizeof(directory), "/sys/fs/bpf/rp-test-%d",
		 getpid());
	setenv("REALPEER_BPFFS", directory, 1);
	if (unshare(CLONE_NEWNET)) {
		perror("unshare");
		return -1;
	}
	datapath_probe(&features);
	if (features.offload < RP_OFFLOAD_PEEK) {
		fprintf(stderr, "no offload: %s\n", features.why);
		return -1;
	}
	return 0;
}

static struct datapath *open_datapath(void)
{
	struct datapath *datapath = NULL;

	assert_int_equal(datapath_open(&features, &datapath), 0);
	return datapath;
}

static int open_pin(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return bpf_obj_get(path);
}

static void assert_pinned(const char *name)
{
	int fd = open_pin(name);

	if (fd < 0)
		fail_msg("%s is not pinned", name);
	close(fd);
}

static void assert_gone(void)
{
	assert_int_equal(access(directory, F_OK), -1);
	assert_int_equal(errno, ENOENT);
}

/* A configuration of one listener, whose arrays are the caller's. */
struct sample {
	struct address listen;
	struct prefix trusted;
	struct listener_config listener;
	struct config config;
};

static struct config *sample(struct sample *sample, const char *name,
			     const char *listen, const char *trusted)
{
	*sample = (struct sample){
		.listener =
			{
				.delivery = RP_DELIVERY_RELAY,
				.mode = RP_MODE_REQUIRED,
				.offload = OFFLOAD_WANTED_PEEK,
				.header_max = 4096,
				.header_timeout_ms = 3000,
				.n_listen = 1,
				.n_trusted = 1,
			},
		.config.n_listeners = 1,
	};
	snprintf(sample->listener.name, RP_NAME_LEN, "%s", name);
	assert_int_equal(address_parse(listen, &sample->listen), 0);
	assert_int_equal(prefix_parse(trusted, &sample->trusted), 0);
	sample->listener.listen = &sample->listen;
	sample->listener.trusted = &sample->trusted;
	sample->config.listeners = &sample->listener;
	return &sample->config;
}

static uint32_t configure(struct datapath *datapath,
			  const struct config *config)
{
	bool taken[RP_LISTENERS_MAX] = {false};
	uint32_t number = 0;

	datapath_number(datapath, config, taken, &number);
	assert_int_equal(datapath_configure(datapath, config, &number), 0);
	return number;
}

static size_t count_keys(const char *name, size_t key_size)
{
	__u8 key[64], next[64];
	void *from = NULL;
	size_t n = 0;
	int fd = open_pin(name);

	assert_true(fd >= 0);
	assert_true(key_size <= sizeof(key));
	while (bpf_map_get_next_key(fd, from, next) == 0) {
		memcpy(key, next, key_size);
		from = key;
		n++;
	}
	close(fd);
	return n;
}

static void test_probe_leaves_nothing(void **state)
{
	struct datapath_features again;

	(void)state;
	datapath_probe(&again);
	assert_true(again.bpf);
	assert_true(again.getpeername);
	assert_int_equal(again.offload, features.offload);
	assert_gone();
}

static void test_open_and_remove(void **state)
{
	struct datapath *datapath = open_datapath();
	struct sample one;

	(void)state;
	sample(&one, "mqtt", "0.0.0.0:1883", "10.0.0.0/8");
	assert_int_equal(configure(datapath, &one.config), 1);
	assert_pinned("connections");
	assert_pinned("stats");
	assert_pinned("links/sockops");
	assert_pinned("links/getpeername4");
	assert_pinned("links/getpeername6");
	if (features.tcx)
		assert_pinned("links/ingress_1");
	datapath_close(datapath, true);
	assert_gone();
}

static void test_reconfigure(void **state)
{
	struct datapath *datapath = open_datapath();
	struct sample one;

	(void)state;
	sample(&one, "mqtt", "0.0.0.0:1883", "10.0.0.0/8");
	configure(datapath, &one.config);
	assert_int_equal(count_keys("endpoints", sizeof(struct rp_endpoint)),
			 1);
	assert_int_equal(count_keys("trusted", sizeof(struct rp_trusted)), 1);
	assert_int_equal(count_keys("stats", sizeof(struct rp_stat_key)),
			 RP_STAT_COUNT);

	sample(&one, "amqp", "[::]:5672", "fd00::/8");
	configure(datapath, &one.config);
	assert_int_equal(count_keys("endpoints", sizeof(struct rp_endpoint)),
			 1);
	/* Clients that TC has answered for it are still to be served. */
	assert_int_equal(count_keys("listeners", sizeof(__u32)), 2);
	assert_int_equal(count_keys("trusted", sizeof(struct rp_trusted)), 2);
	datapath_prune(datapath);
	assert_int_equal(count_keys("trusted", sizeof(struct rp_trusted)), 1);
	assert_int_equal(count_keys("listeners", sizeof(__u32)), 1);
	assert_int_equal(count_keys("stats", sizeof(struct rp_stat_key)),
			 RP_STAT_COUNT);

	/* Trust that is withdrawn from a listener that stays ends at once. */
	sample(&one, "amqp", "[::]:5672", "fd01::/16");
	configure(datapath, &one.config);
	assert_int_equal(count_keys("trusted", sizeof(struct rp_trusted)), 1);

	one.config.n_listeners = 0;
	configure(datapath, &one.config);
	datapath_prune(datapath);
	assert_int_equal(count_keys("endpoints", sizeof(struct rp_endpoint)),
			 0);
	assert_int_equal(count_keys("trusted", sizeof(struct rp_trusted)), 0);
	assert_int_equal(count_keys("stats", sizeof(struct rp_stat_key)), 0);
	datapath_close(datapath, true);
}

/* A number goes to another name when nobody has it, and counts from zero. */
static void test_numbers(void **state)
{
	struct datapath *datapath = open_datapath();
	bool taken[RP_LISTENERS_MAX] = {[2] = true};
	uint32_t number;
	struct sample one;

	(void)state;
	sample(&one, "mqtt", "0.0.0.0:1883", "10.0.0.0/8");
	assert_int_equal(configure(datapath, &one.config), 1);
	datapath->timeouts[1] = 7;
	assert_int_equal(datapath_stat(datapath, 1, RP_STAT_TIMEOUT), 7);
	/* In the map until the clients of before have been served. */
	sample(&one, "amqp", "0.0.0.0:5672", "10.0.0.0/8");
	datapath_number(datapath, &one.config, taken, &number);
	assert_int_equal(number, 3);
	assert_true(taken[1]);
	assert_false(taken[3]);
	assert_int_equal(datapath_configure(datapath, &one.config, &number), 0);
	datapath_prune(datapath);
	assert_int_equal(configure(datapath, &one.config), 3);
	sample(&one, "nats", "0.0.0.0:4222", "10.0.0.0/8");
	assert_int_equal(configure(datapath, &one.config), 1);
	assert_int_equal(datapath_stat(datapath, 1, RP_STAT_TIMEOUT), 0);
	datapath_close(datapath, true);
}

/* Records and the numbers of listeners outlive the process. */
static void test_take_over(void **state)
{
	struct datapath *datapath = open_datapath();
	struct rp_connection record = {.client_port = 4711}, found;
	struct rp_tlvs tlvs = {.present = RP_TLV_SSL}, found_tlvs;
	struct sample two[2];
	struct listener_config listeners[2];
	struct config config = {.listeners = listeners, .n_listeners = 2};
	uint32_t numbers[2], again[2];
	bool taken[RP_LISTENERS_MAX] = {false};

	(void)state;
	sample(&two[0], "mqtt", "0.0.0.0:1883", "10.0.0.0/8");
	sample(&two[1], "amqp", "0.0.0.0:5672", "10.0.0.0/8");
	listeners[0] = two[0].listener;
	listeners[1] = two[1].listener;
	datapath_number(datapath, &config, taken, numbers);
	assert_int_equal(datapath_configure(datapath, &config, numbers), 0);
	assert_int_equal(datapath_record(datapath, 99, &record, &tlvs), 0);
	datapath_close(datapath, false);
	assert_pinned("links/sockops");

	datapath = open_datapath();
	listeners[0] = two[1].listener;
	listeners[1] = two[0].listener;
	datapath_number(datapath, &config, taken, again);
	assert_int_equal(datapath_configure(datapath, &config, again), 0);
	assert_int_equal(again[0], numbers[1]);
	assert_int_equal(again[1], numbers[0]);
	assert_int_equal(datapath_lookup(datapath, 99, &found), 0);
	record.tlvs = 99;
	assert_memory_equal(&found, &record, sizeof(found));
	memset(&found, 0, sizeof(found));
	assert_int_equal(datapath_take(datapath, 99, &found), 0);
	assert_memory_equal(&found, &record, sizeof(found));
	assert_int_equal(datapath_take(datapath, 99, &found), -ENOENT);
	assert_false(datapath_is_unrecorded(datapath, 99));
	assert_int_equal(datapath_tlvs(datapath, 99, &found_tlvs), 0);
	assert_memory_equal(&found_tlvs, &tlvs, sizeof(tlvs));
	datapath_forget(datapath, 99, true);
	assert_int_equal(datapath_tlvs(datapath, 99, &found_tlvs), -ENOENT);
	assert_int_equal(datapath_lookup(datapath, 99, &found), -ENOENT);
	datapath_close(datapath, true);
	assert_gone();
}

static void test_other_abi(void **state)
{
	struct datapath *datapath = open_datapath();
	struct rp_settings settings;
	__u32 zero = 0;
	int fd;

	(void)state;
	datapath_close(datapath, false);
	fd = open_pin("settings");
	assert_int_equal(bpf_map_lookup_elem(fd, &zero, &settings), 0);
	assert_int_equal(settings.abi, RP_ABI_VERSION);
	settings.abi++;
	assert_int_equal(bpf_map_update_elem(fd, &zero, &settings, BPF_ANY), 0);
	datapath = NULL;
	assert_int_equal(datapath_open(&features, &datapath), -EPROTO);
	assert_null(datapath);
	/* Refused, and nothing of theirs was touched. */
	assert_pinned("links/sockops");
	settings.abi--;
	assert_int_equal(bpf_map_update_elem(fd, &zero, &settings, BPF_ANY), 0);
	close(fd);
	datapath_close(open_datapath(), true);
	assert_gone();
}

static __u32 room(void)
{
	struct bpf_map_info info = {0};
	__u32 len = sizeof(info);
	int fd = open_pin("connections");

	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &len), 0);
	close(fd);
	return info.max_entries;
}

/* By the host's memory, or as asked for; a restart keeps the map as it is. */
static void test_room(void **state)
{
	__u32 suits;

	(void)state;
	datapath_close(open_datapath(), false);
	suits = room();
	assert_in_range(suits, RP_CONNECTIONS_LEAST, RP_CONNECTIONS_MOST);
	assert_int_equal(suits & (suits - 1), 0);
	features.connections_max = 1000;
	datapath_close(open_datapath(), false);
	assert_int_equal(room(), suits);
	datapath_close(open_datapath(), true);
	datapath_close(open_datapath(), false);
	assert_int_equal(room(), 1000);
	features.connections_max = 0;
	datapath_close(open_datapath(), true);
	assert_gone();
}

static void test_one_daemon(void **state)
{
	struct datapath *datapath = open_datapath(), *other = NULL;

	(void)state;
	assert_int_equal(datapath_open(&features, &other), -EBUSY);
	assert_null(other);
	datapath_close(datapath, true);
}

/* Interface numbers mean nothing in another network namespace. */
static void test_other_netns(void **state)
{
	struct datapath *datapath = open_datapath();
	struct sample one;

	(void)state;
	sample(&one, "mqtt", "0.0.0.0:1883", "10.0.0.0/8");
	configure(datapath, &one.config);
	datapath_close(datapath, false);
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	datapath = open_datapath();
	if (features.tcx)
		assert_true(open_pin("links/ingress_1") < 0);
	configure(datapath, &one.config);
	if (features.tcx)
		assert_pinned("links/ingress_1");
	datapath_close(datapath, true);
	assert_gone();
}

static void test_attached_survive(void **state)
{
	struct datapath *datapath = open_datapath();
	struct attached attached = {0};
	struct sample one;

	(void)state;
	sample(&one, "port-1883", "0.0.0.0:1883", "10.1.0.0/16");
	one.listener.attached = RP_ATTACHED_OWN;
	configure(datapath, &one.config);
	datapath_close(datapath, false);
	datapath = open_datapath();
	assert_int_equal(datapath_restore_attached(datapath, &attached), 0);
	assert_int_equal(attached.n, 1);
	assert_int_equal(attached.ports[0].port, 1883);
	assert_int_equal(attached.ports[0].n_trusted, 1);
	assert_memory_equal(&attached.ports[0].trusted[0], &one.trusted,
			    sizeof(one.trusted));
	attached_clear(&attached);

	/* Whom [global] trusts the configuration says. */
	one.listener.attached = RP_ATTACHED_GLOBAL;
	configure(datapath, &one.config);
	datapath_close(datapath, false);
	datapath = open_datapath();
	assert_int_equal(datapath_restore_attached(datapath, &attached), 0);
	assert_int_equal(attached.n, 1);
	assert_int_equal(attached.ports[0].n_trusted, 0);
	attached_clear(&attached);

	one.config.n_listeners = 0;
	configure(datapath, &one.config);
	datapath_close(datapath, false);
	datapath = open_datapath();
	assert_int_equal(datapath_restore_attached(datapath, &attached), 0);
	assert_int_equal(attached.n, 0);
	datapath_close(datapath, true);
	assert_gone();
}

/* A program on an interface that no listener uses any more. */
static void test_left_behind(void **state)
{
	struct datapath *datapath = open_datapath();
	struct sample one;

	(void)state;
	sample(&one, "mqtt", "0.0.0.0:1883", "10.0.0.0/8");
	configure(datapath, &one.config);
	datapath_close(datapath, false);
	if (features.tcx)
		assert_pinned("links/ingress_1");

	datapath = open_datapath();
	one.config.n_listeners = 0;
	configure(datapath, &one.config);
	if (features.tcx)
		assert_true(open_pin("links/ingress_1") < 0);
	datapath_close(datapath, true);
	assert_gone();
}

#define SECOND 1000000000ULL

/* An entry behind the first buckets, one bucket for each stage. */
static uint32_t *enter(struct datapath *datapath, uint32_t way,
		       enum rp_stage stage, uint32_t listener, uint64_t since)
{
	uint32_t bucket = RP_BUCKETS_FIRST + stage;
	uint32_t *tag = &datapath->tags[bucket].tags[way];

	datapath->handshakes[bucket * RP_WAYS + way] = (struct rp_handshake){
		.listener = listener, .stage = stage, .since = since};
	*tag = 0x1001;
	return tag;
}

/* Handshakes that no socket came of go, but for strays, who have one. */
static void test_forgotten(void **state)
{
	const uint64_t now = 10000 * SECOND, late = now - 600 * SECOND;
	struct datapath *datapath = open_datapath();
	uint32_t number, *old[6], *gone[6], *young[6];
	struct sample one;

	(void)state;
	if (features.offload < RP_OFFLOAD_ACCEPT) {
		datapath_close(datapath, true);
		skip();
	}
	sample(&one, "mqtt", "0.0.0.0:1883", "10.0.0.0/8");
	number = configure(datapath, &one.config);
	for (int stage = 0; stage <= RP_STAGE_DAEMON; stage++) {
		old[stage] = enter(datapath, 0, stage, number, late);
		gone[stage] = enter(datapath, 1, stage, number + 1, late);
		young[stage] =
			enter(datapath, 2, stage, number, now - 150 * SECOND);
	}
	datapath->gates->spilled++;
	for (int turn = 0; turn < 3; turn++)
		datapath_review_handshakes(datapath, now);
	for (int stage = 0; stage <= RP_STAGE_DAEMON; stage++) {
		bool stray = stage == RP_STAGE_STRAY;
		bool silent = stage == RP_STAGE_SYN_RECEIVED;

		assert_int_equal(*old[stage] != RP_TAG_FREE, stray);
		assert_int_equal(*gone[stage] != RP_TAG_FREE, stray);
		assert_int_equal(*young[stage] != RP_TAG_FREE, !silent);
		*old[stage] = *gone[stage] = *young[stage] = RP_TAG_FREE;
	}
	assert_int_not_equal(datapath->gates->spilled_gone,
			     datapath->gates->spilled);
	for (int turn = 0; turn < 2; turn++)
		datapath_review_handshakes(datapath, now);
	assert_int_equal(datapath->gates->spilled_gone,
			 datapath->gates->spilled);
	datapath_close(datapath, true);
	assert_gone();
}

/* Every call is safe where there is no kernel part. */
static void test_without(void **state)
{
	struct rp_connection record = {0};
	struct attached attached = {0};
	struct rp_tlvs tlvs;
	struct sample one;

	(void)state;
	sample(&one, "mqtt", "0.0.0.0:1883", "10.0.0.0/8");
	assert_int_equal(configure(NULL, &one.config), 1);
	assert_int_equal(datapath_offload(NULL, &one.listener), RP_OFFLOAD_OFF);
	assert_int_equal(datapath_record(NULL, 1, &record, NULL), 0);
	assert_int_equal(datapath_announce(NULL, 1, &record, NULL), 0);
	assert_int_equal(datapath_lookup(NULL, 1, &record), -ENOENT);
	assert_int_equal(datapath_take(NULL, 1, &record), -ENOENT);
	assert_false(datapath_is_unrecorded(NULL, 1));
	assert_int_equal(datapath_tlvs(NULL, 1, &tlvs), -ENOENT);
	datapath_announced(NULL, 1, true);
	datapath_withdraw(NULL, 1);
	assert_false(datapath_is_crowded(NULL));
	assert_int_equal(datapath_stat(NULL, 1, RP_STAT_CONNECTIONS), 0);
	assert_int_equal(datapath_event_fd(NULL), -1);
	assert_int_equal(datapath_upkeep(NULL), UINT32_MAX);
	assert_int_equal(datapath_restore_attached(NULL, &attached), 0);
	assert_false(datapath_can_accept(NULL));
	datapath_forget(NULL, 1, true);
	datapath_handle_event(NULL);
	datapath_close(NULL, true);
}

static void test_choice(void **state)
{
	struct datapath_features able = {.offload = RP_OFFLOAD_ACCEPT};
	struct sample one;
	const char *why;

	(void)state;
	sample(&one, "mqtt", "0.0.0.0:1883", "10.0.0.0/8");
	one.listener.offload = OFFLOAD_WANTED_AUTO;
	assert_int_equal(datapath_choose(&able, &one.listener, &why),
			 RP_OFFLOAD_ACCEPT);
	assert_string_equal(why, "");
	one.listener.tlvs_forwarded = RP_TLV_AUTHORITY;
	assert_int_equal(datapath_choose(&able, &one.listener, &why),
			 RP_OFFLOAD_PEEK);
	assert_string_not_equal(why, "");
	one.listener.offload = OFFLOAD_WANTED_OFF;
	assert_int_equal(datapath_choose(&able, &one.listener, &why),
			 RP_OFFLOAD_OFF);
	assert_string_equal(why, "the configuration asks for it");
	one.listener.offload = OFFLOAD_WANTED_AUTO;
	one.listener.mode = RP_MODE_DISABLED;
	assert_int_equal(datapath_choose(&able, &one.listener, &why),
			 RP_OFFLOAD_OFF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_probe_leaves_nothing),
		cmocka_unit_test(test_open_and_remove),
		cmocka_unit_test(test_reconfigure),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_take_over),
		cmocka_unit_test(test_other_abi),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_one_daemon),
		cmocka_unit_test(test_other_netns),
		cmocka_unit_test(test_attached_survive),
		cmocka_unit_test(test_left_behind),
		cmocka_unit_test(test_forgotten),
		cmocka_unit_test(test_without),
		cmocka_unit_test(test_choice),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
