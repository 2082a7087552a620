/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * datapath_attach.c - puts the programs where packets and sockets meet them.
 *
 * cgroup programs and, where the kernel has it, tcx programs hang on pinned
 * links; elsewhere a clsact filter of our own priority and handle does. What
 * others attached is never touched: a clsact qdisc stays when we go, since
 * somebody else's filters may be on it.
 */
#include "datapath_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <mntent.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "realpeer.skel.h"
#include "target.h"

/* BPF_TCX_INGRESS of linux/bpf.h 6.6; older headers don't name it. */
#define TCX_INGRESS ((enum bpf_attach_type)46)

/* Ours among the filters of a clsact qdisc. */
#define FILTER_PRIORITY 29299
#define FILTER_HANDLE	1

int cgroup_open_root(void)
{
	struct mntent *entry;
	int fd = -ENOENT;
	FILE *mounts;

	mounts = setmntent("/proc/self/mounts", "re");
	if (!mounts)
		return -errno;
	while ((entry = getmntent(mounts))) {
		if (strcmp(entry->mnt_type, "cgroup2") != 0)
			continue;
		fd = open(entry->mnt_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0)
			break;
		fd = -errno;
	}
	endmntent(mounts);
	return fd;
}

bool datapath_covers(uint64_t cgroup)
{
	int root = cgroup_open_root();
	char path[64];
	bool covers;

	if (root < 0)
		return true;
	snprintf(path, sizeof(path), "/proc/self/fd/%d/.", root);
	covers = target_is_below(path, cgroup);
	close(root);
	return covers;
}

static int link_path(const struct datapath *datapath, const char *name,
		     char path[PATH_MAX])
{
	int n = snprintf(path, PATH_MAX, "%s/links/%s", datapath->directory,
			 name);

	return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/*
 * A link that runs `program`: the pinned one, its program replaced in one
 * step so that no packet and no socket misses it, or a new one. Returns the
 * link's descriptor or -errno.
 */
static int link_take(const struct datapath *datapath, const char *name,
		     int program, int target, enum bpf_attach_type type)
{
	char path[PATH_MAX];
	int link, error;

	error = link_path(datapath, name, path);
	if (error)
		return error;
	link = bpf_obj_get(path);
	if (link >= 0) {
		if (bpf_link_update(link, program, NULL) == 0)
			return link;
		/* Its interface or cgroup is gone, and so is its use. */
		close(link);
		unlink(path);
	}
	link = bpf_link_create(program, target, type, NULL);
	if (link < 0)
		return -errno;
	if (bpf_obj_pin(link, path)) {
		error = -errno;
		close(link);
		return error;
	}
	return link;
}

static void link_drop(const struct datapath *datapath, const char *name)
{
	char path[PATH_MAX];

	if (link_path(datapath, name, path) == 0)
		unlink(path);
}

static const struct {
	const char *name;
	enum bpf_attach_type type;
} hooks[] = {
	{"sockops", BPF_CGROUP_SOCK_OPS},
	{"getpeername4", BPF_CGROUP_INET4_GETPEERNAME},
	{"getpeername6", BPF_CGROUP_INET6_GETPEERNAME},
	{"lookup", BPF_SK_LOOKUP},
};

#define N_HOOKS (sizeof(hooks) / sizeof(hooks[0]))

static int open_netns(void)
{
	int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int attach_hook(struct datapath *datapath, size_t i,
		       const struct bpf_program *program, int target)
{
	int link = link_take(datapath, hooks[i].name, bpf_program__fd(program),
			     target, hooks[i].type);

	if (link < 0) {
		log_error("msg=\"cannot attach\" hook=%s error=\"%s\"",
			  hooks[i].name, strerror(-link));
		return link;
	}
	close(link); /* the pin holds it */
	return 0;
}

int datapath_attach_hooks(struct datapath *datapath)
{
	const struct bpf_program *programs[N_HOOKS] = {
		datapath->skeleton->progs.rp_sockops,
		datapath->skeleton->progs.rp_getpeername4,
		datapath->skeleton->progs.rp_getpeername6,
		datapath->skeleton->progs.rp_lookup,
	};
	int netns, error;

	for (size_t i = 0; i < N_HOOKS - 1; i++) {
		error = attach_hook(datapath, i, programs[i], datapath->cgroup);
		if (error)
			return error;
	}
	if (datapath->features.offload < RP_OFFLOAD_ACCEPT) {
		link_drop(datapath, hooks[N_HOOKS - 1].name);
		return 0;
	}
	netns = open_netns();
	if (netns < 0)
		return netns;
	error = attach_hook(datapath, N_HOOKS - 1, programs[N_HOOKS - 1],
			    netns);
	close(netns);
	return error;
}

struct bpf_program *datapath_ingress(const struct realpeer *skeleton,
				     enum rp_offload offload)
{
	return offload == RP_OFFLOAD_ACCEPT ? skeleton->progs.rp_ingress_accept
					    : skeleton->progs.rp_ingress_peek;
}

int datapath_try_lookup(int program)
{
	int netns = open_netns(), link, error = 0;

	if (netns < 0)
		return netns;
	link = bpf_link_create(program, netns, BPF_SK_LOOKUP, NULL);
	if (link < 0)
		error = -errno;
	else
		close(link);
	close(netns);
	return error;
}

static int filter_attach(unsigned int ifindex, int program)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex,
		    .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = FILTER_HANDLE,
		    .priority = FILTER_PRIORITY, .prog_fd = program,
		    .flags = BPF_TC_F_REPLACE);
	int error;

	error = bpf_tc_hook_create(&hook);
	if (error && error != -EEXIST)
		return error;
	return bpf_tc_attach(&hook, &options);
}

