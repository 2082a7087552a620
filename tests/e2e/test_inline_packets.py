# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""delivery = inline, segment by segment: a peer whose every packet is made by
hand does what no stack does, and the server sees the right client and exactly
its payload, or nothing at all."""

import struct
import time

from lib import bpf, header, inline, packets, stream
from lib.inline import INLINE, PAYLOAD
from lib.packets import ACK, CWR, ECE, FIN, PSH, RST, SYN, Peer, Wire
from lib.poll import check, equal, wait_for
from lib.requirement import BPFTOOL, needs
from lib.topology import CLIENTS, CLIENTS6, LB_FRONT, LB_FRONT6, SERVER, SERVER6

GHOST, GHOST6 = "10.77.0.99", "fd77::99"  # no interface has them
V4 = ((GHOST, 20001), (SERVER, 1883))
V6 = ((GHOST6, 20001), (SERVER6, 1883))
SOURCE, SOURCE6 = (CLIENTS[0], 40001), (CLIENTS6[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
HEADER6 = header.v2(SOURCE6, (LB_FRONT6, 1883))
BOTH = ((V4, SOURCE, HEADER), (V6, SOURCE6, HEADER6))


def peers(env, **settings):
    """A server for both families, the daemon, and a wire."""
    server = inline.Server.start(env, ("::", 1883))
    return server, inline.daemon(env, **settings), Wire(env, [GHOST, GHOST6])


def shown(source):
    """How a dual-stack server sees it."""
    return source if ":" in source[0] else (f"::ffff:{source[0]}", source[1])


def served(server, peer, count, source, payload=PAYLOAD):
    """The server echoed the payload, to the client it should see."""
    equal(peer.read(len(payload)), payload, "echo")
    accepted = server.wait(count)
    equal((accepted.from_accept, accepted.peer), (shown(source),) * 2, "client")
    wait_for(lambda: accepted.data == payload, lambda: f"{payload!r}, not {accepted.data!r}")


def over(running, server, *connected):
    """The peers reset, and nothing is remembered."""
    for peer in connected:
        peer.reset()
    for accepted in server.accepted:
        wait_for(lambda: accepted.ended, "the server to see the end")  # noqa: B023
    inline.nothing_left(running)


def sockets(env):
    """TCP sockets of the server's namespace that are not listening."""
    return env.server.run("ss", "-Htan", "state", "all", "exclude", "listening",
                          "sport = :1883").stdout.splitlines()


@needs(INLINE, BPFTOOL)
def test_plain(env):
    """The ordinary way, for both families: header and payload in one segment."""
    server, running, wire = peers(env)
    open_ = []
    for count, (ends, source, head) in enumerate(BOTH, 1):
        peer = Peer(wire, *ends).handshake()
        peer.data(head + PAYLOAD)
        served(server, peer, count, source)
        open_.append(peer)
    over(running, server, *open_)


SYNS = [
    (SYN, {packets.MSS: 1460, packets.SACK_PERMITTED: True, packets.TIMESTAMPS: (7, 0),
           packets.WSCALE: 7}),
    (SYN, {}), (SYN, {packets.MSS: 1460}), (SYN, {packets.MSS: 1460, packets.WSCALE: 14}),
    (SYN, {packets.MSS: 536, packets.SACK_PERMITTED: True}),
    (SYN, {packets.MSS: 1400, packets.TIMESTAMPS: (0xFFFFFFFF, 0)}),
    (SYN, {packets.MSS: 9000, packets.WSCALE: 0, packets.TIMESTAMPS: (1, 0)}),
    (SYN | ECE | CWR, {packets.MSS: 1460, packets.WSCALE: 3}), (SYN | ECE, {packets.MSS: 1460}),
    # unknown ones are skipped; a Fast Open request (RFC 7413) is one here
    (SYN, {packets.MSS: 1460, 254: b"\xf9\x89ab", packets.WSCALE: 2}),
    (SYN, {packets.MSS: 1460, 34: b"", packets.SACK_PERMITTED: True}),
]


