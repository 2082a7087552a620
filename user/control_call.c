/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * control_call.c - the client's end of control.h: one request, one answer.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "control.h"

static int connect_to(const char *path)
{
	/* A daemon that builds a long answer is silent for a while. */
	struct timeval limit = {.tv_sec = 3 * CONTROL_DEADLINE_MS / 1000};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (const void *)&address, sizeof(address)) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static int send_request(int fd, const json_t *request)
{
	char *text = json_dumps(request, JSON_COMPACT);
	size_t len, sent = 0;

	if (!text)
		return -ENOMEM;
	len = strlen(text);
	text[len++] = '\n'; /* in the place of the NUL */
	while (sent < len) {
		ssize_t n = send(fd, text + sent, len - sent, MSG_NOSIGNAL);

		if (n < 0) {
			free(text);
			return -errno;
		}
		sent += (size_t)n;
	}
	free(text);
	return 0;
}

/* Reads up to the newline, into memory from malloc(). */
static int receive_line(int fd, char **ret_text, size_t *ret_len)
{
	size_t len = 0, room = 0;
	char *text = NULL, *grown;
	ssize_t n;
	int r;

	do {
		if (len == room) {
			room = room ? 2 * room : 65536;
			grown = room <= 2 * (size_t)CONTROL_ANSWER_MAX
					? realloc(text, room)
					: NULL;
			if (!grown) {
				free(text);
				return -ENOMEM;
			}
			text = grown;
		}
		n = recv(fd, text + len, room - len, 0);
		if (n <= 0) {
			r = n < 0 ? -errno : -ECONNRESET;
			free(text);
			return r == -EAGAIN ? -ETIMEDOUT : r;
		}
		len += (size_t)n;
	} while (text[len - 1] != '\n');
	*ret_text = text;
	*ret_len = len;
	return 0;
}

static int read_answer(const char *text, size_t len, json_t **ret_result,
		       char **ret_error)
{
	json_t *answer = json_loadb(text, len, 0, NULL), *result;
	const char *error;
	char *copy;

	if (json_is_true(json_object_get(answer, "ok"))) {
		result = json_object_get(answer, "result");
		if (result) {
			*ret_result = json_incref(result);
			json_decref(answer);
			return 0;
		}
	}
	error = json_string_value(json_object_get(answer, "error"));
	copy = error ? strdup(error) : NULL;
	json_decref(answer);
	if (!copy)
		return error ? -ENOMEM : -EBADMSG;
	*ret_error = copy;
	return -EREMOTEIO;
}

int control_call(const char *path, const json_t *request, json_t **ret_result,
		 char **ret_error)
{
	char *text = NULL;
	size_t len = 0;
	int fd = connect_to(path), r;

	if (fd < 0)
		return fd;
	r = send_request(fd, request);
	if (r == 0)
		r = receive_line(fd, &text, &len);
	close(fd);
	if (r < 0)
		return r;
	r = read_answer(text, len, ret_result, ret_error);
	free(text);
	return r;
}
