/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * datapath_maps.c - makes the maps say what the configuration says. Additions
 * come before deletions, so that a listener that stays is never without its
 * settings; what already is right is not written again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "datapath_internal.h"
#include "datapath_table.h"
#include "realpeer.skel.h"

static int netns_cookie(__u64 *ret_cookie)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*ret_cookie);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, ret_cookie, &len))
		error = -errno;
	close(fd);
	return error;
}

static void log_other_pins(const struct datapath *datapath, __u32 abi)
{
	log_error("msg=\"the pins are of another ABI version: stop the "
		  "realpeerd that made them, or remove them with rm -r (this "
		  "ends its data path)\" directory=%s theirs=%u ours=%u",
		  datapath->directory, abi, RP_ABI_VERSION);
}

/* Reads the pinned settings; all zero when there are none. */
static int read_old_settings(const struct datapath *datapath,
			     struct rp_settings *ret_settings)
{
	struct rp_settings settings = {0};
	struct bpf_map_info info = {0};
	char path[PATH_MAX + sizeof("/settings")];
	__u32 len = sizeof(info), zero = 0;
	int map, error = 0;

	snprintf(path, sizeof(path), "%s/settings", datapath->directory);
	map = bpf_obj_get(path);
	if (map < 0) {
		*ret_settings = settings;
		return errno == ENOENT ? 0 : -errno;
	}
	if (bpf_obj_get_info_by_fd(map, &info, &len))
		error = -errno;
	else if (info.value_size != sizeof(settings))
		error = -EPROTO;
	else if (bpf_map_lookup_elem(map, &zero, &settings))
		error = -errno;
	else if (settings.abi && settings.abi != RP_ABI_VERSION)
		error = -EPROTO;
	close(map);
	if (!error)
		*ret_settings = settings;
	if (error == -EPROTO)
		log_other_pins(datapath, settings.abi);
	return error;
}

/* Of libbpf: a map that is pinned is not as the object has it. */
static bool is_other_map(void)
{
	return strstr(datapath_first_warning(), "reuse pinned map");
}

int datapath_settle(struct datapath *datapath)
{
	struct rp_settings old;
	__u32 wanted, have;
	int error;

	error = read_old_settings(datapath, &old);
	if (!error)
		error = netns_cookie(&datapath->netns);
	if (error)
		return error;
	error = datapath_load(&datapath->features, datapath->directory,
			      &datapath->skeleton);
	if (error) {
		log_error("msg=\"cannot load the BPF programs\" directory=%s "
			  "error=\"%s\" detail=\"%s\"",
			  datapath->directory, strerror(-error),
			  datapath_first_warning());
		if (!is_other_map())
			return error;
		log_other_pins(datapath, old.abi);
		return -EPROTO;
	}
	if (old.netns && old.netns != datapath->netns)
		datapath_drop_stale(datapath, true);
	wanted = datapath->features.connections_max;
	have = bpf_map__max_entries(datapath->skeleton->maps.connections);
	if (wanted && wanted != have)
		log_warning("msg=\"connections_max takes effect with the next "
			    "start after a stop\" wanted=%u have=%u",
			    wanted, have);
	/* The programs of old go on until the listeners are known. */
	datapath->peeks = old.peeks;
	datapath->settled_at = old.screens ? UINT64_MAX : 0;
	return datapath_refresh(datapath);
}

struct tables {
	struct table listeners;
	struct table endpoints;
	struct table trusted;
	uint64_t ports[65536 / 64];
	/* Which of the programs' ways the listeners have any use for. */
	bool wakes_silent;
	bool peeks;
	bool screens;
	uint32_t timeout_ms; /* the longest of inline ones */
};

static int add_listener(const struct datapath *datapath, struct tables *tables,
			const struct listener_config *listener, uint32_t number)
{
	struct rp_listener value = {
		.mode = listener->mode,
		.delivery = listener->delivery,
		.offload = datapath_offload(datapath, listener),
		.untrusted = listener->untrusted,
		.special_source = listener->special_source,
		.attached = listener->attached,
		.handler_port = listener->handler_port,
		.header_max = listener->header_max,
		.header_timeout = listener->header_timeout_ms,
	};
	struct rp_trusted prefix = {.listener = number};
	__u32 yes = 1;
	int error;

	memcpy(value.name, listener->name, sizeof(value.name));
	error = table_add(&tables->listeners, &number, &value);
	for (size_t i = 0; !error && i < listener->n_listen; i++) {
		struct rp_endpoint key = {0};

		address_split(&listener->listen[i].sa, key.address, &key.port);
		tables->ports[key.port / 64] |= 1ULL << key.port % 64;
		error = table_add(&tables->endpoints, &key, &number);
	}
	for (size_t i = 0; !error && i < listener->n_trusted; i++) {
		prefix.prefixlen = 32 + listener->trusted[i].length;
		memcpy(prefix.address, listener->trusted[i].address, 16);
		error = table_add(&tables->trusted, &prefix, &yes);
	}
	return error;
}

