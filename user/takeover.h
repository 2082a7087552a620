/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * takeover.h - relayed connections that outlive their daemon: one packs them,
 * the next takes them up, and neither end of a connection notices.
 *
 * A parcel is a unix socket in whose queue the descriptors wait: first that of
 * a file with what has to be known of each connection, then those of the
 * connections in the same order. So it is one descriptor, however many there
 * are, and it can wait in systemd's store while no daemon runs. Whoever closes
 * it instead of taking them up resets them all, so that none seems complete.
 */
#ifndef REALPEER_TAKEOVER_H
#define REALPEER_TAKEOVER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "connection.h"

/* To be raised when the meaning of a parcel changes. */
#define TAKEOVER_VERSION 2

/* Descriptors of one message, SCM_MAX_FD of the kernel at most. */
#define TAKEOVER_BATCH 250

/* One that is being packed. */
struct takeover {
	int queue[2];		 /* owned; [0] is the parcel */
	int file;		 /* owned */
	int fds[TAKEOVER_BATCH]; /* owned; not yet in the queue */
	size_t n_fds;
	off_t end;	 /* of the file */
	uint32_t n;	 /* connections in the file */
	off_t batch_end; /* end and n when fds was empty */
	uint32_t batch_n;
};

/* 0, or -errno with nothing left behind. */
int takeover_begin(struct takeover *takeover);

/*
 * Packs a connection that waits for its header or is relayed, and ends it
 * here without a word to either side. 0, or -errno if it must be reset. In
 * the connection's thread.
 */
int takeover_add(struct takeover *takeover, struct connection *connection);

/*
 * Returns how many connections are in the parcel, which is *ret_parcel, to be
 * closed; -1 if there are none.
 */
uint32_t takeover_end(struct takeover *takeover, int *ret_parcel);

/*
 * What a parcel says of a connection. Its sockets know the rest.
 */
struct takeover_entry {
	struct rp_connection record; /* and the listener's name */
	uint64_t cookie;
	uint32_t held[2]; /* bytes that were read and not yet written */
	uint8_t relayed;  /* 0: waits for its header, and has no handler */
	uint8_t recorded;
	uint8_t announced;
	uint8_t gated;
	uint8_t state[2]; /* enum relay_state; a reset is not told twice */
	uint8_t has_tlvs; /* which follow it, before what is held */
	uint8_t pad;
};

/* One that came out of a parcel. */
struct arrival {
	struct takeover_entry entry;
	struct rp_tlvs tlvs;
	int fd[2];	  /* owned; FRONT, and BACK or -1; both -1: lost */
	uint8_t *held[2]; /* owned; NULL: none */
};

/*
 * Calls `arrive` for each connection of a parcel, which is then empty, and
 * resets those that cannot be made out. 0; -EPROTO: it is of another version;
 * -EMFILE: there are not enough descriptors here, so from some connection on
 * only the entries came, and the rest is reset when the parcel is closed;
 * another -errno.
 */
int takeover_unpack(int parcel,
		    void (*arrive)(struct arrival *arrival, void *argument),
		    void *argument);

/*
 * Goes on with it under `listener`, in the listener's thread, or (NULL) resets
 * it; counts it if it is lost. It is used up.
 */
void takeover_resume(struct listener *listener, struct arrival *arrival);

#endif
