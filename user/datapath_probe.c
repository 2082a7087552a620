/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * datapath_probe.c - finds by trying what this kernel and our rights allow.
 * Never by its version: kernels are patched, and rights are taken away.
 */
#include <bpf/btf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "capability.h"
#include "datapath_internal.h"
#include "realpeer.skel.h"

static void because(struct datapath_features *features, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void because(struct datapath_features *features, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(features->why, sizeof(features->why), format, args);
	va_end(args);
}

/*
 * The likely reason for what was refused, in words that tell what to do, or
 * `other` when we lack nothing.
 */
static const char *missing_or(const char *other, char text[CAPABILITY_TEXT_MAX])
{
	capability_missing(capability_effective(), text);
	return *text ? text : other;
}

static bool try_bpf(struct datapath_features *features)
{
	int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "rp_probe", 4, 4, 1, NULL);
	char text[CAPABILITY_TEXT_MAX];

	if (map < 0) {
		because(features, "no right to use bpf(2) (%s): %s",
			strerror(errno),
			missing_or("it takes " CAPABILITY_BPF_NEEDS
				   " outside of user namespaces",
				   text));
		return false;
	}
	close(map);
	return true;
}

static bool try_load(struct datapath_features *features,
		     enum rp_offload offload, struct realpeer **ret_skeleton)
{
	static const char *const names[] = {
		[RP_OFFLOAD_OFF] = "getpeername",
		[RP_OFFLOAD_PEEK] = "offload peek",
		[RP_OFFLOAD_ACCEPT] = "offload accept",
	};
	struct datapath_features wanted = {.offload = offload};
	int error = datapath_load(&wanted, NULL, ret_skeleton);
	char text[CAPABILITY_TEXT_MAX];

	if (error)
		because(features,
			"the kernel refuses the programs for %s (%s): %s",
			names[offload], strerror(-error),
			missing_or(datapath_first_warning(), text));
	return !error;
}

static bool try_cgroup(struct datapath_features *features,
		       const struct realpeer *skeleton)
{
	const struct bpf_program *programs[] = {
		skeleton->progs.rp_sockops,
		skeleton->progs.rp_getpeername4,
		skeleton->progs.rp_getpeername6,
	};
	static const enum bpf_attach_type types[] = {
		BPF_CGROUP_SOCK_OPS,
		BPF_CGROUP_INET4_GETPEERNAME,
		BPF_CGROUP_INET6_GETPEERNAME,
	};
	int cgroup = cgroup_open_root(), link = -1;

	if (cgroup < 0) {
		because(features, "no cgroup2 hierarchy can be opened (%s)",
			strerror(-cgroup));
		return false;
	}
	for (size_t i = 0; i < 3; i++) {
		link = bpf_link_create(bpf_program__fd(programs[i]), cgroup,
				       types[i], NULL);
		if (link < 0) {
			because(features, "cannot attach %s to the cgroup (%s)",
				bpf_program__name(programs[i]),
				strerror(errno));
			break;
		}
		close(link);
	}
	close(cgroup);
	return link >= 0;
}

static bool try_ingress(struct datapath_features *features,
			const struct realpeer *skeleton,
			enum rp_offload offload)
{
	int program = bpf_program__fd(datapath_ingress(skeleton, offload));
	char text[CAPABILITY_TEXT_MAX];
	const char *missing;
	int error;

	features->tcx = datapath_try_tcx(program) == 0;
	error = features->tcx ? 0 : datapath_try_clsact(program);
	missing = missing_or("", text);
	if (error)
		because(features, "cannot attach to TC ingress (%s)%s%s",
			strerror(-error), *missing ? ": " : "", missing);
	return !error;
}

static bool has_kfunc(const char *name)
{
	struct btf *btf = btf__load_vmlinux_btf();
	bool found =
		btf && btf__find_by_name_kind(btf, name, BTF_KIND_FUNC) > 0;

	btf__free(btf);
	return found;
}

static bool try_accept(struct datapath_features *features)
{
	struct rp_settings sysctls = {0};
	struct realpeer *skeleton;
	int error;

	if (!has_kfunc("bpf_sk_assign_tcp_reqsk")) {
		because(features, "no offload accept: the kernel has no kfunc "
				  "bpf_sk_assign_tcp_reqsk (it came with 6.9)");
		return false;
	}
	error = datapath_read_sysctls(&sysctls);
	if (error) {
		because(features, "no offload accept: cannot read sysctls (%s)",
			strerror(-error));
		return false;
	}
	if (!sysctls.syncookies) {
		because(features, "no offload accept: sysctl "
				  "net.ipv4.tcp_syncookies is 0");
		return false;
	}
	if (!try_load(features, RP_OFFLOAD_ACCEPT, &skeleton))
		return false;
	error = datapath_try_lookup(bpf_program__fd(skeleton->progs.rp_lookup));
	if (error)
		because(features,
			"no offload accept: cannot attach sk_lookup "
			"to the network namespace (%s)",
			strerror(-error));
	else
		error = !try_ingress(features, skeleton, RP_OFFLOAD_ACCEPT);
	realpeer__destroy(skeleton);
	return !error;
}

void datapath_probe(struct datapath_features *ret)
{
	struct datapath_features features = {0};
	struct realpeer *skeleton = NULL;

	if (try_bpf(&features) &&
	    try_load(&features, RP_OFFLOAD_OFF, &skeleton)) {
		features.getpeername = try_cgroup(&features, skeleton);
		features.bpf = features.getpeername;
		realpeer__destroy(skeleton);
		skeleton = NULL;
	}
	if (features.bpf && try_load(&features, RP_OFFLOAD_PEEK, &skeleton)) {
		if (try_ingress(&features, skeleton, RP_OFFLOAD_PEEK))
			features.offload = RP_OFFLOAD_PEEK;
		realpeer__destroy(skeleton);
	}
	if (features.offload == RP_OFFLOAD_PEEK && try_accept(&features)) {
		features.offload = RP_OFFLOAD_ACCEPT;
		features.no_probes = !datapath_can_probe();
	}
	*ret = features;
}
