/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pins.c - see pins.h. Maps are read in batches: the kernel goes bucket by
 * bucket, so a walk neither repeats entries nor starts anew when one is
 * deleted under it, as a walk from key to key would.
 */
#include "pins.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "datapath.h"

#define BATCH_FIRST 256
#define BATCH_MAX   65536 /* entries of one hash bucket */

struct map {
	int fd;
	uint32_t key_size;
	uint32_t value_size; /* over all CPUs if it is per CPU */
	unsigned int cpus;   /* 0: not per CPU */
};

/* Gets one entry of any map. */
typedef void (*entry_function)(const void *key, const void *value,
			       const struct map *map, void *arg);

static int map_path(const char *directory, const char *name,
		    char path[PATH_MAX])
{
	if (!directory)
		directory = datapath_directory();
	if (snprintf(path, PATH_MAX, "%s/%s", directory, name) >= PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}

/* Opens a map whose layout must be the one that abi.h says. */
static int map_open(const char *directory, const char *name, size_t key_size,
		    size_t value_size, struct map *ret)
{
	LIBBPF_OPTS(bpf_obj_get_opts, options, .file_flags = BPF_F_RDONLY);
	struct bpf_map_info info = {0};
	__u32 len = sizeof(info);
	char path[PATH_MAX];
	struct map map = {0};
	int r = map_path(directory, name, path);

	if (r < 0)
		return r;
	map.fd = bpf_obj_get_opts(path, &options);
	if (map.fd < 0)
		return -errno;
	if (bpf_obj_get_info_by_fd(map.fd, &info, &len) < 0) {
		r = -errno;
	} else if (info.key_size != key_size || info.value_size != value_size) {
		r = -EPROTO;
	} else if (info.type == BPF_MAP_TYPE_PERCPU_HASH) {
		r = libbpf_num_possible_cpus();
		map.cpus = r > 0 ? (unsigned int)r : 0;
	}
	if (r < 0) {
		close(map.fd);
		return r;
	}
	map.key_size = (uint32_t)key_size;
	/* Per-CPU values are padded to 8 bytes each. */
	map.value_size =
		(uint32_t)(map.cpus ? (value_size + 7) / 8 * 8 * map.cpus
				    : value_size);
	*ret = map;
	return 0;
}

/* Are the pins of our ABI? Unwritten settings say nothing. */
static int check_abi(const char *directory)
{
	struct rp_settings settings = {0};
	uint32_t zero = 0;
	struct map map;
	int r = map_open(directory, "settings", sizeof(zero), sizeof(settings),
			 &map);

	if (r < 0)
		return r;
	if (bpf_map_lookup_elem(map.fd, &zero, &settings) < 0)
		r = -errno;
	else if (settings.abi && settings.abi != RP_ABI_VERSION)
		r = -EPROTO;
	close(map.fd);
	return r;
}

/* Reads the map with room for `room` entries a time; -ENOSPC: too few. */
static int walk_batches(const struct map *map, uint32_t room, uint64_t *token,
			uint64_t **position, uint8_t *keys, uint8_t *values,
			entry_function each, void *arg)
{
	for (;;) {
		uint32_t count = room;
		int r = bpf_map_lookup_batch(map->fd, *position, token, keys,
					     values, &count, NULL) < 0
				? -errno
				: 0;

		if (r < 0 && r != -ENOENT)
			return r;
		for (uint32_t i = 0; i < count; i++)
			each(keys + (size_t)i * map->key_size,
			     values + (size_t)i * map->value_size, map, arg);
		if (r == -ENOENT)
			return 0;
		*position = token;
	}
}

static int walk(const struct map *map, entry_function each, void *arg)
{
	uint64_t token = 0, *position = NULL;
	int r = -ENOSPC;

	for (uint32_t room = BATCH_FIRST; r == -ENOSPC && room <= BATCH_MAX;
	     room *= 4) {
		uint8_t *keys = calloc(room, map->key_size);
		uint8_t *values = calloc(room, map->value_size);

		r = keys && values ? walk_batches(map, room, &token, &position,
						  keys, values, each, arg)
				   : -ENOMEM;
		free(keys);
		free(values);
	}
	return r;
}

static int read_map(const char *directory, const char *name, size_t key_size,
		    size_t value_size, entry_function each, void *arg)
{
	struct map map;
	int r = check_abi(directory);

	if (r < 0)
		return r;
	r = map_open(directory, name, key_size, value_size, &map);
	if (r < 0)
		return r;
	r = walk(&map, each, arg);
	close(map.fd);
	return r;
}

struct connections_call {
	void (*each)(uint64_t cookie, const struct rp_connection *record,
		     const struct rp_tlvs *tlvs, void *arg);
	void *arg;
	int tlvs; /* the map */
};

static void give_connection(const void *key, const void *value,
			    const struct map *map, void *arg)
{
	const struct connections_call *call = arg;
	struct rp_connection record;
	struct rp_tlvs tlvs;
	bool has_tlvs;
	uint64_t cookie;

	(void)map;
	memcpy(&cookie, key, sizeof(cookie));
	memcpy(&record, value, sizeof(record));
	if (!cookie || record.closed) /* a test for room; over already */
		return;
	has_tlvs = record.tlvs &&
		   bpf_map_lookup_elem(call->tlvs, &record.tlvs, &tlvs) == 0;
	call->each(cookie, &record, has_tlvs ? &tlvs : NULL, call->arg);
}

int pins_connections(const char *directory,
		     void (*each)(uint64_t cookie,
				  const struct rp_connection *record,
				  const struct rp_tlvs *tlvs, void *arg),
		     void *arg)
{
	struct connections_call call = {.each = each, .arg = arg};
	struct map tlvs;
	int r = check_abi(directory);

	if (r < 0)
		return r;
	r = map_open(directory, "tlvs", sizeof(uint64_t),
		     sizeof(struct rp_tlvs), &tlvs);
	if (r < 0)
		return r;
	call.tlvs = tlvs.fd;
	r = read_map(directory, "connections", sizeof(uint64_t),
		     sizeof(struct rp_connection), give_connection, &call);
	close(tlvs.fd);
	return r;
}

struct listeners_call {
	void (*each)(uint32_t number, const struct rp_listener *listener,
		     void *arg);
	void *arg;
};

static void give_listener(const void *key, const void *value,
			  const struct map *map, void *arg)
{
	const struct listeners_call *call = arg;
	struct rp_listener listener;
	uint32_t number;

	(void)map;
	memcpy(&number, key, sizeof(number));
	memcpy(&listener, value, sizeof(listener));
	call->each(number, &listener, call->arg);
}

int pins_listeners(const char *directory,
		   void (*each)(uint32_t number,
				const struct rp_listener *listener, void *arg),
		   void *arg)
{
	struct listeners_call call = {each, arg};

	return read_map(directory, "listeners", sizeof(uint32_t),
			sizeof(struct rp_listener), give_listener, &call);
}

struct stats_call {
	void (*each)(const struct rp_stat_key *key, uint64_t value, void *arg);
	void *arg;
};

static void give_stat(const void *key, const void *value, const struct map *map,
		      void *arg)
{
	const struct stats_call *call = arg;
	const uint64_t *values = value;
	struct rp_stat_key stat;
	uint64_t sum = 0;

	memcpy(&stat, key, sizeof(stat));
	for (unsigned int i = 0; i < map->cpus; i++)
		sum += values[i];
	call->each(&stat, sum, call->arg);
}

int pins_stats(const char *directory,
	       void (*each)(const struct rp_stat_key *key, uint64_t value,
			    void *arg),
	       void *arg)
{
	struct stats_call call = {each, arg};

	return read_map(directory, "stats", sizeof(struct rp_stat_key),
			sizeof(uint64_t), give_stat, &call);
}