static int write_ports(const uint64_t *wanted, struct bpf_map *map)
{
	for (__u32 i = 0; i < 65536 / 64; i++) {
		uint64_t old = 0;
		int error;

		bpf_map__lookup_elem(map, &i, sizeof(i), &old, sizeof(old), 0);
		if (old == wanted[i])
			continue;
		error = bpf_map__update_elem(map, &i, sizeof(i), &wanted[i],
					     sizeof(wanted[i]), BPF_ANY);
		if (error)
			return error;
	}
	return 0;
}

/* Counters start at zero for a new listener and go on for a known one. */
static int make_stats(struct bpf_map *map, const struct table *listeners)
{
	int cpus = libbpf_num_possible_cpus();
	struct rp_stat_key key;
	uint64_t *zeros;
	int error = 0;

	if (cpus <= 0)
		return cpus;
	zeros = calloc(cpus, sizeof(*zeros));
	if (!zeros)
		return -ENOMEM;
	for (size_t i = 0; i < listeners->n * RP_STAT_COUNT && !error; i++) {
		memcpy(&key.listener, table_entry(listeners, i / RP_STAT_COUNT),
		       sizeof(key.listener));
		key.stat = i % RP_STAT_COUNT;
		error = bpf_map__update_elem(map, &key, sizeof(key), zeros,
					     cpus * sizeof(*zeros),
					     BPF_NOEXIST);
		if (error == -EEXIST)
			error = 0;
	}
	free(zeros);
	return error;
}

static void prune_stats(struct bpf_map *map, const struct table *listeners)
{
	struct rp_stat_key key, next;
	int more = bpf_map__get_next_key(map, NULL, &next, sizeof(next));

	while (more == 0) {
		key = next;
		more = bpf_map__get_next_key(map, &key, &next, sizeof(next));
		if (!table_has(listeners, &key.listener))
			bpf_map__delete_elem(map, &key, sizeof(key), 0);
	}
}

/*
 * Takes away what no longer holds. What belongs to a listener that is gone
 * waits for datapath_prune(): TC has answered clients in its name, and they
 * are still to be served.
 */
static void withdraw(struct datapath *datapath)
{
	struct bpf_map *trusted = datapath->skeleton->maps.trusted;
	struct tables *tables = datapath->tables;
	struct rp_trusted key, next;
	int more;

	table_prune(&tables->endpoints, datapath->skeleton->maps.endpoints);
	table_sort(&tables->listeners);
	table_sort(&tables->trusted);
	more = bpf_map__get_next_key(trusted, NULL, &next, sizeof(next));
	while (more == 0) {
		key = next;
		more = bpf_map__get_next_key(trusted, &key, &next,
					     sizeof(next));
		if (table_has(&tables->listeners, &key.listener) &&
		    !table_has(&tables->trusted, &key))
			bpf_map__delete_elem(trusted, &key, sizeof(key), 0);
	}
	datapath->prune_due = true;
}

/* A listener that was detached is not to be found attached by the next start.
 */
static void forget_attached(struct datapath *datapath)
{
	struct bpf_map *map = datapath->skeleton->maps.listeners;
	struct rp_listener old;
	__u32 number, next;
	int more = bpf_map__get_next_key(map, NULL, &next, sizeof(next));

	while (more == 0) {
		number = next;
		more = bpf_map__get_next_key(map, &number, &next, sizeof(next));
		if (table_has(&datapath->tables->listeners, &number) ||
		    bpf_map__lookup_elem(map, &number, sizeof(number), &old,
					 sizeof(old), 0) ||
		    !old.attached)
			continue;
		old.attached = RP_ATTACHED_NOT;
		bpf_map__update_elem(map, &number, sizeof(number), &old,
				     sizeof(old), BPF_EXIST);
	}
}

void datapath_prune(struct datapath *datapath)
{
	struct realpeer *skeleton = datapath->skeleton;
	struct tables *tables = datapath->tables;

	datapath->prune_due = false;
	if (!tables)
		return;
	table_prune(&tables->trusted, skeleton->maps.trusted);
	table_prune(&tables->listeners, skeleton->maps.listeners);
	prune_stats(skeleton->maps.stats, &tables->listeners);
}

static void use_ways(struct datapath *datapath, const struct tables *tables)
{
	datapath->wakes_silent = tables->wakes_silent;
	datapath->peeks = tables->peeks;
	/* Its clients may be silent for longer than it is so. */
	datapath->screens |= tables->screens;
	datapath->settled_at =
		clock_boot_ns() + tables->timeout_ms * 1000000ULL;
}

