/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * admission.c - see admission.h.
 *
 * Bytes of an undecided connection are held in relay.direction[UP], where the
 * relay would look for them; the buffer is as large as held_room() says.
 */
#include "admission.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "connection.h"
#include "handler.h"
#include "realpeer/proxy_header.h"
#include "registry.h"

/* Read at once when nothing is held: the header, mostly, and first payload. */
#define FIRST_READ (16 << 10)
/* Held at least: a whole version 1 header, and most of version 2. */
#define HELD_MIN   128

#define REFUSED_FIRST_BYTES 32 /* shown in the log */

_Static_assert(WORKER_BUFFER_SIZE >= RELAY_BUFFER_SIZE, "the relay's buffer");
_Static_assert(WORKER_BUFFER_SIZE >= 65536 + 16, "any header fits");

static const char *const reasons[] = {
#define X(symbol, name) [RP_STAT_##symbol] = name,
	RP_STATS(X)
#undef X
};

static void refuse(struct connection *c, enum rp_stat reason,
		   const uint8_t *data, size_t len, const char *detail)
{
	static struct log_limit limits[RP_STAT_COUNT] = {
		[0 ... RP_STAT_COUNT - 1] = {.burst = 10},
	};
	char first[4 * REFUSED_FIRST_BYTES + 4], peer[ENDPOINT_TEXT_MAX];
	unsigned int suppressed;

	listener_count(c->listener, reason);
	if (log_enabled(LOG_LEVEL_NOTICE) &&
	    log_limit_pass(&limits[reason], &suppressed)) {
		if (len > REFUSED_FIRST_BYTES)
			len = REFUSED_FIRST_BYTES;
		log_notice("msg=\"connection refused\" reason=%s detail=%s "
			   "listener=%s peer=%s first=\"%s\" suppressed=%u",
			   reasons[reason], detail ? detail : "none",
			   c->listener->settings->name,
			   endpoint_format(c->record.proxy,
					   c->record.proxy_port, peer),
			   log_escape(data, len, first, sizeof(first)),
			   suppressed);
	}
	connection_close(c, true);
}

/* Health checks do this all day: nothing to worry anybody with. */
static void closed_early(struct connection *c)
{
	char peer[ENDPOINT_TEXT_MAX];

	listener_count(c->listener, RP_STAT_CLOSED_EARLY);
	if (log_enabled(LOG_LEVEL_DEBUG))
		log_debug("msg=\"closed before a header\" listener=%s peer=%s",
			  c->listener->settings->name,
			  endpoint_format(c->record.proxy, c->record.proxy_port,
					  peer));
	connection_close(c, false);
}

static uint32_t held_room(const struct connection *c)
{
	return c->wanted > HELD_MIN ? c->wanted : HELD_MIN;
}

/*
 * Keeps all `len` bytes at `data`, and room for what is still missing, so
 * that a header that comes byte by byte is copied and parsed once.
 */
static int hold(struct connection *c, const uint8_t *data, size_t len,
		uint32_t need)
{
	struct relay_direction *up = &c->relay.direction[UP];
	uint32_t before = held_room(c);
	uint8_t *held = up->held;

	c->wanted = len + need;
	if (!held || held_room(c) > before) {
		held = realloc(held, held_room(c));
		if (!held)
			return -ENOMEM;
		if (!up->held)
			memcpy(held, data, len);
		up->held = held;
	}
	up->held_len = len;
	return 0;
}

static bool is_trusted(const struct connection *c)
{
	return prefix_set_contains(&c->listener->trusted, c->record.proxy);
}

static void no_room(struct connection *c)
{
	listener_shortage(c->listener, "no room for a header", ENOMEM);
	connection_close(c, true);
}

/*
 * On to the handler, with a header of `header->length` bytes at `data` or
 * (NULL) without one; what stands behind it is payload.
 */
static void admit(struct connection *c, const struct rp_header *header,
		  const uint8_t *data, size_t len)
{
	size_t header_len = header ? header->length : 0;
	struct relay_direction *up = &c->relay.direction[UP];
	uint8_t *held = up->held; /* data may be this */

	up->held = NULL;
	up->held_len = 0;
	timer_cancel(&c->header_timer);
	if (record_fill(&c->record, c->relay.side[FRONT].watch.fd, header,
			data))
		listener_count(c->listener, RP_STAT_RESOURCE);
	if (!header)
		listener_count(c->listener, RP_STAT_DIRECT);
	else
		listener_count(c->listener, header->version == 1
						    ? RP_STAT_HEADER_V1
						    : RP_STAT_HEADER_V2);
	if (c->record.command == RP_COMMAND_LOCAL)
		listener_count(c->listener, RP_STAT_LOCAL);
	counters_add(c->listener->counts, RP_STAT_BYTES_UP, len - header_len);
	handler_open(c, header ? data : NULL, header_len, data + header_len,
		     len - header_len);
	free(held);
}

