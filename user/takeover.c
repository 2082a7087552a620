/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * takeover.c - see takeover.h. Which connections, and where they go on, is
 * server.c's to decide.
 */
#include "takeover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admission.h"
#include "registry.h"

/* Of the queue; it counts about 1 KiB for a message. */
#define QUEUE_SIZE (16 << 20)

#define ENTRY_SIZE (sizeof(struct takeover_entry) + sizeof(struct rp_tlvs))

static const char magic[8] = "rp-relay";

struct head {
	char magic[sizeof(magic)];
	uint32_t version;
	uint32_t entry_size;
	uint32_t n;
	uint32_t pad;
};

/* The first message has a descriptor of its own: the file's. */
static int send_fds(int queue, const int *fds, size_t n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * TAKEOVER_BATCH)];
	} control;
	char byte = 0;
	struct iovec part = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = CMSG_SPACE(sizeof(int) * n),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int) * n);
	memcpy(CMSG_DATA(header), fds, sizeof(int) * n);
	return sendmsg(queue, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void close_all(struct takeover *takeover)
{
	close(takeover->file);
	close(takeover->queue[1]);
	takeover->file = -1;
	takeover->queue[1] = -1;
}

int takeover_begin(struct takeover *takeover)
{
	struct takeover new = {.queue = {-1, -1}, .end = sizeof(struct head)};
	int size = QUEUE_SIZE, error;

	new.file = memfd_create("realpeer-connections", MFD_CLOEXEC);
	if (new.file < 0)
		return -errno;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
		       new.queue)) {
		error = -errno;
		close(new.file);
		return error;
	}
	/* As much as we may. */
	if (setsockopt(new.queue[1], SOL_SOCKET, SO_SNDBUFFORCE, &size,
		       sizeof(size)))
		setsockopt(new.queue[1], SOL_SOCKET, SO_SNDBUF, &size,
			   sizeof(size));
	error = send_fds(new.queue[1], &new.file, 1);
	if (error) {
		close_all(&new);
		close(new.queue[0]);
		return error;
	}
	new.batch_end = new.end;
	*takeover = new;
	return 0;
}

/* Appends to the file. */
static int put(struct takeover *takeover, const void *data, size_t len)
{
	const char *at = data;

	while (len > 0) {
		ssize_t n = pwrite(takeover->file, at, len, takeover->end);

		if (n < 0)
			return -errno;
		at += n;
		len -= n;
		takeover->end += n;
	}
	return 0;
}

/* What a direction has read and not written: held bytes, then the pipe's. */
static int put_held(struct takeover *takeover, struct connection *c, int way)
{
	struct relay_direction *direction = &c->relay.direction[way];
	struct worker *worker = connection_worker(c);
	int error = put(takeover, direction->held + direction->held_at,
			direction->held_len);

	while (!error && direction->piped > 0) {
		ssize_t n = read(direction->pipe->out, worker->buffer,
				 WORKER_BUFFER_SIZE);

		if (n <= 0)
			return n ? -errno : -EIO;
		direction->piped -= n;
		error = put(takeover, worker->buffer, n);
	}
	return error;
}

static void describe(const struct connection *c, struct takeover_entry *entry,
		     struct rp_tlvs *tlvs)
{
	memset(entry, 0, sizeof(*entry));
	entry->has_tlvs = registry_record(c, &entry->record, tlvs);
	entry->cookie = c->cookie;
	entry->relayed = c->state == CONNECTION_RELAYING;
	entry->recorded = c->recorded;
	entry->announced = c->announced;
	entry->gated = c->relay.direction[UP].gated;
	for (int way = UP; way <= DOWN; way++) {
		const struct relay_direction *direction =
			&c->relay.direction[way];

		entry->held[way] = direction->held_len + direction->piped;
		entry->state[way] = direction->state;
	}
}

/* The descriptors that wait go into the queue; or they are lost. */
static void send_batch(struct takeover *takeover)
{
	int error = 0;

	if (takeover->n_fds)
		error = send_fds(takeover->queue[1], takeover->fds,
				 takeover->n_fds);
	if (error) {
		log_error("msg=\"connections cannot be kept\" number=%u "
			  "error=\"%s\"",
			  takeover->n - takeover->batch_n, strerror(-error));
		takeover->end = takeover->batch_end;
		takeover->n = takeover->batch_n;
	}
	for (size_t i = 0; i < takeover->n_fds; i++) {
		if (error)
			connection_reset(takeover->fds[i]);
		else
			close(takeover->fds[i]);
	}
	takeover->n_fds = 0;
	takeover->batch_end = takeover->end;
	takeover->batch_n = takeover->n;
}

