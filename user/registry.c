/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * registry.c - see registry.h. Does nothing without a datapath.
 */
#include "registry.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "connection.h"

#define STATE_CLOSE 7 /* TCP_CLOSE; <netinet/tcp.h> and <linux/tcp.h> clash */

uint64_t socket_cookie(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len))
		return 0;
	return cookie;
}

bool registry_record(const struct connection *c, struct rp_connection *ret,
		     struct rp_tlvs *ret_tlvs)
{
	const struct listener *listener = c->listener;
	bool has_tlvs = record_expand(&c->record, ret, ret_tlvs);

	ret->delivery = RP_DELIVERY_RELAY;
	ret->offload = listener->offload;
	ret->listener = listener->number;
	memcpy(ret->listener_name, listener->settings->name, RP_NAME_LEN);
	return has_tlvs;
}

/* Can getpeername() on the handler's socket tell this client? */
static bool can_show(const struct connection *c)
{
	const struct listener_config *settings = c->listener->settings;
	char client[ENDPOINT_TEXT_MAX];

	if (!c->listener->shows_client)
		return false;
	if (settings->delivery == RP_DELIVERY_INLINE ||
	    settings->handler.sa.sa_family == AF_INET6 ||
	    ip_is_v4(c->record.client))
		return true;
	listener_count(c->listener, RP_STAT_FAMILY_MISMATCH);
	if (log_enabled(LOG_LEVEL_DEBUG))
		log_debug("msg=\"an IPv4 socket cannot tell an IPv6 client\" "
			  "listener=%s client=%s",
			  settings->name,
			  endpoint_format(c->record.client,
					  c->record.client_port, client));
	return false;
}

/*
 * Is the socket closed? TCP_INFO reads the state before it waits for whoever
 * has the socket just then, so only the second answer is later than what the
 * kernel part did at the close.
 */
static bool is_over(int fd)
{
	uint8_t state = 0; /* tcpi_state, the first */

	for (int i = 0; i < 2; i++) {
		socklen_t len = sizeof(state);

		if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &len))
			return true;
	}
	return state == STATE_CLOSE;
}

int registry_take(struct connection *c)
{
	struct datapath *datapath = connection_worker(c)->datapath;
	int fd = c->relay.side[FRONT].watch.fd;
	bool moves = c->listener->shows_client, has_tlvs;
	/* Another's record would be what the kernel only claims. */
	bool at_once = moves && c->listener->offload == RP_OFFLOAD_ACCEPT;
	uint64_t cookie = socket_cookie(fd);
	struct rp_connection known;
	struct rp_tlvs tlvs;

	if (at_once ? datapath_take(datapath, cookie, &known)
		    : datapath_lookup(datapath, cookie, &known)) {
		if (datapath_is_unrecorded(datapath, cookie))
			return -ENOBUFS;
		return is_over(fd) ? -ECONNRESET : -ENOENT;
	}
	if (known.offload != RP_OFFLOAD_ACCEPT)
		return -ENOENT;
	has_tlvs =
		known.tlvs && datapath_tlvs(datapath, known.tlvs, &tlvs) == 0;
	if (moves && (!at_once || known.tlvs))
		datapath_forget(datapath, cookie, known.tlvs);
	if (record_take(&c->record, &known, has_tlvs ? &tlvs : NULL))
		listener_count(c->listener, RP_STAT_RESOURCE);
	return 0;
}

/*
 * What the kernel read from the first segment, before TCP checked it, is a
 * claim; it counts if the bytes that came say the same.
 */
enum claim { CLAIM_NONE, CLAIM_WRONG, CLAIM_RIGHT };

static enum claim check_claim(const struct connection *c, uint64_t cookie)
{
	struct rp_connection claim;

	if (datapath_lookup(connection_worker(c)->datapath, cookie, &claim))
		return CLAIM_NONE;
	if (record_agrees(&c->record, &claim)) {
		listener_count(c->listener, RP_STAT_PEEKED);
		return CLAIM_RIGHT;
	}
	listener_count(c->listener, RP_STAT_PEEK_MISMATCH);
	return CLAIM_WRONG;
}

int registry_add(struct connection *c, int handler_fd)
{
	struct datapath *datapath = connection_worker(c)->datapath;
	bool show, peeked = c->listener->offload == RP_OFFLOAD_PEEK &&
			    !c->relay.direction[UP].gated;
	enum claim claim = CLAIM_NONE;
	struct rp_connection record;
	struct rp_tlvs tlvs;
	bool has_tlvs;
	uint64_t front = 0;
	int error = 0;

	/* It is there when a unix handler that had no room is tried again. */
	if (!datapath || c->recorded)
		return 0;
	show = can_show(c);
	if (peeked || !show)
		front = socket_cookie(c->relay.side[FRONT].watch.fd);
	if (peeked)
		claim = check_claim(c, front);
	else if (c->headless && !c->listener->shows_client)
		claim = CLAIM_RIGHT; /* registry_take() left it there */
	has_tlvs = registry_record(c, &record, &tlvs);
	if (show) {
		if (claim != CLAIM_NONE)
			datapath_forget(datapath, front, false);
		c->cookie = socket_cookie(handler_fd);
		error = datapath_announce(datapath, c->cookie, &record,
					  has_tlvs ? &tlvs : NULL);
		c->announced = !error;
	} else {
		if (claim != CLAIM_RIGHT || (has_tlvs && !c->headless))
			error = datapath_record(datapath, front, &record,
						has_tlvs ? &tlvs : NULL);
		c->cookie = front;
		c->recorded = true;
	}
	if (error == -E2BIG) {
		listener_count(c->listener, RP_STAT_MAP_FULL);
		error = -ENOBUFS;
	} else if (error)
		log_debug("msg=\"record not stored\" listener=%s error=\"%s\"",
			  c->listener->settings->name, strerror(-error));
	return show ? error : 0;
}

void registry_withdraw(struct connection *c)
{
	if (c->announced)
		datapath_withdraw(connection_worker(c)->datapath, c->cookie);
}

/* Bytes beyond the SYN: the handler's socket exists, or none acknowledged. */
static bool is_acknowledged(int fd)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
	       info.tcpi_bytes_acked > 1;
}

void registry_review(struct connection *c, bool answered)
{
	if (!c->announced || c->reviewed ||
	    !datapath_is_crowded(connection_worker(c)->datapath))
		return;
	if (!answered && !is_acknowledged(c->relay.side[BACK].watch.fd))
		return;
	registry_withdraw(c);
	c->reviewed = true;
}

void registry_remove(struct connection *c)
{
	struct datapath *datapath = connection_worker(c)->datapath;

	if (c->recorded)
		datapath_forget(datapath, c->cookie, c->record.tlvs);
	if (c->announced)
		datapath_announced(datapath, c->cookie, c->record.tlvs);
	c->recorded = false;
	c->announced = false;
}
