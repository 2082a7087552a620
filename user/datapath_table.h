/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * datapath_table.h - what a map shall hold, gathered in memory before the map
 * is touched. For the datapath's own files.
 */
#ifndef REALPEER_DATAPATH_TABLE_H
#define REALPEER_DATAPATH_TABLE_H

#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Entries of key and value, one after the other, each at most 64 bytes. */
struct table {
	size_t key_size;
	size_t value_size;
	uint8_t *entries; /* owned */
	size_t n;
	size_t room;
};

/* Copies both. 0 or -ENOMEM. */
int table_add(struct table *table, const void *key, const void *value);

/* By key, which table_has() needs; none stays twice. */
void table_sort(struct table *table);
bool table_has(const struct table *table, const void *key);

const uint8_t *table_entry(const struct table *table, size_t i);

/* Writes what the map does not say already. 0 or -errno. */
int table_write(const struct table *table, struct bpf_map *map);

/*
 * The same for a trie, where a look-up may find a shorter prefix; a key that it
 * has is left alone, whatever its value. -ENOSPC, and nothing written, where
 * there is no room for all beside what it has. Sorts.
 */
int table_write_missing(struct table *table, struct bpf_map *map);

/* Deletes from the map what the table does not have; sorts. */
void table_prune(struct table *table, struct bpf_map *map);

#endif
