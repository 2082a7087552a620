/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * datapath.c - the kernel part's life cycle, and the records and counts that
 * the rest of the daemon reads and writes in it.
 */
#include "datapath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "datapath_internal.h"
#include "realpeer.skel.h"

#define DEFAULT_MOUNT	  "/sys/fs/bpf"
#define DEFAULT_DIRECTORY DEFAULT_MOUNT "/realpeer"

const char *datapath_directory(void)
{
	const char *directory = getenv("REALPEER_BPFFS");

	return directory && *directory ? directory : DEFAULT_DIRECTORY;
}

static __thread char first_warning[200];

const char *datapath_first_warning(void)
{
	return first_warning;
}

/* libbpf's messages, one level down: our own lines say what they mean. */
static int on_libbpf_message(enum libbpf_print_level level, const char *format,
			     va_list args)
{
	char text[600];
	size_t len;

	if (level == LIBBPF_DEBUG)
		return 0;
	vsnprintf(text, sizeof(text), format, args);
	len = strcspn(text, "\n");
	text[len] = '\0';
	/* Those that follow say only what could not be done because of it. */
	if (level == LIBBPF_WARN && !first_warning[0])
		snprintf(first_warning, sizeof(first_warning), "%.199s", text);
	log_debug("libbpf=\"%s\"", text);
	return 0;
}

static bool is_bpffs(const char *path)
{
	struct statfs info;

	return statfs(path, &info) == 0 && info.f_type == BPF_FS_MAGIC;
}

/*
 * Creates the directory of the pins. Where no bpffs is mounted yet, it is:
 * on the usual place if the directory is below that, else on the directory.
 */
static int make_directory(const char *path)
{
	const char *mount_point = path;
	char links[PATH_MAX];

	if (strncmp(path, DEFAULT_MOUNT "/", strlen(DEFAULT_MOUNT "/")) == 0) {
		mount_point = DEFAULT_MOUNT;
		if (!is_bpffs(mount_point) &&
		    mount("bpf", mount_point, "bpf", 0, "mode=0700"))
			return -errno;
	}
	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	if (!is_bpffs(path) && mount("bpf", path, "bpf", 0, "mode=0700"))
		return -errno;
	if (snprintf(links, sizeof(links), "%s/links", path) >=
	    (int)sizeof(links))
		return -ENAMETOOLONG;
	if (mkdir(links, 0700) && errno != EEXIST)
		return -errno;
	return 0;
}

/* Does the kernel take much memory for it at once? */
static bool is_large(const struct realpeer *skeleton, const struct bpf_map *map)
{
	return bpf_map__type(map) == BPF_MAP_TYPE_LRU_HASH ||
	       map == skeleton->maps.connections ||
	       map == skeleton->maps.handshakes ||
	       map == skeleton->maps.handshake_tags;
}

static int set_pins(struct realpeer *skeleton, const char *directory)
{
	char path[PATH_MAX];
	struct bpf_map *map;
	int error = 0;

	bpf_object__for_each_map(map, skeleton->obj)
	{
		/*
		 * Scratch memory and constants belong to their programs. But
		 * TC and sk_lookup, replaced one after the other, must agree
		 * on lookup_bypass all the time.
		 */
		if (bpf_map__is_internal(map) ||
		    (bpf_map__type(map) == BPF_MAP_TYPE_PERCPU_ARRAY &&
		     map != skeleton->maps.lookup_bypass))
			continue;
		if (!directory) {
			/* To be thrown away: no need for its full size. */
			if (is_large(skeleton, map))
				bpf_map__set_max_entries(map, 1);
			continue;
		}
		snprintf(path, sizeof(path), "%s/%s", directory,
			 bpf_map__name(map));
		error = bpf_map__set_pin_path(map, path);
		if (error)
			break;
	}
	return error;
}

/*
 * A kernel without our kfuncs: libbpf looks for them in the modules too, and
 * to do that takes CAP_SYS_ADMIN. libbpf before 1.3 gives up without it,
 * although the symbols are weak. It looks only once for each object, so the
 * search that fails is this one, for a function that nobody has.
 */
