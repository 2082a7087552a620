// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * segment.c - see segment.h. Decides nothing.
 */
#include "segment.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "fuzz.h"

#define TCP_HEADER 20
#define CHECK_AT   16 /* in the TCP header */
#define PACKET_MAX (SEGMENT_PAYLOAD_MAX + 256)

/* A frame that is being put together. */
struct frame {
	struct virtio_net_hdr_v1 offload; /* its first 10 bytes are sent */
	size_t n;
	uint8_t bytes[PACKET_MAX];
};

static void put(struct frame *frame, const void *bytes, size_t n)
{
	holds(frame->n + n <= sizeof(frame->bytes));
	memcpy(frame->bytes + frame->n, bytes, n);
	frame->n += n;
}

static void put16(struct frame *frame, uint16_t value)
{
	value = htons(value);
	put(frame, &value, sizeof(value));
}

static void put32(struct frame *frame, uint32_t value)
{
	value = htonl(value);
	put(frame, &value, sizeof(value));
}

/* RFC 1071, not yet complemented. */
static uint16_t sum(uint64_t total, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		total += i % 2 ? bytes[i] : bytes[i] << 8;
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return total;
}

static uint16_t sum_pseudo(const struct segment *s, size_t n)
{
	size_t skip = s->v6 ? 0 : 12;
	uint16_t total = sum(IPPROTO_TCP + n, s->source + skip, 16 - skip);

	return sum(total, s->destination + skip, 16 - skip);
}

/* A sum that is meant to be wrong must not come out right: 0 and ~0 are. */
static uint16_t spoilt(uint16_t check, uint16_t by)
{
	return by ? sum((uint64_t)check + by, NULL, 0) : check;
}

static void set_check(const struct segment *s, uint8_t *tcp, size_t n)
{
	/* What the receiver takes the length to be, if IP says less. */
	size_t said = s->more < 0 && (size_t)-s->more < n ? n + s->more : n;
	uint16_t check = sum_pseudo(s, said);

	if (s->offload == OFFLOAD_NONE)
		check = spoilt(~sum(check, tcp, said), s->check);
	check = htons(check);
	memcpy(tcp + CHECK_AT, &check, sizeof(check));
}

/* The TCP segment, which is what IP carries. */
static void put_tcp(struct frame *frame, const struct segment *s)
{
	size_t start = frame->n, words = 5 + s->n_options / 4;
	uint8_t *tcp = frame->bytes + start;
	int64_t at = (int32_t)(s->seq - s->first);

	put16(frame, s->source_port);
	put16(frame, s->destination_port);
	put32(frame, s->seq);
	put32(frame, s->ack);
	put16(frame, (s->doff < 0 ? (int)words : s->doff) << 12 | s->flags);
	put16(frame, s->window);
	put16(frame, 0);
	put16(frame, s->urgent);
	put(frame, s->options, s->n_options);
	/* A SYN stands before the first byte. */
	if (s->flags & SYN)
		at++;
	for (size_t i = 0; i < s->len; i++) {
		uint8_t byte = s->lie ? s->lie[i % strlen(s->lie)]
				      : stream_byte(s->stream, at + (int64_t)i);

		put(frame, &byte, 1);
	}
	set_check(s, tcp, frame->n - start);
	if (s->damaged && s->offload == OFFLOAD_NONE)
		frame->bytes[frame->n - 1] ^= 0x15;
}

static void put_ip4(struct frame *frame, const struct segment *s, size_t n)
{
	uint8_t *ip = frame->bytes + frame->n;
	size_t size = 20 + s->n_extra;
	uint8_t ihl = s->ihl < 0 ? size / 4 : (size_t)s->ihl;
	uint16_t check;

	put16(frame, (s->version << 4 | ihl) << 8 | s->tos);
	put16(frame, size + n + s->more);
	put16(frame, s->id);
	put16(frame, s->fragment);
	put16(frame, s->ttl << 8 | s->next);
	put16(frame, 0);
	put(frame, s->source + 12, 4);
	put(frame, s->destination + 12, 4);
	put(frame, s->extra, s->n_extra);
	check = htons(spoilt(~sum(0, ip, size), s->ip_check));
	memcpy(ip + 10, &check, sizeof(check));
}

