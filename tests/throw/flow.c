// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * flow.c - see flow.h. Knows TCP as far as a peer must that wants to be
 * believed, most of the time.
 */
#include "flow.h"

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "mutate_segment.h"

#define SERVER_PORT	1883
#define KIND_TIMESTAMPS 8
/* In sequence numbers; no sum of what mutate_segment.c adds leads back. */
#define FAR_AWAY	0x51234567
#define NO_END		INT32_MAX
#define NEAR		(1 << 26) /* so far a window may reach */
#define SAID_MAX	60000 /* bytes, so that no window is ever in the way */

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

static bool one_in(struct dice *dice, size_t n)
{
	return dice_below(dice, n) == 0;
}

static void set_server(bool v6, uint8_t address[16])
{
	static const uint8_t v4_address[16] = {[10] = 0xff, 0xff, 10, 77, 0, 2};
	static const uint8_t v6_address[16] = {0xfd, 0x77, [15] = 2};

	memcpy(address, v6 ? v6_address : v4_address, 16);
}

static void put_timestamps(struct segment *s, uint32_t tsval, uint32_t tsecr)
{
	uint32_t values[2] = {htonl(tsval), htonl(tsecr)};

	memcpy(s->options + s->n_options, "\1\1\x08\x0a", 4);
	memcpy(s->options + s->n_options + 4, values, sizeof(values));
	s->n_options += 12;
}

/* An ordinary segment of the flow, from byte `at` of its stream. */
static struct segment make(struct flow *flow, uint8_t flags, uint32_t at,
			   size_t len)
{
	struct segment s = {
		.stream = &flow->stream,
		.v6 = flow->stream.v6,
		.source_port = flow->stream.peer_port,
		.destination_port = SERVER_PORT,
		.first = flow->isn + 1,
		.seq = flow->isn + 1 + at,
		.ack = flags & ACK ? flow->ack : 0,
		.flags = flags,
		.window = 65535,
		.doff = -1,
		.ihl = -1,
		.len = len,
		.next = IPPROTO_TCP,
		.ttl = 64,
		.fragment = 0x4000, /* DF */
		.version = flow->stream.v6 ? 6 : 4,
		.type = flow->stream.v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP,
	};

	memcpy(s.source, flow->stream.peer, 16);
	set_server(s.v6, s.destination);
	if (flow->timestamps && !(flags & SYN))
		put_timestamps(&s, flow->tsval, flow->tsecr);
	return s;
}

/* For whoever looks for the one that did it. */
static void show(const struct segment *s)
{
	fprintf(stderr,
		"flags %#x seq +%d len %zu more %d doff %d ihl %d urgent %u "
		"ack %#x window %u next %u extra %zu fragment %#x pieces %u "
		"check %#x %#x damaged %d offload %d cut %zu trailing %zu "
		"type %#x vlan %d version %u lie %s options",
		s->flags, (int)(s->seq - s->first), s->len, s->more, s->doff,
		s->ihl, s->urgent, s->ack, s->window, s->next, s->n_extra,
		s->fragment, s->pieces, s->check, s->ip_check, s->damaged,
		s->offload, s->cut, s->trailing, s->type, s->vlan, s->version,
		s->lie ? s->lie : "none");
	for (size_t i = 0; i < s->n_options; i++)
		fprintf(stderr, " %02x", s->options[i]);
	fputc('\n', stderr);
}

/*
 * A FIN is a byte of the sequence, too: nothing was or will be said behind it,
 * lest it depends on chance whether TCP takes the one or the other.
 */
static void keep_end(struct flow *flow, struct segment *s)
{
	int32_t at = s->seq - s->first + (s->flags & SYN ? 1 : 0);

	if (at < -NEAR || at > NEAR)
		return; /* nor is it taken for anything */
	if (at + (int32_t)s->len > flow->end)
		s->len = at < flow->end ? flow->end - at : 0;
	if (at + (int32_t)s->len > flow->most)
		flow->most = at + s->len;
	if (!(s->flags & FIN))
		return;
	if (at + (int32_t)s->len < flow->most || s->more || flow->end != NO_END)
		s->flags &= ~FIN;
	else
		flow->end = at + s->len;
}

static void send_segment(struct flows *flows, struct flow *flow,
			 struct segment *s)
{
	if (one_in(&flow->dice, 3))
		mutate_segment(s, &flow->dice);
	keep_end(flow, s);
	if (flow->stream.number == flows->shown)
		show(s);
	flows->counts.frames += segment_send(s, &flows->wire);
}

