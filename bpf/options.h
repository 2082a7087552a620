/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * options.h - the TCP options that a handshake agrees on: MSS (RFC 9293),
 * window scale and timestamps (RFC 7323), SACK permitted (RFC 2018).
 */
#ifndef REALPEER_OPTIONS_H
#define REALPEER_OPTIONS_H

#include "packet.h"

#include "realpeer/proxy_input.h"

#define TCP_OPTIONS_MAX 40
#define TCP_WSCALE_MAX	14 /* RFC 7323 section 2.3 */

enum rp_option_kind {
	RP_KIND_END = 0,
	RP_KIND_NOP = 1,
	RP_KIND_MSS = 2,
	RP_KIND_WSCALE = 3,
	RP_KIND_SACK_PERMITTED = 4,
	RP_KIND_TIMESTAMPS = 8,
};

struct rp_options {
	__u8 raw[64] __attribute__((aligned(4))); /* a power of two above 40 */
	__u32 len;
	__u32 at; /* while they are read */
	__u32 tsval;
	__u32 tsecr;
	__u16 mss; /* 0: none given */
	__u8 wscale;
	__u8 have; /* enum rp_tcp_option */
};

static __always_inline __u8 rp_option_byte(const struct rp_options *options,
					   __u32 at)
{
	return options->raw[rp_index(at, 64)];
}

static __always_inline __u32 rp_option_be16(const struct rp_options *options,
					    __u32 at)
{
	return rp_option_byte(options, at) << 8 |
	       rp_option_byte(options, at + 1);
}

static __always_inline __u32 rp_option_be32(const struct rp_options *options,
					    __u32 at)
{
	return rp_option_be16(options, at) << 16 |
	       rp_option_be16(options, at + 2);
}

static __always_inline void rp_option_take(struct rp_options *options,
					   __u8 kind, __u32 size)
{
	__u32 at = options->at;

	if (kind == RP_KIND_MSS && size == 4) {
		options->mss = rp_option_be16(options, at + 2);
	} else if (kind == RP_KIND_WSCALE && size == 3) {
		options->wscale = rp_option_byte(options, at + 2);
		if (options->wscale > TCP_WSCALE_MAX)
			options->wscale = TCP_WSCALE_MAX;
		options->have |= RP_OPTION_WSCALE;
	} else if (kind == RP_KIND_SACK_PERMITTED && size == 2) {
		options->have |= RP_OPTION_SACK;
	} else if (kind == RP_KIND_TIMESTAMPS && size == 10) {
		options->tsval = rp_option_be32(options, at + 2);
		options->tsecr = rp_option_be32(options, at + 6);
		options->have |= RP_OPTION_TIMESTAMPS;
	}
}

static long rp_option_next(__u32 i, struct rp_options **context)
{
	struct rp_options *options = *context;
	__u32 at = options->at, size;
	__u8 kind;

	if (at >= options->len)
		return 1;
	kind = rp_option_byte(options, at);
	if (kind == RP_KIND_END)
		return 1;
	if (kind == RP_KIND_NOP) {
		options->at = at + 1;
		return 0;
	}
	size = rp_option_byte(options, at + 1);
	if (size < 2 || size > options->len - at)
		return 1;
	rp_option_take(options, kind, size);
	options->at = at + size;
	return 0;
}

#define OPTION_HEADER(kind, size) ((kind) << 8 | (size))

/* The layout that Linux gives to a SYN, read at once. */
static __always_inline int rp_take_usual_syn(struct rp_options *options)
{
	const __be32 *words = (const __be32 *)options->raw;
	__u32 wscale = bpf_ntohl(words[4]);

	if (options->len != 20 ||
	    bpf_ntohl(words[0]) >> 16 != OPTION_HEADER(RP_KIND_MSS, 4) ||
	    words[1] !=
		    bpf_htonl(OPTION_HEADER(RP_KIND_SACK_PERMITTED, 2) << 16 |
			      OPTION_HEADER(RP_KIND_TIMESTAMPS, 10)) ||
	    wscale >> 8 !=
		    (RP_KIND_NOP << 16 | OPTION_HEADER(RP_KIND_WSCALE, 3)) ||
	    (wscale & 0xff) > TCP_WSCALE_MAX)
		return 0;
	options->mss = bpf_ntohl(words[0]);
	options->tsval = bpf_ntohl(words[2]);
	options->tsecr = bpf_ntohl(words[3]);
	options->wscale = wscale;
	options->have =
		RP_OPTION_SACK | RP_OPTION_TIMESTAMPS | RP_OPTION_WSCALE;
	return 1;
}

/* What nearly every other segment has, RFC 7323 appendix A. */
static __always_inline int rp_take_timestamps_alone(struct rp_options *options)
{
	const __be32 *words = (const __be32 *)options->raw;

	if (options->len != 12 ||
	    words[0] != bpf_htonl(RP_KIND_NOP << 24 | RP_KIND_NOP << 16 |
				  OPTION_HEADER(RP_KIND_TIMESTAMPS, 10)))
		return 0;
	options->tsval = bpf_ntohl(words[1]);
	options->tsecr = bpf_ntohl(words[2]);
	options->have = RP_OPTION_TIMESTAMPS;
	return 1;
}

/* The two lengths that nearly all segments have are read without a call. */
static __always_inline int rp_load_options(struct __sk_buff *skb, __u32 off,
					   struct rp_options *options,
					   __u32 len)
{
	struct rp_syn_options {
		__be32 words[5];
	} *syn = (struct rp_syn_options *)options->raw;
	struct rp_timestamps_alone {
		__be32 words[3];
	} *timestamps = (struct rp_timestamps_alone *)options->raw;

	if (len == sizeof(*timestamps))
		return rp_load_header(skb, off, timestamps);
	if (len == sizeof(*syn))
		return rp_load_header(skb, off, syn);
	/* The masked value is bounded by 63, and a real one by 40 anyway. */
	asm volatile("%0 &= 63" : "+r"(len));
	return len == 0 || len > TCP_OPTIONS_MAX ||
	       bpf_skb_load_bytes(skb, off, options->raw, len);
}

static __always_inline void rp_read_options(struct __sk_buff *skb,
					    const struct rp_packet *packet,
					    struct rp_options *options)
{
	__u32 len = packet->tcp.doff * 4 - sizeof(struct tcphdr);

	options->at = 0;
	options->len = 0;
	options->mss = 0;
	options->have = 0;
	if (rp_load_options(skb, packet->transport + sizeof(struct tcphdr),
			    options, len))
		return;
	options->len = len;
	if (rp_take_timestamps_alone(options) || rp_take_usual_syn(options))
		return;
	bpf_loop(TCP_OPTIONS_MAX, rp_option_next, &options, 0);
}

#endif
