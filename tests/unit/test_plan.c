/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_plan.c - user/plan.c: what a listener gets, and what a reload changes */
#include "plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct datapath_features nothing = {.why = "no right"};
static const struct datapath_features peek = {.bpf = true,
					      .getpeername = true,
					      .offload = RP_OFFLOAD_PEEK,
					      .why = "no kfunc"};
static const struct datapath_features best = {
	.bpf = true, .getpeername = true, .offload = RP_OFFLOAD_ACCEPT};

/* The plan as "OFFLOAD|WHY|REFUSED". */
static void check(const struct datapath_features *features, enum rp_mode mode,
		  enum rp_delivery delivery, enum offload_wanted wanted,
		  enum client_address client_address, const char *expected)
{
	struct listener_config listener = {
		.mode = mode,
		.delivery = delivery,
		.offload = wanted,
		.client_address = client_address,
	};
	char text[3 * PLAN_TEXT_MAX];
	struct plan plan;

	memset(&plan, 0xff, sizeof(plan));
	plan_listener(features, &listener, &plan);
	snprintf(text, sizeof(text), "%s|%s|%s", offload_name(plan.offload),
		 plan.why, plan.refused);
	assert_string_equal(text, expected);
}

#define RELAY(features, wanted, expected)                    \
	check(features, RP_MODE_REQUIRED, RP_DELIVERY_RELAY, \
	      OFFLOAD_WANTED_##wanted, CLIENT_ADDRESS_NONE, expected)
#define INLINE(features, wanted, expected)                   \
	check(features, RP_MODE_ENABLED, RP_DELIVERY_INLINE, \
	      OFFLOAD_WANTED_##wanted, CLIENT_ADDRESS_NONE, expected)

static void relay(void **state)
{
	(void)state;
	RELAY(&nothing, AUTO, "off|no right|");
	RELAY(&nothing, OFF, "off|the configuration asks for it|");
	RELAY(&nothing, PEEK,
	      "off|no right|offload = peek cannot be had: "
	      "no right");
	RELAY(&nothing, ACCEPT,
	      "off|no right|offload = accept cannot be had: "
	      "no right");
	RELAY(&peek, AUTO, "peek|no kfunc|");
	RELAY(&peek, OFF, "off|the configuration asks for it|");
	RELAY(&peek, PEEK, "peek|the configuration asks for it|");
	RELAY(&peek, ACCEPT,
	      "peek|no kfunc|offload = accept cannot be had: "
	      "no kfunc");
	RELAY(&best, AUTO, "accept||");
	RELAY(&best, OFF, "off|the configuration asks for it|");
	RELAY(&best, PEEK, "peek|the configuration asks for it|");
	RELAY(&best, ACCEPT, "accept||");
}

static void inline_delivery(void **state)
{
	(void)state;
	INLINE(&nothing, AUTO,
	       "off|no right|delivery = inline needs offload "
	       "accept: no right");
	INLINE(&peek, AUTO,
	       "peek|no kfunc|delivery = inline needs offload "
	       "accept: no kfunc");
	INLINE(&peek, PEEK,
	       "peek|the configuration asks for it|delivery = inline needs "
	       "offload accept: no kfunc");
	INLINE(&best, AUTO, "accept||");
	INLINE(&best, ACCEPT, "accept||");
	INLINE(&best, PEEK,
	       "peek|the configuration asks for it|delivery = "
	       "inline needs offload accept: the configuration "
	       "asks for less");
}

/* Silent clients matter where a header is not required, and TC has them. */
static void no_probes(void **state)
{
	static const struct {
		enum rp_mode mode;
		enum offload_wanted wanted;
		bool no_probes, warned;
	} cases[] = {
		{RP_MODE_ENABLED, OFFLOAD_WANTED_AUTO, true, true},
		{RP_MODE_ENABLED, OFFLOAD_WANTED_AUTO, false, false},
		{RP_MODE_ENABLED, OFFLOAD_WANTED_PEEK, true, false},
		{RP_MODE_REQUIRED, OFFLOAD_WANTED_AUTO, true, false},
		{RP_MODE_DISABLED, OFFLOAD_WANTED_AUTO, true, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct datapath_features features = best;
		struct listener_config listener = {
			.mode = cases[i].mode,
			.delivery = RP_DELIVERY_RELAY,
			.offload = cases[i].wanted,
		};
		struct plan plan;

		features.no_probes = cases[i].no_probes;
		plan_listener(&features, &listener, &plan);
		assert_int_equal(plan.warning != NULL, cases[i].warned);
	}
}

/* Without a header to read there is nothing that could be missing. */
static void disabled(void **state)
{
	const struct datapath_features *all[] = {&nothing, &peek, &best};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		check(all[i], RP_MODE_DISABLED, RP_DELIVERY_INLINE,
		      OFFLOAD_WANTED_AUTO, CLIENT_ADDRESS_NONE,
		      "off|proxy_protocol = disabled, there is no header to "
		      "read|");
		/* Inline has it without asking, so it is no demand. */
		check(all[i], RP_MODE_DISABLED, RP_DELIVERY_INLINE,
		      OFFLOAD_WANTED_AUTO, CLIENT_ADDRESS_GETPEERNAME,
		      "off|proxy_protocol = disabled, there is no header to "
		      "read|");
		check(all[i], RP_MODE_DISABLED, RP_DELIVERY_RELAY,
		      OFFLOAD_WANTED_ACCEPT, CLIENT_ADDRESS_PROXY_V2,
		      "off|proxy_protocol = disabled, there is no header to "
		      "read|");
	}
}

static void getpeername_demand(void **state)
{
	(void)state;
	check(&nothing, RP_MODE_REQUIRED, RP_DELIVERY_RELAY, OFFLOAD_WANTED_OFF,
	      CLIENT_ADDRESS_GETPEERNAME,
	      "off|the configuration asks for it|client_address = getpeername "
	      "needs BPF programs on cgroup2: no right");
	check(&nothing, RP_MODE_DISABLED, RP_DELIVERY_RELAY,
	      OFFLOAD_WANTED_AUTO, CLIENT_ADDRESS_GETPEERNAME,
	      "off|proxy_protocol = disabled, there is no header to "
	      "read|client_address = getpeername needs BPF programs on "
	      "cgroup2: no right");
	check(&peek, RP_MODE_REQUIRED, RP_DELIVERY_RELAY, OFFLOAD_WANTED_OFF,
	      CLIENT_ADDRESS_GETPEERNAME, "off|the configuration asks for it|");
	check(&nothing, RP_MODE_REQUIRED, RP_DELIVERY_RELAY, OFFLOAD_WANTED_OFF,
	      CLIENT_ADDRESS_PROXY_V1, "off|the configuration asks for it|");
}

static void numbers(void **state)
{
	struct listener_config abc[] = {
		{.name = "a"}, {.name = "b"}, {.name = "c"}};
	struct listener_config cda[] = {
		{.name = "c"}, {.name = "d"}, {.name = "a"}};
	struct listener_config b[] = {{.name = "b"}};
	struct config first = {.listeners = abc, .n_listeners = 3};
	struct config second = {.listeners = cda, .n_listeners = 3};
	struct config third = {.listeners = b, .n_listeners = 1};
	uint32_t of_first[3] = {0}, of_second[3], of_third[1];
	bool none[RP_LISTENERS_MAX] = {false}, taken[RP_LISTENERS_MAX];

	(void)state;
	memset(taken, 0, sizeof(taken));
	plan_numbers(NULL, NULL, &first, taken, of_first);
	assert_memory_equal(taken, none, sizeof(taken));
	assert_int_equal(of_first[0], 1);
	assert_int_equal(of_first[1], 2);
	assert_int_equal(of_first[2], 3);
	plan_numbers(&first, of_first, &second, taken, of_second);
	assert_true(taken[1] && taken[2] && taken[3] && !taken[4]);
	assert_int_equal(of_second[0], 3);
	assert_int_equal(of_second[1], 4);
	assert_int_equal(of_second[2], 1);
	/* Somebody still counts under the second, in which nobody is. */
	memset(taken, 0, sizeof(taken));
	taken[2] = true;
	plan_numbers(&second, of_second, &third, taken, of_third);
	assert_int_equal(of_third[0], 5);
	/* The same configuration again, as when a reload is taken back. */
	plan_numbers(&third, of_third, &third, taken, of_third);
	assert_int_equal(of_third[0], 5);
	/* Nobody does any more. */
	memset(taken, 0, sizeof(taken));
	plan_numbers(&second, of_second, &third, taken, of_third);
	assert_int_equal(of_third[0], 2);
	/* As at the start, when none has one yet. */
	memset(taken, 0, sizeof(taken));
	memset(of_first, 0, sizeof(of_first));
	plan_numbers(&first, of_first, &first, taken, of_first);
	assert_int_equal(of_first[0], 1);
	assert_int_equal(of_first[2], 3);

	assert_ptr_equal(plan_find(&second, "d"), &cda[1]);
	assert_null(plan_find(&second, "b"));
}

static void changes(void **state)
{
	struct address listen[2] = {0}, moved[2] = {0};
	struct prefix trusted = {.length = 8}, other = {.length = 9};
	struct listener_config old = {.listen = listen,
				      .n_listen = 2,
				      .trusted = &trusted,
				      .n_trusted = 1};
	struct listener_config new = old;
	char text[PLAN_TEXT_MAX];

	(void)state;
	assert_int_equal(address_parse("0.0.0.0:1", &listen[0]), 0);
	assert_int_equal(address_parse("[::]:1", &listen[1]), 0);
	memcpy(moved, listen, sizeof(moved));
	assert_string_equal(plan_changes(&old, &new, text), "");
	/* Where the values are, and in which line, is no change. */
	new.listen = moved;
	new.line = 7;
	assert_string_equal(plan_changes(&old, &new, text), "");
	assert_int_equal(address_parse("[::]:2", &moved[1]), 0);
	assert_string_equal(plan_changes(&old, &new, text), "listen");
	new.listen = listen;
	new.n_listen = 1;
	assert_string_equal(plan_changes(&old, &new, text), "listen");
	new.n_listen = 2;
	new.trusted = &other;
	new.handler_port = 1;
	assert_string_equal(plan_changes(&old, &new, text), "handler,trusted");
	new.n_trusted = 0;
	new.handler_port = 0;
	assert_int_equal(address_parse("[::]:2", &new.handler), 0);
	new.delivery = RP_DELIVERY_RELAY;
	new.client_address = CLIENT_ADDRESS_PROXY_V2;
	new.tlvs_forwarded = 1;
	new.mode = RP_MODE_ENABLED;
	new.untrusted = RP_UNTRUSTED_DIRECT;
	new.special_source = true;
	new.offload = OFFLOAD_WANTED_AUTO;
	new.header_timeout_ms = 1;
	new.header_max = 1;
	assert_string_equal(plan_changes(&old, &new, text),
			    "delivery,handler,client_address,forward_tlvs,"
			    "proxy_protocol,trusted,untrusted,special_source,"
			    "offload,header_timeout,header_max");
}

static void global_changes(void **state)
{
	struct config old = {.log_level = LOG_LEVEL_INFO}, new = old;
	char text[PLAN_TEXT_MAX];

	(void)state;
	assert_string_equal(plan_global_changes(&old, &new, text), "");
	new.threads = 2;
	assert_string_equal(plan_global_changes(&old, &new, text), "threads");
	new.log_level = LOG_LEVEL_DEBUG;
	new.drain_timeout_ms = 5;
	new.connections_max = 9;
	assert_string_equal(plan_global_changes(&old, &new, text),
			    "log_level,drain_timeout,threads,connections_max");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(relay),
		cmocka_unit_test(inline_delivery),
		cmocka_unit_test(no_probes),
		cmocka_unit_test(disabled),
		cmocka_unit_test(getpeername_demand),
		cmocka_unit_test(numbers),
		cmocka_unit_test(changes),
		cmocka_unit_test(global_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
