/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* store.c - see store.h. */
#include "store.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "log.h"

/* Of one message: SCM_MAX_FD of the kernel. */
#define BATCH_MAX 253

static size_t n_kept;

const char *store_listen_name(const struct address *address, bool v6only,
			      char out[STORE_NAME_MAX])
{
	char text[ADDRESS_TEXT_MAX];

	snprintf(out, STORE_NAME_MAX, STORE_LISTEN "%s%s",
		 address_format(&address->sa, text), v6only ? " v6only" : "");
	for (char *colon = out; (colon = strchr(colon, ':'));)
		*colon = '_';
	return out;
}

static size_t places(void)
{
	const char *most = getenv("FDSTORE");
	int n = getenv("NOTIFY_SOCKET") && most ? atoi(most) : 0;

	return n > 0 ? n : 0;
}

bool store_available(void)
{
	return places() > 0;
}

static size_t places_left(const char *name)
{
	size_t taken = n_kept + (strcmp(name, STORE_CONNECTIONS) != 0);

	return places() > taken ? places() - taken : 0;
}

static void complain(const char *name, int error)
{
	log_warning("msg=\"systemd cannot be told what to keep\" name=\"%s\" "
		    "error=\"%s\"",
		    name, strerror(-error));
}

size_t store_keep(const char *name, const int *fds, size_t n)
{
	char message[STORE_NAME_MAX + sizeof("FDSTORE=1\nFDPOLL=0\nFDNAME=")];
	size_t most = places_left(name), i, batch;

	if (n > most)
		n = most;
	/* Polled, a socket whose peer is gone would be thrown away. */
	snprintf(message, sizeof(message), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s",
		 name);
	for (i = 0; i < n; i += batch) {
		int r;

		batch = n - i < BATCH_MAX ? n - i : BATCH_MAX;
		r = sd_pid_notify_with_fds(0, 0, message, fds + i, batch);
		if (r < 0) {
			complain(name, r);
			break;
		}
	}
	n_kept += i;
	return i;
}

void store_forget(const char *name, size_t n)
{
	int r;

	n_kept -= n;
	if (!store_available())
		return;
	r = sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
	if (r < 0)
		complain(name, r);
}

void store_settle(unsigned int timeout_ms)
{
	int r;

	if (!store_available())
		return;
	r = sd_notify_barrier(0, timeout_ms * 1000ULL);
	if (r < 0)
		complain("barrier", r);
}
