/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* test_event.c - user/event.c: descriptors, timers and tasks of one loop */
#include "event.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct loop loop;

static int setup(void **state)
{
	(void)state;
	return loop_open(&loop);
}

static int teardown(void **state)
{
	(void)state;
	loop_close(&loop);
	return 0;
}

struct bell {
	struct watch watch;
	struct watch *closes; /* when it rings */
	unsigned int rings;
};

static void on_ring(struct watch *watch, uint32_t events)
{
	struct bell *bell = (struct bell *)watch;

	assert_true(events & EPOLLIN);
	bell->rings++;
	if (bell->closes && bell->closes->fd >= 0) {
		close(bell->closes->fd);
		bell->closes->fd = -1;
	}
}

static struct bell make_bell(void)
{
	return (struct bell){
		.watch = {.ready = on_ring,
			  .fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC)},
	};
}

static void descriptors(void **state)
{
	struct bell bell = make_bell();

	(void)state;
	assert_int_equal(loop_watch(&loop, &bell.watch, EPOLLIN), 0);
	loop_turn(&loop, 1000);
	assert_int_equal(bell.rings, 1);
	loop_turn(&loop, 1000); /* level-triggered */
	assert_int_equal(bell.rings, 2);
	assert_int_equal(loop_rewatch(&loop, &bell.watch, EPOLLIN | EPOLLET),
			 0);
	loop_turn(&loop, 1000);
	loop_turn(&loop, 1);
	assert_int_equal(bell.rings, 3);
	assert_int_equal(loop_watch(&loop, &bell.watch, EPOLLIN), -EEXIST);
	assert_int_equal(loop_unwatch(&loop, &bell.watch), 0);
	assert_int_equal(loop_unwatch(&loop, &bell.watch), -ENOENT);
	close(bell.watch.fd);
}

/* Whichever comes first closes the other, whose event is then dropped. */
static void late_event(void **state)
{
	struct bell a = make_bell(), b = make_bell();

	(void)state;
	a.closes = &b.watch;
	b.closes = &a.watch;
	assert_int_equal(loop_watch(&loop, &a.watch, EPOLLIN), 0);
	assert_int_equal(loop_watch(&loop, &b.watch, EPOLLIN), 0);
	loop_turn(&loop, 1000);
	assert_int_equal(a.rings + b.rings, 1);
	close(a.rings ? a.watch.fd : b.watch.fd);
}

struct alarm {
	struct timer timer;
	struct timer *cancels;
	unsigned int rearms; /* times that it arms itself again */
	uint64_t at;	     /* when it expired last */
	unsigned int times;
};

static void on_alarm(struct timer *timer)
{
	struct alarm *alarm = (struct alarm *)timer;

	alarm->at = loop.now;
	alarm->times++;
	if (alarm->cancels)
		timer_cancel(alarm->cancels);
	if (alarm->rearms > 0) {
		alarm->rearms--;
		timer_arm(&loop, timer, 1);
	}
}

static void turn_until(uint64_t end)
{
	while (loop.now < end)
		loop_turn(&loop, end - loop.now);
}

static void timers_in_time(void **state)
{
	static const uint32_t ms[] = {0, 1, 7, 8, 9, 50, 100, 101, 250};
	struct alarm alarms[sizeof(ms) / sizeof(ms[0])];
	uint64_t start = loop.now;

	(void)state;
	memset(alarms, 0, sizeof(alarms));
	for (size_t i = 0; i < sizeof(ms) / sizeof(ms[0]); i++) {
		alarms[i].timer.expired = on_alarm;
		timer_arm(&loop, &alarms[i].timer, ms[i]);
	}
	turn_until(start + 400);
	for (size_t i = 0; i < sizeof(ms) / sizeof(ms[0]); i++) {
		assert_int_equal(alarms[i].times, 1);
		assert_true(alarms[i].at >= start + ms[i]);
	}
}

