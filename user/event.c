/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * event.c - see event.h. Knows nothing of what it watches.
 */
#include "event.h"

#include <errno.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 256 /* taken from epoll in one turn */

uint64_t clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

int loop_open(struct loop *loop)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0)
		return -errno;
	*loop = (struct loop){.epoll = epoll, .now = clock_ms()};
	loop->wheel.tick = loop->now / WHEEL_TICK_MS;
	loop->tasks_end = &loop->tasks;
	return 0;
}

void loop_close(struct loop *loop)
{
	if (loop->tasks_end)
		close(loop->epoll);
	*loop = (struct loop){.epoll = -1};
}

static int control(struct loop *loop, int operation, struct watch *watch,
		   uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	return epoll_ctl(loop->epoll, operation, watch->fd, &event) ? -errno
								    : 0;
}

int loop_watch(struct loop *loop, struct watch *watch, uint32_t events)
{
	return control(loop, EPOLL_CTL_ADD, watch, events);
}

int loop_rewatch(struct loop *loop, struct watch *watch, uint32_t events)
{
	return control(loop, EPOLL_CTL_MOD, watch, events);
}

int loop_unwatch(struct loop *loop, struct watch *watch)
{
	return control(loop, EPOLL_CTL_DEL, watch, 0);
}

static void timer_link(struct timer **head, struct timer *timer)
{
	timer->next = *head;
	if (timer->next)
		timer->next->link = &timer->next;
	timer->link = head;
	*head = timer;
}

void timer_cancel(struct timer *timer)
{
	if (!timer->link)
		return;
	*timer->link = timer->next;
	if (timer->next)
		timer->next->link = timer->link;
	timer->link = NULL;
}

void timer_arm(struct loop *loop, struct timer *timer, uint32_t ms)
{
	struct wheel *wheel = &loop->wheel;
	uint64_t tick;
	unsigned int slot;

	timer_cancel(timer);
	timer->deadline = loop->now + ms;
	tick = (timer->deadline + WHEEL_TICK_MS - 1) / WHEEL_TICK_MS;
	if (tick <= wheel->tick)
		tick = wheel->tick + 1;
	slot = tick % WHEEL_SLOTS;
	wheel->used[slot / 64] |= 1ull << slot % 64;
	timer_link(&wheel->slots[slot], timer);
}

static void slot_expire(struct loop *loop, unsigned int slot)
{
	struct timer *due = NULL, *timer = loop->wheel.slots[slot], *next;

	/* Apart first: what expires may arm and cancel any timer. */
	for (; timer; timer = next) {
		next = timer->next;
		if (timer->deadline > loop->now)
			continue;
		timer_cancel(timer);
		timer_link(&due, timer);
	}
	if (!loop->wheel.slots[slot])
		loop->wheel.used[slot / 64] &= ~(1ull << slot % 64);
	while (due) {
		timer = due;
		timer_cancel(timer);
		timer->expired(timer);
	}
}

static void wheel_run(struct loop *loop)
{
	struct wheel *wheel = &loop->wheel;
	uint64_t last = loop->now / WHEEL_TICK_MS;

	/* After a long sleep one revolution meets every timer. */
	if (last > wheel->tick + WHEEL_SLOTS)
		wheel->tick = last - WHEEL_SLOTS;
	while (wheel->tick < last) {
		unsigned int slot = ++wheel->tick % WHEEL_SLOTS;

		if (wheel->used[slot / 64] >> slot % 64 & 1)
			slot_expire(loop, slot);
	}
}

/* How long until the next used slot is due, at most `max` ms. */
static uint32_t wheel_wait(struct loop *loop, uint32_t max)
{
	struct wheel *wheel = &loop->wheel;
	uint64_t tick = wheel->tick + 1, end = wheel->tick + WHEEL_SLOTS;

	while (tick <= end && tick * WHEEL_TICK_MS < loop->now + max) {
		uint64_t due = tick * WHEEL_TICK_MS;
		unsigned int slot = tick % WHEEL_SLOTS;
		uint64_t used = wheel->used[slot / 64] >> slot % 64;

		if (used & 1 && wheel->slots[slot])
			return due > loop->now ? due - loop->now : 0;
		if (used & 1) { /* its timers were cancelled */
			wheel->used[slot / 64] &= ~(1ull << slot % 64);
			used &= ~1ull;
		}
		/* To the next used slot of this word, or to the next word. */
		tick += used ? (unsigned int)__builtin_ctzll(used)
			     : 64 - slot % 64;
	}
	return max;
}

void task_queue(struct loop *loop, struct task *task)
{
	if (task->queued)
		return;
	task->queued = true;
	task->next = NULL;
	*loop->tasks_end = task;
	loop->tasks_end = &task->next;
}

/* Those that are queued now; what they queue waits for the next turn. */
static void tasks_run(struct loop *loop)
{
	struct task *task = loop->tasks, *next;

	loop->tasks = NULL;
	loop->tasks_end = &loop->tasks;
	for (; task; task = next) {
		next = task->next;
		task->queued = false;
		task->run(task);
	}
}

void loop_turn(struct loop *loop, uint32_t max_wait_ms)
{
	struct epoll_event events[EVENTS_MAX];
	int n, wait = 0;

	if (!loop->tasks)
		wait = wheel_wait(loop, max_wait_ms);
	n = epoll_wait(loop->epoll, events, EVENTS_MAX, wait);
	loop->now = clock_ms();
	for (int i = 0; i < n; i++) {
		struct watch *watch = events[i].data.ptr;

		if (watch->fd >= 0)
			watch->ready(watch, events[i].events);
	}
	wheel_run(loop);
	tasks_run(loop);
}
