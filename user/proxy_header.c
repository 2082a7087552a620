// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * proxy_header.c - the header parser as the daemon calls it.
 *
 * No parsing here: that is in proxy_parse.h, shared with the kernel.
 */
#include "realpeer/proxy_header.h"

#include <string.h>

#include "realpeer/proxy_parse.h"

enum rp_verdict rp_parse(const __u8 *data, size_t len, __u32 header_max,
			 struct rp_header *ret)
{
	struct rp_parser parser;
	enum rp_verdict verdict;

	parser.len = len < RP_V2_MAX ? len : RP_V2_MAX;
	parser.header_max = header_max;
	parser.data = data;
	verdict = rp_parser_run(&parser);
	*ret = parser.header;
	return verdict;
}

const char *rp_fault_name(enum rp_fault fault)
{
	static const char *const names[RP_FAULT_COUNT] = {
#define X(symbol, name) [RP_FAULT_##symbol] = name,
		RP_FAULTS(X)
#undef X
	};

	return names[fault];
}

/* Copies what fits of a value that is present; returns how much. */
static __u8 copy_span(const __u8 *data, struct rp_span span, void *to,
		      size_t size, enum rp_tlv_bit bit, struct rp_tlvs *tlvs)
{
	if (span.len > size) {
		span.len = size;
		tlvs->truncated |= bit;
	}
	memcpy(to, data + span.off, span.len);
	return span.len;
}

void rp_tlvs_fill(const struct rp_header *header, const __u8 *data,
		  struct rp_tlvs *ret)
{
	*ret = (struct rp_tlvs){
		.gcp_psc_id = header->gcp_psc_id,
		.azure_link_id = header->azure_link_id,
		.ssl_verify = header->ssl_verify,
		.present = header->present,
		.ssl_client = header->ssl_client,
	};
#define COPY(field, bit)                                              \
	ret->field##_len = copy_span(data, header->field, ret->field, \
				     sizeof(ret->field), bit, ret)
	COPY(authority, RP_TLV_AUTHORITY);
	COPY(unique_id, RP_TLV_UNIQUE_ID);
	COPY(aws_vpce_id, RP_TLV_AWS_VPCE_ID);
	COPY(ssl_cn, RP_TLV_SSL_CN);
	COPY(alpn, RP_TLV_ALPN);
#undef COPY
}
