/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * emit.h - writes a PROXY protocol header for a handler that speaks it.
 *
 * A health check (LOCAL, UNKNOWN) stays one; a client without a header is
 * told as what it is, from its own address to ours.
 */
#ifndef REALPEER_EMIT_H
#define REALPEER_EMIT_H

#include <stddef.h>
#include <stdint.h>

#include "realpeer/proxy_header.h"
#include "record.h"

/* Largest header: fixed part, IPv6 block, and the TLVs that came. */
#define EMIT_V2_MAX (16 + 36 + 65535)

size_t emit_v1(const struct record *record, uint8_t out[RP_V1_MAX]);

/*
 * `received` is the version 2 header that came, `received_len` bytes long;
 * its TLVs of which `tlvs` (enum rp_tlv_bit) has the bit are copied as they
 * are. NULL: there was none.
 */
size_t emit_v2(const struct record *record, const uint8_t *received,
	       size_t received_len, uint16_t tlvs, uint8_t out[EMIT_V2_MAX]);

#endif
