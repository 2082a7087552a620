/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * proxy_parse.h - the one PROXY protocol header parser.
 *
 * It looks at the first bytes of a stream, allocates nothing and changes
 * nothing. Included by one file of each side: user/proxy_header.c wraps it
 * as rp_parse(); a BPF object gets rp_parse_kernel().
 */
#ifndef REALPEER_PROXY_PARSE_H
#define REALPEER_PROXY_PARSE_H

#include "realpeer/proxy_v1.h"
#include "realpeer/proxy_v2.h"

/* Reads p->data, ->len and ->header_max; writes p->header. */
RP_INLINE enum rp_verdict rp_parser_run(struct rp_parser *p)
{
	struct rp_header *h = &p->header;
	__u32 need, fault;

	__builtin_memset(h, 0, sizeof(*h));
	p->verdict = RP_INCOMPLETE;
	if (!p->len)
		h->need = RP_V1_MIN;
	else if (p->data[0] == rp_v1_start[0][0])
		rp_v1_parse(p);
	else
		rp_v2_parse(p);
	if (p->verdict == RP_HEADER)
		return RP_HEADER;

	/* Leave nothing behind that somebody could take for an address. */
	need = h->need;
	fault = h->fault;
	__builtin_memset(h, 0, sizeof(*h));
	h->need = need;
	h->fault = fault;
	return p->verdict;
}

#ifdef __bpf__

/*
 * Global, so that the verifier judges it once and alone, not for each path
 * that leads to a call. It supposes then that p may be NULL.
 */
__weak __noinline enum rp_verdict rp_parse_kernel(struct rp_parser *p)
{
	return p ? rp_parser_run(p) : RP_MALFORMED;
}

#endif
#endif
