/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * record.h - who a connection's client is, kept small: one for every relayed
 * connection, for as long as it lives. struct rp_connection, and struct rp_tlvs
 * with room for every TLV there is, are made from it when somebody asks.
 */
#ifndef REALPEER_RECORD_H
#define REALPEER_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "realpeer/abi.h"
#include "realpeer/proxy_header.h"

struct record {
	uint64_t since; /* ns of CLOCK_BOOTTIME */
	uint8_t *tlvs;	/* owned, packed; NULL: none */
	uint8_t client[16];
	uint8_t proxy[16];
	uint8_t destination[16];
	uint16_t client_port;
	uint16_t proxy_port;
	uint16_t destination_port;
	uint8_t version;
	uint8_t command; /* enum rp_command */
};

/* `proxy` and `since` of an accepted socket; the rest is zero. */
void record_begin(struct record *record, const uint8_t peer[16],
		  uint16_t peer_port);

/*
 * What `header`, found at `data`, says of the socket `fd`, or without one
 * (NULL) the socket itself. 0; -ENOMEM: all but the TLVs.
 */
int record_fill(struct record *record, int fd, const struct rp_header *header,
		const uint8_t *data);

/*
 * What the kernel read of a header that is gone, with its TLVs or NULL.
 * 0; -ENOMEM: all but the TLVs.
 */
int record_take(struct record *record, const struct rp_connection *known,
		const struct rp_tlvs *tlvs);

/*
 * Sets everything but delivery, offload, listener and the key of the TLVs,
 * which become zero. Are there TLVs, then in *ret_tlvs?
 */
bool record_expand(const struct record *record, struct rp_connection *ret,
		   struct rp_tlvs *ret_tlvs);

/* Does a claim of the kernel say the same of client and header? */
bool record_agrees(const struct record *record,
		   const struct rp_connection *claim);

/* Frees what it owns. */
void record_end(struct record *record);

/* An IPv4 address, kept as ::ffff:a.b.c.d? */
bool ip_is_v4(const uint8_t ip[16]);

#endif