static void say_syn(struct flows *flows, struct flow *flow)
{
	struct segment s = make(flow, SYN, 0, 0);

	s.seq = flow->isn;
	memcpy(s.options, "\x02\x04\x05\xb4", 4);
	s.n_options = 4;
	if (one_in(&flow->dice, 2))
		put_timestamps(&s, flow->tsval, 0);
	if (one_in(&flow->dice, 2)) {
		memcpy(s.options + s.n_options,
		       "\x01\x03\x03\x07\x01\x01\x04\x02", 8);
		s.n_options += 8;
	}
	if (one_in(&flow->dice, 16)) { /* another connection on this tuple */
		flow->isn += FAR_AWAY;
		flow->open = false;
		flow->said = 0;
		flow->most = 0;
		flow->end = NO_END;
		s.seq = flow->isn;
		s.first = flow->isn + 1;
	}
	send_segment(flows, flow, &s);
}

/* How much of the stream to say next: mostly the header and some more. */
static size_t some_bytes(struct flow *flow)
{
	size_t header = flow->stream.payload;
	size_t most = SEGMENT_MTU - 140;

	if (header == STREAM_START)
		header = 100;
	switch (dice_below(&flow->dice, 4)) {
	case 0:
		return 1 + dice_below(&flow->dice, 60);
	case 1:
		return 1 + dice_below(&flow->dice, most);
	default:
		header += dice_below(&flow->dice, 200);
		return header < most ? header : most;
	}
}

static void say_next(struct flows *flows, struct flow *flow)
{
	size_t n = some_bytes(flow);
	uint8_t flags = ACK | PSH | (one_in(&flow->dice, 20) ? FIN : 0);
	struct segment s;

	if (flow->said > SAID_MAX)
		return;
	if (one_in(&flow->dice, 20))
		n = 2000 + dice_below(&flow->dice, 20000);
	s = make(flow, flags, flow->said, n);
	if (n > SEGMENT_MTU)
		s.offload = OFFLOAD_GSO;
	flow->said += n;
	send_segment(flows, flow, &s);
}

/* Something of the stream, said before or not. */
static void say_anything(struct flows *flows, struct flow *flow)
{
	uint32_t at = dice_below(&flow->dice, flow->said + 100);
	struct segment s = make(flow, ACK, one_in(&flow->dice, 2) ? 0 : at,
				some_bytes(flow));

	send_segment(flows, flow, &s);
}

static void say_nothing(struct flows *flows, struct flow *flow)
{
	struct segment s = make(flow, ACK, flow->said, 0);

	/* A keep-alive, RFC 9293 section 3.8.4 */
	if (one_in(&flow->dice, 4)) {
		s.seq--;
		s.len = dice_below(&flow->dice, 2);
	}
	send_segment(flows, flow, &s);
}

static void end(struct flows *flows, struct flow *flow)
{
	uint8_t flags = one_in(&flow->dice, 3) ? FIN | ACK : RST | ACK;
	struct segment s = make(flow, flags, flow->said, 0);

	send_segment(flows, flow, &s);
}

/* As it is before it has said anything. */
static void prepare(const struct flows *flows, struct flow *flow,
		    uint32_t number)
{
	memset(flow, 0, sizeof(*flow));
	stream_make(&flow->stream, flows->seed, number);
	flow->dice.state = ~flows->seed ^ (uint64_t)number << 32;
	flow->end = NO_END;
	flow->isn = dice_below(&flow->dice, UINT32_MAX);
	flow->tsval = dice_below(&flow->dice, UINT32_MAX);
	flow->ack = dice_below(&flow->dice, UINT32_MAX);
	flow->steps = 2 + dice_below(&flow->dice, 10);
}

static void begin(struct flows *flows, struct flow *flow)
{
	uint32_t number = flows->next++;

	prepare(flows, flow, number);
	flows->by_port[number % STREAM_PORTS] = flow - flows->all;
	flows->counts.flows++;
	if (!one_in(&flow->dice, 30))
		say_syn(flows, flow);
}

static void step(struct flows *flows, struct flow *flow)
{
	flow->steps--;
	flow->tsval++;
	/* Sometimes it does not care that nobody has answered. */
	if (!flow->open && !one_in(&flow->dice, 4)) {
		say_syn(flows, flow);
		return;
	}
	switch (dice_below(&flow->dice, 12)) {
	case 0:
		say_syn(flows, flow);
		break;
	case 1:
	case 2:
		say_nothing(flows, flow);
		break;
	case 3:
	case 4:
		say_anything(flows, flow);
		break;
	case 5:
		end(flows, flow);
		flow->steps = flow->steps ? 1 : 0;
		break;
	default:
		say_next(flows, flow);
	}
	/* Most do not leave a connection behind. */
	if (flow->steps == 0 && !one_in(&flow->dice, 4))
		end(flows, flow);
}

void flows_step(struct flows *flows)
{
	struct flow *flow = &flows->all[dice_below(&flows->dice, FLOWS)];

	if (flow->steps == 0)
		begin(flows, flow);
	else
		step(flows, flow);
}

