/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_config.c - user/config.c: defaults, what inherits from what, and what
 * one key means for another.
 */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loaded.h"
#include "temp_dir.h"

static void defaults(void **state)
{
	const struct listener_config *a;

	good(state, "");
	assert_int_equal(config->n_listeners, 0);
	assert_int_equal(config->log_level, LOG_LEVEL_INFO);
	assert_int_equal(config->drain_timeout_ms, 30000);
	assert_int_equal(config->threads, 0);

	good(state, "[listener a]\nlisten = 0.0.0.0:80\n");
	a = listener("a");
	assert_int_equal(a->mode, RP_MODE_REQUIRED);
	assert_int_equal(a->n_trusted, 0);
	assert_int_equal(a->header_timeout_ms, 3000);
	assert_int_equal(a->header_max, 4096);
	assert_int_equal(a->offload, OFFLOAD_WANTED_AUTO);
	assert_int_equal(a->untrusted, RP_UNTRUSTED_RESET);
	assert_false(a->special_source);
	assert_int_equal(a->delivery, RP_DELIVERY_INLINE);
	assert_int_equal(a->handler.len, 0);
	assert_int_equal(a->handler_port, 0);
	assert_int_equal(a->client_address, CLIENT_ADDRESS_GETPEERNAME);
	assert_int_equal(a->tlvs_forwarded, 0);
	assert_int_equal(a->n_listen, 1);
	assert_int_equal(a->line, 1);
	assert_non_null(strstr(a->file, "/a.conf"));

	good(state, "[listener a]\nlisten = 0.0.0.0:80\ndelivery = relay\n"
		    "handler = 127.0.0.1:81\n");
	assert_int_equal(listener("a")->client_address, CLIENT_ADDRESS_NONE);
}

/* The example of DESIGN, as far as keys are known yet. */
static void example(void **state)
{
	char text[ADDRESS_TEXT_MAX];
	const struct listener_config *mqtt, *amqp;

	good(state,
	     "    [global]\n"
	     "    proxy_protocol = required          ; disabled | enabled\n"
	     "    trusted        = 10.0.0.0/8, fd00::/8\n"
	     "    header_timeout = 5s\n"
	     "    header_max     = 1000\n"
	     "    offload        = peek              ; auto | accept | peek\n"
	     "    untrusted      = direct            ; reset | direct\n"
	     "    log_level      = debug\n"
	     "    special_source = accept\n"
	     "    drain_timeout  = 500ms\n"
	     "    threads        = 3\n"
	     "\n"
	     "    [listener mqtt]\n"
	     "    listen         = 0.0.0.0:1883, [::]:1883\n"
	     "    delivery       = inline            ; inline | relay\n"
	     "    handler        = 11883\n"
	     "    ; proxy_protocol unset: inherits\n"
	     "\n"
	     "    [listener amqp]\n"
	     "    listen         = 0.0.0.0:5672\n"
	     "    delivery       = relay\n"
	     "    handler        = 127.0.0.1:15672   ; host:port\n"
	     "    client_address = proxy-v2\n"
	     "    forward_tlvs   = ssl, authority\n"
	     "    proxy_protocol = enabled\n"
	     "    special_source = refuse\n");
	assert_int_equal(config->log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(config->drain_timeout_ms, 500);
	assert_int_equal(config->threads, 3);
	assert_int_equal(config->n_listeners, 2);
	mqtt = listener("mqtt");
	assert_int_equal(mqtt->n_listen, 2);
	assert_int_equal(mqtt->handler_port, 11883);
	assert_int_equal(mqtt->mode, RP_MODE_REQUIRED);
	assert_true(mqtt->special_source);
	assert_int_equal(mqtt->line, 13);
	amqp = listener("amqp");
	assert_int_equal(amqp->delivery, RP_DELIVERY_RELAY);
	assert_string_equal(address_format(&amqp->handler.sa, text),
			    "127.0.0.1:15672");
	assert_int_equal(amqp->client_address, CLIENT_ADDRESS_PROXY_V2);
	assert_int_equal(amqp->tlvs_forwarded, RP_TLV_SSL | RP_TLV_AUTHORITY);
	assert_int_equal(amqp->mode, RP_MODE_ENABLED);
	assert_int_equal(amqp->header_timeout_ms, 5000);
	assert_int_equal(amqp->header_max, 1000);
	assert_int_equal(amqp->offload, OFFLOAD_WANTED_PEEK);
	assert_int_equal(amqp->untrusted, RP_UNTRUSTED_DIRECT);
	assert_int_equal(amqp->n_trusted, 2);
	assert_false(amqp->special_source);
	/* Each its own copy. */
	assert_ptr_not_equal(amqp->trusted, mqtt->trusted);
}

static void inherited_equal(const struct listener_config *a,
			    const struct listener_config *b)
{
	assert_int_equal(a->mode, b->mode);
	assert_int_equal(a->n_trusted, b->n_trusted);
	assert_int_equal(a->header_timeout_ms, b->header_timeout_ms);
	assert_int_equal(a->header_max, b->header_max);
	assert_int_equal(a->offload, b->offload);
	assert_int_equal(a->untrusted, b->untrusted);
	assert_int_equal(a->special_source, b->special_source);
}

/* Each key that is inherited: default, [global], listener, both. */
static void inheritance(void **state)
{
	static const struct {
		const char *key, *global, *own;
	} keys[] = {
		{"proxy_protocol", "enabled", "disabled"},
		{"trusted", "10.0.0.0/8, 192.0.2.0/24", "fd00::/8"},
		{"header_timeout", "1s", "2s"},
		{"header_max", "200", "300"},
		{"offload", "peek", "off"},
		{"untrusted", "direct", "reset"},
		{"special_source", "accept", "refuse"},
	};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		struct listener_config only_global, both, only_own;
		char text[300];

		snprintf(text, sizeof(text),
			 "[listener both]\nlisten = 0.0.0.0:80\n%s = %s\n"
			 "[global]\n%s = %s\n"
			 "[listener none]\nlisten = 0.0.0.0:81\n",
			 keys[i].key, keys[i].own, keys[i].key, keys[i].global);
		good(state, text);
		both = *listener("both");
		only_global = *listener("none");
		inherited_equal(&only_global, &config->global);
		/* Exactly this key tells the two apart. */
		assert_int_equal(both.mode != only_global.mode, i == 0);
		assert_int_equal(both.n_trusted != only_global.n_trusted,
				 i == 1);
		assert_int_equal(both.header_timeout_ms !=
					 only_global.header_timeout_ms,
				 i == 2);
		assert_int_equal(both.header_max != only_global.header_max,
				 i == 3);
		assert_int_equal(both.offload != only_global.offload, i == 4);
		assert_int_equal(both.untrusted != only_global.untrusted,
				 i == 5);
		assert_int_equal(both.special_source !=
					 only_global.special_source,
				 i == 6);

		/* What the listener says does not depend on [global]. */
		snprintf(text, sizeof(text),
			 "[listener own]\nlisten = 0.0.0.0:80\n%s = %s\n",
			 keys[i].key, keys[i].own);
		good(state, text);
		only_own = *listener("own");
		assert_int_equal(only_own.mode, both.mode);
		assert_int_equal(only_own.n_trusted, i == 1 ? 1 : 0);
	}
}