static int filter_detach(unsigned int ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex,
		    .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = FILTER_HANDLE,
		    .priority = FILTER_PRIORITY);

	return bpf_tc_detach(&hook, &options);
}

int datapath_try_tcx(int program)
{
	int link = bpf_link_create(program, (int)if_nametoindex("lo"),
				   TCX_INGRESS, NULL);

	if (link < 0)
		return -errno;
	close(link);
	return 0;
}

int datapath_try_clsact(int program)
{
	unsigned int lo = if_nametoindex("lo");
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)lo,
		    .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, ours, .handle = FILTER_HANDLE,
		    .priority = FILTER_PRIORITY);
	int error;

	/* A filter of ours on lo is the proof already, and must stay. */
	if (bpf_tc_query(&hook, &ours) == 0)
		return 0;
	error = filter_attach(lo, program);
	if (!error)
		filter_detach(lo);
	return error;
}

static void interface_link_name(unsigned int ifindex, char name[32])
{
	snprintf(name, 32, "ingress_%u", ifindex);
}

static int ingress_program(const struct datapath *datapath)
{
	return bpf_program__fd(datapath_ingress(datapath->skeleton,
						datapath->features.offload));
}

static int interface_attach(struct datapath *datapath, unsigned int ifindex,
			    const char *interface)
{
	int program = ingress_program(datapath);
	struct attachment *attachment;
	char name[32];
	int link = -1;

	if (datapath->features.tcx) {
		interface_link_name(ifindex, name);
		link = link_take(datapath, name, program, (int)ifindex,
				 TCX_INGRESS);
		if (link < 0)
			return link;
	} else {
		int error = filter_attach(ifindex, program);

		if (error)
			return error;
	}
	attachment = &datapath->attachments[datapath->n_attachments++];
	*attachment = (struct attachment){.ifindex = ifindex, .link = link};
	snprintf(attachment->name, sizeof(attachment->name), "%s", interface);
	log_info("msg=attached interface=%s", interface);
	return 0;
}

static void interface_detach(struct datapath *datapath,
			     struct attachment *attachment)
{
	char name[32];

	if (attachment->link >= 0) {
		interface_link_name(attachment->ifindex, name);
		link_drop(datapath, name);
		close(attachment->link);
	} else {
		filter_detach(attachment->ifindex);
	}
	*attachment = datapath->attachments[--datapath->n_attachments];
}

