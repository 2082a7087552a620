/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* target.c - see target.h. Asks sock_diag(7), logs nothing. */
#include "target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fts.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int ask(int fd, uint8_t family, uint16_t port)
{
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 request;
	} message = {
		.header.nlmsg_len = sizeof(message),
		.header.nlmsg_type = SOCK_DIAG_BY_FAMILY,
		.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		.request.sdiag_family = family,
		.request.sdiag_protocol = IPPROTO_TCP,
		/* Without it no upper layer protocol is told either. */
		.request.idiag_ext = 1 << (INET_DIAG_INFO - 1),
		.request.idiag_states = 1 << TCP_LISTEN,
		.request.id.idiag_sport = htons(port),
	};

	return send(fd, &message, sizeof(message), 0) < 0 ? -errno : 0;
}

static const struct rtattr *find_attribute(const struct rtattr *first, int len,
					   unsigned short type)
{
	for (const struct rtattr *a = first; RTA_OK(a, len);
	     a = RTA_NEXT(a, len)) {
		if ((a->rta_type & NLA_TYPE_MASK) == type)
			return a;
	}
	return NULL;
}

/* The upper layer protocol of a subflow, a listening one included. */
static bool is_mptcp(const struct rtattr *attributes, int len)
{
	const struct rtattr *ulp =
		find_attribute(attributes, len, INET_DIAG_ULP_INFO);
	const struct rtattr *name =
		ulp ? find_attribute(RTA_DATA(ulp), RTA_PAYLOAD(ulp),
				     INET_ULP_INFO_NAME)
		    : NULL;

	return name && strncmp(RTA_DATA(name), "mptcp", 5) == 0;
}

static void take(const struct nlmsghdr *header, uint16_t port,
		 struct target *target)
{
	const struct inet_diag_msg *socket_info = NLMSG_DATA(header);
	const struct rtattr *first = (const struct rtattr *)(socket_info + 1);
	int len = header->nlmsg_len - NLMSG_LENGTH(sizeof(*socket_info));
	const struct rtattr *cgroup;

	if (len < 0 || socket_info->id.idiag_sport != htons(port) ||
	    target->mptcp)
		return;
	target->found = true;
	target->mptcp = is_mptcp(first, len);
	cgroup = find_attribute(first, len, INET_DIAG_CGROUP_ID);
	if (cgroup && RTA_PAYLOAD(cgroup) == sizeof(target->cgroup))
		memcpy(&target->cgroup, RTA_DATA(cgroup),
		       sizeof(target->cgroup));
}

/* Reads answers up to the end of the dump. 0 or -errno. */
static int collect(int fd, uint16_t port, struct target *target)
{
	_Alignas(struct nlmsghdr) char buffer[16384];

	for (;;) {
		ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
		struct nlmsghdr *header = (struct nlmsghdr *)buffer;

		if (n < 0)
			return -errno;
		for (; NLMSG_OK(header, n); header = NLMSG_NEXT(header, n)) {
			if (header->nlmsg_type == NLMSG_DONE)
				return 0;
			if (header->nlmsg_type == NLMSG_ERROR) {
				const struct nlmsgerr *error =
					NLMSG_DATA(header);

				return error->error;
			}
			take(header, port, target);
		}
	}
}

int target_find(uint16_t port, struct target *ret)
{
	static const uint8_t families[] = {AF_INET, AF_INET6};
	struct target target = {0};
	int fd, error = 0;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (fd < 0)
		return -errno;
	for (int i = 0; i < 2 && !error; i++) {
		error = ask(fd, families[i], port);
		if (!error)
			error = collect(fd, port, &target);
	}
	close(fd);
	if (!error)
		*ret = target;
	return error;
}

/* A cgroup's id is the inode number of its directory. */
bool target_is_below(const char *root, uint64_t id)
{
	char *const paths[] = {(char *)root, NULL};
	bool found = false;
	struct stat info;
	FTSENT *entry;
	FTS *tree;

	if (id == 0 || stat(root, &info) || info.st_ino == 1)
		return true;
	tree = fts_open(paths, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, NULL);
	if (!tree)
		return true;
	while (!found && (entry = fts_read(tree)))
		found = entry->fts_info == FTS_D &&
			entry->fts_statp->st_ino == id;
	fts_close(tree);
	return found;
}