static void drop_ins(void **state)
{
	temp_text(state, "conf.d/1.conf",
		  "[global]\ntrusted = 192.0.2.0/24\nheader_max = 111\n");
	temp_text(state, "conf.d/2.conf",
		  "[global]\nheader_max = 222\n"
		  "[listener b]\nlisten = 0.0.0.0:81\n");
	good(state, "[global]\ntrusted = 10.0.0.0/8, 10.1.0.0/16\n"
		    "[listener a]\nlisten = 0.0.0.0:80\n");
	/* Replaced, not appended to, and for those of other files as well. */
	assert_int_equal(listener("a")->n_trusted, 1);
	assert_int_equal(listener("a")->header_max, 222);
	assert_int_equal(listener("b")->n_trusted, 1);
	assert_non_null(strstr(listener("b")->file, "/conf.d/2.conf"));
	/* What is overridden must be right all the same. */
	bad(state, "[global]\nheader_max = nonsense\n",
	    "@/a.conf:2: header_max: 'nonsense' is not a whole number\n");
}

static void needed(void **state)
{
	bad(state,
	    "[listener a]\n[listener b]\nlisten = 0.0.0.0:80\n"
	    "delivery = relay\n",
	    "@/a.conf:1: listen: listener 'a' needs one\n"
	    "@/a.conf:2: handler: delivery = relay needs one\n");
}

static void inline_keys(void **state)
{
	bad(state,
	    "[listener a]\nlisten = 0.0.0.0:80\nhandler = 127.0.0.1:81\n"
	    "client_address = none\nforward_tlvs = ssl\n",
	    "@/a.conf:3: handler: with delivery = inline it is a local port "
	    "number\n"
	    "@/a.conf:4: client_address: only with delivery = relay\n"
	    "@/a.conf:5: forward_tlvs: only with client_address = proxy-v2\n");
}

