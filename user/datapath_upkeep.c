/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * datapath_upkeep.c - what BPF programs cannot do for want of a clock: follow
 * the sysctls, drop the records of orphans, wake silent clients, and tell what
 * the programs found out.
 */
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "datapath_internal.h"
#include "realpeer.skel.h"

#define NSEC_PER_SEC 1000000000ULL

/* Of one turn; a flood of silent clients waits for the next ones. */
#define PROBES_MAX  256
#define REVIEWS_MAX 4096

/* From the removal of a listener to that of its last traces. */
#define PRUNE_NS (10 * NSEC_PER_SEC)

/* How long a client that may be silent is probed. */
#define PROBED_NS (5 * NSEC_PER_SEC)

/* The programs write on while a turn, with its one `now`, looks. */
static uint64_t age(uint64_t since, uint64_t now)
{
	return now > since ? now - since : 0;
}

static void forget_orphan(struct datapath *datapath, uint64_t cookie)
{
	datapath_forget(datapath, cookie, true);
	if (bpf_map__delete_elem(datapath->skeleton->maps.unrecorded, &cookie,
				 sizeof(cookie), 0) == 0)
		__atomic_sub_fetch(&datapath->gates->unrecorded, 1,
				   __ATOMIC_SEQ_CST);
}

static void drop_orphans(struct datapath *datapath, uint64_t now)
{
	struct bpf_map *orphans = datapath->skeleton->maps.orphans;
	uint64_t cookie, next, since;
	int more = bpf_map__get_next_key(orphans, NULL, &next, sizeof(next));

	while (more == 0) {
		cookie = next;
		more = bpf_map__get_next_key(orphans, &cookie, &next,
					     sizeof(next));
		if (bpf_map__lookup_elem(orphans, &cookie, sizeof(cookie),
					 &since, sizeof(since), 0) ||
		    age(since, now) < RP_ORPHAN_NS)
			continue;
		forget_orphan(datapath, cookie);
		bpf_map__delete_elem(orphans, &cookie, sizeof(cookie), 0);
	}
}

/* One whose socket is closed; false if `orphans` has no room even now. */
static bool find_orphan(struct datapath *datapath, uint64_t cookie,
			uint64_t now)
{
	struct bpf_map *orphans = datapath->skeleton->maps.orphans;
	struct rp_connection record;
	int error;

	if (datapath_lookup(datapath, cookie, &record) || !record.closed)
		return true;
	error = bpf_map__update_elem(orphans, &cookie, sizeof(cookie), &now,
				     sizeof(now), BPF_NOEXIST);
	return !error || error == -EEXIST;
}

/*
 * Looks through all records, some of them each turn, for those that `orphans`
 * had no room for when their sockets closed.
 */
static void find_lost_orphans(struct datapath *datapath, uint64_t now)
{
	struct bpf_map *connections = datapath->skeleton->maps.connections;
	uint64_t cookie, *next = &datapath->search_next;
	uint64_t lost = __atomic_load_n(&datapath->gates->lost_orphans,
					__ATOMIC_SEQ_CST);
	int more;

	if (lost == datapath->search_done)
		return;
	if (!*next)
		datapath->search_lost = lost;
	more = bpf_map__get_next_key(connections, *next ? next : NULL, next,
				     sizeof(*next));
	for (int i = 0; i < REVIEWS_MAX && more == 0; i++) {
		cookie = *next;
		if (!find_orphan(datapath, cookie, now))
			return;
		more = bpf_map__get_next_key(connections, &cookie, next,
					     sizeof(*next));
	}
	if (more) {
		datapath->search_done = datapath->search_lost;
		*next = 0;
	}
}

struct probe {
	struct {
		uint8_t source[16]; /* IPv4: 4 bytes, then zeros */
		uint8_t destination[16];
		uint32_t len;
		uint32_t protocol;
	} pseudo; /* RFC 9293 section 3.1 */
	struct tcphdr tcp;
	uint32_t options[3];
	size_t len; /* of tcp and options */
};

static uint16_t checksum(const struct probe *probe)
{
	const uint8_t *bytes = (const uint8_t *)probe;
	size_t len = sizeof(probe->pseudo) + probe->len;
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i += 2)
		sum += bytes[i] << 8 | bytes[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons(~sum);
}

/*
 * A segment that is one byte too early, as keep-alives are (RFC 9293 section
 * 3.8.4): whoever is established answers it with an ACK.
 */
