/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_relay.c - user/relay.c: bytes both ways, to the end and to the break */
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "loopback.h"

/* client ── side[FRONT] ══ relay ══ side[BACK] ── handler */
struct bench {
	struct relay relay;
	struct relay_context context;
	struct pipes pipes;
	int client, handler;
};

static void tcp_pair(int fds[2])
{
	uint16_t port;
	int listener = tcp_listen(&port);

	fds[0] = tcp_connect(port);
	fds[1] = stream_accept(listener);
	close(listener);
}

static void unix_pair(int fds[2])
{
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

static struct bench *make(void (*front_pair)(int fds[2]),
			  void (*back_pair)(int fds[2]))
{
	struct bench *bench = calloc(1, sizeof(*bench));
	int front[2], back[2];

	assert_non_null(bench);
	front_pair(front);
	back_pair(back);
	bench->client = front[0];
	bench->handler = back[0];
	bench->context.buffer = malloc(RELAY_BUFFER_SIZE);
	bench->context.pipes = &bench->pipes;
	bench->relay.side[FRONT].watch.fd = front[1];
	bench->relay.side[BACK].watch.fd = back[1];
	for (int i = FRONT; i <= BACK; i++) {
		struct relay_side *side = &bench->relay.side[i];

		side->readable = true;
		side->writable = true;
		assert_int_equal(fcntl(side->watch.fd, F_SETFL, O_NONBLOCK), 0);
	}
	return bench;
}

static int setup(void **state)
{
	*state = make(tcp_pair, tcp_pair);
	return 0;
}

static int setup_unix(void **state)
{
	*state = make(tcp_pair, unix_pair);
	return 0;
}

static int teardown(void **state)
{
	struct bench *bench = *state;

	relay_release(&bench->relay, &bench->pipes);
	pipes_close(&bench->pipes);
	assert_int_equal(bench->pipes.n_open, 0);
	for (int i = FRONT; i <= BACK; i++)
		close(bench->relay.side[i].watch.fd);
	if (bench->client >= 0)
		close(bench->client);
	if (bench->handler >= 0)
		close(bench->handler);
	free(bench->context.buffer);
	free(bench);
	return 0;
}

/* What epoll would say of a side now; true if anything new. */
static void look(struct bench *bench)
{
	for (int i = FRONT; i <= BACK; i++) {
		struct pollfd poll_fd = {
			.fd = bench->relay.side[i].watch.fd,
			.events = POLLIN | POLLOUT | POLLRDHUP,
		};

		/* Linux has the same bits for both. */
		if (poll(&poll_fd, 1, 0) > 0)
			relay_event(&bench->relay, i, poll_fd.revents);
	}
}

/* Runs until nothing moves any more. */
static enum relay_outcome run(struct bench *bench)
{
	uint64_t up, down;
	enum relay_outcome outcome;

	do {
		up = bench->context.moved[UP];
		down = bench->context.moved[DOWN];
		look(bench);
		do {
			outcome = relay_run(&bench->relay, &bench->context);
		} while (outcome == RELAY_AGAIN);
	} while (outcome == RELAY_WAITS &&
		 (bench->context.moved[UP] != up ||
		  bench->context.moved[DOWN] != down));
	return outcome;
}

static bool holds_nothing(const struct bench *bench)
{
	const struct relay_direction *d = bench->relay.direction;

	return !d[UP].held && !d[UP].pipe && !d[DOWN].held && !d[DOWN].pipe;
}

static void both_ways(void **state)
{
	struct bench *bench = *state;

	assert_int_equal(run(bench), RELAY_WAITS);
	stream_text(bench->client, "question");
	stream_text(bench->handler, "greeting");
	assert_int_equal(run(bench), RELAY_WAITS);
	expect_text(bench->handler, "question");
	expect_text(bench->client, "greeting");
	assert_int_equal(bench->context.moved[UP], 8);
	assert_int_equal(bench->context.moved[DOWN], 8);
	assert_true(holds_nothing(bench));
}

static void half_close_up(void **state)
{
	struct bench *bench = *state;

	stream_text(bench->client, "last words");
	shutdown(bench->client, SHUT_WR);
	assert_int_equal(run(bench), RELAY_WAITS);
	expect_text(bench->handler, "last words");
	expect_end(bench->handler);
	stream_text(bench->handler, "answer");
	assert_int_equal(run(bench), RELAY_WAITS);
	expect_text(bench->client, "answer");
	expect_silence(bench->client, 20);
	shutdown(bench->handler, SHUT_WR);
	assert_int_equal(run(bench), RELAY_DONE);
}

static void half_close_down(void **state)
{
	struct bench *bench = *state;

	stream_text(bench->handler, "goodbye");
	shutdown(bench->handler, SHUT_WR);
	assert_int_equal(run(bench), RELAY_WAITS);
	expect_text(bench->client, "goodbye");
	expect_end(bench->client);
	stream_text(bench->client, "more");
	assert_int_equal(run(bench), RELAY_WAITS);
	expect_text(bench->handler, "more");
	shutdown(bench->client, SHUT_WR);
	assert_int_equal(run(bench), RELAY_DONE);
}

/* The FIN comes with the last bytes, in one event, and then never again. */
static void end_behind_a_short_read(void **state)
{
	struct bench *bench = *state;
	char byte;

	stream_text(bench->client, "x");
	shutdown(bench->client, SHUT_WR);
	relay_event(&bench->relay, FRONT, EPOLLIN | EPOLLRDHUP);
	assert_int_equal(relay_run(&bench->relay, &bench->context),
			 RELAY_WAITS);
	assert_int_equal(recv(bench->handler, &byte, 1, 0), 1);
	expect_end(bench->handler);
}

static void reset_of_the_client(void **state)
{
	struct bench *bench = *state;

	stream_reset(bench->client);
	bench->client = -1;
	assert_int_equal(run(bench), RELAY_FAILED);
}

static void reset_of_the_handler(void **state)
{
	struct bench *bench = *state;

	stream_reset(bench->handler);
	bench->handler = -1;
	assert_int_equal(run(bench), RELAY_FAILED);
}

/* What the handler said before it went away still arrives, but no end. */
static void broken_upwards(void **state)
{
	struct bench *bench = *state;

	stream_text(bench->handler, "refused");
	stream_text(bench->client, "x");
	assert_int_equal(relay_run(&bench->relay, &bench->context),
			 RELAY_WAITS);
	/* It has "x" unread: closing is a reset. */
	stream_text(bench->handler, ", sorry");
	close(bench->handler);
	bench->handler = -1;
	stream_text(bench->client, "y");
	bench->relay.side[FRONT].readable = true;
	bench->relay.side[BACK].readable = false; /* its event is late */
	assert_int_equal(run(bench), RELAY_FAILED);
	assert_int_equal(bench->relay.direction[UP].state, RELAY_BROKEN);
	expect_text(bench->client, "refused, sorry");
	expect_silence(bench->client, 20);
}

/* The client has all of the answer; that it went on talking spoils nothing. */
static void broken_after_the_end(void **state)
{
	struct bench *bench = *state;

	stream_text(bench->handler, "answer");
	close(bench->handler);
	bench->handler = -1;
	assert_int_equal(run(bench), RELAY_WAITS);
	stream_text(bench->client, "x");
	assert_int_equal(run(bench), RELAY_WAITS); /* answered by a reset */
	stream_text(bench->client, "y");
	bench->relay.side[FRONT].readable = true;
	assert_int_equal(relay_run(&bench->relay, &bench->context), RELAY_DONE);
	expect_text(bench->client, "answer");
	expect_end(bench->client);
}

static void fill_buffers(int fd)
{
	static char zeroes[65536];

	while (send(fd, zeroes, sizeof(zeroes), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(errno, EAGAIN);
}

/*
 * A receiver that doesn't read stops its sender, with no more than a buffer
 * or a pipe between them; and a sender that is reset meanwhile is let go.
 */
static void back_pressure(void **state)
{
	struct bench *bench = *state;
	struct relay_direction *up = &bench->relay.direction[UP];
	int unread_before, unread;

	for (int i = 0; i < 200; i++) {
		fill_buffers(bench->client);
		assert_int_equal(run(bench), RELAY_WAITS);
		if (!bench->relay.side[BACK].writable)
			break;
	}
	assert_false(bench->relay.side[BACK].writable);
	assert_true(up->held_len > 0 || up->piped > 0);
	assert_true(up->held_len <= RELAY_BUFFER_SIZE);
	assert_true(up->piped <= PIPE_SIZE);
	fill_buffers(bench->client);
	ioctl(bench->relay.side[FRONT].watch.fd, FIONREAD, &unread_before);
	assert_true(unread_before > 0);
	bench->relay.side[FRONT].readable = true;
	assert_int_equal(relay_run(&bench->relay, &bench->context),
			 RELAY_WAITS);
	ioctl(bench->relay.side[FRONT].watch.fd, FIONREAD, &unread);
	assert_true(unread >= unread_before);
	/* The other direction is not concerned. */
	stream_text(bench->handler, "hello");
	bench->relay.side[BACK].readable = true;
	assert_int_equal(relay_run(&bench->relay, &bench->context),
			 RELAY_WAITS);
	expect_text(bench->client, "hello");
	stream_reset(bench->client);
	bench->client = -1;
	relay_event(&bench->relay, FRONT, EPOLLIN | EPOLLERR | EPOLLHUP);
	assert_int_equal(relay_run(&bench->relay, &bench->context),
			 RELAY_FAILED);
}

/*
 * A receiver that took bytes at once before, and now has room for none: all
 * are held, first when just read, then when they were held already. Fails
 * without `sent = 0`, and without the write_failed() of held bytes.
 */
static void no_room_at_all(void **state)
{
	struct bench *bench = *state;
	struct relay_side *back = &bench->relay.side[BACK];
	struct relay_direction *up = &bench->relay.direction[UP];
	uint8_t last = 0;
	ssize_t n;

	fill_buffers(back->watch.fd);
	stream_text(bench->client, "x");
	assert_int_equal(relay_run(&bench->relay, &bench->context),
			 RELAY_WAITS);
	assert_false(back->writable);
	assert_int_equal(up->held_len, 1);
	back->writable = true;
	assert_int_equal(relay_run(&bench->relay, &bench->context),
			 RELAY_WAITS);
	assert_false(back->writable);
	assert_int_equal(up->held_len, 1);
	while (last != 'x') {
		look(bench);
		assert_int_equal(relay_run(&bench->relay, &bench->context),
				 RELAY_WAITS);
		n = recv(bench->handler, bench->context.buffer,
			 RELAY_BUFFER_SIZE, 0);
		assert_true(n > 0);
		last = bench->context.buffer[n - 1];
	}
	assert_true(holds_nothing(bench));
}

/*
 * The receiver of held bytes is reset. Fails if flush() takes that for a lack
 * of room: then the client would wait for ever.
 */
static void broken_with_bytes_held(void **state)
{
	struct bench *bench = *state;

	assert_int_equal(relay_hold(&bench->relay.direction[UP], "x", 1), 0);
	stream_reset(bench->handler);
	bench->handler = -1;
	assert_int_equal(run(bench), RELAY_FAILED);
	assert_int_equal(bench->relay.direction[UP].state, RELAY_BROKEN);
}

/*
 * splice(2) gives EINVAL for what cannot be spliced; here it is the "pipe",
 * which is none. Fails without the look at EINVAL.
 */
static void cannot_splice(void **state)
{
	struct bench *bench = *state;
	struct relay_direction *up = &bench->relay.direction[UP];

	up->pipe = pipes_take(&bench->pipes);
	assert_non_null(up->pipe);
	assert_true(dup2(bench->client, up->pipe->in) >= 0);
	up->splicing = true;
	stream_text(bench->client, "question");
	assert_int_equal(run(bench), RELAY_WAITS);
	expect_text(bench->handler, "question");
	assert_true(up->no_splice);
	assert_false(up->splicing);
}

/* A stream whose bytes repeat with a period that no buffer has. */
#define PERIOD 300007

static uint8_t pattern[2 * PERIOD];

static int make_pattern(void **state)
{
	uint32_t seed = 1;

	(void)state;
	for (size_t i = 0; i < sizeof(pattern); i++) {
		seed = seed * 1664525 + 1013904223;
		pattern[i] = i < PERIOD ? seed >> 24 : pattern[i - PERIOD];
	}
	return 0;
}

/* Sends what fits and checks what is there, in chunks of at most `max`. */
static void exchange(int from, int to, size_t total, size_t *sent,
		     size_t *received, size_t max)
{
	static uint8_t got[PERIOD];
	ssize_t n;

	if (*sent < total) {
		size_t len = total - *sent < max ? total - *sent : max;

		n = send(from, pattern + *sent % PERIOD, len,
			 MSG_DONTWAIT | MSG_NOSIGNAL);
		*sent += n > 0 ? n : 0;
	}
	n = recv(to, got, max, MSG_DONTWAIT);
	if (n > 0) {
		assert_memory_equal(got, pattern + *received % PERIOD, n);
		*received += n;
	}
}

static void transfer(struct bench *bench, int way, size_t total, size_t max)
{
	int from = way == UP ? bench->client : bench->handler;
	int to = way == UP ? bench->handler : bench->client;
	size_t sent = 0, received = 0;

	while (received < total) {
		exchange(from, to, total, &sent, &received, max);
		look(bench);
		assert_true(relay_run(&bench->relay, &bench->context) <=
			    RELAY_AGAIN);
	}
	assert_int_equal(bench->context.moved[way], total);
}

/* Full reads move a direction to splice(2), small ones back. */
static void changes_to_splice_and_back(void **state)
{
	struct bench *bench = *state;
	struct relay_direction *up = &bench->relay.direction[UP];

	assert_false(up->splicing);
	for (int i = 0; i < 100 && !up->splicing; i++) {
		fill_buffers(bench->client);
		look(bench);
		relay_run(&bench->relay, &bench->context);
		while (recv(bench->handler, bench->context.buffer,
			    RELAY_BUFFER_SIZE, MSG_DONTWAIT) > 0)
			;
	}
	assert_true(up->splicing);
	for (int i = 0; i < 1000 && up->splicing; i++) {
		look(bench);
		relay_run(&bench->relay, &bench->context);
		while (recv(bench->handler, bench->context.buffer,
			    RELAY_BUFFER_SIZE, MSG_DONTWAIT) > 0)
			;
		if (i > 20)
			stream_text(bench->client, "small");
	}
	assert_false(up->splicing);
	assert_true(holds_nothing(bench));
	assert_true(bench->pipes.n_idle <= 1);
}

static void exact_up(void **state)
{
	struct bench *bench = *state;

	transfer(bench, UP, 24 << 20, 1 << 18);
	assert_true(bench->relay.direction[UP].splicing);
	assert_false(bench->relay.direction[DOWN].splicing);
	assert_true(holds_nothing(bench));
}

static void exact_down(void **state)
{
	transfer(*state, DOWN, 24 << 20, 1 << 18);
}

static void exact_in_small_pieces(void **state)
{
	transfer(*state, UP, 1 << 20, 777);
	transfer(*state, DOWN, 20000, 1);
}

/* Without a pipe to be had it goes on copying. */
static void no_pipes(void **state)
{
	struct bench *bench = *state;

	bench->pipes.n_open = PIPES_MAX;
	transfer(bench, UP, 8 << 20, 1 << 18);
	assert_int_equal(bench->pipes.n_idle, 0);
	bench->pipes.n_open = 0;
}

static void others_get_their_turn(void **state)
{
	struct bench *bench = *state;
	int size = 8 << 20;
	enum relay_outcome outcome;

	/* So much room that only the budget can stop it. */
	setsockopt(bench->relay.side[FRONT].watch.fd, SOL_SOCKET, SO_RCVBUF,
		   &size, sizeof(size));
	setsockopt(bench->client, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(bench->handler, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	setsockopt(bench->relay.side[BACK].watch.fd, SOL_SOCKET, SO_SNDBUF,
		   &size, sizeof(size));
	outcome = RELAY_WAITS;
	for (int i = 0; i < 50 && outcome == RELAY_WAITS; i++) {
		uint64_t before = bench->context.moved[UP];

		fill_buffers(bench->client);
		look(bench);
		outcome = relay_run(&bench->relay, &bench->context);
		assert_true(bench->context.moved[UP] - before <
			    RELAY_BUDGET + PIPE_SIZE);
		while (recv(bench->handler, bench->context.buffer,
			    RELAY_BUFFER_SIZE, MSG_DONTWAIT) > 0)
			;
	}
	assert_int_equal(outcome, RELAY_AGAIN);
}

static void gated(void **state)
{
	struct bench *bench = *state;

	bench->relay.direction[UP].gated = true;
	stream_text(bench->client, "wait");
	stream_text(bench->handler, "hello");
	assert_int_equal(run(bench), RELAY_WAITS);
	expect_text(bench->client, "hello");
	expect_silence(bench->handler, 20);
	/* What was read at the gate goes first. */
	assert_int_equal(relay_hold(&bench->relay.direction[UP], "first, ", 7),
			 0);
	bench->relay.direction[UP].gated = false;
	assert_int_equal(run(bench), RELAY_WAITS);
	expect_text(bench->handler, "first, wait");
}

static void gated_and_broken(void **state)
{
	struct bench *bench = *state;

	bench->relay.direction[UP].gated = true;
	stream_text(bench->handler, "x");
	stream_reset(bench->client);
	bench->client = -1;
	bench->relay.side[BACK].readable = true;
	assert_int_equal(relay_run(&bench->relay, &bench->context),
			 RELAY_FAILED);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TEST_UNIX(f)                                      \
	{                                                 \
#f "_unix", f, setup_unix, teardown, NULL \
	}
	const struct CMUnitTest tests[] = {
		TEST(both_ways),
		TEST_UNIX(both_ways),
		TEST(half_close_up),
		TEST_UNIX(half_close_up),
		TEST(half_close_down),
		TEST_UNIX(half_close_down),
		TEST(end_behind_a_short_read),
		TEST(reset_of_the_client),
		TEST(reset_of_the_handler),
		TEST(broken_upwards),
		TEST(broken_after_the_end),
		TEST(back_pressure),
		TEST_UNIX(back_pressure),
		TEST(no_room_at_all),
		TEST(broken_with_bytes_held),
		TEST(cannot_splice),
		TEST(changes_to_splice_and_back),
		TEST(exact_up),
		TEST(exact_down),
		TEST_UNIX(exact_up),
		TEST_UNIX(exact_down),
		TEST(exact_in_small_pieces),
		TEST_UNIX(exact_in_small_pieces),
		TEST(no_pipes),
		TEST(others_get_their_turn),
		TEST(gated),
		TEST(gated_and_broken),
	};

	return cmocka_run_group_tests(tests, make_pattern, NULL);
}
