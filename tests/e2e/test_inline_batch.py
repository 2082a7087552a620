# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""delivery = inline, and segments that come in one list: TC sees all of them
before TCP sees the first, so those behind the header find no socket yet. Without
rp_send_round(), accept.bpf.c, they wait for a retransmission, 200 ms or more; here,
where nothing is sent again, for ever."""

import os
import time

from lib import batch, bpf, header, inline, stream
from lib.inline import INLINE, PAYLOAD
from lib.packets import ACK, FIN, PSH, RST, SYN, Peer, Wire
from lib.poll import check, equal, wait_for
from lib.requirement import BPFTOOL, needs, program
from test_inline_packets import (BOTH, GHOST, HEADER, SOURCE, V4, over, peers, served,
                                 sockets)

ADDRESS = V4[1]
ETHTOOL = program("ethtool")


def send_together(device, peer, pieces, last=ACK | PSH):
    with device.held_up():
        for piece in pieces[:-1]:
            peer.data(piece)
        peer.data(pieces[-1], last)


@needs(INLINE, BPFTOOL, ETHTOOL)
def test_behind_the_header(env):
    """As NGINX writes it; and a first flight of ten."""
    server, running, wire = peers(env)
    device = batch.Device(env)
    flight = [PAYLOAD + bytes([65 + number]) * 1200 for number in range(10)]
    count = 0
    for ends, source, head in BOTH:
        for pieces in ([head, PAYLOAD], [head + PAYLOAD[:2], PAYLOAD[2:]],
                       [head + flight[0], *flight[1:]]):
            count += 1
            peer = Peer(wire, *ends).handshake()
            send_together(device, peer, pieces)
            served(server, peer, count, source, b"".join(pieces)[len(head):])
            over(running, server, peer)


@needs(INLINE, BPFTOOL, ETHTOOL)
def test_header_in_pieces(env):
    """The daemon's socket is not there yet either."""
    server, running, wire = peers(env)
    device = batch.Device(env)
    for count, (ends, source, head) in enumerate(BOTH, 1):
        peer = Peer(wire, *ends).handshake()
        send_together(device, peer, [head[:7], head[7:20], head[20:], PAYLOAD])
        served(server, peer, count, source)
        over(running, server, peer)


@needs(INLINE, BPFTOOL, ETHTOOL)
def test_end_of_stream(env):
    server, running, wire = peers(env)
    device = batch.Device(env)
    peer = Peer(wire, *V4).handshake()
    send_together(device, peer, [HEADER, PAYLOAD, b""], ACK | FIN)
    served(server, peer, 1, SOURCE)
    wait_for(lambda: server.accepted[0].ended, "the end")
    over(running, server, peer)


@needs(INLINE, BPFTOOL, ETHTOOL)
def test_reset(env):
    """A health check of HAProxy's. No stack sends a reset again."""
    server, running, wire = peers(env)
    device = batch.Device(env)
    for count in range(1, 4):
        peer = Peer(wire, (GHOST, 20000 + count), ADDRESS).handshake()
        send_together(device, peer, [header.v2_local(), b""], RST)
        running.wait_stat("echo", "connections", count)
        wait_for(lambda: not sockets(env), "its socket to end")
        inline.nothing_left(running)


@needs(INLINE, BPFTOOL, ETHTOOL)
def test_full_accept_queue(env):
    """No socket comes to be: they don't go round for ever, and are served when
    they are sent again. Fails without ROUNDS_MAX, and if rp_accept_from() does not
    set `rounds` back."""
    listening = env.server.listen(ADDRESS, backlog=0)  # room for one
    env.at_end(listening.close)
    listening.settimeout(5)
    running = inline.daemon(env)
    wire = Wire(env, [GHOST])
    device = batch.Device(env)
    counting = bpf.count_runs()
    env.at_end(lambda: os.close(counting))
    Peer(wire, (GHOST, 20000), ADDRESS).handshake().data(HEADER + PAYLOAD)
    running.wait_stat("echo", "connections", 1)
    peer = Peer(wire, *V4).handshake()
    begin, before = peer.seq, inline.program_runs(running, env.server, "back")
    for _ in range(3):
        peer.seq = begin
        send_together(device, peer, [HEADER, PAYLOAD])
        peer.expect_nothing("a full queue")
    runs = inline.program_runs(running, env.server, "back") - before
    check(runs < 1000, f"{runs} runs of the program for three times two segments")
    listening.accept()[0].close()
    peer.seq = begin
    send_together(device, peer, [HEADER, PAYLOAD])
    accepted, client = listening.accept()
    with accepted:
        accepted.settimeout(5)
        equal((client, stream.receive_exactly(accepted, len(PAYLOAD))), (SOURCE, PAYLOAD),
              "client and bytes")


@needs(INLINE, BPFTOOL, ETHTOOL)
def test_behind_silence(env):
    """Mode enabled: the bare ACK for which TC has a silent client's socket made, and
    what the client says just then. A header is late, so it is reset, and a plain
    client is served. Fails without `silent` in rp_is_behind(), accept.bpf.c.
    """
    server, running, wire = peers(env, proxy_protocol="enabled", header_timeout="500ms")
    device = batch.Device(env)
    says = [(PAYLOAD, ACK | PSH), (HEADER[:7], ACK | PSH), (HEADER + PAYLOAD, ACK | PSH),
            (b"", ACK | FIN), (b"", RST)]
    for number, (first, flags) in enumerate(says, 1):
        peer = Peer(wire, (GHOST, 20000 + number), ADDRESS)
        peer.send_syn()
        peer.take_syn_ack(peer.expect(SYN | ACK, "answer to a SYN"))
        time.sleep(0.6)
        with device.held_up():
            peer.send(ACK)
            peer.data(first, flags)
        running.wait_stat("echo", "connections", number)
        if first == PAYLOAD:
            equal(peer.read(len(first)), first, "echo")
            peer.reset()
        elif len(first) == 7:
            peer.seq = peer.seq - 7
            peer.data(HEADER + PAYLOAD)
        elif flags & FIN:
            wait_for(lambda: server.accepted[-1].ended, "the end")
            peer.reset()
        wait_for(lambda: not sockets(env),
                 lambda: f"the socket of {first!r} to end: {sockets(env)}")  # noqa: B023
        inline.nothing_left(running)
    running.wait_stat("echo", "timeout", 2)
    equal([a.data for a in server.accepted if a.data], [PAYLOAD], "bytes at the server")