static void make_probe(const struct rp_tuple *tuple,
		       const struct rp_handshake *handshake, uint64_t now,
		       struct probe *probe)
{
	uint32_t elapsed_ms = (now - handshake->since) / 1000000;
	bool v4 = memcmp(tuple->peer, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0;
	size_t skip = v4 ? 12 : 0;

	*probe = (struct probe){
		.len = sizeof(probe->tcp),
		.tcp.source = htons(tuple->local_port),
		.tcp.dest = htons(tuple->peer_port),
		.tcp.seq = htonl(handshake->own_isn),
		.tcp.ack_seq = htonl(handshake->peer_isn + 1),
		.tcp.ack = 1,
		.tcp.window = htons(1024),
		.pseudo.protocol = htonl(IPPROTO_TCP),
	};
	if (handshake->options & RP_OPTION_TIMESTAMPS) {
		probe->options[0] = htonl(1 << 24 | 1 << 16 | 8 << 8 | 10);
		probe->options[1] = htonl(handshake->own_tsval + elapsed_ms);
		probe->options[2] = htonl(handshake->peer_tsval);
		probe->len += sizeof(probe->options);
	}
	memcpy(probe->pseudo.source, tuple->local + skip, 16 - skip);
	memcpy(probe->pseudo.destination, tuple->peer + skip, 16 - skip);
	probe->tcp.doff = probe->len / 4;
	probe->pseudo.len = htonl(probe->len);
	probe->tcp.check = checksum(probe);
}

static int open_raw(int family)
{
	return socket(family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
		      IPPROTO_TCP);
}

/* From the address that the client connected to. 0 or -errno. */
static int send_probe(struct datapath *datapath, const struct rp_tuple *tuple,
		      struct probe *probe)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	bool v4 = memcmp(tuple->peer, mapped, sizeof(mapped)) == 0;
	struct sockaddr_in to4 = {.sin_family = AF_INET};
	struct sockaddr_in6 to6 = {.sin6_family = AF_INET6};
	struct in_pktinfo from4 = {0};
	struct in6_pktinfo from6 = {0};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
	} control = {0};
	struct iovec part = {.iov_base = &probe->tcp, .iov_len = probe->len};
	struct msghdr message = {
		.msg_name = v4 ? (void *)&to4 : (void *)&to6,
		.msg_namelen = v4 ? sizeof(to4) : sizeof(to6),
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = v4 ? CMSG_SPACE(sizeof(from4))
				     : CMSG_SPACE(sizeof(from6)),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int *raw = &datapath->raw[v4 ? 0 : 1];

	memcpy(&to4.sin_addr, tuple->peer + 12, 4);
	memcpy(&to6.sin6_addr, tuple->peer, 16);
	memcpy(&from4.ipi_spec_dst, tuple->local + 12, 4);
	memcpy(&from6.ipi6_addr, tuple->local, 16);
	header->cmsg_level = v4 ? IPPROTO_IP : IPPROTO_IPV6;
	header->cmsg_type = v4 ? IP_PKTINFO : IPV6_PKTINFO;
	header->cmsg_len =
		v4 ? CMSG_LEN(sizeof(from4)) : CMSG_LEN(sizeof(from6));
	memcpy(CMSG_DATA(header), v4 ? (void *)&from4 : (void *)&from6,
	       v4 ? sizeof(from4) : sizeof(from6));
	if (*raw < 0)
		*raw = open_raw(v4 ? AF_INET : AF_INET6);
	if (*raw < 0 || sendmsg(*raw, &message, 0) < 0)
		return -errno;
	return 0;
}

static void warn_no_probe(int error)
{
	static struct log_limit limit = {.burst = 1};
	unsigned int suppressed;

	if (log_limit_pass(&limit, &suppressed))
		log_warning("msg=\"cannot probe a silent client, the server "
			    "does not see it until it speaks\" error=\"%s\"",
			    strerror(-error));
}

static void on_overdue(struct datapath *datapath, const struct rp_tuple *tuple,
		       const struct rp_handshake *handshake,
		       const struct rp_listener *listener, uint64_t now,
		       int *probes)
{
	uint64_t limit = listener->header_timeout * 1000000ULL;
	struct probe probe;
	int error;

	if (listener->mode == RP_MODE_REQUIRED ||
	    age(handshake->since, now) >= limit + PROBED_NS) {
		bpf_map__delete_elem(datapath->skeleton->maps.handshakes, tuple,
				     sizeof(*tuple), 0);
		if (handshake->listener < RP_LISTENERS_MAX)
			datapath->timeouts[handshake->listener]++;
		return;
	}
	if (*probes == PROBES_MAX)
		return;
	++*probes;
	make_probe(tuple, handshake, now, &probe);
	error = send_probe(datapath, tuple, &probe);
	if (error)
		warn_no_probe(error);
}