static void relay_keys(void **state)
{
	bad(state,
	    "[listener a]\nlisten = 0.0.0.0:80\ndelivery = relay\n"
	    "handler = 81\n"
	    "[listener b]\nlisten = 0.0.0.0:81\ndelivery = relay\n"
	    "handler = unix:/x\nclient_address = getpeername\n"
	    "[listener c]\nlisten = 0.0.0.0:82\ndelivery = relay\n"
	    "handler = unix:/x\nclient_address = proxy-v1\n"
	    "forward_tlvs = ssl\n",
	    "@/a.conf:4: handler: with delivery = relay it is host:port or "
	    "unix:/path\n"
	    "@/a.conf:9: client_address: getpeername needs a handler with "
	    "host:port, a unix socket has no address\n"
	    "@/a.conf:15: forward_tlvs: only with client_address = proxy-v2\n");
	good(state, "[listener c]\nlisten = 0.0.0.0:82\ndelivery = relay\n"
		    "handler = unix:/x\nclient_address = proxy-v2\n");
	assert_int_equal(config->listeners[0].handler.sa.sa_family, AF_UNIX);
}

/* A relay to itself would open connections until something gives in. */
static void handlers_here(void **state)
{
	static const struct {
		const char *handler;
		bool here;
	} cases[] = {
		{"127.0.0.1:80", true},	      {"127.9.8.7:80", true},
		{"192.0.2.77:80", false},     {"[::1]:80", true},
		{"[2001:db8::77]:80", false},
	};
	char text[200];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text),
			 "[listener a]\nlisten = 0.0.0.0:81\n"
			 "delivery = relay\nhandler = %s\n"
			 "client_address = getpeername\n",
			 cases[i].handler);
		good(state, text);
		assert_int_equal(listener("a")->handler_here, cases[i].here);
	}
}

static void loops(void **state)
{
	static const struct {
		const char *listen, *handler;
		bool loop;
	} cases[] = {
		{"127.0.0.1:80", "127.0.0.1:80", true},
		{"0.0.0.0:80", "127.0.0.1:80", true},
		{"0.0.0.0:80", "127.9.9.9:80", true},
		{"0.0.0.0:80", "0.0.0.0:80", true},
		{"0.0.0.0:80", "[::ffff:127.0.0.1]:80", true},
		{"[::ffff:127.0.0.1]:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "0.0.0.0:80", true},
		{"[::1]:80", "[::]:80", true},
		{"[::]:80", "0.0.0.0:80", true},
		{"[::]:80", "[::]:80", true},
		{"0.0.0.0:80", "[::]:80", false},
		{"127.0.0.2:80", "0.0.0.0:80", false},
		{"[::]:80", "[::1]:80", true},
		{"192.0.2.1:1, [::1]:80", "[::1]:80", true},
		{"0.0.0.0:80", "127.0.0.1:81", false},
		{"0.0.0.0:80", "192.0.2.1:80", false},
		{"0.0.0.0:80", "[::1]:80", false},
		{"[::]:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.2:80", false},
	};
	char text[200];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text),
			 "[listener a]\nlisten = %s\ndelivery = relay\n"
			 "handler = %s\n",
			 cases[i].listen, cases[i].handler);
		if (cases[i].loop)
			bad(state, text,
			    "@/a.conf:4: handler: it is the listener itself\n");
		else
			good(state, text);
	}
}

static void addresses_of_two(void **state)
{
	temp_text(state, "conf.d/1.conf",
		  "[listener c]\nlisten = [::]:80, 0.0.0.0:81\n");
	bad(state,
	    "[listener a]\nlisten = 0.0.0.0:80, [::]:80\n"
	    "[listener b]\nlisten = 127.0.0.1:80, 0.0.0.0:81\n",
	    "@/conf.d/1.conf:2: listen: [::]:80 belongs to listener 'a', "
	    "@/a.conf:2\n"
	    "@/conf.d/1.conf:2: listen: 0.0.0.0:81 belongs to listener 'b', "
	    "@/a.conf:4\n");
}

/* A connection has one destination, however it is written. */
static void addresses_written_twice(void **state)
{
	bad(state,
	    "[listener a]\nlisten = 192.0.2.1:80, 0.0.0.0:81\n"
	    "[listener b]\nlisten = [::ffff:192.0.2.1]:80\n"
	    "[listener c]\nlisten = [::ffff:0:0]:81, [::]:81\n",
	    "@/a.conf:4: listen: 192.0.2.1:80 belongs to listener 'a', "
	    "@/a.conf:2\n"
	    "@/a.conf:6: listen: 0.0.0.0:81 belongs to listener 'a', "
	    "@/a.conf:2\n");
}

