/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_view_table.c - user/view_table.c: what people read */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "view.h"

static void check(void (*print)(const json_t *json, FILE *out),
		  const char *text, const char *expected)
{
	json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
	char *printed;
	size_t len;
	FILE *out = open_memstream(&printed, &len);

	assert_non_null(json);
	assert_non_null(out);
	print(json, out);
	assert_int_equal(fclose(out), 0);
	assert_string_equal(printed, expected);
	free(printed);
	json_decref(json);
}

static void connections(void **state)
{
	(void)state;
	check(view_connections_table, "[]",
	      "LISTENER  CLIENT  PROXY  DESTINATION  HEADER  DELIVERY  OFFLOAD "
	      " SINCE\n");
	check(view_connections_table,
	      "[{\"cookie\":1,\"listener\":\"mqtt\",\"client\":\"203.0.113.7\","
	      "\"client_port\":50000,\"proxy\":\"10.0.0.2\","
	      "\"proxy_port\":40000,\"destination\":\"198.51.100.1\","
	      "\"destination_port\":1883,\"family\":\"ipv4\",\"version\":2,"
	      "\"command\":\"proxy\",\"delivery\":\"relay\","
	      "\"offload\":\"peek\",\"since\":\"T\",\"tlvs\":{}},"
	      "{\"cookie\":2,\"listener\":\"a-longer-name\","
	      "\"client\":\"2001:db8::1\",\"client_port\":1,"
	      "\"proxy\":\"::1\",\"proxy_port\":2,\"destination\":\"::2\","
	      "\"destination_port\":3,\"version\":0,\"command\":\"direct\","
	      "\"delivery\":\"inline\",\"offload\":\"off\",\"since\":\"T\"}]",
	      "LISTENER       CLIENT             PROXY           DESTINATION   "
	      "     HEADER    DELIVERY  OFFLOAD  SINCE\n"
	      "mqtt           203.0.113.7:50000  10.0.0.2:40000  "
	      "198.51.100.1:1883  v2 proxy  relay     peek     T\n"
	      "a-longer-name  [2001:db8::1]:1    [::1]:2         [::2]:3       "
	      "     none      inline    off      T\n");
	/* What is missing is shown as such. */
	check(view_connections_table, "[{}]",
	      "LISTENER  CLIENT  PROXY  DESTINATION  HEADER  DELIVERY  OFFLOAD "
	      " SINCE\n"
	      "-         -:0     -:0    -:0          none    -         -       "
	      " -\n");
}

/* A terminal is not to be driven by what a peer sends. */
static void escaped(void **state)
{
	(void)state;
	check(view_stats_table,
	      "{\"listeners\":{\"\\u001b[31m\":{\"connections\":1}}}",
	      "LISTENER  COUNT        VALUE\n"
	      "\\x1b[31m  connections  1\n");
}

static void stats(void **state)
{
	(void)state;
	check(view_stats_table, "{\"listeners\":{}}",
	      "LISTENER  COUNT  VALUE\n");
	check(view_stats_table,
	      "{\"listeners\":{\"a\":{\"connections\":12,\"direct\":0,"
	      "\"bytes_up\":9007199254740993},\"b\":{\"connections\":0}}}",
	      "LISTENER  COUNT        VALUE\n"
	      "a         connections  12\n"
	      "a         bytes_up     9007199254740993\n");
}

static void status(void **state)
{
	(void)state;
	check(view_status_table, "{\"running\":false}",
	      "realpeerd is not running\n");
	check(view_status_table,
	      "{\"running\":true,\"version\":\"1.2.3\",\"pid\":42,"
	      "\"uptime\":93784,\"config\":\"/etc/x.conf\",\"listeners\":["
	      "{\"name\":\"a\",\"listen\":[\"0.0.0.0:1\",\"[::]:1\"],"
	      "\"mode\":\"required\",\"delivery\":\"relay\","
	      "\"offload\":\"peek\",\"why\":\"no kfunc\","
	      "\"handler\":\"127.0.0.1:2\",\"client_address\":\"none\","
	      "\"active\":3},"
	      "{\"name\":\"b\",\"listen\":[\"0.0.0.0:2\"],"
	      "\"mode\":\"enabled\",\"delivery\":\"inline\","
	      "\"offload\":\"accept\",\"why\":\"\",\"handler\":null,"
	      "\"client_address\":\"none\",\"active\":0}]}",
	      "realpeerd 1.2.3, process 42, up 1d 02:03:04, configuration "
	      "/etc/x.conf\n"
	      "\nlistener a\n"
	      "  listen          0.0.0.0:1, [::]:1\n"
	      "  proxy_protocol  required\n"
	      "  delivery        relay to 127.0.0.1:2, client_address none\n"
	      "  offload         peek: no kfunc\n"
	      "  active          3\n"
	      "\nlistener b\n"
	      "  listen          0.0.0.0:2\n"
	      "  proxy_protocol  enabled\n"
	      "  delivery        inline, client_address none\n"
	      "  offload         accept\n"
	      "  active          0\n");
}

/* Sixty-four addresses do not fit the line; it is cut, not overrun. */
static void long_listen(void **state)
{
	json_t *json = json_pack("{s:b, s:[{s:[]}]}", "running", 1, "listeners",
				 "listen");
	json_t *listen = json_object_get(
		json_array_get(json_object_get(json, "listeners"), 0),
		"listen");
	char *printed;
	size_t len;
	FILE *out = open_memstream(&printed, &len);

	(void)state;
	assert_non_null(out);
	for (int i = 0; i < 64; i++)
		json_array_append_new(
			listen,
			json_sprintf("[2001:db8:aaaa:bbbb:cccc:dddd:eeee:%d]"
				     ":65535",
				     i));
	view_status_table(json, out);
	assert_int_equal(fclose(out), 0);
	assert_non_null(strstr(printed, "2001:db8:aaaa:bbbb:cccc:dddd:eeee:0"));
	assert_non_null(strstr(printed, "proxy_protocol"));
	free(printed);
	json_decref(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connections), cmocka_unit_test(escaped),
		cmocka_unit_test(stats),       cmocka_unit_test(status),
		cmocka_unit_test(long_listen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
