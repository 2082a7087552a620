/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_control.c - user/control.c: the daemon's end, against clients that are
 * slow, wrong or too many. All in one thread: that it never blocks shows.
 */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "event.h"
#include "temp_dir.h"

#define BIG (4u << 20)

static int echo(const json_t *request, FILE *out, void *arg)
{
	*(int *)arg += 1;
	return json_dumpf(request, out, JSON_COMPACT | JSON_SORT_KEYS);
}

static int fail_verb(const json_t *request, FILE *out, void *arg)
{
	(void)request;
	(void)arg;
	fputs("line 1\nline \"2\"", out);
	return -EINVAL;
}

static int big(const json_t *request, FILE *out, void *arg)
{
	(void)request;
	(void)arg;
	fputc('"', out);
	for (size_t i = 0; i < BIG; i++)
		fputc('x', out);
	fputc('"', out);
	return 0;
}

/* An error that names a file whose name is no UTF-8. */
static int fail_bytes(const json_t *request, FILE *out, void *arg)
{
	(void)request;
	(void)arg;
	fputs("/a\xff.conf:1: bad", out);
	return -EINVAL;
}

static const struct control_verb verbs[] = {
	{"echo", echo},
	{"fail", fail_verb},
	{"big", big},
	{"bytes", fail_bytes},
};

static struct control *control;
static const char *path;
static int calls;

static int setup(void **state)
{
	int r = temp_dir_setup(state);

	calls = 0;
	path = temp_path(state, "control");
	return r || control_open(path, verbs, 4, &calls, &control);
}

static int teardown(void **state)
{
	control_close(control);
	control = NULL;
	return temp_dir_teardown(state);
}

static int client(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (void *)&address, sizeof(address)), 0);
	return fd;
}

static void put(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
			 strlen(text));
}

/* Serves until there is nothing to do for 20 ms. */
static void serve(void)
{
	struct pollfd fd = {.fd = control_fd(control), .events = POLLIN};

	while (poll(&fd, 1, 20) > 0)
		control_dispatch(control);
}

/* What has been answered so far; "EOF" behind it when that is all. */
static const char *answered(int fd)
{
	static char text[20000];
	size_t len = 0;
	ssize_t n;

	while (len < sizeof(text) - 5 &&
	       (n = recv(fd, text + len, sizeof(text) - 5 - len, 0)) > 0)
		len += (size_t)n;
	strcpy(text + len, n == 0 || errno == ECONNRESET ? "EOF" : "");
	return text;
}

static void one_request(void **state)
{
	int fd = client();

	(void)state;
	put(fd, "{\"verb\":\"echo\",\"a\":1}\n");
	serve();
	assert_string_equal(answered(fd), "{\"ok\":true,\"result\":{\"a\":1,"
					  "\"verb\":\"echo\"}}\n");
	/* And again on the same connection. */
	put(fd, "{\"verb\":\"echo\"}\n");
	serve();
	assert_string_equal(answered(fd), "{\"ok\":true,\"result\":{"
					  "\"verb\":\"echo\"}}\n");
	assert_int_equal(calls, 2);
	close(fd);
}

static void byte_by_byte(void **state)
{
	static const char request[] = "{\"verb\":\"echo\"}\n";
	int fd = client();

	(void)state;
	for (const char *p = request; *p; p++) {
		assert_string_equal(answered(fd), "");
		assert_int_equal(send(fd, p, 1, 0), 1);
		control_dispatch(control);
		control_dispatch(control);
	}
	assert_non_null(strstr(answered(fd), "\"ok\":true"));
	close(fd);
}

/* Several lines at once, the last from a client that writes no more. */
static void pipelined(void **state)
{
	int fd = client();

	(void)state;
	put(fd, "{\"verb\":\"echo\",\"n\":1}\n{\"verb\":\"fail\"}\n"
		"{\"verb\":\"echo\",\"n\":2}\n{\"verb\"");
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	serve();
	assert_string_equal(
		answered(fd),
		"{\"ok\":true,\"result\":{\"n\":1,\"verb\":\"echo\"}}\n"
		"{\"ok\":false,\"error\":\"line 1\\nline \\\"2\\\"\"}\n"
		"{\"ok\":true,\"result\":{\"n\":2,\"verb\":\"echo\"}}\n"
		"EOF");
	close(fd);
}

/* Fails without view_text(): the client then gets no answer at all. */
static void error_of_any_bytes(void **state)
{
	int fd = client();

	(void)state;
	put(fd, "{\"verb\":\"bytes\"}\n");
	serve();
	assert_string_equal(answered(fd), "{\"ok\":false,\"error\":\"/a\\\\xff"
					  ".conf:1: bad\"}\n");
	close(fd);
}

