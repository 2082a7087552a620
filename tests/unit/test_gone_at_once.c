/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * test_gone_at_once.c - user/handler.c: a handler that goes between two system
 * calls of ours, which the linker leads to the function here to wait for that.
 */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "relayed.h"

/* More than there is room for behind our header. */
#define FIRST_BYTES "0123456789012345678901234567890123456789"

static atomic_bool waiting_for_header;
static sem_t before_send, gone;

ssize_t __real_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags)
{
	if (len > 6 && memcmp(data, "PROXY ", 6) == 0 &&
	    atomic_exchange(&waiting_for_header, false)) {
		sem_post(&before_send);
		sem_wait(&gone);
	}
	return __real_send(fd, data, len, flags);
}

/*
 * The header that was kept for a handler finds nobody. The client, which is
 * not to be believed and waits at the gate, gets a reset, no orderly end: fails
 * without the error of send_held(). And our header is not taken for the start
 * of what the client says: fails without drop_held() in on_answer().
 */
static void before_our_header(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int filler = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), client;
	struct relayed test = {0};
	char text[256];

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path),
		 "/tmp/realpeer-test-%d.sock", getpid());
	snprintf(text, sizeof(text),
		 "trusted = 127.0.0.9\nuntrusted = direct\n"
		 "client_address = proxy-v1\nhandler = unix:%s\n",
		 address.sun_path);
	unlink(address.sun_path);
	relayed_start(&test, text);
	close(test.handler);
	test.handler = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(test.handler, (struct sockaddr *)&address,
			      sizeof(address)),
			 0);
	/* Room for one, which is the filler. */
	assert_int_equal(listen(test.handler, 0), 0);
	assert_int_equal(connect(filler, (struct sockaddr *)&address,
				 sizeof(address)),
			 0);
	waiting_for_header = true;
	client = tcp_connect(test.port);
	expect_stat(&test, RP_STAT_DIRECT, 1);
	stream_text(client, FIRST_BYTES);
	close(stream_accept(test.handler));
	sem_wait(&before_send);
	close(stream_accept(test.handler));
	sem_post(&gone);
	expect_reset(client);
	expect_stat(&test, RP_STAT_UNTRUSTED_HEADER, 0);
	expect_idle(&test);
	close(client);
	close(filler);
	unlink(address.sun_path);
	relayed_stop(&test);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(before_our_header),
	};

	sem_init(&before_send, 0, 0);
	sem_init(&gone, 0, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