static void skip_modules(struct realpeer *skeleton)
{
	bpf_program__set_attach_target(skeleton->progs.rp_sockops, 0,
				       "rp_no_function");
}

int datapath_load(const struct datapath_features *features,
		  const char *directory, struct realpeer **ret_skeleton)
{
	struct realpeer *skeleton;
	int error;

	first_warning[0] = '\0';
	libbpf_set_print(on_libbpf_message);
	skeleton = realpeer__open();
	if (!skeleton)
		return -errno;
	bpf_program__set_autoload(skeleton->progs.rp_ingress_peek,
				  features->offload == RP_OFFLOAD_PEEK);
	bpf_program__set_autoload(skeleton->progs.rp_ingress_accept,
				  features->offload == RP_OFFLOAD_ACCEPT);
	bpf_program__set_autoload(skeleton->progs.rp_lookup,
				  features->offload == RP_OFFLOAD_ACCEPT);
	bpf_map__set_max_entries(skeleton->maps.claims,
				 RP_CLAIMS * libbpf_num_possible_cpus());
	if (directory)
		bpf_map__set_max_entries(skeleton->maps.connections,
					 datapath_connections_max(features,
								  directory));
	if (features->offload != RP_OFFLOAD_ACCEPT)
		skip_modules(skeleton);
	error = set_pins(skeleton, directory);
	if (!error)
		error = realpeer__load(skeleton);
	if (error) {
		realpeer__destroy(skeleton);
		return error;
	}
	*ret_skeleton = skeleton;
	return 0;
}

static int open_netlink(void)
{
	struct sockaddr_nl address = {
		.nl_family = AF_NETLINK,
		.nl_groups =
			RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR,
	};
	int fd, error;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
		    NETLINK_ROUTE);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

/* One daemon for one set of pins; the lock goes with its process. */
static int lock_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), error;

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		error = errno == EWOULDBLOCK ? -EBUSY : -errno;
		close(fd);
		return error;
	}
	return fd;
}

static int prepare(struct datapath *datapath)
{
	const char *directory = datapath_directory();
	int error;

	if (strlen(directory) > sizeof(datapath->directory) - NAME_MAX)
		return -ENAMETOOLONG;
	strcpy(datapath->directory, directory);
	error = make_directory(directory);
	if (error) {
		log_error("msg=\"no place for pins\" directory=%s error=\"%s\"",
			  directory, strerror(-error));
		return error;
	}
	datapath->lock = lock_directory(directory);
	if (datapath->lock < 0) {
		log_error("msg=\"pins are in use by another realpeerd; "
			  "REALPEER_BPFFS names another place\" directory=%s "
			  "error=\"%s\"",
			  directory, strerror(-datapath->lock));
		return datapath->lock;
	}
	datapath->cgroup = cgroup_open_root();
	if (datapath->cgroup < 0)
		return datapath->cgroup;
	datapath->netlink = open_netlink();
	return datapath->netlink < 0 ? datapath->netlink : 0;
}

/*
 * What a daemon that died had announced and not connected is nobody's. What was
 * connected may still meet the handler's socket, and goes by itself: how many
 * there are keeps the gate open.
 */
static size_t review_outgoing(struct datapath *datapath)
{
	struct bpf_map *map = datapath->skeleton->maps.outgoing;
	struct rp_outgoing outgoing;
	uint64_t cookie, next;
	int more = bpf_map__get_next_key(map, NULL, &next, sizeof(next));
	size_t n = 0;

	while (more == 0) {
		cookie = next;
		more = bpf_map__get_next_key(map, &cookie, &next, sizeof(next));
		if (bpf_map__lookup_elem(map, &cookie, sizeof(cookie),
					 &outgoing, sizeof(outgoing), 0))
			continue;
		if (outgoing.tuple.local_port)
			n++;
		else
			bpf_map__delete_elem(map, &cookie, sizeof(cookie), 0);
	}
	return n;
}

int datapath_open(const struct datapath_features *features,
		  struct datapath **ret_datapath)
{
	struct datapath *datapath = calloc(1, sizeof(*datapath));
	int error;