static void wrong_requests(void **state)
{
	static const char *const wrong[] = {
		"\n",
		"status\n",
		"[]\n",
		"{}\n",
		"\"echo\"\n",
		"{\"verb\":1}\n",
		"{\"verb\":\"\"}\n",
		"{\"verb\":\"ech\"}\n",
		"{\"verb\":\"echo\"\n",
		"{\"verb\":\"echo\"} x\n",
		"{\"verb\":\"echo\",\"verb\":\"echo\"}\n",
		"{\"verb\":\"\xff\"}\n",
	};
	int fd = client();

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		put(fd, wrong[i]);
		serve();
		assert_string_equal(answered(fd),
				    "{\"ok\":false,\"error\":\"no such verb, "
				    "or no JSON object with one\"}\n");
	}
	assert_int_equal(calls, 0);
	close(fd);
}

/* Exactly as long as may be, and one byte more. */
static void request_length(void **state)
{
	char request[CONTROL_REQUEST_MAX + 2];
	int fd = client();

	(void)state;
	memset(request, ' ', sizeof(request));
	memcpy(request, "{\"verb\":\"echo\"}", 15);
	request[CONTROL_REQUEST_MAX - 1] = '\n';
	request[CONTROL_REQUEST_MAX] = '\0';
	put(fd, request);
	serve();
	assert_non_null(strstr(answered(fd), "\"ok\":true"));
	request[CONTROL_REQUEST_MAX - 1] = ' ';
	request[CONTROL_REQUEST_MAX] = '\n';
	request[CONTROL_REQUEST_MAX + 1] = '\0';
	put(fd, request);
	serve();
	assert_string_equal(
		answered(fd),
		"{\"ok\":false,\"error\":\"request too long\"}\nEOF");
	assert_int_equal(calls, 1);
	close(fd);
}

/* A long answer to one that does not read: the others are served. */
static void slow_reader(void **state)
{
	int slow = client(), other = client();
	char *chunk = malloc(65536);
	size_t total = 0;
	ssize_t n;

	(void)state;
	assert_non_null(chunk);
	put(slow, "{\"verb\":\"big\"}\n");
	serve();
	put(other, "{\"verb\":\"echo\"}\n");
	serve();
	assert_non_null(strstr(answered(other), "\"ok\":true"));
	do {
		while ((n = recv(slow, chunk, 65536, 0)) > 0)
			total += (size_t)n;
		serve();
	} while (total < BIG);
	while ((n = recv(slow, chunk, 65536, 0)) > 0)
		total += (size_t)n;
	assert_int_equal(total,
			 strlen("{\"ok\":true,\"result\":\"\"}\n") + BIG);
	free(chunk);
	close(slow);
	close(other);
}

/* A client that goes in the middle of its answer takes nothing with it. */
static void reader_goes(void **state)
{
	int slow = client(), other;

	(void)state;
	put(slow, "{\"verb\":\"big\"}\n");
	serve();
	close(slow);
	serve();
	assert_int_equal(control_timeout_ms(control), -1);
	other = client();
	put(other, "{\"verb\":\"echo\"}\n");
	serve();
	assert_non_null(strstr(answered(other), "\"ok\":true"));
	close(other);
}

/* Those above the limit wait until a place is free, without a busy loop. */
static void many_clients(void **state)
{
	int fds[CONTROL_CLIENTS_MAX + 3];
	struct pollfd idle = {.fd = control_fd(control), .events = POLLIN};

	(void)state;
	for (int i = 0; i < CONTROL_CLIENTS_MAX + 3; i++) {
		fds[i] = client();
		put(fds[i], "{\"verb\":\"echo\"}\n");
		serve();
	}
	for (int i = 0; i < CONTROL_CLIENTS_MAX + 3; i++)
		assert_int_equal(*answered(fds[i]) != '\0',
				 i < CONTROL_CLIENTS_MAX);
	assert_int_equal(poll(&idle, 1, 0), 0);
	close(fds[2]);
	serve();
	assert_non_null(
		strstr(answered(fds[CONTROL_CLIENTS_MAX]), "\"ok\":true"));
	assert_string_equal(answered(fds[CONTROL_CLIENTS_MAX + 1]), "");
	for (int i = 0; i < CONTROL_CLIENTS_MAX + 3; i++) {
		if (i != 2)
			close(fds[i]);
	}
	serve();
	assert_int_equal(control_timeout_ms(control), -1);
}

static void deadline(void **state)
{
	uint64_t start;
	int fd;

	(void)state;
	assert_int_equal(control_timeout_ms(control), -1);
	fd = client();
	serve();
	assert_in_range(control_timeout_ms(control), CONTROL_DEADLINE_MS / 2,
			CONTROL_DEADLINE_MS);
	usleep(100 * 1000);
	assert_in_range(control_timeout_ms(control), CONTROL_DEADLINE_MS / 2,
			CONTROL_DEADLINE_MS - 100);
	/* A byte now and then buys no time. */
	put(fd, "{");
	serve();
	assert_in_range(control_timeout_ms(control), CONTROL_DEADLINE_MS / 2,
			CONTROL_DEADLINE_MS - 100);
	/* A whole request does. */
	start = clock_ms();
	put(fd, "\"verb\":\"echo\"}\n");
	serve();
	assert_in_range(control_timeout_ms(control),
			CONTROL_DEADLINE_MS - (clock_ms() - start) - 1,
			CONTROL_DEADLINE_MS);
	close(fd);
}

