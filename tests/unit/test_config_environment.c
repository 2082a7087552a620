/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_config_environment.c - user/config.c: variables that win over the files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loaded.h"

static const char *const mode_texts[] = {NULL, "disabled", "enabled",
					 "required"};

static void set(const char *variable, const char *text)
{
	if (text)
		assert_int_equal(setenv(variable, text, 1), 0);
	else
		assert_int_equal(unsetenv(variable), 0);
}

/*
 * proxy_protocol in all four places, each unset or one of three: the
 * listener's variable, its section, the global variable, [global], in this
 * order.
 */
static void mode_matrix(void **state)
{
	char text[300];

	for (int i = 0; i < 256; i++) {
		const char *own_variable = mode_texts[i & 3];
		const char *own = mode_texts[i >> 2 & 3];
		const char *global_variable = mode_texts[i >> 4 & 3];
		const char *global = mode_texts[i >> 6 & 3];
		const char *wins = own_variable	     ? own_variable
				   : own	     ? own
				   : global_variable ? global_variable
				   : global	     ? global
						     : "required";

		set("REALPEER_PROXY_PROTOCOL", global_variable);
		set("REALPEER_A_PROXY_PROTOCOL", own_variable);
		snprintf(text, sizeof(text),
			 "[global]\n%s%s\n"
			 "[listener a]\nlisten = 0.0.0.0:80\n%s%s\n"
			 "[listener b]\nlisten = 0.0.0.0:81\n",
			 global ? "proxy_protocol = " : "",
			 global ? global : "", own ? "proxy_protocol = " : "",
			 own ? own : "");
		good(state, text);
		assert_string_equal(mode_name(listener("a")->mode), wins);
		/* The neighbour has only the global two. */
		wins = global_variable ? global_variable
		       : global	       ? global
				       : "required";
		assert_string_equal(mode_name(listener("b")->mode), wins);
		assert_string_equal(mode_name(config->global.mode), wins);
	}
	set("REALPEER_PROXY_PROTOCOL", NULL);
	set("REALPEER_A_PROXY_PROTOCOL", NULL);
}

static void empty_variables(void **state)
{
	set("REALPEER_PROXY_PROTOCOL", "");
	set("REALPEER_A_PROXY_PROTOCOL", "");
	good(state, "[global]\nproxy_protocol = enabled\n"
		    "[listener a]\nlisten = 0.0.0.0:80\n"
		    "proxy_protocol = disabled\n");
	assert_int_equal(config->global.mode, RP_MODE_ENABLED);
	assert_int_equal(listener("a")->mode, RP_MODE_DISABLED);
}

static void variable_names(void **state)
{
	static const char text[] = "[listener my-Broker.1_x]\n"
				   "listen = 0.0.0.0:80\n";

	good(state, text);
	assert_int_equal(listener("my-Broker.1_x")->mode, RP_MODE_REQUIRED);
	set("REALPEER_MY_BROKER_1_X_PROXY_PROTOCOL", "enabled");
	good(state, text);
	assert_int_equal(listener("my-Broker.1_x")->mode, RP_MODE_ENABLED);
	set("REALPEER_MY_BROKER_1_X_PROXY_PROTOCOL", NULL);
	set("REALPEER_ABCDEFGHIJKLMNOPQRSTUVW_PROXY_PROTOCOL", "disabled");
	good(state, "[listener abcdefghijklmnopqrstuvw]\n"
		    "listen = 0.0.0.0:80\n");
	assert_int_equal(config->listeners[0].mode, RP_MODE_DISABLED);
	set("REALPEER_ABCDEFGHIJKLMNOPQRSTUVW_PROXY_PROTOCOL", NULL);
}

static void bad_variables(void **state)
{
	set("REALPEER_PROXY_PROTOCOL", "on");
	set("REALPEER_A_PROXY_PROTOCOL", "\033");
	bad(state, "; comment\n[global]\n[listener a]\nlisten = 0.0.0.0:80\n",
	    "@/a.conf:2: environment variable REALPEER_PROXY_PROTOCOL: 'on' is "
	    "not one of disabled, enabled, required\n"
	    "@/a.conf:3: environment variable REALPEER_A_PROXY_PROTOCOL: "
	    "'\\x1b' is not one of disabled, enabled, required\n");
	set("REALPEER_A_PROXY_PROTOCOL", NULL);
	bad(state, "",
	    "@/a.conf:0: environment variable REALPEER_PROXY_PROTOCOL: 'on' is "
	    "not one of disabled, enabled, required\n");
	set("REALPEER_PROXY_PROTOCOL", NULL);
}

/* One variable for two listeners is a mistake, but only when it is used. */
static void shared_variable(void **state)
{
	static const char text[] = "[listener a.b]\nlisten = 0.0.0.0:80\n"
				   "[listener A-b]\nlisten = 0.0.0.0:81\n"
				   "[listener a_c]\nlisten = 0.0.0.0:82\n";

	good(state, text);
	set("REALPEER_A_B_PROXY_PROTOCOL", "");
	good(state, text);
	set("REALPEER_A_C_PROXY_PROTOCOL", "enabled");
	good(state, text);
	set("REALPEER_A_B_PROXY_PROTOCOL", "enabled");
	bad(state, text,
	    "@/a.conf:3: environment variable REALPEER_A_B_PROXY_PROTOCOL "
	    "means listener 'a.b' as well, @/a.conf:1\n");
	set("REALPEER_A_B_PROXY_PROTOCOL", NULL);
	set("REALPEER_A_C_PROXY_PROTOCOL", NULL);
}

int main(void)
{
#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, loaded_setup, loaded_teardown)
	const struct CMUnitTest tests[] = {
		TEST(mode_matrix),     TEST(empty_variables),
		TEST(variable_names),  TEST(bad_variables),
		TEST(shared_variable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
