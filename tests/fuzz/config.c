// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * config.c - fuzzes the configuration: whatever the files hold, it is taken
 * or refused with a reason for each mistake; and what was taken says the same
 * when it is written down and read again.
 *
 * An input is text: realpeer.conf, then drop-ins of conf.d behind lines with
 * "---". If it begins with "#env ", the rest of that line is the environment's
 * REALPEER_PROXY_PROTOCOL.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "fuzz.h"
#include "plan.h"

#define DROP_INS_MAX 3
#define SEPARATOR    "\n---\n"
#define VARIABLE     "REALPEER_PROXY_PROTOCOL"

static char main_path[128], again_path[128];
static char drop_ins[DROP_INS_MAX][160];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *directory = fuzz_directory();
	char path[128];

	(void)argc;
	(void)argv;
	snprintf(path, sizeof(path), "%s/conf.d", directory);
	holds(mkdir(path, 0700) == 0);
	for (int i = 0; i < DROP_INS_MAX; i++)
		snprintf(drop_ins[i], sizeof(drop_ins[i]), "%s/%d.conf", path,
			 i);
	snprintf(main_path, sizeof(main_path), "%s/realpeer.conf", directory);
	/* Where there are no drop-ins. */
	snprintf(path, sizeof(path), "%s/again", directory);
	holds(mkdir(path, 0700) == 0);
	snprintf(again_path, sizeof(again_path), "%s/again/realpeer.conf",
		 directory);
	return 0;
}

static void set_environment(const char *text, size_t len)
{
	char value[32] = "";
	size_t n = 0;

	unsetenv(VARIABLE);
	if (len < 5 || memcmp(text, "#env ", 5) != 0)
		return;
	while (5 + n < len && n + 1 < sizeof(value) && text[5 + n] != '\n') {
		value[n] = text[5 + n];
		n++;
	}
	setenv(VARIABLE, value, 1);
}

static void write_files(const char *text, size_t len)
{
	const char *path = main_path, *end;
	int drop_in = 0;

	while (drop_in < DROP_INS_MAX &&
	       (end = memmem(text, len, SEPARATOR, strlen(SEPARATOR)))) {
		fuzz_write(path, text, end + 1 - text);
		len -= end + strlen(SEPARATOR) - text;
		text = end + strlen(SEPARATOR);
		path = drop_ins[drop_in++];
	}
	fuzz_write(path, text, len);
	while (drop_in < DROP_INS_MAX)
		unlink(drop_ins[drop_in++]);
}

/* "FILE:LINE: text" of one of the files, and nothing that moves a cursor. */
static void check_error(const char *line)
{
	const char *rest = NULL;
	size_t digits;

	if (strncmp(line, main_path, strlen(main_path)) == 0)
		rest = line + strlen(main_path);
	for (int i = 0; i < DROP_INS_MAX && !rest; i++) {
		if (strncmp(line, drop_ins[i], strlen(drop_ins[i])) == 0)
			rest = line + strlen(drop_ins[i]);
	}
	holds(rest && rest[0] == ':');
	digits = strspn(rest + 1, "0123456789");
	holds(digits > 0);
	rest += 1 + digits;
	holds(rest[0] == ':' && rest[1] == ' ' && rest[2]);
	for (; *rest; rest++)
		holds(*rest >= 0x20 && *rest < 0x7f);
}

/* NULL: it was refused, and that was told. */
static struct config *load(const char *path)
{
	struct config *config = NULL;
	char *text = NULL, *line, *rest;
	size_t len = 0;
	FILE *errors = open_memstream(&text, &len);
	int r;

	holds(errors);
	r = config_load(path, errors, &config);
	holds(fclose(errors) == 0 && text);
	holds(r == 0 || r == -EINVAL);
	holds((r == 0) == (config != NULL));
	holds((r == 0) == (len == 0));
	holds(strlen(text) == len);
	holds(len == 0 || text[len - 1] == '\n');
	if (len > 0)
		text[len - 1] = '\0';
	for (rest = len > 0 ? text : NULL; (line = strsep(&rest, "\n"));)
		check_error(line);
	free(text);
	return config;
}

/* What the files may demand at most, whatever they say. */
static void check_listener(const struct config *config, size_t index)
{
	const struct listener_config *l = &config->listeners[index];
	struct datapath_features none = {0};
	struct plan plan;

	holds(*l->name && strlen(l->name) < RP_NAME_LEN && l->file && l->line);
	holds(l->n_listen > 0 && l->n_listen <= CONFIG_LISTEN_MAX);
	holds(l->n_trusted <= CONFIG_TRUSTED_MAX);
	holds(l->header_timeout_ms > 0 && l->header_timeout_ms <= 600000);
	holds(l->header_max >= 107 && l->header_max <= 65535);
	holds((l->delivery == RP_DELIVERY_RELAY) == (l->handler.len > 0));
	holds(l->delivery == RP_DELIVERY_INLINE || l->handler_port == 0);
	holds(plan_find(config, l->name) == l);
	for (size_t i = 0; i < l->n_trusted; i++)
		holds(prefix_contains(&l->trusted[i], l->trusted[i].address));
	plan_listener(&none, l, &plan);
	holds((plan.refused[0] == '\0') ==
	      (l->delivery == RP_DELIVERY_RELAY &&
	       (l->offload == OFFLOAD_WANTED_OFF ||
		l->offload == OFFLOAD_WANTED_AUTO) &&
	       l->client_address != CLIENT_ADDRESS_GETPEERNAME));
}