/* Whose segment this is, from an address and port that are its peer's. */
static struct flow *find(struct flows *flows, const uint8_t peer[16],
			 uint16_t port)
{
	struct flow *flow;

	if (port < STREAM_PORT_FIRST ||
	    port >= STREAM_PORT_FIRST + STREAM_PORTS)
		return NULL;
	flow = &flows->all[flows->by_port[port - STREAM_PORT_FIRST]];
	if (flow->stream.peer_port != port ||
	    memcmp(flow->stream.peer, peer, 16) != 0)
		return NULL;
	return flow;
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

static void take_options(struct flow *flow, const uint8_t *tcp, size_t n)
{
	size_t at = 20;

	flow->timestamps = false;
	while (at + 1 < n && tcp[at]) {
		if (tcp[at] == 1) {
			at++;
			continue;
		}
		if (tcp[at] == KIND_TIMESTAMPS && at + 10 <= n) {
			flow->timestamps = true;
			flow->tsecr = get32(tcp + at + 2);
		}
		holds(tcp[at + 1] >= 2);
		at += tcp[at + 1];
	}
}

static void take_segment(struct flows *flows, struct flow *flow,
			 const uint8_t *tcp, size_t n)
{
	uint8_t flags = tcp[13];

	if (flags & RST)
		flows->counts.resets++;
	if ((flags & (SYN | ACK | RST)) != (SYN | ACK) || flow->open ||
	    get32(tcp + 8) != flow->isn + 1)
		return;
	flows->counts.syn_acks++;
	flow->open = true;
	flows->answered[flow->stream.number % FLOWS_MAX] = true;
	flow->ack = get32(tcp + 4) + 1;
	take_options(flow, tcp,
		     (size_t)(tcp[12] >> 4) * 4 < n ? (tcp[12] >> 4) * 4 : n);
}

/* RFC 9293 section 3.10.7.1 */
static void refuse(struct flows *flows, const uint8_t peer[16],
		   const uint8_t *tcp)
{
	static struct flow nobody;
	struct segment s;

	nobody.stream.v6 = memcmp(peer, mapped, sizeof(mapped)) != 0;
	nobody.stream.peer_port = tcp[2] << 8 | tcp[3];
	memcpy(nobody.stream.peer, peer, 16);
	s = make(&nobody, RST, 0, 0);
	s.seq = get32(tcp + 8);
	segment_send(&s, &flows->wire);
}

/* Not the load balancer itself, whose frames are seen as well. */
static bool is_ours(const uint8_t peer[16])
{
	bool v6 = memcmp(peer, mapped, sizeof(mapped)) != 0;
	uint8_t ours[16];

	for (int i = 0; i < 2 * STREAM_PEERS; i++) {
		stream_peer(v6, i % 2, i / 2, ours);
		if (memcmp(peer, ours, 16) == 0)
			return true;
	}
	return false;
}

static void take_frame(struct flows *flows, const uint8_t *frame, size_t n)
{
	const uint8_t *ip = frame + ETHER_HDR_LEN, *tcp;
	uint16_t type = frame[12] << 8 | frame[13];
	uint8_t peer[16];
	struct flow *flow;

	if (n < ETHER_HDR_LEN + 40)
		return;
	if (type == ETHERTYPE_IP && ip[9] == IPPROTO_TCP) {
		memcpy(peer, mapped, 12);
		memcpy(peer + 12, ip + 16, 4);
		tcp = ip + (ip[0] & 15) * 4;
	} else if (type == ETHERTYPE_IPV6 && ip[6] == IPPROTO_TCP) {
		memcpy(peer, ip + 24, 16);
		tcp = ip + 40;
	} else {
		return;
	}
	if (tcp + 20 > frame + n)
		return;
	if (flows->over) {
		if (!(tcp[13] & RST) && is_ours(peer))
			refuse(flows, peer, tcp);
		return;
	}
	flow = find(flows, peer, tcp[2] << 8 | tcp[3]);
	if (flow)
		take_segment(flows, flow, tcp, frame + n - tcp);
}

void flows_receive(struct flows *flows)
{
	static uint8_t bytes[256]; /* headers */
	ssize_t n;

	while ((n = recv(flows->wire.fd, bytes, sizeof(bytes), MSG_DONTWAIT)) >
	       10)
		take_frame(flows, bytes + 10, n - 10);
}

void flows_hang_up(struct flows *flows)
{
	static struct flow flow;
	struct segment s;

	flows->over = true;
	for (uint32_t number = flows->first; number != flows->next; number++) {
		prepare(flows, &flow, number);
		/* A byte that came long ago is answered by an ACK. */
		s = make(&flow, ACK, 0, 0);
		s.seq -= 1000;
		segment_send(&s, &flows->wire);
		if (number % 32 == 0)
			flows_receive(flows);
	}
	flows_receive(flows);
}
