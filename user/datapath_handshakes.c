/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * datapath_handshakes.c - the table of handshakes as the daemon sees it, in
 * the maps' own memory: clients that say nothing are woken, or forgotten, and
 * so is what nothing became of.
 */
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "datapath_internal.h"
#include "realpeer.skel.h"

/* Of one turn; a flood of silent clients waits for the next ones. */
#define PROBES_MAX 256

/* How long a client that may be silent is probed. */
#define PROBED_NS 5000000000ULL

/*
 * How long after header_timeout an entry waits for a socket, or for the peer's
 * next try: those are at most 120 s apart (TCP_RTO_MAX).
 */
#define WAITING_NS 300000000000ULL

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
static void make_probe(const struct rp_handshake *handshake, uint64_t now,
		       struct probe *probe)
{
	const struct rp_tuple *tuple = &handshake->tuple;
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

bool datapath_can_probe(void)
{
	int fd = open_raw(AF_INET);

	if (fd < 0)
		return errno != EPERM && errno != EACCES;
	close(fd);
	return true;
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

/* What a turn came across. */
struct review {
	uint64_t now;
	int probes; /* that were sent */
	bool stray; /* or what may become one */
	bool spilled;
	uint32_t number; /* of `listener`; 0: none was looked up yet */
	struct rp_listener listener;
};

/* Unless the place is another's by now: `known` is what `tag` was. */
static bool forget(uint32_t *tag, uint32_t known)
{
	return __atomic_compare_exchange_n(tag, &known, RP_TAG_FREE, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* `known`: what `tag` was when the handshake was read. */
static void on_overdue(struct datapath *datapath,
		       const struct rp_handshake *handshake, uint32_t *tag,
		       uint32_t known, struct review *review)
{
	const struct rp_listener *listener = &review->listener;
	uint64_t limit = listener->header_timeout * 1000000ULL;
	struct probe probe;
	int error;

	if (listener->mode == RP_MODE_REQUIRED ||
	    datapath_age(handshake->since, review->now) >= limit + PROBED_NS) {
		if (forget(tag, known) &&
		    handshake->listener < RP_LISTENERS_MAX)
			datapath->timeouts[handshake->listener]++;
		return;
	}
	if (review->probes == PROBES_MAX)
		return;
	review->probes++;
	make_probe(handshake, review->now, &probe);
	error = send_probe(datapath, &handshake->tuple, &probe);
	if (error)
		warn_no_probe(error);
}

/*
 * A copy, or false if it is none: while it was read a program may have given
 * the place to another client.
 */
static bool read_handshake(const struct rp_handshake *from, const uint32_t *tag,
			   uint32_t known, struct rp_handshake *ret)
{
	memcpy(ret, from, sizeof(*ret));
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return __atomic_load_n(tag, __ATOMIC_SEQ_CST) == known;
}

/* Mostly it is the same one again. False if there is none. */
static bool find_listener(const struct datapath *datapath, uint32_t number,
			  struct review *review)
{
	if (number == review->number && number)
		return true;
	review->number = 0;
	if (bpf_map__lookup_elem(datapath->skeleton->maps.listeners, &number,
				 sizeof(number), &review->listener,
				 sizeof(review->listener), 0))
		return false;
	review->number = number;
	return true;
}

static void review_handshake(struct datapath *datapath, uint32_t place,
			     struct review *review)
{
	uint32_t *tag = &datapath->tags[place / RP_WAYS].tags[place % RP_WAYS];
	uint32_t known = __atomic_load_n(tag, __ATOMIC_SEQ_CST);
	struct rp_handshake handshake;
	uint64_t age, timeout = 0;
	bool listened;

	if (known == RP_TAG_FREE)
		return;
	review->spilled |= place >= RP_BUCKETS_FIRST * RP_WAYS;
	if (known == RP_TAG_BUSY ||
	    !read_handshake(&datapath->handshakes[place], tag, known,
			    &handshake)) {
		review->stray = true;
		return;
	}
	listened = find_listener(datapath, handshake.listener, review);
	if (listened)
		timeout = review->listener.header_timeout * 1000000ULL;
	age = datapath_age(handshake.since, review->now);
	if (handshake.stage == RP_STAGE_STRAY) /* goes with its socket */
		review->stray |= listened;
	else if (listened && handshake.stage == RP_STAGE_SYN_RECEIVED &&
		 age >= timeout)
		on_overdue(datapath, &handshake, tag, known, review);
	else if (age >= timeout + WAITING_NS)
		forget(tag, known);
}

/*
 * Shuts a gate when nothing is behind it. `ever` counts what was to be entered
 * there, before it was: between the two a program may have been held up, so it
 * has to say the same as it did a turn ago.
 */
static void shut(__u64 *gone, uint64_t *seen, uint64_t ever, bool found)
{
	if (!found && ever == *seen)
		__atomic_store_n(gone, ever, __ATOMIC_SEQ_CST);
	*seen = ever;
}

/*
 * Clients that have said nothing for header_timeout. In mode enabled that is
 * their right, and the server may have to begin: the ACK with which they
 * answer a probe is all that TC needs to have the socket created. Those that
 * must send a header, or don't answer, lose their entry, and so are reset
 * should they ever speak. What waits for anything else in vain is forgotten
 * too, so that the gates shut and places don't fill up.
 */
void datapath_review_handshakes(struct datapath *datapath, uint64_t now)
{
	struct rp_gates *gates = datapath->gates;
	uint64_t strays = __atomic_load_n(&gates->strays, __ATOMIC_SEQ_CST);
	uint64_t spilled = __atomic_load_n(&gates->spilled, __ATOMIC_SEQ_CST);
	struct review review = {.now = now};
	uint32_t buckets =
		spilled == gates->spilled_gone ? RP_BUCKETS_FIRST : RP_BUCKETS;

	for (uint32_t place = 0; place < buckets * RP_WAYS; place++)
		review_handshake(datapath, place, &review);
	shut(&gates->strays_gone, &datapath->strays_seen, strays, review.stray);
	shut(&gates->spilled_gone, &datapath->spilled_seen, spilled,
	     review.spilled);
}
