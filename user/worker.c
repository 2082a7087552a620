/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * worker.c - see worker.h. Knows no sockets but its own doorbell.
 */
#include "worker.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "connection.h"

static void on_doorbell(struct watch *watch, uint32_t events)
{
	struct worker *worker =
		(struct worker *)((char *)watch -
				  offsetof(struct worker, doorbell));
	eventfd_t rings;

	(void)events;
	eventfd_read(watch->fd, &rings);
	pthread_mutex_lock(&worker->lock);
	if (worker->call) {
		worker->call(worker, worker->argument);
		worker->call = NULL;
		pthread_cond_signal(&worker->answered);
	}
	pthread_mutex_unlock(&worker->lock);
}

static void *run(void *argument)
{
	struct worker *worker = argument;

	while (!worker->stop) {
		loop_turn(&worker->loop, WORKER_WAIT_MS);
		__atomic_store_n(&worker->heartbeat, worker->loop.now,
				 __ATOMIC_RELAXED);
	}
	return NULL;
}

static void worker_free(struct worker *worker)
{
	handover_stop(&worker->handover);
	pipes_close(&worker->pipes);
	loop_close(&worker->loop);
	if (worker->doorbell.fd >= 0)
		close(worker->doorbell.fd);
	pthread_cond_destroy(&worker->answered);
	pthread_mutex_destroy(&worker->lock);
	counters_free(&worker->counters);
	free(worker->buffer);
	free(worker);
}

/* Signals are the main thread's. */
static int start_thread(struct worker *worker, unsigned int index)
{
	sigset_t all, before;
	char name[16];
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&worker->thread, NULL, run, worker);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error)
		return -error;
	snprintf(name, sizeof(name), "relay/%u", index);
	pthread_setname_np(worker->thread, name);
	return 0;
}

int worker_start(struct datapath *datapath, unsigned int index,
		 struct worker **ret_worker)
{
	struct worker *worker = calloc(1, sizeof(*worker));
	int error;

	if (!worker)
		return -ENOMEM;
	worker->datapath = datapath;
	worker->handover.watch.fd = -1;
	worker->heartbeat = clock_ms();
	worker->doorbell.ready = on_doorbell;
	worker->doorbell.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&worker->lock, NULL);
	pthread_cond_init(&worker->answered, NULL);
	worker->buffer = malloc(WORKER_BUFFER_SIZE);
	if (worker->doorbell.fd < 0)
		error = -errno;
	else
		error = worker->buffer ? loop_open(&worker->loop) : -ENOMEM;
	if (!error)
		error = loop_watch(&worker->loop, &worker->doorbell, EPOLLIN);
	if (!error && datapath_can_accept(datapath))
		error = handover_open(&worker->handover, worker);
	if (!error)
		error = start_thread(worker, index);
	if (error) {
		worker_free(worker);
		return error;
	}
	*ret_worker = worker;
	return 0;
}

void worker_call(struct worker *worker,
		 void (*call)(struct worker *worker, void *argument),
		 void *argument)
{
	pthread_mutex_lock(&worker->lock);
	worker->call = call;
	worker->argument = argument;
	eventfd_write(worker->doorbell.fd, 1);
	while (worker->call)
		pthread_cond_wait(&worker->answered, &worker->lock);
	pthread_mutex_unlock(&worker->lock);
}

static void stop(struct worker *worker, void *argument)
{
	(void)argument;
	while (worker->connections)
		connection_close(worker->connections, true);
	/* The tasks that free them run before the loop looks. */
	worker->stop = true;
}

void worker_stop(struct worker *worker)
{
	worker_call(worker, stop, NULL);
	pthread_join(worker->thread, NULL);
	worker_free(worker);
}