/* Makes the maps say what `tables` does, which the caller owns still. */
static int apply(struct datapath *datapath, struct tables *tables)
{
	struct realpeer *skeleton = datapath->skeleton;
	int error;

	datapath->tables = tables;
	use_ways(datapath, tables);
	error = datapath_refresh(datapath);
	if (!error)
		error = make_stats(skeleton->maps.stats, &tables->listeners);
	if (!error)
		error = table_write_missing(&tables->trusted,
					    skeleton->maps.trusted);
	if (!error)
		error = table_write(&tables->listeners,
				    skeleton->maps.listeners);
	if (!error)
		error = table_write(&tables->endpoints,
				    skeleton->maps.endpoints);
	if (!error)
		error = write_ports(tables->ports, skeleton->maps.ports);
	if (error)
		return error;
	withdraw(datapath);
	forget_attached(datapath);
	return 0;
}

/* The trusted prefixes of a port that was attached with its own. */
static int restore_trusted(struct bpf_map *map, __u32 number,
			   struct prefix **ret_trusted, size_t *ret_n)
{
	struct prefix *trusted = NULL, *more_room;
	struct rp_trusted key, next;
	size_t n = 0;
	int more = bpf_map__get_next_key(map, NULL, &next, sizeof(next));

	while (more == 0) {
		key = next;
		more = bpf_map__get_next_key(map, &key, &next, sizeof(next));
		if (key.listener != number || n == CONFIG_TRUSTED_MAX)
			continue;
		more_room = realloc(trusted, (n + 1) * sizeof(*trusted));
		if (!more_room) {
			free(trusted);
			return -ENOMEM;
		}
		trusted = more_room;
		trusted[n].length = key.prefixlen - 32;
		memcpy(trusted[n++].address, key.address, 16);
	}
	*ret_trusted = trusted;
	*ret_n = n;
	return 0;
}

static int restore_port(struct datapath *datapath, __u32 number,
			struct attached *attached)
{
	struct prefix *trusted = NULL;
	struct rp_listener old;
	unsigned int port;
	size_t n = 0;
	int error = 0;

	if (bpf_map__lookup_elem(datapath->skeleton->maps.listeners, &number,
				 sizeof(number), &old, sizeof(old), 0) ||
	    !old.attached || sscanf(old.name, ATTACH_NAME_FORMAT, &port) != 1)
		return 0;
	/* Of [global]'s none that it does not have any more. */
	if (old.attached == RP_ATTACHED_OWN)
		error = restore_trusted(datapath->skeleton->maps.trusted,
					number, &trusted, &n);
	if (!error)
		error = attached_add(attached, port, trusted, n);
	free(trusted);
	return error;
}

int datapath_restore_attached(struct datapath *datapath,
			      struct attached *attached)
{
	struct bpf_map *map;
	__u32 number, next;
	int more, error = 0;

	if (!datapath)
		return 0;
	map = datapath->skeleton->maps.listeners;
	more = bpf_map__get_next_key(map, NULL, &next, sizeof(next));
	while (more == 0 && !error) {
		number = next;
		more = bpf_map__get_next_key(map, &number, &next, sizeof(next));
		error = restore_port(datapath, number, attached);
	}
	return error;
}

/* Names keep the number that they have in the pinned map. */
static void find_old_numbers(struct bpf_map *map, const struct config *config,
			     bool taken[RP_LISTENERS_MAX], uint32_t *numbers)
{
	struct rp_listener old;
	__u32 number, next;
	int more = bpf_map__get_next_key(map, NULL, &next, sizeof(next));

	while (more == 0) {
		number = next;
		more = bpf_map__get_next_key(map, &number, &next, sizeof(next));
		if (bpf_map__lookup_elem(map, &number, sizeof(number), &old,
					 sizeof(old), 0))
			continue;
		/* Some are of listeners whose last clients are served yet. */
		if (number < RP_LISTENERS_MAX)
			taken[number] = true;
		for (size_t i = 0; i < config->n_listeners; i++) {
			if (strncmp(config->listeners[i].name, old.name,
				    RP_NAME_LEN) == 0)
				numbers[i] = number;
		}
	}
}

/* Adds the addresses to those whose interfaces the listeners use. */
static int add_addresses(struct datapath *datapath,
			 const struct table *endpoints)
{
	static const uint8_t any4[16] = {[10] = 0xff, [11] = 0xff};
	static const uint8_t any6[16];
	size_t n = datapath->n_addresses;
	uint8_t(*addresses)[16];

	addresses = realloc(datapath->addresses, (n + endpoints->n + 1) * 16);
	if (!addresses)
		return -ENOMEM;
	datapath->addresses = addresses;
	datapath->n_addresses += endpoints->n;
	for (size_t i = 0; i < endpoints->n; i++) {
		uint8_t *address = addresses[n + i];

		memcpy(address, table_entry(endpoints, i), 16);
		datapath->any_address |= memcmp(address, any4, 16) == 0 ||
					 memcmp(address, any6, 16) == 0;
	}
	return 0;
}