/* Everything that is left of the deadline, really waited for. */
static void deadline_ends(void **state)
{
	struct pollfd poll_fd = {.fd = control_fd(control), .events = POLLIN};
	int fd = client();

	(void)state;
	put(fd, "{");
	serve();
	while (control_timeout_ms(control) >= 0) {
		poll(&poll_fd, 1, control_timeout_ms(control));
		control_dispatch(control);
	}
	assert_string_equal(answered(fd), "EOF");
	close(fd);
}

static void mode_of_the_file(void **state)
{
	struct stat info;

	(void)state;
	assert_int_equal(stat(path, &info), 0);
	assert_true(S_ISSOCK(info.st_mode));
	assert_int_equal(info.st_mode & 0777, 0600);
	control_close(control);
	control = NULL;
	assert_int_equal(access(path, F_OK), -1);
}

/* Another user, even one that the file's mode lets in, is not served. */
static void other_user(void **state)
{
	int status;
	pid_t child;

	if (geteuid() != 0)
		skip();
	assert_int_equal(chmod(*state, 0755), 0);
	assert_int_equal(chmod(path, 0777), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		int fd;

		if (setresuid(12345, 12345, 12345) < 0)
			_exit(9);
		fd = client();
		/* May be too late for it already. */
		send(fd, "{\"verb\":\"echo\"}\n", 16, MSG_NOSIGNAL);
		poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 10000);
		_exit(strcmp(answered(fd), "EOF") == 0 ? 0 : 1);
	}
	while (waitpid(child, &status, WNOHANG) == 0)
		serve();
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(calls, 0);
}

static void directory_is_made(void **state)
{
	const char *deep = temp_path(state, "run/control");
	struct control *second;

	assert_int_equal(control_open(deep, verbs, 3, &calls, &second), 0);
	assert_int_equal(access(deep, F_OK), 0);
	control_close(second);
	assert_int_equal(access(deep, F_OK), -1);
}

static void cannot_listen(void **state)
{
	struct control *second = NULL;
	char long_path[CONTROL_PATH_MAX + 1];

	assert_int_equal(control_open(temp_path(state, "no/such/control"),
				      verbs, 3, &calls, &second),
			 -ENOENT);
	memset(long_path, 'x', CONTROL_PATH_MAX);
	long_path[CONTROL_PATH_MAX] = '\0';
	assert_int_equal(control_open(long_path, verbs, 3, &calls, &second),
			 -ENAMETOOLONG);
	assert_null(second);
	control_close(NULL);
}

/* One that answers is left alone; what a dead one left is taken over. */
static void file_exists(void **state)
{
	const char *stale = temp_path(state, "stale");
	const char *file = temp_text(state, "file", "precious");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct control *second = NULL;
	int fd;

	assert_int_equal(control_open(path, verbs, 3, &calls, &second),
			 -EADDRINUSE);
	assert_int_equal(control_open(file, verbs, 3, &calls, &second),
			 -EEXIST);
	assert_int_equal(access(file, F_OK), 0);
	strcpy(address.sun_path, stale);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (void *)&address, sizeof(address)), 0);
	close(fd);
	assert_int_equal(control_open(stale, verbs, 3, &calls, &second), 0);
	control_close(second);
}

static void environment(void **state)
{
	char out[CONTROL_PATH_MAX], directory[CONTROL_PATH_MAX];

	(void)state;
	assert_int_equal(unsetenv("REALPEER_RUN"), 0);
	assert_int_equal(control_path(out), 0);
	assert_string_equal(out, "/run/realpeer/control");
	assert_int_equal(setenv("REALPEER_RUN", "", 1), 0);
	assert_int_equal(control_path(out), 0);
	assert_string_equal(out, "/run/realpeer/control");
	assert_int_equal(setenv("REALPEER_RUN", "/tmp/x", 1), 0);
	assert_int_equal(control_path(out), 0);
	assert_string_equal(out, "/tmp/x/control");
	memset(directory, 'x', sizeof(directory));
	directory[CONTROL_PATH_MAX - 9] = '\0';
	assert_int_equal(setenv("REALPEER_RUN", directory, 1), 0);
	assert_int_equal(control_path(out), 0);
	assert_int_equal(strlen(out), CONTROL_PATH_MAX - 1);
	directory[CONTROL_PATH_MAX - 9] = 'x';
	directory[CONTROL_PATH_MAX - 8] = '\0';
	assert_int_equal(setenv("REALPEER_RUN", directory, 1), 0);
	assert_int_equal(control_path(out), -ENAMETOOLONG);
	assert_int_equal(unsetenv("REALPEER_RUN"), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(one_request),	  TEST(byte_by_byte),
		TEST(pipelined),	  TEST(wrong_requests),
		TEST(request_length),	  TEST(slow_reader),
		TEST(reader_goes),	  TEST(many_clients),
		TEST(deadline),		  TEST(deadline_ends),
		TEST(mode_of_the_file),	  TEST(other_user),
		TEST(directory_is_made),  TEST(cannot_listen),
		TEST(file_exists),	  TEST(environment),
		TEST(error_of_any_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