/* The ports of a bond hand their packets on to it: it alone is attached. */
static bool is_bond_port(const char *name)
{
	struct ifreq request = {0};
	bool port;
	int fd;

	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	memcpy(request.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
	port = ioctl(fd, SIOCGIFFLAGS, &request) == 0 &&
	       request.ifr_flags & IFF_SLAVE;
	close(fd);
	return port;
}

/* An IPv4 address has the label that its owner chose, "eth0:1", as its name. */
static bool is_on(const struct ifaddrs *address, const char *name)
{
	size_t len = strcspn(address->ifa_name, ":");

	return strlen(name) == len && memcmp(address->ifa_name, name, len) == 0;
}

static bool has_address(const struct ifaddrs *one, const uint8_t address[16])
{
	uint8_t ip[16];
	uint16_t port;

	if (!one->ifa_addr || (one->ifa_addr->sa_family != AF_INET &&
			       one->ifa_addr->sa_family != AF_INET6))
		return false;
	address_split(one->ifa_addr, ip, &port);
	return memcmp(ip, address, 16) == 0;
}

static bool has_listened_address(const struct datapath *datapath,
				 const char *name, const struct ifaddrs *all)
{
	for (const struct ifaddrs *one = all; one; one = one->ifa_next) {
		if (!is_on(one, name))
			continue;
		for (size_t i = 0; i < datapath->n_addresses; i++) {
			if (has_address(one, datapath->addresses[i]))
				return true;
		}
	}
	return false;
}

/* Its packets never leave lo. */
static bool is_loopback(const uint8_t address[16])
{
	static const uint8_t v4[13] = {[10] = 0xff, [11] = 0xff, [12] = 127};
	static const uint8_t v6[16] = {[15] = 1};

	return memcmp(address, v4, sizeof(v4)) == 0 ||
	       memcmp(address, v6, sizeof(v6)) == 0;
}

/*
 * An interface that no packet comes in by from another host: lo, and those
 * like dummy. A tunnel has no neighbours either, but another end.
 */
static bool is_inside(unsigned int flags)
{
	return flags & IFF_LOOPBACK ||
	       (flags & (IFF_NOARP | IFF_POINTOPOINT)) == IFF_NOARP;
}

/* Does who wants to reach the address find it by the interface it is on? */
static bool is_outside(const uint8_t address[16],
		       const struct if_nameindex *names,
		       const struct ifaddrs *all)
{
	for (const struct ifaddrs *one = all; one; one = one->ifa_next) {
		if (!has_address(one, address) || is_inside(one->ifa_flags))
			continue;
		for (size_t i = 0; names[i].if_index; i++) {
			if (is_on(one, names[i].if_name))
				return true;
		}
	}
	return false;
}

/*
 * The address of a service that is on lo or a dummy device (behind a router, or
 * LVS), or on none at all, is reached by any interface.
 */
static bool is_any_wanted(const struct datapath *datapath,
			  const struct if_nameindex *names,
			  const struct ifaddrs *all)
{
	if (datapath->any_address)
		return true;
	for (size_t i = 0; i < datapath->n_addresses; i++) {
		if (!is_loopback(datapath->addresses[i]) &&
		    !is_outside(datapath->addresses[i], names, all))
			return true;
	}
	return false;
}

/* Packets to one of the host's own addresses from itself come in by lo. */
static bool is_wanted(const struct datapath *datapath, const char *name,
		      const struct ifaddrs *all, bool any)
{
	if (is_bond_port(name))
		return false;
	if (any)
		return true;
	if (!datapath->n_addresses)
		return false;
	return strcmp(name, "lo") == 0 ||
	       has_listened_address(datapath, name, all);
}

static struct attachment *find_attachment(struct datapath *datapath,
					  unsigned int ifindex)
{
	for (size_t i = 0; i < datapath->n_attachments; i++) {
		if (datapath->attachments[i].ifindex == ifindex)
			return &datapath->attachments[i];
	}
	return NULL;
}

/* Or did the interface go, and another one come that has its number? */
static bool is_attached(const struct datapath *datapath,
			const struct attachment *attachment)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)attachment->ifindex,
		    .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, ours, .handle = FILTER_HANDLE,
		    .priority = FILTER_PRIORITY);

	int error;

	/* An update changes nothing, but fails if there is nothing left. */
	if (attachment->link < 0)
		error = bpf_tc_query(&hook, &ours);
	else
		error = bpf_link_update(attachment->link,
					ingress_program(datapath), NULL);
	return error == 0 || datapath_is_shortage(error);
}