/* From the connection to the batch; epoll must not know it any more. */
static void move_fd(struct takeover *takeover, struct connection *c, int side)
{
	struct watch *watch = &c->relay.side[side].watch;

	if (watch->fd < 0)
		return;
	if (c->relay.side[side].interest)
		loop_unwatch(&connection_worker(c)->loop, watch);
	connection_reset_on_close(watch->fd, true);
	takeover->fds[takeover->n_fds++] = watch->fd;
	watch->fd = -1;
}

int takeover_add(struct takeover *takeover, struct connection *c)
{
	off_t begin = takeover->end;
	struct takeover_entry entry;
	struct rp_tlvs tlvs;
	int error;

	if (c->state != CONNECTION_HEADER && c->state != CONNECTION_RELAYING)
		return -EBUSY;
	describe(c, &entry, &tlvs);
	error = put(takeover, &entry, sizeof(entry));
	if (!error && entry.has_tlvs)
		error = put(takeover, &tlvs, sizeof(tlvs));
	for (int way = UP; way <= DOWN && !error; way++)
		error = put_held(takeover, c, way);
	if (error) {
		takeover->end = begin;
		return error;
	}
	takeover->n++;
	move_fd(takeover, c, FRONT);
	move_fd(takeover, c, BACK);
	/* What the kernel part knows is the next daemon's to remove. */
	c->recorded = false;
	c->announced = false;
	connection_close(c, false);
	if (takeover->n_fds > TAKEOVER_BATCH - 2)
		send_batch(takeover);
	return 0;
}

uint32_t takeover_end(struct takeover *takeover, int *ret_parcel)
{
	struct head head = {
		.version = TAKEOVER_VERSION,
		.entry_size = ENTRY_SIZE,
	};

	send_batch(takeover);
	memcpy(head.magic, magic, sizeof(magic));
	head.n = takeover->n;
	if (head.n && pwrite(takeover->file, &head, sizeof(head), 0) !=
			      (ssize_t)sizeof(head))
		head.n = 0;
	close_all(takeover);
	*ret_parcel = takeover->queue[0];
	if (!head.n) {
		close(takeover->queue[0]);
		*ret_parcel = -1;
	}
	return head.n;
}

/* One that is being opened. */
struct parcel {
	int queue; /* borrowed */
	int file;  /* owned */
	int fds[TAKEOVER_BATCH];
	size_t n_fds, next_fd;
	bool short_of_fds; /* for good: entries have none any more */
};

/*
 * The kernel passed only as many as there was room for, and dropped the rest.
 * Of the next message none would belong to the next entry.
 */
static int give_up(struct parcel *parcel)
{
	while (parcel->next_fd < parcel->n_fds)
		connection_reset(parcel->fds[parcel->next_fd++]);
	parcel->short_of_fds = true;
	return -EMFILE;
}

/* The next message's descriptors. 0 or -errno; -ENODATA: there is none. */
static int receive_fds(struct parcel *parcel)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * TAKEOVER_BATCH)];
	} control;
	char byte;
	struct iovec part = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n = recvmsg(parcel->queue, &message,
			    MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;

	if (n < 0)
		return -errno;
	parcel->n_fds = 0;
	parcel->next_fd = 0;
	if (header) {
		parcel->n_fds = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(parcel->fds, CMSG_DATA(header),
		       parcel->n_fds * sizeof(int));
	}
	if (message.msg_flags & MSG_CTRUNC)
		return give_up(parcel);
	return header ? 0 : -ENODATA;
}

static int take_fd(struct parcel *parcel, int *ret_fd)
{
	int error = 0;

	if (parcel->short_of_fds)
		return -EMFILE;
	if (parcel->next_fd == parcel->n_fds)
		error = receive_fds(parcel);
	if (!error)
		*ret_fd = parcel->fds[parcel->next_fd++];
	return error;
}

static int get(const struct parcel *parcel, void *data, size_t len)
{
	ssize_t n = read(parcel->file, data, len);

	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EBADMSG;
}

static int get_held(const struct parcel *parcel, uint32_t len,
		    uint8_t **ret_held)
{
	uint8_t *held;
	int error;

	if (len == 0)
		return 0;
	held = malloc(len);
	if (!held)
		return -ENOMEM;
	error = get(parcel, held, len);
	if (error)
		free(held);
	else
		*ret_held = held;
	return error;
}

