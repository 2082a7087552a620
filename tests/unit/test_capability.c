/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_capability.c - user/capability.c */
#include "capability.h"

#include <inttypes.h>
#include <linux/capability.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define BIT(capability) (UINT64_C(1) << (capability))

static void missing(void **state)
{
	static const struct {
		uint64_t effective;
		const char *text;
	} cases[] = {
		{UINT64_MAX, ""},
		{BIT(CAP_BPF) | BIT(CAP_PERFMON) | BIT(CAP_NET_ADMIN), ""},
		{BIT(CAP_PERFMON) | BIT(CAP_NET_ADMIN), "CAP_BPF is missing"},
		{BIT(CAP_BPF) | BIT(CAP_NET_ADMIN), "CAP_PERFMON is missing"},
		{BIT(CAP_BPF) | BIT(CAP_PERFMON), "CAP_NET_ADMIN is missing"},
		{BIT(CAP_NET_ADMIN), "CAP_BPF and CAP_PERFMON are missing"},
		{BIT(CAP_BPF), "CAP_PERFMON and CAP_NET_ADMIN are missing"},
		{0, CAPABILITY_BPF_NEEDS " are missing"},
		{BIT(CAP_SYS_ADMIN) | BIT(CAP_NET_ADMIN), ""},
		{BIT(CAP_SYS_ADMIN), "CAP_NET_ADMIN is missing"},
	};
	char text[CAPABILITY_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(capability_missing(cases[i].effective,
						       text),
				    cases[i].text);
}

/* As proc(5) tells it. */
static void effective(void **state)
{
	FILE *status = fopen("/proc/thread-self/status", "re");
	uint64_t told = 0;
	char line[200];
	int found = 0;

	(void)state;
	assert_non_null(status);
	while (!found && fgets(line, sizeof(line), status))
		found = sscanf(line, "CapEff: %" SCNx64, &told) == 1;
	fclose(status);
	assert_true(found);
	assert_int_equal(capability_effective(), told);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(missing),
		cmocka_unit_test(effective),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
