/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_control_call.c - user/control_call.c: the client's end, against the
 * real daemon's end in a thread and against one that misbehaves.
 */
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "temp_dir.h"

static int say(const json_t *request, FILE *out, void *arg)
{
	size_t length =
		(size_t)json_integer_value(json_object_get(request, "length"));

	(void)arg;
	fputc('"', out);
	for (size_t i = 0; i < length; i++)
		fputc('x', out);
	fputc('"', out);
	return 0;
}

static int fail_verb(const json_t *request, FILE *out, void *arg)
{
	(void)request;
	(void)arg;
	fputs("F:1: bad\nF:2: worse", out);
	return -EINVAL;
}

static const struct control_verb verbs[] = {
	{"say", say},
	{"fail", fail_verb},
};

static atomic_bool ending;

static void *serve(void *arg)
{
	struct pollfd fd = {.fd = control_fd(arg), .events = POLLIN};

	while (!ending) {
		poll(&fd, 1, 10);
		control_dispatch(arg);
	}
	return NULL;
}

static json_t *request(const char *verb, size_t length)
{
	json_t *json = json_pack("{s:s, s:I}", "verb", verb, "length",
				 (json_int_t)length);

	assert_non_null(json);
	return json;
}

static void answers(void **state)
{
	static const size_t lengths[] = {0,	1,     65510, 65511,  65512,
					 65513, 65514, 65536, 3000000};
	const char *path = temp_path(state, "control");
	struct control *control;
	json_t *result = NULL, *ask;
	char *error = NULL;
	pthread_t thread;

	ending = false;
	assert_int_equal(control_open(path, verbs, 2, NULL, &control), 0);
	assert_int_equal(pthread_create(&thread, NULL, serve, control), 0);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		ask = request("say", lengths[i]);
		assert_int_equal(control_call(path, ask, &result, &error), 0);
		assert_int_equal(json_string_length(result), lengths[i]);
		json_decref(result);
		json_decref(ask);
	}
	result = NULL;
	ask = request("fail", 0);
	assert_int_equal(control_call(path, ask, &result, &error), -EREMOTEIO);
	assert_string_equal(error, "F:1: bad\nF:2: worse");
	free(error);
	error = NULL;
	json_decref(ask);
	ask = request("no such verb", 0);
	assert_int_equal(control_call(path, ask, &result, &error), -EREMOTEIO);
	assert_non_null(strstr(error, "no such verb"));
	assert_null(result);
	free(error);
	json_decref(ask);
	ending = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	control_close(control);
}

/* What a peer at the socket does that is no daemon of ours. */
struct fake {
	int fd;
	const char *answer;
};

static void *accept_one(void *arg)
{
	struct fake *fake = arg;
	char buffer[256];
	int fd = accept(fake->fd, NULL, NULL);

	if (fd >= 0 && recv(fd, buffer, sizeof(buffer), 0) > 0)
		send(fd, fake->answer, strlen(fake->answer), MSG_NOSIGNAL);
	close(fd);
	return NULL;
}

static void bad_answers(void **state)
{
	static const struct {
		const char *answer;
		int r;
	} cases[] = {
		{"", -ECONNRESET},
		{"{\"ok\":true", -ECONNRESET},
		{"\n", -EBADMSG},
		{"nonsense\n", -EBADMSG},
		{"[]\n", -EBADMSG},
		{"{}\n", -EBADMSG},
		{"{\"ok\":true}\n", -EBADMSG},
		{"{\"ok\":false}\n", -EBADMSG},
		{"{\"ok\":false,\"error\":1}\n", -EBADMSG},
	};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = temp_path(state, "control");
	json_t *result = NULL, *ask = request("say", 0);
	char *error = NULL;
	struct fake fake;
	pthread_t thread;

	strcpy(address.sun_path, path);
	fake.fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fake.fd, (void *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fake.fd, 1), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake.answer = cases[i].answer;
		assert_int_equal(
			pthread_create(&thread, NULL, accept_one, &fake), 0);
		assert_int_equal(control_call(path, ask, &result, &error),
				 cases[i].r);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_null(result);
		assert_null(error);
	}
	close(fake.fd);
	/* The file is still there, but nobody listens. */
	assert_int_equal(control_call(path, ask, &result, &error),
			 -ECONNREFUSED);
	json_decref(ask);
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (void *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

/* Takes no more after the first byte, but answers. */
static void *take_one_byte(void *arg)
{
	static const char answer[] = "{\"ok\":true,\"result\":1}\n";
	int fd = accept(*(int *)arg, NULL, NULL);
	struct pollfd ended = {.fd = fd};
	char byte;

	recv(fd, &byte, 1, 0);
	shutdown(fd, SHUT_RD);
	send(fd, answer, strlen(answer), MSG_NOSIGNAL);
	poll(&ended, 1, 10000);
	close(fd);
	return NULL;
}

/*
 * Whoever is asked does not take all of the question, which is larger than any
 * socket's buffer. Fails without the look at what send() returns.
 */
static void question_not_taken(void **state)
{
	const char *path = temp_path(state, "control");
	json_t *ask, *result = NULL;
	size_t size = 16 << 20;
	char *long_text = malloc(size), *error = NULL;
	int fd = listen_at(path);
	pthread_t thread;

	assert_non_null(long_text);
	memset(long_text, 'x', size);
	long_text[size - 1] = '\0';
	ask = request(long_text, 0);
	free(long_text);
	assert_int_equal(pthread_create(&thread, NULL, take_one_byte, &fd), 0);
	assert_int_equal(control_call(path, ask, &result, &error), -EPIPE);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_null(result);
	assert_null(error);
	json_decref(ask);
	close(fd);
}

/* Says one thing as long as it is listened to, but for no reasonable time. */
static void *talk_for_long(void *arg)
{
	static const char text[1 << 20];
	int fd = accept(*(int *)arg, NULL, NULL);

	for (size_t sent = 0; sent < 3 * (size_t)CONTROL_ANSWER_MAX;) {
		ssize_t n = send(fd, text, sizeof(text), MSG_NOSIGNAL);

		if (n < 0)
			break;
		sent += (size_t)n;
	}
	close(fd);
	return NULL;
}

/* Fails without CONTROL_ANSWER_MAX in receive_line(). */
static void answer_without_end(void **state)
{
	const char *path = temp_path(state, "control");
	json_t *ask = request("say", 0), *result = NULL;
	char *error = NULL;
	int fd = listen_at(path);
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, talk_for_long, &fd), 0);
	assert_int_equal(control_call(path, ask, &result, &error), -ENOMEM);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_null(result);
	assert_null(error);
	json_decref(ask);
	close(fd);
}

static void nobody(void **state)
{
	json_t *result = NULL, *ask = request("say", 0);
	char long_path[200], *error = NULL;

	assert_int_equal(control_call(temp_path(state, "none"), ask, &result,
				      &error),
			 -ENOENT);
	memset(long_path, 'x', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	assert_int_equal(control_call(long_path, ask, &result, &error),
			 -ENAMETOOLONG);
	assert_null(result);
	assert_null(error);
	json_decref(ask);
}

int main(void)
{
#define TEST(name) \
	cmocka_unit_test_setup_teardown(name, temp_dir_setup, temp_dir_teardown)
	const struct CMUnitTest tests[] = {
		TEST(answers),
		TEST(bad_answers),
		TEST(question_not_taken),
		TEST(answer_without_end),
		TEST(nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