static void too_many_trusted(void **state)
{
	size_t room = CONFIG_TRUSTED_MAX * 16 + 4000, have;
	char *text = malloc(room);

	assert_non_null(text);
	have = (size_t)sprintf(text, "[global]\ntrusted = ");
	for (int i = 0; i < CONFIG_TRUSTED_MAX; i++)
		have += (size_t)sprintf(text + have, "%s10.0.%d.%d",
					i ? "," : "", i / 256, i % 256);
	for (int i = 0; i < RP_TRUSTED_MAX / CONFIG_TRUSTED_MAX; i++)
		have += (size_t)sprintf(text + have,
					"\n[listener n%d]\n"
					"listen = 0.0.0.0:%d\n",
					i, i + 1);
	good(state, text);
	assert_int_equal(listener("n15")->n_trusted, CONFIG_TRUSTED_MAX);
	sprintf(text + have, "[listener x]\nlisten = 0.0.0.0:99\n");
	bad(state, text,
	    "@/a.conf:0: trusted: more than 65536 prefixes over all "
	    "listeners\n");
	free(text);
}

/* All are told, in the order of the files, and none that is not there. */
static void all_errors(void **state)
{
	temp_text(state, "conf.d/1.conf", "[global]\nthreads = many\n");
	bad(state,
	    "[global]\nheader_timeout = 3\ncolour = red\n"
	    "[listener a]\nlisten = 80\ndelivry = relay\n"
	    "handler = 127.0.0.1:81\n"
	    "[listener b]\ndelivery = rely\nhandler = 127.0.0.1:81\n"
	    "client_address = getpeername\n",
	    "@/a.conf:3: unknown key 'colour'\n"
	    "@/a.conf:6: unknown key 'delivry'; did you mean 'delivery'?\n"
	    "@/a.conf:2: header_timeout: '3' is not a duration: the unit (ms, "
	    "s or m) is missing\n"
	    "@/conf.d/1.conf:2: threads: 'many' is not a whole number\n"
	    "@/a.conf:5: listen: '80' is not an address such as 0.0.0.0:1883 "
	    "or [::]:1883\n"
	    "@/a.conf:9: delivery: 'rely' is not one of inline, relay\n"
	    "@/a.conf:8: listen: listener 'b' needs one\n");
}

#define NO_LISTEN  "@/a.conf:1: listen: listener 'a' needs one\n"
#define NO_HANDLER "@/a.conf:1: handler: delivery = relay needs one\n"
#define TLVS	   ": forward_tlvs: only with client_address = proxy-v2\n"
#define LOOP	   ": handler: it is the listener itself\n"
/* Keys of one listener, and what is told behind `mistake`. */
static const struct {
	const char *keys, *mistake, *told;
} half_wrong[] = {
	{"proxy_protocol = perhaps\ndelivery = relay\n",
	 "2: proxy_protocol: 'perhaps' is not one of disabled, "
	 "enabled, required\n",
	 NO_LISTEN NO_HANDLER},
	{"colour = red\ndelivery = relay\n", "2: unknown key 'colour'\n",
	 NO_LISTEN NO_HANDLER},
	{"header_max = 1\nlisten = 0.0.0.0:80\ndelivery = relay\n"
	 "handler = 127.0.0.1:80\n",
	 "2: header_max: 1 is not between 107 and 65535\n", "@/a.conf:5" LOOP},
	/* The listener's addresses are not known, its handler is. */
	{"listen = 80\ndelivery = relay\nhandler = 81\n",
	 "2: listen: '80' is not an address such as 0.0.0.0:1883 or "
	 "[::]:1883\n",
	 "@/a.conf:4: handler: with delivery = relay it is host:port "
	 "or unix:/path\n"},
	{"lisen = 0.0.0.0:80\ndelivery = relay\n",
	 "2: unknown key 'lisen'; did you mean 'listen'?\n", NO_HANDLER},
	{"listen = 0.0.0.0:80\nlisten = 0.0.0.0:81\n"
	 "delivery = relay\nhandler = 127.0.0.1:80\n",
	 "3: 'listen' stands already at @/a.conf:2\n", ""},
	{"handler = x\ndelivery = relay\n",
	 "2: handler: 'x' is not host:port with a numeric host, "
	 "unix:/path or a port\n",
	 NO_LISTEN},
	{"delivery = rely\nhandler = 127.0.0.1:81\n"
	 "forward_tlvs = ssl\n",
	 "2: delivery: 'rely' is not one of inline, relay\n",
	 NO_LISTEN "@/a.conf:4" TLVS},
	{"delivery = rely\nclient_address = proxy-v2\n"
	 "forward_tlvs = ssl\n",
	 "2: delivery: 'rely' is not one of inline, relay\n", NO_LISTEN},
	{"client_address = v2\ndelivery = relay\n"
	 "handler = unix:/x\nforward_tlvs = ssl\n",
	 "2: client_address: 'v2' is not one of none, getpeername, "
	 "proxy-v1, proxy-v2\n",
	 NO_LISTEN},
	{"client_address = v2\ndelivery = inline\n"
	 "forward_tlvs = ssl\n",
	 "2: client_address: 'v2' is not one of none, getpeername, "
	 "proxy-v1, proxy-v2\n",
	 NO_LISTEN "@/a.conf:2: client_address: only with delivery = relay\n"
		   "@/a.conf:4" TLVS},
	/* Any key may be what cannot be read, but one that is there. */
	{"listen 0.0.0.0:80\nhandler = 127.0.0.1:81\n",
	 "2: missing '=' (key = value)\n", ""},
	{"listen 0.0.0.0:80\ndelivery = inline\n"
	 "handler = 127.0.0.1:81\n",
	 "2: missing '=' (key = value)\n",
	 "@/a.conf:4: handler: with delivery = inline it is a local "
	 "port number\n"},
};

