/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * view_table.c - the tables of view.h. Prints what it is given, so that
 * people and programs can never be told different things.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "log.h"
#include "view.h"

#define COLUMNS_MAX 9
#define CELL_MAX    (INET6_ADDRSTRLEN + 10)

/* Rows of cells; widths are those of the widest. */
struct table {
	char (*cells)[CELL_MAX]; /* array of rows * columns, owned */
	size_t columns;
	size_t n; /* cells in use */
	size_t room;
	bool no_memory;
};

static void add_cell(struct table *table, const char *text)
{
	if (table->n == table->room) {
		size_t room = table->room ? 2 * table->room : 64;
		void *grown = reallocarray(table->cells, room, CELL_MAX);

		if (!grown) {
			table->no_memory = true;
			return;
		}
		table->cells = grown;
		table->room = room;
	}
	log_escape(text, strlen(text), table->cells[table->n++], CELL_MAX);
}

static void add_row(struct table *table, const char *const *cells)
{
	for (size_t i = 0; i < table->columns; i++)
		add_cell(table, cells[i]);
}

/* Prints and frees. */
static void print_table(struct table *table, FILE *out)
{
	int widths[COLUMNS_MAX] = {0};

	for (size_t i = 0; i < table->n; i++) {
		int len = (int)strlen(table->cells[i]);

		if (len > widths[i % table->columns])
			widths[i % table->columns] = len;
	}
	for (size_t i = 0; i < table->n; i++) {
		bool last = (i + 1) % table->columns == 0;

		fprintf(out, "%-*s%s", last ? 0 : widths[i % table->columns],
			table->cells[i], last ? "\n" : "  ");
	}
	if (table->no_memory)
		fputs("(cut short: out of memory)\n", out);
	free(table->cells);
}

static const char *string_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "-";
}

static json_int_t number_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static void endpoint_format(const json_t *object, const char *key,
			    const char *port_key, char out[CELL_MAX])
{
	const char *ip = string_of(object, key);
	bool v6 = strchr(ip, ':');

	snprintf(out, CELL_MAX, v6 ? "[%.45s]:%u" : "%.45s:%u", ip,
		 (unsigned int)(number_of(object, port_key) & 0xffff));
}

void view_connections_table(const json_t *connections, FILE *out)
{
	static const char *const titles[] = {"LISTENER", "CLIENT",
					     "PROXY",	 "DESTINATION",
					     "HEADER",	 "DELIVERY",
					     "OFFLOAD",	 "SINCE"};
	struct table table = {.columns = 8};
	const json_t *connection;
	size_t i;

	add_row(&table, titles);
	json_array_foreach(connections, i, connection)
	{
		char client[CELL_MAX], proxy[CELL_MAX], destination[CELL_MAX];
		char header[CELL_MAX];
		json_int_t version = number_of(connection, "version");

		endpoint_format(connection, "client", "client_port", client);
		endpoint_format(connection, "proxy", "proxy_port", proxy);
		endpoint_format(connection, "destination", "destination_port",
				destination);
		if (version)
			snprintf(header, sizeof(header), "v%d %.20s",
				 (int)version,
				 string_of(connection, "command"));
		else
			strcpy(header, "none");
		add_row(&table, (const char *const[]){
					string_of(connection, "listener"),
					client, proxy, destination, header,
					string_of(connection, "delivery"),
					string_of(connection, "offload"),
					string_of(connection, "since")});
	}
	print_table(&table, out);
}

void view_stats_table(const json_t *stats, FILE *out)
{
	static const char *const titles[] = {"LISTENER", "COUNT", "VALUE"};
	struct table table = {.columns = 3};
	const char *listener, *name;
	json_t *counts, *count;

	add_row(&table, titles);
	json_object_foreach(json_object_get(stats, "listeners"), listener,
			    counts)
	{
		json_object_foreach(counts, name, count)
		{
			char value[24];

			if (json_integer_value(count) == 0)
				continue;
			snprintf(value, sizeof(value), "%" JSON_INTEGER_FORMAT,
				 json_integer_value(count));
			add_row(&table,
				(const char *const[]){listener, name, value});
		}
	}
	print_table(&table, out);
}

/* Items of an array of strings, with commas. */
static void join(const json_t *array, char *out, size_t size)
{
	const json_t *item;
	size_t i, have = 0;

	out[0] = '\0';
	json_array_foreach(array, i, item)
	{
		have += (size_t)snprintf(out + have, size - have, "%s%s",
					 i ? ", " : "",
					 json_string_value(item));
		if (have >= size)
			break;
	}
}

static void print_listener(const json_t *listener, FILE *out)
{
	const char *handler =
		json_string_value(json_object_get(listener, "handler"));
	const char *why = string_of(listener, "why");
	char listen[512];

	join(json_object_get(listener, "listen"), listen, sizeof(listen));
	fprintf(out, "\nlistener %s\n", string_of(listener, "name"));
	fprintf(out, "  listen          %s\n", listen);
	fprintf(out, "  proxy_protocol  %s\n", string_of(listener, "mode"));
	fprintf(out, "  delivery        %s%s%s, client_address %s\n",
		string_of(listener, "delivery"), handler ? " to " : "",
		handler ? handler : "", string_of(listener, "client_address"));
	fprintf(out, "  offload         %s%s%s\n",
		string_of(listener, "offload"), *why ? ": " : "", why);
	fprintf(out, "  active          %" JSON_INTEGER_FORMAT "\n",
		number_of(listener, "active"));
}

void view_status_table(const json_t *status, FILE *out)
{
	json_int_t uptime = number_of(status, "uptime");
	const json_t *listener;
	size_t i;

	if (!json_is_true(json_object_get(status, "running"))) {
		fputs("realpeerd is not running\n", out);
		return;
	}
	fprintf(out,
		"realpeerd %s, process %" JSON_INTEGER_FORMAT
		", up %dd %02d:%02d:%02d, configuration %s\n",
		string_of(status, "version"), number_of(status, "pid"),
		(int)(uptime / 86400), (int)(uptime / 3600 % 24),
		(int)(uptime / 60 % 60), (int)(uptime % 60),
		string_of(status, "config"));
	json_array_foreach(json_object_get(status, "listeners"), i, listener)
		print_listener(listener, out);
}
