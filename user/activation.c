/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* activation.c - see activation.h. */
#include "activation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "log.h"
#include "store.h"

static void look_at(struct inherited *inherited, int fd, const char *name)
{
	struct sockaddr_storage bound;
	socklen_t len = sizeof(bound);
	int v6only = 0;
	uint16_t port;
	uint8_t ip[16];

	inherited->fd = fd;
	inherited->stored =
		strncmp(name, STORE_LISTEN, strlen(STORE_LISTEN)) == 0;
	if (sd_is_socket_inet(fd, AF_UNSPEC, SOCK_STREAM, 1, 0) <= 0)
		return;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	/* As address_parse() has it: IPv4 for v4-mapped. */
	if (getsockname(fd, (struct sockaddr *)&bound, &len) == 0) {
		address_split((struct sockaddr *)&bound, ip, &port);
		inherited->address = address_make(ip, port);
	}
	len = sizeof(v6only);
	if (getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &len) == 0)
		inherited->v6only = v6only;
}

static void free_names(char **names, int n)
{
	for (int i = 0; names && i < n; i++)
		free(names[i]);
	free(names);
}

int activation_take(struct activation *ret)
{
	struct activation activation = {.connections = -1};
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);

	if (n < 0)
		return n;
	activation.sockets = calloc((size_t)n + 1, sizeof(*activation.sockets));
	if (!activation.sockets) {
		free_names(names, n);
		return -ENOMEM;
	}
	for (int i = 0; i < n; i++) {
		int fd = SD_LISTEN_FDS_START + i;

		if (activation.connections < 0 &&
		    strcmp(names[i], STORE_CONNECTIONS) == 0)
			activation.connections = fd;
		else
			look_at(&activation.sockets[activation.n++], fd,
				names[i]);
	}
	free_names(names, n);
	*ret = activation;
	return 0;
}

/* What the configuration of the daemon before had, and ours has not, goes. */
static void close_untaken(const struct inherited *inherited)
{
	char text[ADDRESS_TEXT_MAX], name[STORE_NAME_MAX];

	if (!inherited->address.len)
		log_warning("inherited=%d msg=\"no listening TCP socket\"",
			    inherited->fd);
	else if (inherited->stored)
		store_forget(store_listen_name(&inherited->address,
					       inherited->v6only, name),
			     0);
	else
		log_warning("inherited=%d address=%s msg=\"no listener has "
			    "this address\"",
			    inherited->fd,
			    address_format(&inherited->address.sa, text));
	close(inherited->fd);
}

void activation_finish(struct activation *activation)
{
	for (size_t i = 0; i < activation->n; i++) {
		if (activation->sockets[i].fd >= 0)
			close_untaken(&activation->sockets[i]);
	}
	free(activation->sockets);
	if (activation->connections >= 0)
		close(activation->connections);
	*activation = (struct activation){.connections = -1};
}