static void print_trusted(const struct listener_config *l, FILE *out)
{
	char text[INET6_ADDRSTRLEN];
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	for (size_t i = 0; i < l->n_trusted; i++) {
		const struct prefix *p = &l->trusted[i];
		bool v4 =
			memcmp(p->address, mapped, 12) == 0 && p->length >= 96;

		inet_ntop(v4 ? AF_INET : AF_INET6, p->address + (v4 ? 12 : 0),
			  text, sizeof(text));
		fprintf(out, "%s%s/%u", i ? ", " : "trusted = ", text,
			p->length - (v4 ? 96 : 0));
	}
	fputc('\n', out);
}

/* The keys that [global] and a listener have. */
static void print_common(const struct listener_config *l, FILE *out)
{
	static const char *const offloads[] = {"off", "peek", "accept", "auto"};

	fprintf(out, "proxy_protocol = %s\n", mode_name(l->mode));
	fprintf(out, "untrusted = %s\n",
		l->untrusted == RP_UNTRUSTED_RESET ? "reset" : "direct");
	fprintf(out, "header_timeout = %ums\nheader_max = %u\n",
		l->header_timeout_ms, l->header_max);
	fprintf(out, "offload = %s\n", offloads[l->offload]);
	fprintf(out, "special_source = %s\n",
		l->special_source ? "accept" : "refuse");
	print_trusted(l, out);
}

static void print_listener(const struct listener_config *l, FILE *out)
{
	static const char *const tlvs[] = {"authority",	    "unique_id",
					   "aws_vpce_id",   NULL,
					   "alpn",	    "ssl",
					   "azure_link_id", "gcp_psc_id"};
	char text[ADDRESS_TEXT_MAX];
	const char *before = "forward_tlvs = ";

	fprintf(out, "[listener %s]\nlisten = ", l->name);
	for (size_t i = 0; i < l->n_listen; i++)
		fprintf(out, "%s%s", i ? "," : "",
			address_format(&l->listen[i].sa, text));
	fprintf(out, "\ndelivery = %s\n", delivery_name(l->delivery));
	print_common(l, out);
	if (l->delivery == RP_DELIVERY_INLINE) {
		if (l->handler_port)
			fprintf(out, "handler = %u\n", l->handler_port);
		return;
	}
	fprintf(out, "handler = %s\nclient_address = %s\n",
		address_format(&l->handler.sa, text),
		client_address_name(l->client_address));
	for (int i = 0; i < 8; i++) {
		if (!(l->tlvs_forwarded >> i & 1))
			continue;
		fprintf(out, "%s%s", before, tlvs[i]);
		before = ", ";
	}
	fputc('\n', out);
}

static void print(const struct config *config, FILE *out)
{
	static const char *const levels[] = {"error", "warning", "notice",
					     "info", "debug"};

	fprintf(out, "[global]\nlog_level = %s\n", levels[config->log_level]);
	fprintf(out, "drain_timeout = %ums\nthreads = %u\n",
		config->drain_timeout_ms, config->threads);
	print_common(&config->global, out);
	for (size_t i = 0; i < config->n_listeners; i++)
		print_listener(&config->listeners[i], out);
}

static void same_listener(const struct listener_config *a,
			  const struct listener_config *b)
{
	char changes[PLAN_TEXT_MAX];

	holds(strcmp(a->name, b->name) == 0);
	/* The key names of what differs, none. */
	holds(*plan_changes(a, b, changes) == '\0');
	holds(a->n_listen == b->n_listen && a->n_trusted == b->n_trusted);
	for (size_t i = 0; i < a->n_listen; i++)
		holds(address_equal(&a->listen[i], &b->listen[i]));
	for (size_t i = 0; i < a->n_trusted; i++)
		holds(memcmp(&a->trusted[i], &b->trusted[i],
			     sizeof(a->trusted[i])) == 0);
	holds(address_equal(&a->handler, &b->handler));
	holds(a->handler_port == b->handler_port);
	holds(a->delivery == b->delivery && a->mode == b->mode);
	holds(a->untrusted == b->untrusted && a->offload == b->offload);
	holds(a->client_address == b->client_address);
	holds(a->header_timeout_ms == b->header_timeout_ms);
	holds(a->header_max == b->header_max);
	holds(a->special_source == b->special_source);
	holds(a->tlvs_forwarded == b->tlvs_forwarded);
}

static void check_again(const struct config *config)
{
	struct config *again;
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	holds(out);
	print(config, out);
	holds(fclose(out) == 0 && text);
	fuzz_write(again_path, text, len);
	unsetenv(VARIABLE);
	holds(config_load(again_path, stderr, &again) == 0);
	free(text);
	holds(again->log_level == config->log_level);
	holds(again->drain_timeout_ms == config->drain_timeout_ms);
	holds(again->threads == config->threads);
	holds(again->n_listeners == config->n_listeners);
	same_listener(&again->global, &config->global);
	for (size_t i = 0; i < config->n_listeners; i++)
		same_listener(&again->listeners[i], &config->listeners[i]);
	config_unref(again);
}

/*
 * Seen to find, each within 4 s: a name in an error that is not escaped;
 * section_clear() leaks what was overridden; prefix_parse() leaves host bits.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct config *config;

	set_environment((const char *)data, len);
	write_files((const char *)data, len);
	config = load(main_path);
	if (!config)
		return 0;
	for (size_t i = 0; i < config->n_listeners; i++)
		check_listener(config, i);
	check_again(config);
	config_unref(config);
	return 0;
}
