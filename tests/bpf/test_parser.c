// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * test_parser.c - the header parser as the kernel runs it: every vector gives
 * what the table says, and on headers made by chance kernel and user space
 * agree in the verdict and in every byte of the result.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cmocka.h>
#include <linux/pkt_cls.h>

#include "mutate.h"
#include "vectors.h"
#include "parser.skel.h" /* takes struct rp_header as known */

#define PAD	     16 /* parser.bpf.c's PARSER_PAD */
#define DIFFERENTIAL 100000

static struct parser *parser;

static int load(void **state)
{
	(void)state;
	parser = parser__open_and_load();
	if (!parser) {
		fprintf(stderr, "parser.bpf.c not loaded: %s\n",
			strerror(errno));
		return -1;
	}
	return 0;
}

static int unload(void **state)
{
	(void)state;
	parser__destroy(parser);
	return 0;
}

/* What the verifier had to look at: a number to watch, not a limit. */
static void test_verifier_cost(void **state)
{
	struct bpf_prog_info info = {0};
	__u32 len = sizeof(info);

	(void)state;
	assert_int_equal(
		bpf_obj_get_info_by_fd(bpf_program__fd(parser->progs.parse),
				       &info, &len),
		0);
	print_message("verified %u instructions, of which 1000000 may be\n",
		      info.verified_insns);
	assert_in_range(info.verified_insns, 1, 50000);
}

/* The parser in the kernel. Returns ns for one of `repeat` rounds. */
static __u32 run(const __u8 *bytes, size_t len, __u32 header_max, __u32 repeat)
{
	__u8 packet[PAD + RP_KERNEL_HEADER_MAX] = {0};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet,
		    .data_size_in = PAD + len, .repeat = repeat);

	assert_true(len <= RP_KERNEL_HEADER_MAX);
	memcpy(packet + PAD, bytes, len);
	parser->bss->header_max = header_max;
	memset(&parser->bss->header, 0xaa, sizeof(parser->bss->header));
	assert_int_equal(bpf_prog_test_run_opts(
				 bpf_program__fd(parser->progs.parse), &opts),
			 0);
	assert_int_equal(opts.retval, TC_ACT_OK);
	return opts.duration;
}

/* Both sides, with the same bytes. */
static void compare(const char *name, const __u8 *bytes, size_t len,
		    __u32 header_max)
{
	const struct rp_header *kernel = &parser->bss->header;
	struct rp_header user;
	enum rp_verdict verdict = rp_parse(bytes, len, header_max, &user);

	run(bytes, len, header_max, 1);
	if (parser->bss->verdict == verdict &&
	    memcmp(kernel, &user, sizeof(user)) == 0)
		return;
	print_error("%s, limit %u, %zu bytes:", name, header_max, len);
	for (size_t i = 0; i < len; i++)
		print_error(" %02x", bytes[i]);
	fail_msg("\nkernel: verdict %u fault %s length %u need %u; "
		 "user: verdict %u fault %s length %u need %u",
		 parser->bss->verdict, rp_fault_name(kernel->fault),
		 kernel->length, kernel->need, verdict,
		 rp_fault_name(user.fault), user.length, user.need);
}

static void check_vector(const struct vector *vector)
{
	struct rp_header expected;

	vector_expected(vector, &expected);
	run(vector->bytes, vector->len, vector_header_max(vector), 1);
	if (parser->bss->verdict != vector->verdict)
		fail_msg("%s: verdict %u, not %u (fault %s)", vector->name,
			 parser->bss->verdict, vector->verdict,
			 rp_fault_name(parser->bss->header.fault));
	if (memcmp(&parser->bss->header, &expected, sizeof(expected)) != 0)
		fail_msg("%s: another result", vector->name);
}

static void test_vectors(void **state)
{
	(void)state;
	vectors_each(check_vector);
}

static void compare_prefixes(const struct vector *vector)
{
	for (size_t len = 0; len <= vector->len; len++)
		compare(vector->name, vector->bytes, len,
			vector_header_max(vector));
}

static void test_prefixes(void **state)
{
	(void)state;
	vectors_each(compare_prefixes);
}

static void test_differential(void **state)
{
	static __u8 bytes[MUTATED_MAX];

	(void)state;
	random_seed(3);
	for (int i = 0; i < DIFFERENTIAL; i++) {
		size_t len = mutated(bytes);

		compare("mutated", bytes, len, mutated_header_max());
	}
}

/* As long as the kernel's memory, and longer than it by the length field. */
static void test_longest(void **state)
{
	static __u8 bytes[RP_KERNEL_HEADER_MAX] =
		"\r\n\r\n\0\r\nQUIT\n\x21\x00\x07\xf0\x02\x07\xed";

	(void)state;
	compare("2048 bytes", bytes, sizeof(bytes), 2048);
	assert_int_equal(parser->bss->verdict, RP_HEADER);
	assert_int_equal(parser->bss->header.authority.len, 2029);
	compare("2048 bytes, limit 2047", bytes, sizeof(bytes), 2047);
	assert_int_equal(parser->bss->verdict, RP_TOO_LONG);
	bytes[15]++;
	compare("2049 bytes", bytes, sizeof(bytes), 4096);
	assert_int_equal(parser->bss->verdict, RP_INCOMPLETE);
	assert_int_equal(parser->bss->header.need, 1);
	memset(bytes + 18, 0, sizeof(bytes) - 18);
	bytes[15]--;
	compare("as many TLVs as fit", bytes, sizeof(bytes), 2048);
}

static void print_duration(const struct vector *vector)
{
	if (vector->verdict == RP_HEADER)
		print_message("%5u ns, %4zu bytes: %s\n",
			      run(vector->bytes, vector->len,
				  vector_header_max(vector), 1000),
			      vector->len, vector->name);
}

/* Shown for V=1; a machine under load says nothing about the parser. */
static void test_duration(void **state)
{
	(void)state;
	vectors_each(print_duration);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verifier_cost),
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_prefixes),
		cmocka_unit_test(test_differential),
		cmocka_unit_test(test_longest),
		cmocka_unit_test(test_duration),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