def like_the_stack(wire, source, server, flags, options):
    """TC answers on 1883 what the kernel answers on 1884 to the same SYN."""
    answers = []
    for port in (1883, 1884):
        peer = Peer(wire, source, (server, port))
        peer.send_syn(flags, options)
        answer = peer.receive()
        check(answer and answer.flags & SYN, f"answer of port {port} to {options}: {answer}")
        equal(answer.ack, (peer.isn + 1) % packets.MODULO, "ACK number")
        peer.send(RST, seq=answer.ack)
        answers.append(answer)
    have, want = answers
    what = f"to {packets.flag_names(flags)} {options}"
    equal(have.flags, want.flags, f"flags of the answer {what}")
    times = [answer.options.pop(packets.TIMESTAMPS, (0, None))[1] for answer in answers]
    equal(times[0], times[1], f"echoed timestamp {what}")
    equal(have.options, want.options, f"options of the answer {what}")
    mss = want.options[packets.MSS]
    check(want.window - mss < have.window <= want.window + mss,
          f"window {have.window}, the stack's is {want.window}, {what}")


@needs(INLINE, BPFTOOL)
def test_syn_ack_is_the_stacks(env):
    _, running, wire = peers(env)
    env.at_end(env.server.listen(("::", 1884)).close)
    port = 20000
    for mtu in (1500, 9000, 1280):
        for namespace in (env.lb, env.server):
            namespace.run("ip", "link", "set", "back", "mtu", str(mtu))
        for flags, options in SYNS:
            port += 1
            like_the_stack(wire, (GHOST, port), SERVER, flags, options)
            if options.get(packets.MSS, 0) >= 1220:
                like_the_stack(wire, (GHOST6, port), SERVER6, flags, options)
    inline.nothing_left(running)


def seen_sysctls(running):
    """What the daemon told the programs of them."""
    settings = bpf.map_values(running.map_path("settings"))[0]
    return settings["options"], settings["wscale"]


@needs(INLINE, BPFTOOL)
def test_syn_ack_obeys_sysctls(env):
    """tcp_sack, tcp_timestamps, tcp_window_scaling, tcp_ecn, tcp_rmem."""
    changes = [("sack", 0), ("timestamps", 0), ("window_scaling", 0), ("ecn", 0),
               ("rmem", "4096 131072 67108864"), ("rmem", "4096 20000 40000")]
    # Both listen before: a socket's window is that of its own buffer.
    env.at_end(env.server.listen(("::", 1884)).close)
    server, running, wire = peers(env)
    for port, (name, value) in enumerate(changes, 20001):
        path = f"net.ipv4.tcp_{name}"
        with env.server.entered(), open("/proc/sys/" + path.replace(".", "/"),
                                        encoding="ascii") as file:
            before = file.read()
        seen = seen_sysctls(running)
        env.server.sysctl(path, value)
        wait_for(lambda: seen_sysctls(running) != seen,  # noqa: B023
                 f"the daemon to see that {path} is {value}")
        for flags, options in (SYNS[0], SYNS[7]):
            like_the_stack(wire, (GHOST, port + 100 * flags), SERVER, flags, options)
        peer = Peer(wire, (GHOST, port), V4[1]).handshake()
        peer.data(HEADER + PAYLOAD)
        served(server, peer, port - 20000, SOURCE)
        peer.reset()
        env.server.sysctl(path, before)
        wait_for(lambda: seen_sysctls(running) == seen, f"{path} as it was")  # noqa: B023


@needs(INLINE, BPFTOOL)
def test_duplicate_syn(env):
    """The same SYN gets the same SYN-ACK, another ISN begins anew."""
    server, running, wire = peers(env)
    peer = Peer(wire, *V4)
    peer.send_syn()
    first = peer.expect(SYN | ACK, "answer to a SYN")
    for _ in range(3):
        peer.send_syn()
        again = peer.expect(SYN | ACK, "answer to the same SYN")
        equal((again.seq, again.ack, again.window, again.options),
              (first.seq, first.ack, first.window, first.options), "the same SYN-ACK")
    equal(running.stat("echo", "handshakes"), 1, "handshakes")
    peer.take_syn_ack(first)
    peer.send(ACK)
    peer.send_syn()  # a late one, after the ACK
    equal(peer.expect(SYN | ACK, "answer to a late SYN").seq, first.seq, "its ISN")
    peer.data(HEADER + PAYLOAD)
    served(server, peer, 1, SOURCE)
    over(running, server, peer)

    other = Peer(wire, *V4, isn=12345)
    Peer(wire, *V4, isn=999).send_syn()
    Peer(wire, *V4, isn=999).expect(SYN | ACK, "answer to the older SYN")
    other.handshake()
    other.data(HEADER + PAYLOAD)
    served(server, other, 2, SOURCE)
    over(running, server, other)