static void on_header(struct connection *c, const struct rp_header *header,
		      const uint8_t *data, size_t len)
{
	if (header->command == RP_COMMAND_PROXY &&
	    !c->listener->settings->special_source && !rp_source_usable(header))
		refuse(c, RP_STAT_BAD_SOURCE, data, len, NULL);
	else
		admit(c, header, data, len);
}

/* The first `len` bytes of a trusted peer. 0, or -EAGAIN to wait for more. */
static int decide(struct connection *c, const uint8_t *data, size_t len)
{
	const struct listener_config *settings = c->listener->settings;
	struct rp_header header;

	/* Before the fixed part of v2 is known, any byte may rule it out. */
	if (len < c->wanted && len >= RP_V2_MIN && data[0] != 'P') {
		c->relay.direction[UP].held_len = len;
		return -EAGAIN;
	}
	switch (rp_parse(data, len, settings->header_max, &header)) {
	case RP_HEADER:
		on_header(c, &header, data, len);
		return 0;
	case RP_INCOMPLETE:
		if (hold(c, data, len, header.need) == 0)
			return -EAGAIN;
		no_room(c);
		return 0;
	case RP_NOT_HEADER:
		if (settings->mode == RP_MODE_ENABLED)
			admit(c, NULL, data, len);
		else
			refuse(c, RP_STAT_NOT_HEADER, data, len, NULL);
		return 0;
	case RP_MALFORMED:
		refuse(c, RP_STAT_MALFORMED, data, len,
		       rp_fault_name(header.fault));
		return 0;
	case RP_TOO_LONG:
		refuse(c, RP_STAT_TOO_LONG, data, len, NULL);
		return 0;
	}
	return 0;
}

/*
 * Of what is a header or could become one: is it more than a chance prefix?
 * Nobody is handed that as payload.
 */
static bool is_signature(const uint8_t *data, size_t len)
{
	return len > 0 && len >= (data[0] == 'P' ? strlen("PROXY ") : 12u);
}

/* End of stream with the header incomplete. */
static void on_end(struct connection *c)
{
	struct relay_direction *up = &c->relay.direction[UP];

	if (c->listener->settings->mode == RP_MODE_REQUIRED ||
	    up->held_len == 0 || is_signature(up->held, up->held_len)) {
		closed_early(c);
		return;
	}
	/* A plain client that says something short, like a lone "P". */
	up->state = RELAY_ENDING;
	admit(c, NULL, up->held, up->held_len);
}

/*
 * Reads behind what is held, or into the worker's buffer if nothing is.
 * Returns how many bytes stand at *ret_data; 0 at the end of the stream;
 * -errno, -EAGAIN if nothing came.
 */
static ssize_t read_first(struct connection *c, size_t room, uint8_t **ret_data)
{
	struct relay_direction *up = &c->relay.direction[UP];
	struct relay_side *front = &c->relay.side[FRONT];
	size_t have = up->held_len;
	ssize_t n;

	if (!front->readable)
		return -EAGAIN;
	if (have)
		room = held_room(c) - have;
	*ret_data = have ? up->held : connection_worker(c)->buffer;
	n = recv(front->watch.fd, *ret_data + have, room, MSG_DONTWAIT);
	if (n < 0) {
		front->readable = errno != EAGAIN;
		return -errno;
	}
	front->readable = (size_t)n == room || front->read_on;
	return n ? (ssize_t)(have + n) : 0;
}

void admission_read(struct connection *c)
{
	size_t room = c->listener->settings->header_max;
	uint8_t *data;
	ssize_t len;

	if (room < FIRST_READ)
		room = FIRST_READ;
	do {
		len = read_first(c, room, &data);
		if (len == -EAGAIN)
			return;
		if (len <= 0) {
			if (len == 0)
				on_end(c);
			else
				closed_early(c);
			return;
		}
	} while (decide(c, data, len) == -EAGAIN);
}

/*
 * The kernel read the header, and the stream begins behind it, mostly with
 * what came in the same segment.
 */
static void admit_headless(struct connection *c)
{
	uint8_t *data = c->record.proxy; /* of nothing */
	ssize_t len = read_first(c, FIRST_READ, &data);

	if (len < 0 && len != -EAGAIN) {
		closed_early(c);
		return;
	}
	if (len < 0)
		len = 0; /* nor at an end: epoll tells of it again */
	if (len == 0 && c->record.command == RP_COMMAND_DIRECT)
		c->relay.direction[UP].gated = true; /* see admit_silent() */
	counters_add(c->listener->counts, RP_STAT_BYTES_UP, len);
	handler_open(c, NULL, 0, data, len);
}

/* A trusted peer: the kernel may have read its header already. */
static void admit_trusted(struct connection *c)
{
	int error = c->headless ? registry_take(c) : -ENOENT;

	switch (error) {
	case 0:
		admit_headless(c);
		break;
	case -ENOENT:
		c->headless = false;
		if (c->listener->settings->mode == RP_MODE_DISABLED)
			admit(c, NULL, c->record.proxy, 0);
		else
			timer_arm(&connection_worker(c)->loop, &c->header_timer,
				  c->listener->settings->header_timeout_ms);
		break;
	case -ECONNRESET:
		closed_early(c);
		break;
	default:
		listener_shortage(c->listener, "no room for a record", -error);
		connection_close(c, true);
	}
}

