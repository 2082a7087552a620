/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * view.h - what realpeer shows of itself: records and counts as JSON with
 * stable keys, and the same JSON as tables for people.
 */
#ifndef REALPEER_VIEW_H
#define REALPEER_VIEW_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "realpeer/abi.h"

/*
 * One connection, with its TLVs or NULL; a new reference, NULL without memory.
 *
 *	cookie, *_port, version		numbers
 *	family				"ipv4" or "ipv6", of the client
 *	command				"proxy", "local" or "direct"
 *	since				RFC 3339 in UTC, with milliseconds
 *	tlvs				those that came; text that is no UTF-8
 *					has \xNN, unique_id is hexadecimal
 *					unless printable
 */
json_t *view_connection(uint64_t cookie, const struct rp_connection *record,
			const struct rp_tlvs *tlvs);

/* Text of any bytes: with \xNN if it is no UTF-8, which JSON must be. */
json_t *view_text(const void *text, size_t len);

/* Name of a count, as in JSON. */
const char *view_stat_name(enum rp_stat stat);

/* {"connections": 0, ...}: every count, in the order of abi.h. */
json_t *view_stats(const uint64_t counts[static RP_STAT_COUNT]);

/* Tables, from an array of connections, {"listeners": {NAME: stats}}, and
 * the daemon's status. What peers chose is escaped. */
void view_connections_table(const json_t *connections, FILE *out);
void view_stats_table(const json_t *stats, FILE *out);
void view_status_table(const json_t *status, FILE *out);

#endif
