/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* datapath_table.c - see datapath_table.h. */
#include "datapath_table.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

static size_t table_stride(const struct table *table)
{
	return table->key_size + table->value_size;
}

const uint8_t *table_entry(const struct table *table, size_t i)
{
	return table->entries + i * table_stride(table);
}

int table_add(struct table *table, const void *key, const void *value)
{
	uint8_t *entry;

	if (table->n == table->room) {
		size_t room = table->room ? 2 * table->room : 64;

		entry = realloc(table->entries, room * table_stride(table));
		if (!entry)
			return -ENOMEM;
		table->entries = entry;
		table->room = room;
	}
	entry = table->entries + table->n++ * table_stride(table);
	memcpy(entry, key, table->key_size);
	memcpy(entry + table->key_size, value, table->value_size);
	return 0;
}

static int compare_keys(const void *a, const void *b, void *key_size)
{
	return memcmp(a, b, *(size_t *)key_size);
}

void table_sort(struct table *table)
{
	size_t stride = table_stride(table), n = 0;

	if (!table->n)
		return;
	qsort_r(table->entries, table->n, stride, compare_keys,
		&table->key_size);
	for (size_t i = 1; i < table->n; i++) {
		if (memcmp(table_entry(table, n), table_entry(table, i),
			   table->key_size) != 0)
			memmove(table->entries + ++n * stride,
				table_entry(table, i), stride);
	}
	table->n = n + 1;
}

/* Its index, or -1. */
static ssize_t find(const struct table *table, const void *key)
{
	size_t low = 0, high = table->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order =
			memcmp(key,
			       table->entries + middle * table_stride(table),
			       table->key_size);

		if (order == 0)
			return (ssize_t)middle;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return -1;
}

bool table_has(const struct table *table, const void *key)
{
	return find(table, key) >= 0;
}

static int write_entry(const struct table *table, size_t i, struct bpf_map *map)
{
	const uint8_t *entry = table_entry(table, i);

	return bpf_map__update_elem(map, entry, table->key_size,
				    entry + table->key_size, table->value_size,
				    BPF_ANY);
}

int table_write(const struct table *table, struct bpf_map *map)
{
	uint8_t old[64];
	int error = 0;

	for (size_t i = 0; i < table->n && !error; i++) {
		const uint8_t *entry = table_entry(table, i);

		if (bpf_map__lookup_elem(map, entry, table->key_size, old,
					 table->value_size, 0) ||
		    memcmp(old, entry + table->key_size, table->value_size))
			error = write_entry(table, i, map);
	}
	return error;
}

int table_write_missing(struct table *table, struct bpf_map *map)
{
	uint8_t key[64], next[64];
	size_t others = 0;
	bool *there;
	ssize_t at;
	int more, error = 0;

	table_sort(table);
	there = calloc(table->n + 1, sizeof(*there));
	if (!there)
		return -ENOMEM;
	more = bpf_map__get_next_key(map, NULL, next, table->key_size);
	while (more == 0) {
		memcpy(key, next, table->key_size);
		more = bpf_map__get_next_key(map, key, next, table->key_size);
		at = find(table, key);
		if (at < 0)
			others++;
		else
			there[at] = true;
	}
	if (others + table->n > bpf_map__max_entries(map))
		error = -ENOSPC;
	for (size_t i = 0; i < table->n && !error; i++) {
		if (!there[i])
			error = write_entry(table, i, map);
	}
	free(there);
	return error;
}

void table_prune(struct table *table, struct bpf_map *map)
{
	uint8_t key[64], next[64];
	int more;

	table_sort(table);
	more = bpf_map__get_next_key(map, NULL, next, table->key_size);
	while (more == 0) {
		memcpy(key, next, table->key_size);
		/* The next first: after a deletion the walk starts anew. */
		more = bpf_map__get_next_key(map, key, next, table->key_size);
		if (!table_has(table, key))
			bpf_map__delete_elem(map, key, table->key_size, 0);
	}
}