@needs(INLINE, BPFTOOL)
def test_bare_ack(env):
    """Without a header there is no answer, no socket and no accept()."""
    server, running, wire = peers(env)
    for count, (ends, source, head) in enumerate(BOTH, 1):
        peer = Peer(wire, *ends).handshake()
        for _ in range(3):
            peer.send(ACK)
        peer.expect_nothing("a bare ACK")
        equal(sockets(env), [], "sockets")
        equal(len(server.accepted), count - 1, "accepted")
        equal(inline.map_size(running, "handshakes"), 1, "handshakes")
        peer.data(head + PAYLOAD)
        served(server, peer, count, source)
        peer.reset()
        inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_retransmitted_first_segment(env):
    """Twice at once, and again with more behind it, as after an RTO."""
    server, running, wire = peers(env)
    for count, (ends, source, head) in enumerate(BOTH, 1):
        peer = Peer(wire, *ends).handshake()
        for more in (b"", b"", b" wor", b" world", b" world"):
            peer.send(ACK | PSH, head + PAYLOAD + more)
        peer.seq = (peer.seq + len(head + PAYLOAD) + 6) % packets.MODULO
        served(server, peer, count, source, PAYLOAD + b" world")
        peer.reset()
    over(running, server)
    equal(running.stat("echo", "connections"), 2, "connections")


@needs(INLINE, BPFTOOL)
def test_reordered(env):
    """The second segment before the first: it has to be sent again."""
    server, running, wire = peers(env)
    for count, (ends, source, head) in enumerate(BOTH, 1):
        peer = Peer(wire, *ends).handshake()
        second = peer.seq + len(head + PAYLOAD)
        peer.send(ACK | PSH, b" world", seq=second)
        peer.send(ACK | PSH, b"!", seq=second + 6)
        peer.expect_nothing("a segment behind a gap")
        equal(sockets(env), [], "sockets")
        peer.data(head + PAYLOAD)
        peer.send(ACK | PSH, b"!", seq=second + 6)
        peer.data(b" world")
        peer.seq += 1
        served(server, peer, count, source, PAYLOAD + b" world!")
        over(running, server, peer)


@needs(INLINE, BPFTOOL)
def test_header_retransmitted_alone(env):
    """The header's segment again, after the socket exists, is old data."""
    server, running, wire = peers(env)
    for count, (ends, source, head) in enumerate(BOTH, 1):
        peer = Peer(wire, *ends).handshake()
        first = peer.seq
        peer.data(head)
        server.wait(count)
        for _ in range(3):
            peer.send(ACK | PSH, head, seq=first)
        peer.data(PAYLOAD)
        peer.send(ACK | PSH, head + PAYLOAD, seq=first)
        served(server, peer, count, source)
        over(running, server, peer)


@needs(INLINE, BPFTOOL)
def test_reset_before_the_header(env):
    """It drops the handshake, if its sequence number is the right one."""
    server, running, wire = peers(env)
    for number, (ends, _, _) in enumerate(BOTH, 1):
        peer = Peer(wire, *ends).handshake()
        for seq in (peer.seq - 1, peer.seq + 1, 0, peer.seq + 100000):
            peer.send(RST, seq=seq)
        peer.expect_nothing("a blind reset")
        equal(inline.map_size(running, "handshakes"), 1, "handshakes after blind resets")
        peer.send(RST | ACK)
        inline.wait_map_empty(running, "handshakes")
        peer.expect_nothing("a reset")
        running.wait_stat("echo", "closed_early", number)
    equal(server.accepted, [], "connections of the server")