/*
 * Once none of the strays are left TC need not look for them: `strays` was
 * read before the first entry was.
 */
static void review_ended(struct datapath *datapath)
{
	struct rp_gates *gates = datapath->gates;

	if (!datapath->review_found)
		__atomic_store_n(&gates->strays_gone, datapath->review_strays,
				 __ATOMIC_SEQ_CST);
	datapath->review_found = false;
	datapath->review_strays =
		__atomic_load_n(&gates->strays, __ATOMIC_SEQ_CST);
	memset(&datapath->review_next, 0, sizeof(datapath->review_next));
}

/*
 * Clients that have said nothing for header_timeout. In mode enabled that is
 * their right, and the server may have to begin: the ACK with which they
 * answer a probe is all that TC needs to have the socket created. Those that
 * must send a header, or don't answer, lose their entry, and so are reset
 * should they ever speak.
 */
static void review_handshakes(struct datapath *datapath, uint64_t now)
{
	struct bpf_map *handshakes = datapath->skeleton->maps.handshakes;
	struct rp_tuple tuple, *next = &datapath->review_next;
	struct rp_handshake handshake;
	struct rp_listener listener;
	int more, probes = 0;

	/* From where the last turn ended, or from the start if that is gone. */
	more = bpf_map__get_next_key(handshakes, next, next, sizeof(*next));
	for (int i = 0; i < REVIEWS_MAX && more == 0; i++) {
		tuple = *next;
		more = bpf_map__get_next_key(handshakes, &tuple, next,
					     sizeof(*next));
		if (bpf_map__lookup_elem(handshakes, &tuple, sizeof(tuple),
					 &handshake, sizeof(handshake), 0) ||
		    bpf_map__lookup_elem(datapath->skeleton->maps.listeners,
					 &handshake.listener,
					 sizeof(handshake.listener), &listener,
					 sizeof(listener), 0))
			continue;
		datapath->review_found |= handshake.stage == RP_STAGE_STRAY;
		if (handshake.stage != RP_STAGE_SYN_RECEIVED ||
		    age(handshake.since, now) <
			    listener.header_timeout * 1000000ULL)
			continue;
		on_overdue(datapath, &tuple, &handshake, &listener, now,
			   &probes);
	}
	if (more)
		review_ended(datapath);
}

/* When clients that TC answered for a listener that is gone are served. */
static void prune(struct datapath *datapath, uint64_t now)
{
	if (!datapath->prune_due) {
		datapath->prune_at = 0;
	} else if (!datapath->prune_at) {
		datapath->prune_at = now + PRUNE_NS;
	} else if (now >= datapath->prune_at) {
		datapath_prune(datapath);
		datapath->prune_at = 0;
	}
}

bool datapath_is_losing(const struct datapath *datapath)
{
	return datapath && __atomic_load_n(&datapath->gates->lost,
					   __ATOMIC_RELAXED) >= RP_LOSSES;
}

void datapath_try_again(struct datapath *datapath)
{
	if (!datapath_is_losing(datapath))
		return;
	__atomic_store_n(&datapath->gates->lost, 0, __ATOMIC_SEQ_CST);
	datapath->losing_told = false;
	log_notice("msg=\"inline is tried again\"");
}

static void tell_losing(struct datapath *datapath)
{
	if (datapath->losing_told || !datapath_is_losing(datapath))
		return;
	datapath->losing_told = true;
	log_warning("msg=\"the kernel loses the sockets that TC assigns, as it "
		    "does where this network namespace has NAT rules: the "
		    "daemon relays until a reload; notrack rules for the "
		    "listener's port keep it inline, see README.md\"");
}

uint32_t datapath_upkeep(struct datapath *datapath)
{
	uint64_t now = clock_boot_ns();

	if (!datapath)
		return UINT32_MAX;
	drop_orphans(datapath, now);
	find_lost_orphans(datapath, now);
	prune(datapath, now);
	if (datapath->attach_due)
		datapath_look_again(datapath);
	if (datapath->features.offload < RP_OFFLOAD_ACCEPT)
		return 1000;
	tell_losing(datapath);
	if (datapath_refresh(datapath))
		log_warning("msg=\"cannot tell the programs of sysctls\"");
	review_handshakes(datapath, now);
	return datapath->wakes_silent ? 100 : 1000;
}
