/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* relayed.c - see relayed.h */
#include "relayed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Writes `text` with the ports in place. */
static void write_text(FILE *file, const struct relayed *relayed,
		       const char *text)
{
	while (*text) {
		if (strncmp(text, "%LISTEN%", 8) == 0) {
			fprintf(file, "127.0.0.1:%u", relayed->port);
			text += 8;
		} else if (strncmp(text, "%HANDLER%", 9) == 0) {
			fprintf(file, "127.0.0.1:%u", relayed->handler_port);
			text += 9;
		} else {
			fputc(*text++, file);
		}
	}
}

struct config *relayed_config(const struct relayed *relayed, const char *text)
{
	char directory[] = "/tmp/realpeer-test-XXXXXX";
	char path[sizeof(directory) + sizeof("/conf")];
	struct config *config = NULL;
	FILE *file;

	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/conf", directory);
	file = fopen(path, "we");
	assert_non_null(file);
	write_text(file, relayed, text);
	fclose(file);
	assert_int_equal(config_load(path, stderr, &config), 0);
	unlink(path);
	rmdir(directory);
	return config;
}

void relayed_start(struct relayed *relayed, const char *settings)
{
	char text[2048];

	relayed->handler = tcp_listen(&relayed->handler_port);
	relayed->port = port_free();
	snprintf(text, sizeof(text),
		 "[global]\n"
		 "trusted = 127.0.0.1, ::1\n"
		 "header_timeout = 1m\n"
		 "offload = off\n"
		 "[listener test]\n"
		 "delivery = relay\n"
		 "%s%s%s\n",
		 strstr(settings, "listen =") ? "" : "listen = %LISTEN%\n",
		 strstr(settings, "handler =") ? "" : "handler = %HANDLER%\n",
		 settings);
	relayed->config = relayed_config(relayed, text);
	log_set_level(LOG_LEVEL_DEBUG);
	relayed->number = RELAYED_LISTENER;
	if (relayed->datapath)
		assert_int_equal(datapath_configure(relayed->datapath,
						    relayed->config,
						    &relayed->number),
				 0);
	assert_int_equal(server_start(relayed->config, &relayed->number,
				      relayed->datapath, NULL, 0,
				      &relayed->server),
			 0);
}

void relayed_stop(struct relayed *relayed)
{
	server_stop(relayed->server, 0);
	/* Whoever still had the configuration has given it back. */
	assert_int_equal(relayed->config->references, 1);
	config_unref(relayed->config);
	close(relayed->handler);
}

struct expected {
	struct relayed *relayed;
	enum rp_stat stat;
	uint64_t value;
};

static bool has_value(void *argument)
{
	const struct expected *expected = argument;

	return server_stat(expected->relayed->server, expected->relayed->number,
			   expected->stat) == expected->value;
}

void expect_stat(struct relayed *relayed, enum rp_stat stat, uint64_t value)
{
	struct expected expected = {relayed, stat, value};

	for (int i = 0; i < LOOPBACK_LIMIT_MS && !has_value(&expected); i++)
		sleep_ms(1);
	assert_int_equal(server_stat(relayed->server, relayed->number, stat),
			 value);
}

static bool is_idle(void *argument)
{
	const struct relayed *relayed = argument;

	return server_active(relayed->server, relayed->number) == 0;
}

void expect_idle(struct relayed *relayed)
{
	wait_until(is_idle, relayed);
}
