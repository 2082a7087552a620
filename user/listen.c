/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * listen.c - see listen.h. Accepts nothing; acceptor.c does.
 */
#include "listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

static int set(int fd, int level, int option)
{
	int one = 1;

	return setsockopt(fd, level, option, &one, sizeof(one)) ? -errno : 0;
}

/*
 * What accepted sockets inherit, which saves a system call for each. A client
 * that vanished is our business: the handler's keepalive only finds us. Urgent
 * data stays where it is in the stream (RFC 6093), lest a byte of a header is
 * missing, or of the payload.
 */
static int set_inherited(int fd)
{
	int error = set(fd, IPPROTO_TCP, TCP_NODELAY);

	if (!error)
		error = set(fd, SOL_SOCKET, SO_OOBINLINE);
	return error ? error : set(fd, SOL_SOCKET, SO_KEEPALIVE);
}

/*
 * The first socket binds without SO_REUSEPORT, which is what finds another
 * owner of the address, and gets it before the second one binds.
 */
static int bind_one(int fd, const struct address *address, bool v6only,
		    bool share)
{
	int zero = 0, error = set(fd, SOL_SOCKET, SO_REUSEADDR);

	if (!error && share)
		error = set(fd, SOL_SOCKET, SO_REUSEPORT);
	if (!error && address->sa.sa_family == AF_INET6) {
		if (v6only)
			error = set(fd, IPPROTO_IPV6, IPV6_V6ONLY);
		else if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero,
				    sizeof(zero)))
			error = -errno;
	}
	if (!error && bind(fd, &address->sa, address->len))
		error = -errno;
	if (!error && !share)
		error = set(fd, SOL_SOCKET, SO_REUSEPORT);
	if (!error)
		error = set_inherited(fd);
	if (!error && listen(fd, SOMAXCONN))
		error = -errno;
	return error;
}

int listen_open(const struct address *address, bool v6only, bool shared,
		int *ret_fds, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int fd, error;

		fd = socket(address->sa.sa_family,
			    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		error = fd < 0 ? -errno
			       : bind_one(fd, address, v6only, shared || i > 0);
		if (error) {
			if (fd >= 0)
				close(fd);
			listen_close(ret_fds, i);
			return error;
		}
		ret_fds[i] = fd;
	}
	return 0;
}

int listen_adopt(int fd, int *ret_fds, size_t n)
{
	int flags = fcntl(fd, F_GETFL), error;

	/* It is one open file: the flag holds for all its descriptors. */
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	error = set_inherited(fd);
	if (error)
		return error;
	for (size_t i = 0; i < n; i++) {
		ret_fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (ret_fds[i] < 0) {
			error = -errno;
			listen_close(ret_fds, i);
			return error;
		}
	}
	return 0;
}

void listen_close(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}