@needs(INLINE, BPFTOOL)
def test_data_after_reset(env):
    """A header for a handshake that is gone reaches nobody."""
    server, running, wire = peers(env)
    for ends, _, head in BOTH:
        peer = Peer(wire, *ends).handshake()
        peer.send(RST | ACK)
        inline.wait_map_empty(running, "handshakes")
        peer.data(head + PAYLOAD)
        peer.expect(RST, "data without a connection")
    equal((server.accepted, sockets(env)), ([], []), "connections, sockets")


@needs(INLINE, BPFTOOL)
def test_fin_before_the_header(env):
    """A health check that connects and closes: reset, counted, no complaint."""
    server, running, wire = peers(env)
    for number, (ends, _, _) in enumerate(BOTH, 1):
        peer = Peer(wire, *ends).handshake()
        peer.send(FIN | ACK)
        answer = peer.expect(RST, "a FIN before the header")
        equal(answer.seq, peer.ack, "its sequence number")
        inline.wait_map_empty(running, "handshakes")
        running.wait_stat("echo", "closed_early", number)
    equal((server.accepted, sockets(env)), ([], []), "connections, sockets")
    equal(running.log_complaints(), [], "complaints in the log")


@needs(INLINE, BPFTOOL)
def test_header_alone(env):
    """The server accepts at once, before any payload."""
    server, running, wire = peers(env)
    for count, (ends, source, head) in enumerate(BOTH, 1):
        peer = Peer(wire, *ends).handshake()
        peer.data(head)
        equal(peer.expect(ACK, "the header").ack, peer.seq, "what is acknowledged")
        equal(server.wait(count).peer, shown(source), "client")
        peer.data(PAYLOAD)
        served(server, peer, count, source)
        over(running, server, peer)


@needs(INLINE, BPFTOOL)
def test_header_payload_and_fin(env):
    """All that a client says, in one segment; with and without payload."""
    server, running, wire = peers(env)
    count = 0
    for ends, source, head in BOTH:
        for payload in (PAYLOAD, b""):
            count += 1
            peer = Peer(wire, (ends[0][0], 20000 + count), ends[1]).handshake()
            peer.data(head + payload, ACK | PSH | FIN)
            accepted = server.wait(count)
            equal(accepted.peer, shown(source), "client")
            wait_for(lambda: accepted.ended, "the server to see the end")  # noqa: B023
            equal((accepted.data, accepted.ended), (payload, "eof"), "bytes at the server")
            equal(peer.read(len(payload)), payload, "echo")
            peer.reset()
    over(running, server)


@needs(INLINE, BPFTOOL)
def test_urgent_and_ecn_flags(env):
    """Flags of a first segment that mean something to the stack."""
    server, running, wire = peers(env)
    for count, flags in enumerate((ACK | PSH | packets.CWR, ACK | PSH | ECE, ACK), 1):
        peer = Peer(wire, (GHOST, 20000 + count), V4[1])
        peer.send_syn(SYN | ECE | CWR)
        answer = peer.expect(SYN | ACK | ECE, "SYN with ECN")
        peer.take_syn_ack(answer)
        peer.data(HEADER + PAYLOAD, flags)
        served(server, peer, count, SOURCE)
        peer.reset()
    over(running, server)


@needs(INLINE, BPFTOOL)
def test_gso(env):
    """A first segment of 60 KB, as TSO and GRO make them."""
    server, running, wire = peers(env)
    payload = PAYLOAD + bytes(range(256)) * 234
    for count, (ends, source, head) in enumerate(BOTH, 1):
        peer = Peer(wire, *ends).handshake()
        peer.send_gso(head + payload, 1400)
        served(server, peer, count, source, payload)
        over(running, server, peer)