static void timer_moved_and_cancelled(void **state)
{
	struct alarm alarm = {.timer.expired = on_alarm};
	uint64_t start = loop.now;

	(void)state;
	timer_cancel(&alarm.timer); /* not armed */
	timer_arm(&loop, &alarm.timer, 20);
	timer_arm(&loop, &alarm.timer, 100);
	turn_until(start + 60);
	assert_int_equal(alarm.times, loop.now >= start + 100);
	turn_until(start + 150);
	assert_int_equal(alarm.times, 1);
	timer_arm(&loop, &alarm.timer, 20);
	timer_cancel(&alarm.timer);
	turn_until(start + 220);
	assert_int_equal(alarm.times, 1);
}

/* Two that are due together, of which the first cancels the second. */
static void timer_cancels_its_neighbour(void **state)
{
	struct alarm a = {.timer.expired = on_alarm}, b = a;

	(void)state;
	a.cancels = &b.timer;
	b.cancels = &a.timer;
	timer_arm(&loop, &a.timer, 10);
	timer_arm(&loop, &b.timer, 10);
	turn_until(loop.now + 60);
	assert_int_equal(a.times + b.times, 1);
}

static void timer_arms_itself(void **state)
{
	struct alarm alarm = {.timer.expired = on_alarm, .rearms = 5};

	(void)state;
	timer_arm(&loop, &alarm.timer, 1);
	while (alarm.times < 6)
		loop_turn(&loop, 1000);
	turn_until(loop.now + 60);
	assert_int_equal(alarm.times, 6);
}

/* More than one revolution of the wheel away: met early, left alone. */
static void timer_beyond_the_wheel(void **state)
{
	struct alarm near = {.timer.expired = on_alarm}, far = near;
	uint32_t revolution = WHEEL_TICK_MS * WHEEL_SLOTS;

	(void)state;
	timer_arm(&loop, &near.timer, 40);
	timer_arm(&loop, &far.timer, revolution + 40);
	/* Time that passes between two turns, without waiting for it. */
	loop.wheel.tick -= WHEEL_SLOTS / 2;
	turn_until(loop.now + 150);
	assert_int_equal(near.times, 1);
	assert_int_equal(far.times, 0);
	far.timer.deadline = loop.now;
	loop.wheel.tick -= 2 * WHEEL_SLOTS; /* as after a long sleep */
	loop_turn(&loop, 1);
	assert_int_equal(far.times, 1);
}

/* Without timers, and with one that was cancelled, it sleeps its fill. */
static void sleeps(void **state)
{
	struct alarm alarm = {.timer.expired = on_alarm};
	uint64_t start;

	(void)state;
	timer_arm(&loop, &alarm.timer, 20);
	timer_cancel(&alarm.timer);
	start = clock_ms();
	loop_turn(&loop, 120);
	assert_true(clock_ms() - start >= 119);
	timer_arm(&loop, &alarm.timer, 20);
	start = clock_ms();
	loop_turn(&loop, 60000);
	assert_true(clock_ms() - start < 30000);
	assert_int_equal(alarm.times, 1);
}

struct work {
	struct task task;
	struct task *queues;
	unsigned int runs;
	bool frees;
};

static void on_work(struct task *task)
{
	struct work *work = (struct work *)task;

	work->runs++;
	if (work->queues)
		task_queue(&loop, work->queues);
	if (work->frees)
		free(work);
}

static void tasks(void **state)
{
	struct work b = {.task.run = on_work};
	struct work a = {.task.run = on_work, .queues = &b.task};
	struct work *last = calloc(1, sizeof(*last));
	uint64_t start = clock_ms();

	(void)state;
	assert_non_null(last);
	last->task.run = on_work;
	last->frees = true;
	task_queue(&loop, &a.task);
	task_queue(&loop, &a.task); /* once is enough */
	task_queue(&loop, &last->task);
	loop_turn(&loop, 60000); /* doesn't wait */
	assert_int_equal(a.runs, 1);
	assert_int_equal(b.runs, 0); /* its turn is the next */
	loop_turn(&loop, 60000);
	assert_int_equal(b.runs, 1);
	assert_int_equal(a.runs, 1);
	assert_true(clock_ms() - start < 30000);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(descriptors),
		TEST(late_event),
		TEST(timers_in_time),
		TEST(timer_moved_and_cancelled),
		TEST(timer_cancels_its_neighbour),
		TEST(timer_arms_itself),
		TEST(timer_beyond_the_wheel),
		TEST(sleeps),
		TEST(tasks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
