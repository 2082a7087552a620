/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * event.h - one thread's event loop: epoll, a timer wheel, and tasks that
 * want another turn.
 *
 * Nothing here allocates or owns a watched descriptor. A turn handles the
 * events, then the timers, then the tasks; so an object that queues a task to
 * free itself is never freed while events of the same turn still name it.
 */
#ifndef REALPEER_EVENT_H
#define REALPEER_EVENT_H

#include <stdbool.h>
#include <stdint.h>

/* A descriptor in epoll. */
struct watch {
	void (*ready)(struct watch *watch, uint32_t events);
	int fd; /* -1: closed, late events are dropped */
};

/* Not armed while `link` is NULL; zeroed memory is a valid idle timer. */
struct timer {
	void (*expired)(struct timer *timer);
	struct timer *next, **link;
	uint64_t deadline; /* ms of CLOCK_MONOTONIC */
};

struct task {
	void (*run)(struct task *task);
	struct task *next;
	bool queued;
};

#define WHEEL_TICK_MS 8
#define WHEEL_SLOTS   512 /* a power of two, times 64 */

/*
 * A timer hangs in the slot of its deadline's tick, modulo the revolution of
 * about four seconds; one that is further away is met once a revolution and
 * left where it is.
 */
struct wheel {
	uint64_t tick; /* the last one that was handled */
	struct timer *slots[WHEEL_SLOTS];
	uint64_t used[WHEEL_SLOTS / 64]; /* slots with timers, a hint */
};

struct loop {
	int epoll;    /* owned */
	uint64_t now; /* ms of CLOCK_MONOTONIC, at this turn */
	struct wheel wheel;
	struct task *tasks, **tasks_end;
};

/* 0 or -errno. */
int loop_open(struct loop *loop);
void loop_close(struct loop *loop); /* a zeroed loop is fine */

/* epoll_ctl(): add, change, remove. 0 or -errno. */
int loop_watch(struct loop *loop, struct watch *watch, uint32_t events);
int loop_rewatch(struct loop *loop, struct watch *watch, uint32_t events);
int loop_unwatch(struct loop *loop, struct watch *watch);

/* Sets the timer to `ms` from now, armed before or not. */
void timer_arm(struct loop *loop, struct timer *timer, uint32_t ms);
void timer_cancel(struct timer *timer);

/* Runs the task once, at the end of this turn or of the next one. */
void task_queue(struct loop *loop, struct task *task);

/* Waits for at most `max_wait_ms`, then handles what there is. */
void loop_turn(struct loop *loop, uint32_t max_wait_ms);

/* Milliseconds of CLOCK_MONOTONIC. */
uint64_t clock_ms(void);

#endif
