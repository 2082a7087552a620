/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * record.h - from the bytes of a segment to the record of its connection.
 */
#ifndef REALPEER_RECORD_H
#define REALPEER_RECORD_H

#include "packet.h"

#include "realpeer/proxy_parse.h"

/* Too large for the stack of 512 bytes. TC never interrupts itself. */
struct rp_scratch {
	struct rp_parser parser;
	struct rp_pending pending;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rp_scratch);
} scratch __weak SEC(".maps");

/*
 * Parses the payload's first bytes. RP_MALFORMED if they can't be read.
 *
 * Lengths count from 0 to size - 1 here, hidden from the compiler: before 6.2
 * the verifier can't conclude from a test against 0 that one is at least 1.
 */
static __always_inline enum rp_verdict rp_parse_payload(
	struct __sk_buff *skb, const struct rp_packet *packet,
	const struct rp_listener *listener, struct rp_parser *parser)
{
	__u32 last = packet->payload_len - 1;

	asm volatile("" : "+r"(last));
	if (last >= RP_KERNEL_HEADER_MAX)
		last = RP_KERNEL_HEADER_MAX - 1;
	parser->len = last + 1;
	parser->header_max = listener->header_max;
	if (bpf_skb_load_bytes(skb, packet->payload, parser->data, last + 1))
		return RP_MALFORMED;
	return rp_parse_kernel(parser);
}

/* After RP_INCOMPLETE: whether the bytes are more than a chance prefix. */
static __always_inline int rp_has_signature(const struct rp_parser *parser)
{
	return parser->len >= (parser->data[0] == rp_v2_signature[0]
				       ? sizeof(rp_v2_signature)
				       : sizeof("PROXY ") - 1);
}

/* Copies a TLV's value out of the packet; gives the bytes that fitted. */
#define rp_copy_tlv(skb, base, span, field, bit, tlvs)                   \
	({                                                               \
		__u32 last_ = (span).len - 1, len_ = 0;                  \
		asm volatile("" : "+r"(last_));                          \
		if ((span).len && last_ >= sizeof(field)) {              \
			last_ = sizeof(field) - 1;                       \
			(tlvs)->truncated |= (bit);                      \
		}                                                        \
		if (last_ < sizeof(field) &&                             \
		    !bpf_skb_load_bytes(skb, (base) + (span).off, field, \
					last_ + 1))                      \
			len_ = last_ + 1;                                \
		len_;                                                    \
	})

static __always_inline void rp_copy_tlvs(struct __sk_buff *skb, __u32 base,
					 const struct rp_header *header,
					 struct rp_tlvs *tlvs)
{
	tlvs->truncated = 0;
	tlvs->gcp_psc_id = header->gcp_psc_id;
	tlvs->azure_link_id = header->azure_link_id;
	tlvs->ssl_verify = header->ssl_verify;
	tlvs->present = header->present;
	tlvs->ssl_client = header->ssl_client;
	tlvs->authority_len =
		rp_copy_tlv(skb, base, header->authority, tlvs->authority,
			    RP_TLV_AUTHORITY, tlvs);
	tlvs->unique_id_len =
		rp_copy_tlv(skb, base, header->unique_id, tlvs->unique_id,
			    RP_TLV_UNIQUE_ID, tlvs);
	tlvs->aws_vpce_id_len =
		rp_copy_tlv(skb, base, header->aws_vpce_id, tlvs->aws_vpce_id,
			    RP_TLV_AWS_VPCE_ID, tlvs);
	tlvs->ssl_cn_len = rp_copy_tlv(skb, base, header->ssl_cn, tlvs->ssl_cn,
				       RP_TLV_SSL_CN, tlvs);
	tlvs->alpn_len = rp_copy_tlv(skb, base, header->alpn, tlvs->alpn,
				     RP_TLV_ALPN, tlvs);
}

/*
 * The record of a connection whose header was read, or that has none
 * (header NULL). Without addresses in it the connection's own stand. `offload`
 * is how: the listener's may be another by now.
 */
static __always_inline void rp_fill_record(const struct rp_packet *packet,
					   __u32 number,
					   const struct rp_listener *listener,
					   enum rp_offload offload,
					   const struct rp_header *header,
					   struct rp_connection *record)
{
	__builtin_memset(record, 0, sizeof(*record));
	__builtin_memcpy(record->proxy, packet->tuple.peer, 16);
	record->proxy_port = packet->tuple.peer_port;
	record->command = header ? header->command : RP_COMMAND_DIRECT;
	record->version = header ? header->version : 0;
	if (record->command == RP_COMMAND_PROXY) {
		__builtin_memcpy(record->client, header->source, 16);
		__builtin_memcpy(record->destination, header->destination, 16);
		record->client_port = header->source_port;
		record->destination_port = header->destination_port;
	} else {
		__builtin_memcpy(record->client, packet->tuple.peer, 16);
		__builtin_memcpy(record->destination, packet->tuple.local, 16);
		record->client_port = packet->tuple.peer_port;
		record->destination_port = packet->tuple.local_port;
	}
	record->delivery = listener->delivery;
	record->shown = listener->delivery == RP_DELIVERY_INLINE;
	record->offload = offload;
	record->listener = number;
	__builtin_memcpy(record->listener_name, listener->name, RP_NAME_LEN);
}

#endif
