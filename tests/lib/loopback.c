/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* loopback.c - see loopback.h */
#include "loopback.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* Below net.ipv4.ip_local_port_range, so that no client is given one. */
#define PORT_FIRST 20000
#define PORT_COUNT 12000

static struct sockaddr_in address4(uint32_t ip, uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(ip),
	};
}

static struct sockaddr_in6 address6(uint16_t port)
{
	return (struct sockaddr_in6){
		.sin6_family = AF_INET6,
		.sin6_port = htons(port),
		.sin6_addr = in6addr_loopback,
	};
}

static int listen_on(const void *address, socklen_t len, int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, address, len) || listen(fd, 1024)) {
		close(fd);
		return -1;
	}
	return fd;
}

static uint16_t random_port(void)
{
	uint16_t random;

	assert_int_equal(getrandom(&random, sizeof(random), 0), sizeof(random));
	return PORT_FIRST + random % PORT_COUNT;
}

int tcp_listen(uint16_t *ret_port)
{
	int fd;

	do {
		struct sockaddr_in address;

		*ret_port = random_port();
		address = address4(INADDR_LOOPBACK, *ret_port);
		fd = listen_on(&address, sizeof(address), AF_INET);
	} while (fd < 0);
	return fd;
}

int tcp_listen6(uint16_t *ret_port)
{
	int fd;

	do {
		struct sockaddr_in6 address;

		*ret_port = random_port();
		address = address6(*ret_port);
		fd = listen_on(&address, sizeof(address), AF_INET6);
	} while (fd < 0);
	return fd;
}

uint16_t port_free(void)
{
	uint16_t port;

	close(tcp_listen(&port));
	return port;
}

/* Neither side of a test waits for ever. */
static int limited(int fd)
{
	struct timeval limit = {.tv_sec = LOOPBACK_LIMIT_MS / 1000};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return fd;
}

static int connect_to(const void *address, socklen_t len, int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	if (connect(limited(fd), address, len)) {
		close(fd);
		return -1;
	}
	return fd;
}

int tcp_try_connect(uint16_t port)
{
	struct sockaddr_in address = address4(INADDR_LOOPBACK, port);

	return connect_to(&address, sizeof(address), AF_INET);
}

int tcp_connect(uint16_t port)
{
	int fd = tcp_try_connect(port);

	assert_true(fd >= 0);
	return fd;
}

int tcp_connect6(uint16_t port)
{
	struct sockaddr_in6 address = address6(port);
	int fd = connect_to(&address, sizeof(address), AF_INET6);

	assert_true(fd >= 0);
	return fd;
}

int tcp_connect_from(const char *source, uint16_t port)
{
	struct sockaddr_in to = address4(INADDR_LOOPBACK, port);
	struct sockaddr_in from = address4(ntohl(inet_addr(source)), 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	assert_int_equal(
		connect(limited(fd), (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

bool stream_waiting(int listener, int ms)
{
	struct pollfd poll_fd = {.fd = listener, .events = POLLIN};

	return poll(&poll_fd, 1, ms) == 1;
}

int stream_accept(int listener)
{
	int fd;

	assert_true(stream_waiting(listener, LOOPBACK_LIMIT_MS));
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	return limited(fd);
}

void stream_send(int fd, const void *data, size_t len)
{
	assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), len);
}

void stream_text(int fd, const char *text)
{
	stream_send(fd, text, strlen(text));
}

void expect_bytes(int fd, const void *data, size_t len)
{
	uint8_t *got = malloc(len + 1);

	assert_non_null(got);
	assert_int_equal(recv(fd, got, len, MSG_WAITALL), len);
	assert_memory_equal(got, data, len);
	free(got);
}

void expect_text(int fd, const char *text)
{
	expect_bytes(fd, text, strlen(text));
}

void expect_end(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

void expect_reset(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
}

void expect_silence(int fd, int ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN | POLLRDHUP};

	assert_int_equal(poll(&poll_fd, 1, ms), 0);
}

void stream_reset(int fd)
{
	struct linger linger = {.l_onoff = 1};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

uint16_t local_port(int fd)
{
	struct sockaddr_in6 address;
	socklen_t len = sizeof(address);

	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	return ntohs(address.sin6_port); /* where AF_INET has it, too */
}

void sleep_ms(unsigned int ms)
{
	struct timespec time = {
		.tv_sec = ms / 1000,
		.tv_nsec = ms % 1000 * 1000000l,
	};

	nanosleep(&time, NULL);
}

void wait_until(bool (*done)(void *argument), void *argument)
{
	for (int i = 0; i < LOOPBACK_LIMIT_MS / 2; i++) {
		if (done(argument))
			return;
		sleep_ms(2);
	}
	fail_msg("waited %d ms", LOOPBACK_LIMIT_MS);
}