/* A mistake hides none but what may follow from it alone. */
static void independent_errors(void **state)
{
	char text[300], expected[600];

	for (size_t i = 0; i < sizeof(half_wrong) / sizeof(half_wrong[0]);
	     i++) {
		snprintf(text, sizeof(text), "[listener a]\n%s",
			 half_wrong[i].keys);
		snprintf(expected, sizeof(expected), "@/a.conf:%s%s",
			 half_wrong[i].mistake, half_wrong[i].told);
		bad(state, text, expected);
	}
}

static void no_file(void **state)
{
	struct config *before = (struct config *)state, *result = before;
	size_t len;
	FILE *errors;

	free(told);
	errors = open_memstream(&told, &len);
	assert_non_null(errors);
	assert_int_equal(config_load("/nonexistent/x.conf", errors, &result),
			 -EINVAL);
	assert_int_equal(fclose(errors), 0);
	assert_string_equal(told, "/nonexistent/x.conf:0: cannot be read: No "
				  "such file or directory\n");
	assert_ptr_equal(result, before);
}

static void references(void **state)
{
	struct config *other;

	good(state, "[listener a]\nlisten = 0.0.0.0:80\n");
	other = config_ref(config);
	assert_ptr_equal(other, config);
	config_unref(config);
	/* Still there: ASan would tell. */
	assert_string_equal(other->listeners[0].name, "a");
	config_unref(other);
	config_unref(NULL);
	config = NULL;
}

/* Whatever the bytes are: an answer, no crash; ASan and UBSan watch. */
static void random_bytes(void **state)
{
	static const char alphabet[] = "[]=;#, \t\n\n\\:./ab0123456789"
				       "\xef\xbb\xbf\r";
	static const char *const words[] = {
		"[global]\n",	"[listener a]\n", "listen = ",	 "handler = ",
		"trusted = ",	"delivery = ",	  "relay\n",	 "0.0.0.0:1\n",
		"::1/64,\n   ", "unix:/x\n",	  "header_max=", "threads",
	};
	char text[600];

	srandom(1);
	for (int i = 0; i < 3000; i++) {
		size_t have = 0;

		while (have < 500 && random() % 40) {
			if (random() % 2)
				text[have++] = alphabet[(size_t)random() %
							(sizeof(alphabet) - 1)];
			else
				have += (size_t)sprintf(
					text + have, "%s",
					words[(size_t)random() %
					      (sizeof(words) /
					       sizeof(words[0]))]);
		}
		text[have] = '\0';
		if (load(state, text) == 0)
			assert_string_equal(told, "");
		else
			assert_memory_equal(told, "@/a.conf:", 9);
	}
}

int main(void)
{
#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, loaded_setup, loaded_teardown)
	const struct CMUnitTest tests[] = {
		TEST(defaults),
		TEST(example),
		TEST(inheritance),
		TEST(drop_ins),
		TEST(needed),
		TEST(inline_keys),
		TEST(relay_keys),
		TEST(handlers_here),
		TEST(loops),
		TEST(addresses_of_two),
		TEST(addresses_written_twice),
		TEST(too_many_trusted),
		TEST(all_errors),
		TEST(independent_errors),
		TEST(no_file),
		TEST(references),
		TEST(random_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