	if (!datapath)
		return -ENOMEM;
	datapath->features = *features;
	datapath->lock = -1;
	datapath->cgroup = -1;
	datapath->netlink = -1;
	datapath->raw[0] = -1;
	datapath->raw[1] = -1;
	datapath->attachments =
		calloc(DATAPATH_INTERFACES_MAX, sizeof(*datapath->attachments));
	error = datapath->attachments ? prepare(datapath) : -ENOMEM;
	if (!error)
		error = datapath_settle(datapath);
	if (!error)
		error = datapath_map_memory(datapath);
	if (!error)
		datapath->gates->announced = review_outgoing(datapath);
	if (!error)
		error = datapath_attach_hooks(datapath);
	if (error) {
		datapath_close(datapath, false);
		return error;
	}
	*ret_datapath = datapath;
	return 0;
}

void datapath_unpin(struct datapath *datapath)
{
	char links[PATH_MAX + sizeof("/links")];
	struct bpf_map *map;

	if (!datapath || !datapath->skeleton)
		return;
	datapath_detach(datapath);
	bpf_object__for_each_map(map, datapath->skeleton->obj)
	{
		if (bpf_map__is_pinned(map))
			bpf_map__unpin(map, NULL);
	}
	snprintf(links, sizeof(links), "%s/links", datapath->directory);
	rmdir(links);
	rmdir(datapath->directory);
}

void datapath_close(struct datapath *datapath, bool remove)
{
	if (!datapath)
		return;
	if (remove)
		datapath_unpin(datapath);
	for (size_t i = 0; i < datapath->n_attachments; i++) {
		if (datapath->attachments[i].link >= 0)
			close(datapath->attachments[i].link);
	}
	datapath_unmap_memory(datapath);
	realpeer__destroy(datapath->skeleton);
	for (int i = 0; i < 2; i++) {
		if (datapath->raw[i] >= 0)
			close(datapath->raw[i]);
	}
	if (datapath->netlink >= 0)
		close(datapath->netlink);
	if (datapath->cgroup >= 0)
		close(datapath->cgroup);
	if (datapath->lock >= 0)
		close(datapath->lock);
	free(datapath->attachments);
	free(datapath->addresses);
	datapath_free_tables(datapath->tables);
	free(datapath);
}

enum rp_offload datapath_choose(const struct datapath_features *features,
				const struct listener_config *listener,
				const char **ret_why)
{
	enum rp_offload best = features->offload;

	*ret_why = features->why;
	if (listener->mode == RP_MODE_DISABLED) {
		*ret_why = "proxy_protocol = disabled, there is no header to "
			   "read";
		return RP_OFFLOAD_OFF;
	}
	if (best == RP_OFFLOAD_ACCEPT && listener->tlvs_forwarded) {
		*ret_why = "forward_tlvs needs the header's own bytes";
		best = RP_OFFLOAD_PEEK;
	}
	if (listener->offload != OFFLOAD_WANTED_AUTO &&
	    listener->offload != OFFLOAD_WANTED_ACCEPT &&
	    (enum rp_offload)listener->offload <= best) {
		*ret_why = "the configuration asks for it";
		best = (enum rp_offload)listener->offload;
	}
	return best;
}

enum rp_offload datapath_offload(const struct datapath *datapath,
				 const struct listener_config *listener)
{
	const char *why;

	return datapath ? datapath_choose(&datapath->features, listener, &why)
			: RP_OFFLOAD_OFF;
}

bool datapath_can_accept(const struct datapath *datapath)
{
	return datapath && datapath->features.offload >= RP_OFFLOAD_ACCEPT;
}

int datapath_event_fd(const struct datapath *datapath)
{
	return datapath ? datapath->netlink : -1;
}

void datapath_handle_event(struct datapath *datapath)
{
	char buffer[8192];

	if (!datapath)
		return;
	/* What changed is found by looking; a lost message costs nothing. */
	while (recv(datapath->netlink, buffer, sizeof(buffer), 0) > 0 ||
	       errno == ENOBUFS)
		;
	if (datapath->features.offload >= RP_OFFLOAD_PEEK)
		datapath_look_again(datapath);
}

