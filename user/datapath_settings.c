/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * datapath_settings.c - the one value of the map `settings`: what the sysctls
 * say, how many sockets take what is handed over, which ways are of any use.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "clock.h"
#include "datapath_internal.h"
#include "realpeer.skel.h"

/*
 * The last number of a sysctl; what `ret` holds stays if the kernel has no such
 * sysctl. -errno when we are too short of something to tell.
 */
static int read_sysctl(const char *name, long *ret)
{
	char path[128], text[128], *at = text, *end;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/net/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == EACCES ? 0 : -errno;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n < 0)
		return errno == EACCES || errno == EPERM ? 0 : -errno;
	text[n] = '\0';
	for (;; at = end) {
		long number = strtol(at, &end, 10);

		if (end == at)
			return 0;
		*ret = number;
	}
}

/* As tcp_select_initial_window() chooses it where no route says otherwise. */
static __u8 choose_wscale(long most, long core)
{
	__u8 wscale = 0;

	if (most < core)
		most = core;
	while (wscale < 14 && most >> (wscale + 16))
		wscale++;
	return wscale;
}

int datapath_read_sysctls(struct rp_settings *settings)
{
	enum { SCALING, SACK, TIMESTAMPS, ECN, COOKIES, RMEM, CORE, COUNT };
	struct {
		const char *name;
		long value; /* that of a kernel without it */
	} read[COUNT] = {
		[SCALING] = {"ipv4/tcp_window_scaling", 1},
		[SACK] = {"ipv4/tcp_sack", 1},
		[TIMESTAMPS] = {"ipv4/tcp_timestamps", 1},
		[ECN] = {"ipv4/tcp_ecn", 2},
		[COOKIES] = {"ipv4/tcp_syncookies", 0},
		[RMEM] = {"ipv4/tcp_rmem", 6291456},
		[CORE] = {"core/rmem_max", 212992},
	};

	for (int i = 0; i < COUNT; i++) {
		int error = read_sysctl(read[i].name, &read[i].value);

		if (error)
			return error;
	}
	settings->options =
		(read[SCALING].value ? RP_OPTION_WSCALE : 0) |
		(read[SACK].value ? RP_OPTION_SACK : 0) |
		(read[TIMESTAMPS].value ? RP_OPTION_TIMESTAMPS : 0) |
		(read[ECN].value ? RP_OPTION_ECN : 0);
	settings->syncookies = read[COOKIES].value != 0;
	settings->wscale = choose_wscale(read[RMEM].value, read[CORE].value);
	return 0;
}

/*
 * What the programs know already is better than a guess: without a descriptor
 * to read tcp_syncookies with, inline connections shall go on.
 */
static int update_sysctls(struct datapath *datapath,
			  const struct rp_settings *old,
			  struct rp_settings *settings)
{
	int error = datapath_read_sysctls(settings);

	if (error && old->abi) {
		settings->wscale = old->wscale;
		settings->options = old->options;
		settings->syncookies = old->syncookies;
		if (!datapath->sysctls_unread)
			log_warning("msg=\"cannot read sysctls, the programs "
				    "go by what they were\" error=\"%s\"",
				    strerror(-error));
	}
	datapath->sysctls_unread = error != 0;
	return old->abi ? 0 : error;
}

/* Handshakes stay where they are for as long as there are pins. */
static int choose_hash_key(const struct rp_settings *old,
			   struct rp_settings *settings)
{
	if (old->abi) {
		memcpy(settings->hash_key, old->hash_key,
		       sizeof(settings->hash_key));
		return 0;
	}
	return getrandom(settings->hash_key, sizeof(settings->hash_key), 0) ==
			       sizeof(settings->hash_key)
		       ? 0
		       : -EIO;
}

int datapath_refresh(struct datapath *datapath)
{
	struct rp_settings now = {.abi = RP_ABI_VERSION}, old = {0};
	__u32 zero = 0;
	int error;

	bpf_map__lookup_elem(datapath->skeleton->maps.settings, &zero,
			     sizeof(zero), &old, sizeof(old), 0);
	error = choose_hash_key(&old, &now);
	if (error)
		return error;
	now.netns = datapath->netns;
	now.daemons = datapath->n_handover;
	now.peeks = datapath->peeks;
	now.screens =
		datapath->screens || clock_boot_ns() < datapath->settled_at;
	error = update_sysctls(datapath, &old, &now);
	if (error)
		return error;
	if (memcmp(&old, &now, sizeof(now)) == 0)
		return 0;
	if (datapath->features.offload == RP_OFFLOAD_ACCEPT && old.abi &&
	    old.syncookies != now.syncookies)
		log_warning("msg=\"net.ipv4.tcp_syncookies is %s\"",
			    now.syncookies
				    ? "on again: inline as before"
				    : "0: the kernel takes no connection "
				      "from TC, so the daemon relays");
	return bpf_map__update_elem(datapath->skeleton->maps.settings, &zero,
				    sizeof(zero), &now, sizeof(now), BPF_ANY);
}

static int hand_over_to(struct realpeer *skeleton, uint32_t slot, int fd)
{
	__u64 value = fd;
	__u32 mark = 1;
	int error = bpf_map__update_elem(skeleton->maps.handover, &slot,
					 sizeof(slot), &value, sizeof(value),
					 BPF_ANY);

	return error ? error
		     : bpf_map__update_elem(skeleton->maps.handover_marks, &fd,
					    sizeof(fd), &mark, sizeof(mark),
					    BPF_ANY);
}

int datapath_set_handover(struct datapath *datapath, const int *sockets,
			  uint32_t n)
{
	struct bpf_map *map;

	if (!datapath || datapath->features.offload < RP_OFFLOAD_ACCEPT)
		return 0;
	map = datapath->skeleton->maps.handover;
	if (n > bpf_map__max_entries(map))
		n = bpf_map__max_entries(map);
	for (uint32_t i = 0; i < n; i++) {
		int error = hand_over_to(datapath->skeleton, i, sockets[i]);

		if (error)
			return error;
	}
	datapath->n_handover = n;
	return datapath_refresh(datapath);
}