@needs(INLINE, BPFTOOL)
def test_wrong_ack_number(env):
    """Who did not see the SYN-ACK cannot have sent this: it is dropped, or reset
    by the stack, as RFC 9293 section 3.10.7.4 has it."""
    server, running, wire = peers(env)
    for count, (ends, source, head) in enumerate(BOTH, 1):
        peer = Peer(wire, *ends).handshake()
        wrong = [ack % packets.MODULO for ack in (peer.ack - 1, peer.ack + 1, 0, peer.ack + 70000,
                                          peer.ack + 32, peer.ack - 3200)]
        for ack in wrong:
            peer.send(ACK | PSH, head + PAYLOAD, ack=ack)
        peer.send(PSH, head + PAYLOAD)
        while segment := peer.receive(0.1):
            check(segment.flags == RST and segment.seq in wrong, segment)
        equal((server.accepted[count - 1:], sockets(env)), ([], []), "connections, sockets")
        peer.data(head + PAYLOAD)
        served(server, peer, count, source)
        over(running, server, peer)


@needs(INLINE, BPFTOOL)
def test_keep_alive(env):
    """RFC 9293 section 3.8.4: one before the next byte, with or without one."""
    server, running, wire = peers(env)
    for count, (ends, source, head) in enumerate(BOTH, 1):
        peer = Peer(wire, *ends).handshake()
        peer.send(ACK, seq=peer.seq - 1)
        peer.send(ACK, b"\0", seq=peer.seq - 1)
        peer.expect_nothing("a keep-alive")
        peer.data(head + PAYLOAD)
        served(server, peer, count, source)
        over(running, server, peer)


@needs(INLINE, BPFTOOL)
def test_no_timestamps(env):
    """Without options; and a segment that lacks the timestamps agreed on."""
    server, running, wire = peers(env)
    for count, (ends, source, head) in enumerate(BOTH, 1):
        peer = Peer(wire, *ends, timestamps=False)
        peer.send_syn(options={packets.MSS: 1300})
        peer.take_syn_ack(peer.expect(SYN | ACK, "answer to a SYN"))
        peer.data(head + PAYLOAD)
        served(server, peer, count, source)
        over(running, server, peer)
    peer = Peer(wire, *V4).handshake()
    peer.send(ACK | PSH, HEADER + PAYLOAD, options={})
    peer.expect_nothing("no timestamps")
    peer.data(HEADER + PAYLOAD)
    served(server, peer, 3, SOURCE)
    over(running, server, peer)


@needs(INLINE, BPFTOOL)
def test_bad_checksum(env):
    """A segment that was damaged on the way does not become a connection."""
    server, running, wire = peers(env)
    for count, (ends, source, head) in enumerate(BOTH, 1):
        peer = Peer(wire, *ends).handshake()
        for check_error in (1, 0x1234, 0xFF00):
            peer.send(ACK | PSH, head + PAYLOAD, check=check_error)
        peer.expect_nothing("a wrong checksum")
        equal((server.accepted[count - 1:], sockets(env)), ([], []), "connections, sockets")
        equal(inline.map_size(running, "connections"), 0, "records")
        peer.data(head + PAYLOAD)
        served(server, peer, count, source)
        over(running, server, peer)


@needs(INLINE, BPFTOOL)
def test_bad_checksum_is_not_judged(env):
    """Nor is anybody reset, or taken as a plain client, for damaged bytes."""
    server, running, wire = peers(env, proxy_protocol="enabled")
    peer = Peer(wire, *V4).handshake()
    peer.send(ACK | PSH, b"X" + HEADER[1:] + PAYLOAD, check=1)
    peer.send(RST, check=1)
    peer.send(FIN | ACK, check=1)
    peer.expect_nothing("a wrong checksum")
    equal((server.accepted, sockets(env)), ([], []), "connections, sockets")
    peer.data(HEADER + PAYLOAD)
    served(server, peer, 1, SOURCE)
    over(running, server, peer)


@needs(INLINE, BPFTOOL)
def test_device_gives_the_sum(env):
    """A checksum left to a device, as from a local stack, is no wrong one."""
    server, running, wire = peers(env)
    for count, (ends, source, head) in enumerate(BOTH, 1):
        peer = Peer(wire, *ends).handshake()
        peer.send_gso(head + PAYLOAD, 1400)
        served(server, peer, count, source)
        over(running, server, peer)


def takes_it_or_resets(server, peer, source):
    """The daemon may finish it; else nobody gets a byte."""
    segment = peer.receive(1)
    while segment and not segment.payload and not segment.flags & RST:
        segment = peer.receive(1)
    if segment and segment.payload:
        equal(segment.payload, PAYLOAD, "echo")
        equal(server.wait(1).peer, shown(source), "client")
        peer.reset()
    else:
        equal(server.accepted, [], "connections of the server")