bool datapath_is_shortage(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM ||
	       error == -ENOBUFS;
}

void datapath_look_again(struct datapath *datapath)
{
	int error = datapath_attach_interfaces(datapath);

	/* No news may come that would make us look again. */
	if (datapath_is_shortage(error) && !datapath->attach_due)
		log_error("msg=\"cannot look at the interfaces, trying "
			  "again\" error=\"%s\"",
			  strerror(-error));
	datapath->attach_due = datapath_is_shortage(error);
}

int datapath_lookup(struct datapath *datapath, uint64_t cookie,
		    struct rp_connection *ret)
{
	struct rp_connection record;

	if (!datapath ||
	    bpf_map__lookup_elem(datapath->skeleton->maps.connections, &cookie,
				 sizeof(cookie), &record, sizeof(record), 0))
		return -ENOENT;
	*ret = record;
	return 0;
}

int datapath_take(struct datapath *datapath, uint64_t cookie,
		  struct rp_connection *ret)
{
	if (!datapath || bpf_map__lookup_and_delete_elem(
				 datapath->skeleton->maps.connections, &cookie,
				 sizeof(cookie), ret, sizeof(*ret), 0))
		return -ENOENT;
	return 0;
}

bool datapath_is_unrecorded(struct datapath *datapath, uint64_t cookie)
{
	uint32_t nobody;

	return datapath &&
	       __atomic_load_n(&datapath->gates->unrecorded,
			       __ATOMIC_SEQ_CST) &&
	       bpf_map__lookup_elem(datapath->skeleton->maps.unrecorded,
				    &cookie, sizeof(cookie), &nobody,
				    sizeof(nobody), 0) == 0;
}

int datapath_tlvs(struct datapath *datapath, uint64_t key, struct rp_tlvs *ret)
{
	if (!datapath ||
	    bpf_map__lookup_elem(datapath->skeleton->maps.tlvs, &key,
				 sizeof(key), ret, sizeof(*ret), 0))
		return -ENOENT;
	return 0;
}

/* Before the record that has the key. Returns the key, 0 if there are none. */
static uint64_t store_tlvs(struct datapath *datapath, uint64_t cookie,
			   const struct rp_tlvs *tlvs)
{
	if (!tlvs ||
	    bpf_map__update_elem(datapath->skeleton->maps.tlvs, &cookie,
				 sizeof(cookie), tlvs, sizeof(*tlvs), BPF_ANY))
		return 0;
	return cookie;
}

static void forget_tlvs(struct datapath *datapath, uint64_t cookie)
{
	bpf_map__delete_elem(datapath->skeleton->maps.tlvs, &cookie,
			     sizeof(cookie), 0);
}

int datapath_record(struct datapath *datapath, uint64_t cookie,
		    const struct rp_connection *record,
		    const struct rp_tlvs *tlvs)
{
	struct rp_connection copy = *record;
	int error;

	if (!datapath)
		return 0;
	copy.tlvs = store_tlvs(datapath, cookie, tlvs);
	error = bpf_map__update_elem(datapath->skeleton->maps.connections,
				     &cookie, sizeof(cookie), &copy,
				     sizeof(copy), BPF_ANY);
	if (error && copy.tlvs)
		forget_tlvs(datapath, cookie);
	return error;
}

void datapath_forget(struct datapath *datapath, uint64_t cookie, bool has_tlvs)
{
	if (!datapath)
		return;
	bpf_map__delete_elem(datapath->skeleton->maps.connections, &cookie,
			     sizeof(cookie), 0);
	if (has_tlvs)
		forget_tlvs(datapath, cookie);
}

/*
 * Did a record find no room when a handler's socket should have got it, and
 * would it still find none? As rp_is_full() in accept.bpf.c; who clears `full`
 * is datapath_upkeep().
 */
