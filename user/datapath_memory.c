/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * datapath_memory.c - the memory of maps: how much of it `connections` takes,
 * and that of others where the daemon reads and writes it in place.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "datapath_internal.h"
#include "realpeer.skel.h"

/* Of the pinned map; 0 if there is none. */
static uint32_t pinned_entries(const char *directory, const char *name)
{
	struct bpf_map_info info = {0};
	char path[PATH_MAX];
	__u32 len = sizeof(info);
	int map;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	map = bpf_obj_get(path);
	if (map < 0)
		return 0;
	if (bpf_obj_get_info_by_fd(map, &info, &len))
		info.max_entries = 0;
	close(map);
	return info.max_entries;
}

/* A power of two, as the map has that many buckets. */
static uint32_t connections_for_memory(void)
{
	uint32_t n = RP_CONNECTIONS_LEAST;
	struct sysinfo info;

	if (sysinfo(&info))
		return n;
	while (n < RP_CONNECTIONS_MOST &&
	       2ULL * n * RP_CONNECTION_SHARE <=
		       (unsigned long long)info.totalram * info.mem_unit)
		n *= 2;
	return n;
}

uint32_t datapath_connections_max(const struct datapath_features *features,
				  const char *directory)
{
	uint32_t pinned = pinned_entries(directory, "connections");

	if (pinned)
		return pinned;
	return features->connections_max ? features->connections_max
					 : connections_for_memory();
}

static size_t memory_size(const struct bpf_map *map)
{
	size_t page = sysconf(_SC_PAGESIZE);
	size_t size =
		(size_t)bpf_map__max_entries(map) * bpf_map__value_size(map);

	return (size + page - 1) / page * page;
}

/* All of an array map whose values are whole words; NULL, and errno. */
static void *map_memory(const struct bpf_map *map)
{
	void *memory = mmap(NULL, memory_size(map), PROT_READ | PROT_WRITE,
			    MAP_SHARED, bpf_map__fd(map), 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void unmap_memory(void *memory, const struct bpf_map *map)
{
	if (memory)
		munmap(memory, memory_size(map));
}

int datapath_map_memory(struct datapath *datapath)
{
	const struct realpeer *skeleton = datapath->skeleton;

	datapath->gates = map_memory(skeleton->maps.gates);
	if (!datapath->gates)
		return -errno;
	if (datapath->features.offload < RP_OFFLOAD_ACCEPT)
		return 0;
	datapath->tags = map_memory(skeleton->maps.handshake_tags);
	if (!datapath->tags)
		return -errno;
	datapath->handshakes = map_memory(skeleton->maps.handshakes);
	return datapath->handshakes ? 0 : -errno;
}

void datapath_unmap_memory(struct datapath *datapath)
{
	const struct realpeer *skeleton = datapath->skeleton;

	if (!skeleton)
		return;
	unmap_memory(datapath->gates, skeleton->maps.gates);
	unmap_memory(datapath->tags, skeleton->maps.handshake_tags);
	unmap_memory(datapath->handshakes, skeleton->maps.handshakes);
}