void admission_begin(struct connection *c)
{
	const struct listener_config *settings = c->listener->settings;

	if (is_trusted(c)) {
		admit_trusted(c);
		return;
	}
	c->headless = false; /* TC reads headers of trusted peers only */
	if (settings->mode == RP_MODE_DISABLED) {
		admit(c, NULL, c->record.proxy, 0);
	} else if (settings->untrusted == RP_UNTRUSTED_RESET) {
		refuse(c, RP_STAT_UNTRUSTED, NULL, 0, NULL);
	} else {
		c->relay.direction[UP].gated = true;
		admit(c, NULL, c->record.proxy, 0);
	}
}

static void open_gate(struct connection *c)
{
	timer_cancel(&c->header_timer);
	c->relay.direction[UP].gated = false;
}

/*
 * A header of a gated peer can't be honoured: it would be a lie, or the handler
 * has been told already that there is none.
 */
static void refuse_gated(struct connection *c, const uint8_t *data, size_t len,
			 const char *detail)
{
	refuse(c, is_trusted(c) ? RP_STAT_TIMEOUT : RP_STAT_UNTRUSTED_HEADER,
	       data, len, detail);
}

/* The first `len` bytes of a gated peer. */
static int screen(struct connection *c, const uint8_t *data, size_t len)
{
	const struct listener_config *settings = c->listener->settings;
	struct rp_header header;
	enum rp_verdict verdict;

	verdict = rp_parse(data, len, settings->header_max, &header);
	if (verdict != RP_NOT_HEADER && is_signature(data, len)) {
		refuse_gated(c, data, len, is_trusted(c) ? "late" : NULL);
		return 0;
	}
	if (hold(c, data, len, 1)) {
		no_room(c);
		return 0;
	}
	if (verdict == RP_NOT_HEADER) {
		open_gate(c);
		return 0;
	}
	/* A signature, or something else, until then; silence is no matter. */
	if (!c->header_timer.link)
		timer_arm(&connection_worker(c)->loop, &c->header_timer,
			  settings->header_timeout_ms);
	return -EAGAIN;
}

void admission_screen(struct connection *c)
{
	struct relay_direction *up = &c->relay.direction[UP];
	size_t before;
	uint8_t *data;
	ssize_t len;

	do {
		before = up->held_len;
		len = read_first(c, FIRST_READ, &data);
		if (len == -EAGAIN)
			return;
		if (len < 0) {
			connection_close(c, true);
			return;
		}
		if (len == 0) {
			up->state = RELAY_ENDING;
			open_gate(c);
			return;
		}
		counters_add(c->listener->counts, RP_STAT_BYTES_UP,
			     len - before);
	} while (screen(c, data, len) == -EAGAIN);
}

int admission_resume(struct connection *c, const uint8_t *data, size_t len)
{
	struct relay_direction *up = &c->relay.direction[UP];

	if (len) {
		c->wanted = len + 1;
		up->held = malloc(held_room(c));
		if (!up->held)
			return -ENOMEM;
		memcpy(up->held, data, len);
		up->held_len = len;
	}
	/* Whoever is connected already may be silent as long as it likes. */
	if (c->state == CONNECTION_HEADER || len)
		timer_arm(&connection_worker(c)->loop, &c->header_timer,
			  c->listener->settings->header_timeout_ms);
	return 0;
}

/* Stopped, or with too much to do, we may be late: what has come counts. */
static bool is_decided_now(struct connection *c)
{
	c->relay.side[FRONT].readable = true;
	if (c->state == CONNECTION_HEADER)
		admission_read(c);
	else
		admission_screen(c);
	return c->state != CONNECTION_HEADER &&
	       (c->state == CONNECTION_CLOSED || !c->relay.direction[UP].gated);
}

/*
 * A client without a header that waits for the server to speak; or a load
 * balancer that sends its header with the client's first bytes.
 */
static void admit_silent(struct connection *c)
{
	c->relay.direction[UP].gated = true;
	admit(c, NULL, c->record.proxy, 0);
}

void admission_timeout(struct connection *c)
{
	struct relay_direction *up = &c->relay.direction[UP];

	if (is_decided_now(c))
		return;
	/* A gated peer, see screen(): the rest of a header may follow. */
	if (c->state != CONNECTION_HEADER)
		refuse_gated(c, up->held, up->held_len, "timeout");
	else if (c->listener->settings->mode == RP_MODE_REQUIRED ||
		 is_signature(up->held, up->held_len))
		refuse(c, RP_STAT_TIMEOUT, up->held, up->held_len, NULL);
	else if (up->held_len == 0)
		admit_silent(c);
	else
		admit(c, NULL, up->held, up->held_len);
}