static bool is_full(struct datapath *datapath)
{
	struct realpeer *skeleton = datapath->skeleton;
	static const struct rp_connection record;
	uint64_t nobody = 0; /* no socket has this cookie */
	uint32_t zero = 0;
	bool full;

	if (!__atomic_load_n(&datapath->gates->full, __ATOMIC_RELAXED))
		return false;
	full = bpf_map__update_elem(skeleton->maps.unrecorded, &nobody,
				    sizeof(nobody), &zero, sizeof(zero),
				    BPF_ANY) ||
	       bpf_map__update_elem(skeleton->maps.connections, &nobody,
				    sizeof(nobody), &record, sizeof(record),
				    BPF_ANY);
	bpf_map__delete_elem(skeleton->maps.connections, &nobody,
			     sizeof(nobody), 0);
	bpf_map__delete_elem(skeleton->maps.unrecorded, &nobody, sizeof(nobody),
			     0);
	return full;
}

int datapath_announce(struct datapath *datapath, uint64_t cookie,
		      const struct rp_connection *record,
		      const struct rp_tlvs *tlvs)
{
	struct rp_outgoing announced = {.record = *record};
	int error;

	if (!datapath)
		return 0;
	if (is_full(datapath))
		return -E2BIG;
	announced.record.shown = 1;
	announced.record.tlvs = store_tlvs(datapath, cookie, tlvs);
	__atomic_add_fetch(&datapath->gates->announced, 1, __ATOMIC_SEQ_CST);
	error = bpf_map__update_elem(datapath->skeleton->maps.outgoing, &cookie,
				     sizeof(cookie), &announced,
				     sizeof(announced), BPF_ANY);
	if (error)
		datapath_announced(datapath, cookie, announced.record.tlvs);
	return error;
}

bool datapath_is_crowded(const struct datapath *datapath)
{
	return datapath &&
	       __atomic_load_n(&datapath->gates->announced, __ATOMIC_RELAXED) >
		       RP_ANNOUNCED_MAX / 2;
}

void datapath_withdraw(struct datapath *datapath, uint64_t cookie)
{
	struct rp_outgoing outgoing;
	struct bpf_map *map;

	if (!datapath)
		return;
	map = datapath->skeleton->maps.outgoing;
	if (bpf_map__lookup_elem(map, &cookie, sizeof(cookie), &outgoing,
				 sizeof(outgoing), 0))
		return;
	if (outgoing.tuple.local_port &&
	    bpf_map__delete_elem(datapath->skeleton->maps.announced,
				 &outgoing.tuple, sizeof(outgoing.tuple), 0))
		return;
	bpf_map__delete_elem(map, &cookie, sizeof(cookie), 0);
}

void datapath_announced_before(struct datapath *datapath, uint64_t cookie)
{
	struct rp_outgoing waiting;

	/* Those that still wait were counted by review_outgoing(). */
	if (datapath &&
	    bpf_map__lookup_elem(datapath->skeleton->maps.outgoing, &cookie,
				 sizeof(cookie), &waiting, sizeof(waiting), 0))
		__atomic_add_fetch(&datapath->gates->announced, 1,
				   __ATOMIC_SEQ_CST);
}

void datapath_announced(struct datapath *datapath, uint64_t cookie,
			bool has_tlvs)
{
	if (!datapath)
		return;
	__atomic_sub_fetch(&datapath->gates->announced, 1, __ATOMIC_SEQ_CST);
	if (has_tlvs)
		forget_tlvs(datapath, cookie);
}

uint64_t datapath_stat(struct datapath *datapath, uint32_t listener,
		       enum rp_stat stat)
{
	struct rp_stat_key key = {.listener = listener, .stat = stat};
	int cpus = libbpf_num_possible_cpus();
	uint64_t sum = 0;

	if (!datapath || cpus <= 0)
		return 0;
	uint64_t *values = calloc(cpus, sizeof(*values));
	if (!values)
		return 0;
	if (bpf_map__lookup_elem(datapath->skeleton->maps.stats, &key,
				 sizeof(key), values, cpus * sizeof(*values),
				 0) == 0) {
		for (int i = 0; i < cpus; i++)
			sum += values[i];
	}
	free(values);
	if (stat == RP_STAT_TIMEOUT && listener < RP_LISTENERS_MAX)
		sum += datapath->timeouts[listener];
	return sum;
}