static int attach(struct datapath *datapath)
{
	return datapath->features.offload >= RP_OFFLOAD_PEEK
		       ? datapath_attach_interfaces(datapath)
		       : 0;
}

static void find_ways(const struct datapath *datapath,
		      const struct config *config, struct tables *tables)
{
	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *listener = &config->listeners[i];

		tables->wakes_silent |= listener->mode == RP_MODE_ENABLED;
		tables->peeks |=
			datapath_offload(datapath, listener) == RP_OFFLOAD_PEEK;
		if (listener->delivery != RP_DELIVERY_INLINE)
			continue;
		tables->screens |= listener->untrusted == RP_UNTRUSTED_DIRECT;
		if (listener->header_timeout_ms > tables->timeout_ms)
			tables->timeout_ms = listener->header_timeout_ms;
	}
}

static int make_tables(const struct datapath *datapath,
		       const struct config *config, const uint32_t *numbers,
		       struct tables **ret_tables)
{
	struct tables *tables = calloc(1, sizeof(*tables));
	int error = 0;

	if (!tables)
		return -ENOMEM;
	tables->listeners.key_size = sizeof(__u32);
	tables->listeners.value_size = sizeof(struct rp_listener);
	tables->endpoints.key_size = sizeof(struct rp_endpoint);
	tables->endpoints.value_size = sizeof(__u32);
	tables->trusted.key_size = sizeof(struct rp_trusted);
	tables->trusted.value_size = sizeof(__u32);
	for (size_t i = 0; i < config->n_listeners && !error; i++)
		error = add_listener(datapath, tables, &config->listeners[i],
				     numbers[i]);
	find_ways(datapath, config, tables);
	if (error)
		datapath_free_tables(tables);
	else
		*ret_tables = tables;
	return error;
}

void datapath_free_tables(struct tables *tables)
{
	if (!tables)
		return;
	free(tables->listeners.entries);
	free(tables->endpoints.entries);
	free(tables->trusted.entries);
	free(tables);
}

/* What no listener uses any more is left only now that no map tells of it. */
static void leave_interfaces(struct datapath *datapath)
{
	datapath->n_addresses = 0;
	datapath->any_address = false;
	/* Rather too many than too few. */
	if (add_addresses(datapath, &datapath->tables->endpoints))
		datapath->any_address = true;
	if (datapath->features.offload >= RP_OFFLOAD_PEEK)
		datapath_look_again(datapath);
	datapath_drop_stale(datapath, false);
}

/*
 * Interfaces that become of use are attached to before the maps tell of a
 * listener. If they cannot, they are to say again what they did.
 */
static int put_in_force(struct datapath *datapath, struct tables *tables)
{
	struct tables *before = datapath->tables;
	int error = add_addresses(datapath, &tables->endpoints);

	if (!error)
		error = attach(datapath);
	if (error)
		return error;
	error = apply(datapath, tables);
	if (!error || !before || apply(datapath, before) == 0)
		return error;
	log_error("msg=\"the maps can neither be written nor set back\" "
		  "error=\"%s\"",
		  strerror(-error));
	return -ENOTRECOVERABLE;
}

/* Numbers start at 1: 0 stands for a listener that has none yet. */
void datapath_number(struct datapath *datapath, const struct config *config,
		     bool taken[RP_LISTENERS_MAX], uint32_t *numbers)
{
	size_t n = config->n_listeners;
	uint32_t next = 1;

	memset(numbers, 0, n * sizeof(*numbers));
	if (datapath)
		find_old_numbers(datapath->skeleton->maps.listeners, config,
				 taken, numbers);
	for (size_t i = 0; i < n; i++) {
		if (numbers[i])
			continue;
		while (next < RP_LISTENERS_MAX && taken[next])
			next++;
		if (datapath && next < RP_LISTENERS_MAX)
			datapath->timeouts[next] = 0;
		numbers[i] = next++;
	}
}

int datapath_configure(struct datapath *datapath, const struct config *config,
		       const uint32_t *numbers)
{
	struct tables *tables, *before;
	int error;

	if (!datapath)
		return 0;
	before = datapath->tables;
	error = make_tables(datapath, config, numbers, &tables);
	if (error)
		return error;
	error = put_in_force(datapath, tables);
	datapath_free_tables(datapath->tables == tables ? before : tables);
	if (datapath->tables)
		leave_interfaces(datapath);
	if (!error && !before)
		datapath_prune(datapath);
	return error;
}