@needs(INLINE, BPFTOOL)
def test_ip_options(env):
    """NOPs in the IPv4 header of the SYN, of the header's segment, or both."""
    for of_syn, of_data in ((b"", b"\1" * 4), (b"\1" * 8, b""), (b"\1" * 4, b"\1" * 12)):
        server, running, wire = peers(env)
        peer = Peer(wire, *V4)
        peer.send(SYN, seq=peer.isn, ack=0, options={packets.MSS: 1460}, ip_options=of_syn)
        answer = peer.receive()
        if answer and answer.flags & SYN:
            peer.take_syn_ack(answer)
            peer.send(ACK, ip_options=of_data)
            peer.send(ACK | PSH, HEADER + PAYLOAD, ip_options=of_data)
            peer.seq = (peer.seq + len(HEADER + PAYLOAD)) % packets.MODULO
        takes_it_or_resets(server, peer, SOURCE)
        server.destroy()
        running.stop()


PAD = struct.pack("!BBBB4x", 6, 0, 1, 4)  # RFC 8200 section 4.6, a PadN


@needs(INLINE, BPFTOOL)
def test_extension_header(env):
    """Destination options of IPv6, likewise."""
    for of_syn, of_data in ((b"", PAD), (PAD, b""), (PAD, PAD)):
        server, running, wire = peers(env)
        peer = Peer(wire, *V6)
        peer.send(SYN, seq=peer.isn, ack=0, options={packets.MSS: 1440}, extension=of_syn)
        answer = peer.receive()
        if answer and answer.flags & SYN:
            peer.take_syn_ack(answer)
            peer.send(ACK, extension=of_data)
            peer.send(ACK | PSH, HEADER6 + PAYLOAD, extension=of_data)
            peer.seq = (peer.seq + len(HEADER6 + PAYLOAD)) % packets.MODULO
        takes_it_or_resets(server, peer, SOURCE6)
        server.destroy()
        running.stop()


@needs(INLINE, BPFTOOL)
def test_header_in_two_segments(env):
    """At every split: the daemon finishes it, the server sees the same."""
    server, running, wire = peers(env)
    count = 0
    for ends, source, head in BOTH:
        for cut in range(1, len(head)):
            count += 1
            peer = Peer(wire, (ends[0][0], 20000 + count), ends[1]).handshake()
            peer.data(head[:cut])
            peer.data(head[cut:] + PAYLOAD)
            served(server, peer, count, source)
            peer.reset()
    over(running, server)
    equal(running.stat("echo", "handed_over"), count, "handed_over")


@needs(INLINE, BPFTOOL)
def test_strange_flags(env):
    """Segments that open or belong to nothing get no socket."""
    server, running, wire = peers(env)
    for number, flags in enumerate((SYN | FIN, SYN | RST, SYN | ACK, 0, FIN, PSH, FIN | PSH, ACK,
                                    0xFF), 20001):
        peer = Peer(wire, (GHOST, number), V4[1])
        peer.send(flags, HEADER + PAYLOAD)
        answer = peer.receive(0.05)
        check(answer is None or answer.flags & RST, f"answer to {flags:#x}: {answer}")
    equal((server.accepted, sockets(env)), ([], []), "connections, sockets")
    inline.wait_map_empty(running, "handshakes")
    with env.lb.connect((SERVER, 1883)) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)


@needs(INLINE, BPFTOOL)
def test_lost_syn_ack(env):
    """The time for a header begins with the one that arrived.

    Fails without known->since in rp_on_syn(), handshake.h.
    """
    server, running, wire = peers(env, header_timeout="4s")
    peer = Peer(wire, *V4)
    for seconds in (2.4, 2.0):
        peer.send_syn()
        syn_ack = peer.expect(SYN | ACK, "answer to a SYN")
        time.sleep(seconds)
    peer.take_syn_ack(syn_ack)
    peer.data(HEADER + PAYLOAD)
    served(server, peer, 1, SOURCE)
    over(running, server, peer)