static int interface_keep(struct datapath *datapath, unsigned int ifindex,
			  const char *name)
{
	struct attachment *attachment = find_attachment(datapath, ifindex);
	int error;

	if (attachment && !is_attached(datapath, attachment)) {
		log_info("msg=\"detached, another interface has its number\" "
			 "interface=%s",
			 attachment->name);
		interface_detach(datapath, attachment);
		attachment = NULL;
	}
	if (!attachment) {
		if (datapath->n_attachments == DATAPATH_INTERFACES_MAX)
			return -E2BIG;
		error = interface_attach(datapath, ifindex, name);
		if (error)
			return error;
		attachment = find_attachment(datapath, ifindex);
	}
	attachment->wanted = true;
	return 0;
}

/* Since the list was made: containers come and go. */
static bool went(unsigned int ifindex)
{
	char name[IFNAMSIZ];

	return !if_indextoname(ifindex, name) && errno == ENXIO;
}

int datapath_attach_interfaces(struct datapath *datapath)
{
	struct if_nameindex *names = if_nameindex();
	struct ifaddrs *addresses = NULL;
	int result = 0;
	bool any;

	if (!names || getifaddrs(&addresses)) {
		result = -errno;
		if (names)
			if_freenameindex(names);
		return result;
	}
	for (size_t i = 0; i < datapath->n_attachments; i++)
		datapath->attachments[i].wanted = false;
	any = is_any_wanted(datapath, names, addresses);
	for (size_t i = 0; names[i].if_index; i++) {
		int error;

		if (!is_wanted(datapath, names[i].if_name, addresses, any)) {
			/* Left by a daemon that was killed, perhaps. */
			if (!datapath->features.tcx)
				filter_detach(names[i].if_index);
			continue;
		}
		error = interface_keep(datapath, names[i].if_index,
				       names[i].if_name);
		if (error && went(names[i].if_index))
			continue;
		if (error && !datapath_is_shortage(error))
			log_error("msg=\"cannot attach to the interface\" "
				  "interface=%s error=\"%s\"",
				  names[i].if_name, strerror(-error));
		result = result ? result : error;
	}
	for (size_t i = datapath->n_attachments; i-- > 0;) {
		struct attachment *one = &datapath->attachments[i];

		if (one->wanted)
			continue;
		log_info("msg=detached interface=%s", one->name);
		interface_detach(datapath, one);
	}
	freeifaddrs(addresses);
	if_freenameindex(names);
	return result;
}

void datapath_drop_stale(struct datapath *datapath, bool all)
{
	char path[PATH_MAX];
	unsigned int ifindex;
	struct dirent *entry;
	DIR *links;

	if (link_path(datapath, "", path))
		return;
	links = opendir(path);
	if (!links)
		return;
	if (all)
		link_drop(datapath, "lookup");
	while ((entry = readdir(links))) {
		if (sscanf(entry->d_name, "ingress_%u", &ifindex) == 1 &&
		    (all || !find_attachment(datapath, ifindex)))
			link_drop(datapath, entry->d_name);
	}
	closedir(links);
}

void datapath_detach(struct datapath *datapath)
{
	while (datapath->n_attachments)
		interface_detach(
			datapath,
			&datapath->attachments[datapath->n_attachments - 1]);
	datapath_drop_stale(datapath, true);
	for (size_t i = 0; i < N_HOOKS; i++)
		link_drop(datapath, hooks[i].name);
}
