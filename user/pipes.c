/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pipes.c - see pipes.h. Never looks at what is in a pipe.
 */
#include "pipes.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static struct pipe *pipe_open(void)
{
	struct pipe *pipe = malloc(sizeof(*pipe));
	int fds[2], size;

	if (!pipe)
		return NULL;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK)) {
		free(pipe);
		return NULL;
	}
	/* Refused above fs.pipe-max-size or the user's share: smaller then. */
	size = fcntl(fds[1], F_SETPIPE_SZ, PIPE_SIZE);
	if (size < 0)
		size = fcntl(fds[1], F_GETPIPE_SZ);
	*pipe = (struct pipe){
		.out = fds[0],
		.in = fds[1],
		.size = size > 0 ? size : 65536,
	};
	return pipe;
}

static void pipe_close(struct pipes *pipes, struct pipe *pipe)
{
	close(pipe->in);
	close(pipe->out);
	free(pipe);
	pipes->n_open--;
}

struct pipe *pipes_take(struct pipes *pipes)
{
	struct pipe *pipe = pipes->idle;

	if (pipe) {
		pipes->idle = pipe->next;
		pipes->n_idle--;
		return pipe;
	}
	if (pipes->n_open >= PIPES_MAX)
		return NULL;
	pipe = pipe_open();
	if (pipe)
		pipes->n_open++;
	return pipe;
}

void pipes_put(struct pipes *pipes, struct pipe *pipe, bool empty)
{
	if (!pipe)
		return;
	if (!empty || pipes->n_idle >= PIPES_IDLE_MAX) {
		pipe_close(pipes, pipe);
		return;
	}
	pipe->next = pipes->idle;
	pipes->idle = pipe;
	pipes->n_idle++;
}

void pipes_close(struct pipes *pipes)
{
	while (pipes->idle) {
		struct pipe *pipe = pipes->idle;

		pipes->idle = pipe->next;
		pipes->n_idle--;
		pipe_close(pipes, pipe);
	}
}
