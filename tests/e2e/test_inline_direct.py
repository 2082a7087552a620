# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""delivery = inline, untrusted = direct: plain clients of a server that owns its
port. A header of their making never reaches it, however it is sent."""

import contextlib
import socket
import time

from lib import handshakes, header, inline, packets, stream
from lib.inline import INLINE, PAYLOAD
from lib.packets import ACK, PSH, RST, URG
from lib.poll import equal, wait_for
from lib.realpeer import listener
from lib.requirement import BPFTOOL, needs
from lib.topology import SERVER, SERVER_SIDE, SERVER_SIDE6, STRANGER, STRANGER6
from test_inline_header import FIRST_BYTES, FORGED, WILDCARD, Plain, trusted_works
from test_required import DESTINATION, GOOD, SOURCE

OUTSIDERS = ("10.66.0.99", "fd66::99")


@needs(INLINE, BPFTOOL)
def test_plain(env):
    """They are plain clients, and a header of theirs is refused."""
    for mode in ("required", "enabled"):
        server = Plain.start(env, ("::", 1883))
        running = inline.daemon(env, WILDCARD, proxy_protocol=mode, untrusted="direct")
        for address, shown in ((SERVER_SIDE, f"::ffff:{STRANGER}"), (SERVER_SIDE6, STRANGER6)):
            for data in FIRST_BYTES:
                count = len(server.accepted) + 1
                with env.stranger.connect((address, 1883)) as sock:
                    stream.exchange(sock, data)
                    equal(server.wait(count).peer, (shown, sock.getsockname()[1]),
                          f"client of {data!r}")
        delivered, refused = len(server.accepted), 0
        for address, heads in FORGED.items():
            for head in heads:
                for data in (head, head + PAYLOAD):
                    refused += 1
                    stream.refused(env.stranger, (address, 1883), data)
        running.wait_stat("echo", "untrusted_header", refused)
        equal([a.data for a in server.accepted[delivered:] if a.data], [], "forged bytes")
        trusted_works(env, server)
        server.destroy()
        inline.nothing_left(running)
        equal(running.stop(), 0, "exit status")


@needs(INLINE, BPFTOOL)
def test_in_pieces(env):
    """A forged header is refused however it is cut."""
    server = inline.Server.start(env, ("::", 1883))
    running = inline.daemon(env, WILDCARD, untrusted="direct")
    cuts = [(head, cut) for head in (GOOD, header.v1(SOURCE, DESTINATION))
            for cut in range(1, len(head))]
    sockets = [env.stranger.connect((SERVER_SIDE, 1883)) for _ in cuts]
    for sock, (head, cut) in zip(sockets, cuts):
        sock.sendall(head[:cut])
    for sock, (head, cut) in zip(sockets, cuts):
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(head[cut:] + PAYLOAD)
    for sock, (head, cut) in zip(sockets, cuts):
        try:
            equal(stream.ended_by(sock), ("reset", b""), f"a header cut at {cut}")
        except (ConnectionResetError, BrokenPipeError):
            pass
        sock.close()
    equal([a.data for a in server.accepted if a.data], [], "bytes at the server")
    trusted_works(env, server)
    inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_late(env):
    """Waiting longer than header_timeout does not make a header better."""
    server = inline.Server.start(env, ("::", 1883))
    running = inline.daemon(env, WILDCARD, untrusted="direct", header_timeout="500ms")
    waiting = [env.stranger.connect((SERVER_SIDE, 1883)) for _ in range(2)]
    time.sleep(2.5)  # some turns of the daemon's upkeep
    waiting[0].sendall(GOOD + PAYLOAD)
    equal(stream.ended_by(waiting[0]), ("reset", b""), "a late header")
    stream.exchange(waiting[1], PAYLOAD)
    for sock in waiting:
        sock.close()
    equal([a.data for a in server.accepted if a.data], [PAYLOAD], "bytes at the server")
    inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_two_syns(env):
    """A second SYN with another ISN does not make the first unwatched."""
    server = inline.Server.start(env, ("::", 1883))
    running = inline.daemon(env, WILDCARD, untrusted="direct")
    wire = packets.Wire(env, ["10.66.0.99"], "side", env.stranger)
    peer = packets.Peer(wire, ("10.66.0.99", 20001), (SERVER_SIDE, 1883))
    peer.send_syn()
    answer = peer.expect(packets.SYN | packets.ACK, "answer to a SYN")
    packets.Peer(wire, peer.source, peer.destination, isn=2000000000).send_syn()
    peer.take_syn_ack(answer)
    peer.send(packets.ACK)
    server.wait(1)
    packets.Peer(wire, peer.source, peer.destination, isn=2100000000).send_syn()
    peer.data(GOOD + PAYLOAD)
    wait_for(lambda: server.accepted[0].ended, "the server to see the end")
    equal((server.accepted[0].data, server.accepted[0].ended), (b"", "reset"), "at the server")
    running.wait_stat("echo", "untrusted_header", 1)


@needs(INLINE, BPFTOOL)
def test_overlap(env):
    """Nor does a segment that begins before the first byte, or behind it."""
    server = inline.Server.start(env, ("::", 1883))
    inline.daemon(env, WILDCARD, untrusted="direct")
    wire = packets.Wire(env, ["10.66.0.99"], "side", env.stranger)
    for count, before in enumerate((b"\0", b"\0\0"), 1):
        peer = packets.Peer(wire, ("10.66.0.99", 20000 + count), (SERVER_SIDE, 1883))
        peer.handshake()
        server.wait(count)
        peer.send(packets.ACK, GOOD[3:] + PAYLOAD, seq=peer.seq + 3)
        peer.send(packets.ACK, before + GOOD + PAYLOAD, seq=peer.seq - len(before))
        peer.send(packets.ACK, GOOD[:3])
        peer.receive(0.1)
        peer.reset()
    wait_for(lambda: all(a.ended for a in server.accepted) and len(server.accepted) == 2,
             "both to end")
    equal([a.data for a in server.accepted], [b""] * 2, "bytes at the server")


@needs(INLINE, BPFTOOL)
def test_slow_prefix(env):
    """A plain client whose first byte could begin a header is only delayed, until
    header_timeout: it might as well be one that sends a header slowly.

    Fails without rp_is_stuck(), screen.h: the last one waits for ever.
    """
    server = Plain.start(env, ("::", 1883))
    running = inline.daemon(env, WILDCARD, untrusted="direct", header_timeout="2s")
    for count, pieces in enumerate(((b"P", b"ING\r\n"), (b"\r\n", b"\r\nCONNECT\n")), 1):
        with env.stranger.connect((SERVER_SIDE, 1883)) as sock:
            stream.send_pieces(sock, pieces, pause=0.05)
            whole = b"".join(pieces)
            equal(stream.receive_exactly(sock, len(whole)), whole, "echo")
            equal(server.wait(count).data, whole, "bytes at the server")
    with env.stranger.connect((SERVER_SIDE, 1883)) as sock:
        sock.sendall(b"P")
        wait_for(lambda: len(server.accepted) == 3 and server.accepted[2].ended, "its end", 15)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(header.v1(SOURCE, DESTINATION)[1:] + PAYLOAD)
            equal(stream.ended_by(sock), ("reset", b""), "a slow header")
    equal(server.wait(3).data, b"", "bytes of a slow header at the server")
    running.wait_stat("echo", "untrusted_header", 1)


def outsiders(env, port=20001):
    """A peer of either family, of a server whose clients are all untrusted."""
    server = inline.Server.start(env, ("::", 1883))
    running = inline.daemon(env, WILDCARD, untrusted="direct")
    wire = packets.Wire(env, OUTSIDERS, "side", env.stranger)
    return server, running, [
        packets.Peer(wire, (address, port), (server_address, 1883)).handshake()
        for address, server_address in zip(OUTSIDERS, (SERVER_SIDE, SERVER_SIDE6))]


def nothing_but(server, peers, data=b""):
    """The server has these bytes of each, once it has seen their ends."""
    server.wait(len(peers))
    for peer in peers:
        peer.reset()
    wait_for(lambda: all(a.ended for a in server.accepted), "all to end")
    equal([a.data for a in server.accepted], [data] * len(peers), "bytes at the server")


@needs(INLINE, BPFTOOL)
def test_fragments(env):
    """The stack puts IP fragments together where TC does not see it, so plain
    clients have none.

    Fails without rp_read_hidden(), hidden.h.
    """
    server, _, peers = outsiders(env)
    for peer in peers:
        for first in (8, 24, 40):
            peer.send_fragments(first, GOOD + PAYLOAD, ACK | PSH)
        peer.expect_nothing("a header in fragments")
        peer.data(PAYLOAD)
        equal(peer.read(len(PAYLOAD)), PAYLOAD, "echo")
    nothing_but(server, peers, PAYLOAD)


@needs(INLINE, BPFTOOL)
def test_parked_fragment(env):
    """Nor one that waits for another connection of the same ports.

    Fails without `fragment` in rp_screen(), accept.bpf.c: the first connection has
    spoken.
    """
    server = inline.Server.start(env, ("::", 1883))
    inline.daemon(env, WILDCARD, untrusted="direct")
    wire = packets.Wire(env, OUTSIDERS, "side", env.stranger)
    first = packets.Peer(wire, (OUTSIDERS[0], 20001), (SERVER_SIDE, 1883),
                         timestamps=False).handshake()
    first.data(PAYLOAD)
    equal(first.read(len(PAYLOAD)), PAYLOAD, "echo")
    isn = 900000000

    def halves(ack):
        return packets.fragments(packets.pack_segment(
            first.addresses, first.ports, isn + 1, ack, ACK | PSH, payload=GOOD + PAYLOAD), 8, 77)
    wire.send_frame(next(halves(0)))  # ports and sequence number are all in it
    first.reset()
    wait_for(lambda: server.accepted[0].ended, "the first to end")
    second = packets.Peer(wire, first.source, first.destination, isn, False).handshake()
    server.wait(2)
    wire.send_frame(list(halves(second.ack))[1])
    second.expect_nothing("the other half")
    second.data(PAYLOAD)
    equal(second.read(len(PAYLOAD)), PAYLOAD, "echo")
    second.reset()
    wait_for(lambda: server.accepted[1].ended, "the second to end")
    equal([a.data for a in server.accepted], [PAYLOAD] * 2, "bytes at the server")


@needs(INLINE, BPFTOOL)
def test_priority_tag(env):
    """A tag of VLAN 0 says only how urgent the frame is.

    Fails with vlan_present alone in rp_is_tagged(), packet.h.
    """
    server, running, peers = outsiders(env)
    server.wait(2)
    for peer in peers:
        peer.send(ACK | PSH, GOOD + PAYLOAD, tag=0)
    running.wait_stat("echo", "untrusted_header", 2)
    wait_for(lambda: all(a.ended for a in server.accepted), "all to end")
    equal([a.data for a in server.accepted], [b""] * 2, "bytes at the server")


@needs(INLINE, BPFTOOL)
def test_extension_headers(env):
    """Nor does TC look behind these. Fails without rp_walk_on(), hidden.h."""
    server, _, peers = outsiders(env)
    padding = bytes((1, 4, 0, 0, 0, 0))
    one = bytes((socket.IPPROTO_TCP, 0)) + padding
    two = bytes((socket.IPPROTO_DSTOPTS, 0)) + padding + one
    many = (bytes((socket.IPPROTO_DSTOPTS, 0)) + padding) * 40 + one
    for extension in (one, two, many):
        peers[1].send(ACK | PSH, GOOD + PAYLOAD, extension=extension)
        peers[1].expect_nothing("a header behind extension headers")
    for peer in peers:
        peer.data(PAYLOAD)
        equal(peer.read(len(PAYLOAD)), PAYLOAD, "echo")
    nothing_but(server, peers, PAYLOAD)


@needs(INLINE, BPFTOOL)
def test_urgent(env):
    """An urgent byte is not in the stream, so that the second would be the first.

    Fails without tcp.urg in rp_screen(), screen.h, and in rp_on_other().
    """
    server, _, peers = outsiders(env)
    for peer in peers:
        peer.send(ACK | PSH | URG, b"x" + GOOD + PAYLOAD, urgent=1)
        peer.send(ACK | URG, urgent=1)
        peer.send(ACK | PSH, b"x" + PAYLOAD)
        peer.seq += 1 + len(PAYLOAD)
    for accepted in (server.wait(1), server.wait(2)):
        wait_for(lambda accepted=accepted: accepted.data, "the plain bytes")
        equal(accepted.data, b"x" + PAYLOAD, "bytes at the server")
    server.accepted.clear()


@needs(INLINE, BPFTOOL)
def test_early_data(env):
    """TCP Fast Open gives a server what the SYN has.

    Fails without rp_has_early_header(), handshake.h.
    """
    env.server.sysctl("net.ipv4.tcp_fastopen", 0x602)  # for all, without cookies
    env.stranger.sysctl("net.ipv4.tcp_fastopen", 0x5)
    server = Plain.start(env, ("::", 1883))
    server.listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
    running = inline.daemon(env, WILDCARD, untrusted="direct")
    for count, data in enumerate((GOOD + PAYLOAD, GOOD[:3], b"P"), 1):
        with env.stranger.socket() as sock:
            try:
                sock.sendto(data, socket.MSG_FASTOPEN, (SERVER_SIDE, 1883))
                raise AssertionError(f"{data!r} was taken")
            except ConnectionRefusedError:
                pass
        running.wait_stat("echo", "untrusted_header", count)
    with env.stranger.socket() as sock:
        sock.sendto(PAYLOAD, socket.MSG_FASTOPEN, (SERVER_SIDE, 1883))
        equal(stream.receive_exactly(sock, len(PAYLOAD)), PAYLOAD, "echo")
    equal([a.data for a in server.accepted], [PAYLOAD], "bytes at the server")


@needs(INLINE, BPFTOOL)
def test_during_a_flood(env):
    """Nothing is remembered of plain clients, so nothing is forgotten.

    Fails if rp_screen() is left where `handshakes` has no entry of the peer.
    """
    server = inline.Server.start(env, ("::", 1883))
    running = inline.daemon(env, WILDCARD, untrusted="direct", header_timeout="500ms")
    waiting = [env.stranger.connect((SERVER_SIDE, 1883)) for _ in range(3)]
    server.wait(3)
    waiting[1].sendall(b"P")
    with handshakes.Handshakes(running) as table:
        table.drive_out()
    waiting[0].sendall(GOOD + PAYLOAD)
    waiting[1].sendall(header.v1(SOURCE, DESTINATION)[1:] + PAYLOAD)
    stream.exchange(waiting[2], PAYLOAD)
    for sock in waiting[:2]:
        with contextlib.suppress(ConnectionResetError):
            # its first byte, alone, comes again in ever longer intervals
            equal(stream.ended_by(sock, 20), ("reset", b""), "a header")
    for sock in waiting:
        sock.close()
    equal(sorted(a.data for a in server.accepted), [b"", b"", PAYLOAD], "bytes at the server")


@needs(INLINE, BPFTOOL)
def test_reload(env):
    """Who is silent when the settings change is still no proxy.

    Fails if datapath_configure() takes `screens` back, or if rp_screen() lets peers
    through that are trusted now.
    """
    for changed in ({"untrusted": "reset"}, {"untrusted": "direct", "trusted": "0.0.0.0/0, ::/0"}):
        server = inline.Server.start(env, ("::", 1883))
        running = inline.daemon(env, WILDCARD, untrusted="direct", header_timeout="100ms")
        with env.stranger.connect((SERVER_SIDE, 1883)) as one, \
                env.stranger.connect((SERVER_SIDE, 1883)) as other:
            server.wait(2)
            running.reload(listener("echo", listen=WILDCARD, delivery="inline",
                                    header_timeout="100ms", **changed))
            time.sleep(0.5)
            one.sendall(GOOD + PAYLOAD)
            equal(stream.ended_by(one), ("reset", b""), "a header")
            stream.exchange(other, PAYLOAD)
        equal(sorted(a.data for a in server.accepted), [b"", PAYLOAD], "bytes at the server")
        equal(running.stop(), 0, "exit status")
        server.destroy()


@needs(INLINE, BPFTOOL)
def test_before_the_start(env):
    """Connected before there was a daemon: its header is nobody's, and the server
    does not get it. One with nothing before the header needs no socket even.

    Fails without settled_at in datapath_refresh(), datapath_settings.c.
    """
    for defer in (0, 30):
        server = inline.Server.start(env, ("0.0.0.0", 1883))
        server.listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, defer)
        with env.lb.connect((SERVER, 1883)) as sock:
            running = inline.daemon(env, "0.0.0.0:1883")
            sock.sendall(GOOD + PAYLOAD)
            if not defer:
                equal(stream.ended_by(sock), ("reset", b""), "a header")
                running.wait_stat("echo", "stray", 1)
            time.sleep(0.3)
        equal([a.data for a in server.accepted if a.data], [], "bytes at the server")
        equal(running.stop(), 0, "exit status")
        server.destroy()


@needs(INLINE, BPFTOOL)
def test_segments_of_nobody(env):
    """What could begin a header, without a connection, leaves nothing behind.

    Fails without rp_has_socket() in rp_is_stuck(), screen.h, and rp_has_cookie().
    """
    inline.Server.start(env, ("::", 1883))
    running = inline.daemon(env, WILDCARD, untrusted="direct")
    wire = packets.Wire(env, OUTSIDERS, "side", env.stranger)
    for port in range(20000, 20100):
        peer = packets.Peer(wire, (OUTSIDERS[0], port), (SERVER_SIDE, 1883))
        peer.send(ACK | PSH, b"P", seq=1, ack=1)
        peer.expect(RST, "a segment of no connection")
    equal(inline.map_size(running, "handshakes"), 0, "handshakes")