static void drop_arrival(struct arrival *arrival)
{
	for (int i = 0; i < 2; i++) {
		if (arrival->fd[i] >= 0)
			connection_reset(arrival->fd[i]);
		free(arrival->held[i]);
		arrival->fd[i] = -1;
		arrival->held[i] = NULL;
	}
}

static int take_arrival(struct parcel *parcel, struct arrival *ret)
{
	struct arrival arrival = {.fd = {-1, -1}};
	int error = get(parcel, &arrival.entry, sizeof(arrival.entry));

	if (!error && arrival.entry.has_tlvs)
		error = get(parcel, &arrival.tlvs, sizeof(arrival.tlvs));
	for (int way = UP; way <= DOWN && !error; way++)
		error = get_held(parcel, arrival.entry.held[way],
				 &arrival.held[way]);
	if (!error)
		error = take_fd(parcel, &arrival.fd[FRONT]);
	if (!error && arrival.entry.relayed)
		error = take_fd(parcel, &arrival.fd[BACK]);
	if (error)
		drop_arrival(&arrival);
	if (error == -EMFILE && parcel->short_of_fds)
		error = 0; /* who was lost is still to be told */
	if (!error)
		*ret = arrival;
	return error;
}

static int read_head(const struct parcel *parcel, struct head *ret)
{
	int error;

	if (lseek(parcel->file, 0, SEEK_SET) < 0)
		return -errno;
	error = get(parcel, ret, sizeof(*ret));
	if (error)
		return error;
	if (memcmp(ret->magic, magic, sizeof(magic)) != 0 ||
	    ret->version != TAKEOVER_VERSION || ret->entry_size != ENTRY_SIZE)
		return -EPROTO;
	return 0;
}

int takeover_unpack(int queue,
		    void (*arrive)(struct arrival *arrival, void *argument),
		    void *argument)
{
	struct parcel parcel = {.queue = queue, .file = -1};
	struct arrival arrival;
	struct head head;
	int fd, error;

	error = take_fd(&parcel, &parcel.file);
	if (error)
		return error;
	error = read_head(&parcel, &head);
	for (uint32_t i = 0; !error && i < head.n; i++) {
		error = take_arrival(&parcel, &arrival);
		if (!error)
			arrive(&arrival, argument);
	}
	/* Better an error at once than a peer that waits. */
	while (take_fd(&parcel, &fd) == 0)
		connection_reset(fd);
	close(parcel.file);
	return !error && parcel.short_of_fds ? -EMFILE : error;
}

static int resume_held(struct connection *c, int way,
		       const struct arrival *arrival)
{
	const struct takeover_entry *entry = &arrival->entry;
	struct relay_direction *direction = &c->relay.direction[way];

	if (way == UP && (!entry->relayed || entry->gated))
		return admission_resume(c, arrival->held[UP], entry->held[UP]);
	return relay_hold(direction, arrival->held[way], entry->held[way]);
}

void takeover_resume(struct listener *listener, struct arrival *arrival)
{
	const struct takeover_entry *entry = &arrival->entry;
	struct connection *c = NULL;
	int error = 0;

	if (listener && arrival->fd[FRONT] >= 0)
		c = connection_new(listener, arrival->fd);
	if (!c) {
		if (listener)
			listener_count(listener, RP_STAT_RESOURCE);
		drop_arrival(arrival);
		return;
	}
	record_begin(&c->record, entry->record.proxy, entry->record.proxy_port);
	if (record_take(&c->record, &entry->record,
			entry->has_tlvs ? &arrival->tlvs : NULL))
		listener_count(listener, RP_STAT_RESOURCE);
	for (int side = FRONT; side <= BACK; side++)
		connection_reset_on_close(c->relay.side[side].watch.fd, false);
	c->cookie = entry->cookie;
	c->recorded = entry->recorded;
	c->announced = entry->announced;
	if (c->announced)
		datapath_announced_before(listener->worker->datapath,
					  c->cookie);
	c->relay.direction[UP].gated = entry->gated;
	if (entry->relayed)
		connection_enter(c, CONNECTION_RELAYING);
	for (int way = UP; way <= DOWN; way++) {
		c->relay.direction[way].state = entry->state[way];
		if (!error)
			error = resume_held(c, way, arrival);
		free(arrival->held[way]);
	}
	if (error) {
		listener_count(listener, RP_STAT_RESOURCE);
		connection_close(c, true);
		return;
	}
	connection_resume(c);
}