static void put_ip6(struct frame *frame, const struct segment *s, size_t n)
{
	put32(frame, (uint32_t)s->version << 28 | s->tos << 20 | s->id);
	put16(frame, s->n_extra + n + s->more);
	put16(frame, s->next << 8 | s->ttl);
	put(frame, s->source, 16);
	put(frame, s->destination, 16);
	put(frame, s->extra, s->n_extra);
}

static void begin_frame(struct frame *frame, const struct segment *s,
			const struct wire *wire)
{
	memset(&frame->offload, 0, sizeof(frame->offload));
	frame->n = 0;
	put(frame, wire->destination, 6);
	put(frame, wire->source, 6);
	if (s->other_station)
		frame->bytes[5] ^= 1;
	if (s->vlan) {
		put16(frame, ETHERTYPE_VLAN);
		put16(frame, 5);
	}
	put16(frame, s->type);
}

/* Frames above the MTU, and what no device could finish, are refused. */
static void send_frame(struct frame *frame, const struct segment *s,
		       const struct wire *wire)
{
	static const uint8_t zeros[64];
	struct iovec parts[2] = {
		{.iov_base = &frame->offload, .iov_len = 10},
		{.iov_base = frame->bytes},
	};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

	put(frame, zeros, s->trailing);
	if (s->cut && frame->n > ETHER_HDR_LEN + s->cut)
		frame->n -= s->cut;
	parts[1].iov_len = frame->n;
	while (sendmsg(wire->fd, &message, 0) < 0) {
		if (errno == EINVAL || errno == EMSGSIZE || errno == ENOMEM)
			return;
		holds(errno == ENOBUFS || errno == EAGAIN);
	}
}

/* The TCP header comes next. */
static void set_offload(struct frame *frame, const struct segment *s)
{
	frame->offload.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	frame->offload.csum_start = frame->n;
	frame->offload.csum_offset = CHECK_AT;
	frame->offload.hdr_len = frame->n + TCP_HEADER + s->n_options;
	if (s->offload != OFFLOAD_GSO)
		return;
	frame->offload.gso_type =
		s->v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
	frame->offload.gso_size = 1300;
}

static void put_ip(struct frame *frame, const struct segment *s, size_t n)
{
	if (s->v6)
		put_ip6(frame, s, n);
	else
		put_ip4(frame, s, n);
}

static void send_whole(const struct segment *s, const struct wire *wire,
		       const struct frame *tcp)
{
	static struct frame frame;

	begin_frame(&frame, s, wire);
	put_ip(&frame, s, tcp->n);
	if (s->offload != OFFLOAD_NONE)
		set_offload(&frame, s);
	put(&frame, tcp->bytes, tcp->n);
	send_frame(&frame, s, wire);
}

/* One fragment: `n` bytes of `tcp` from `at`. */
static void send_piece(const struct segment *whole, const struct wire *wire,
		       const struct frame *tcp, size_t at, size_t n)
{
	static struct frame frame;
	struct segment s = *whole;
	uint16_t last = at + n == tcp->n ? 0 : 1;

	if (s.v6) { /* RFC 8200 section 4.5 */
		uint16_t field = htons(at | last);

		memset(s.extra, 0, 8);
		s.extra[0] = IPPROTO_TCP;
		memcpy(s.extra + 2, &field, sizeof(field));
		s.extra[6] = s.id >> 8;
		s.extra[7] = s.id & 0xff;
		s.n_extra = 8;
		s.next = IPPROTO_FRAGMENT;
	} else {
		s.fragment = (last ? 0x2000 : 0) | at / 8;
	}
	begin_frame(&frame, &s, wire);
	put_ip(&frame, &s, n);
	put(&frame, tcp->bytes + at, n);
	send_frame(&frame, &s, wire);
}

static unsigned int send_pieces(const struct segment *s,
				const struct wire *wire,
				const struct frame *tcp)
{
	size_t size = (tcp->n / s->pieces + 7) / 8 * 8;
	size_t n = (tcp->n + size - 1) / size;

	for (size_t i = 0; i < n; i++) {
		size_t at = (s->backwards ? n - 1 - i : i) * size;

		send_piece(s, wire, tcp, at,
			   tcp->n - at < size ? tcp->n - at : size);
	}
	return n;
}

unsigned int segment_send(const struct segment *segment,
			  const struct wire *wire)
{
	static struct frame tcp;

	tcp.n = 0;
	put_tcp(&tcp, segment);
	if (segment->pieces)
		return send_pieces(segment, wire, &tcp);
	send_whole(segment, wire, &tcp);
	return 1;
}
