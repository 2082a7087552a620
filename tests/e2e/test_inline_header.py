# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""delivery = inline: what counts as a header, and from whom. The same cases as
of a relaying listener, decided before the server has a socket."""

import time

from lib import bpf, header, inline, stream
from lib.handler import greet
from lib.inline import INLINE, PAYLOAD
from lib.poll import check, equal, wait_for
from lib.requirement import BPFTOOL, needs
from lib.topology import (CLIENTS6, LB, LB6, LB_FRONT6, SERVER, SERVER6, SERVER_SIDE,
                          SERVER_SIDE6)
from test_required import ACCEPTED, DESTINATION, GOOD, LOCAL, REFUSED, SOURCE

ADDRESS = (SERVER, 1883)
SOURCE6 = (CLIENTS6[0], 40001)
WILDCARD = "0.0.0.0:1883, [::]:1883"


def good_afterwards(env, server):
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, GOOD + PAYLOAD, PAYLOAD)
        equal(server.wait(1).from_accept, SOURCE, "client of a good header afterwards")


def refused_at_once(env, reasons):
    """Each is reset long before its deadline, counted, and seen by nobody."""
    server = inline.Server.start(env)
    running = inline.daemon(env, header_timeout="60s")
    for reason in reasons:
        for count, data in enumerate(REFUSED[reason], 1):
            stream.refused(env.lb, ADDRESS, data)
            try:
                running.wait_stat("echo", reason, count)
            except AssertionError as error:
                raise AssertionError(f"{error}, for {data[:120]!r}") from None
    equal(server.accepted, [], "connections of the server")
    good_afterwards(env, server)
    inline.nothing_left(running)
    equal(running.log_complaints(), [], "complaints in the log")


@needs(INLINE, BPFTOOL)
def test_not_header(env):
    refused_at_once(env, ["not_header"])


@needs(INLINE, BPFTOOL)
def test_malformed(env):
    """A wrong CRC32C included: NLB always sends one."""
    refused_at_once(env, ["malformed", "too_long"])


@needs(INLINE, BPFTOOL)
def test_bad_source(env):
    refused_at_once(env, ["bad_source"])


@needs(INLINE, BPFTOOL)
def test_special_source_accepted(env):
    server = inline.Server.start(env)
    inline.daemon(env, special_source="accept")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, header.v2(("127.9.9.9", 7), DESTINATION) + PAYLOAD, PAYLOAD)
        equal(server.wait(1).from_accept, ("127.9.9.9", 7), "client")


@needs(INLINE, BPFTOOL)
def test_accepted(env):
    """All that the specification allows. Few are too long for the kernel."""
    server = inline.Server.start(env)
    running = inline.daemon(env)
    for count, head in enumerate(ACCEPTED + LOCAL, 1):
        with env.lb.connect(ADDRESS) as sock:
            try:
                stream.exchange(sock, head + PAYLOAD, PAYLOAD)
            except (AssertionError, OSError) as error:
                raise AssertionError(f"{error!r}, for {head[:120]!r}") from None
            want = SOURCE if count <= len(ACCEPTED) else sock.getsockname()
            accepted = server.wait(count)
            equal((accepted.from_accept, accepted.peer), (want, want), f"client of {head[:120]!r}")
    equal(running.stat("echo", "local"), len(LOCAL), "local")
    check(running.stat("echo", "handed_over") <= 2, "most are decided in the kernel")
    equal(running.log_complaints(), [], "complaints in the log")
    inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_second_header_is_payload(env):
    """NLB does not strip what a client sent: exactly one is consumed."""
    second = header.v2(("198.51.100.66", 666), DESTINATION)
    listening = env.server.listen(ADDRESS)
    env.at_end(listening.close)
    inline.daemon(env)
    for head in (GOOD, header.v1(SOURCE, DESTINATION)):
        with env.lb.connect(ADDRESS) as sock:
            sock.sendall(head + second + PAYLOAD)
            listening.settimeout(5)
            accepted, peer = listening.accept()
            with accepted:
                equal(peer, SOURCE, "client")
                equal(stream.receive_exactly(accepted, len(second + PAYLOAD)), second + PAYLOAD,
                      "bytes at the server")


@needs(INLINE, BPFTOOL)
def test_header_max(env):
    server = inline.Server.start(env)
    running = inline.daemon(env, header_max=200)
    for size in (200, 201):
        tlv = header.tlv(header.TLV_NOOP, bytes(size - len(GOOD) - 3))
        head = header.v2(SOURCE, DESTINATION, tlv)
        equal(len(head), size, "the test's header")
        if size == 200:
            with env.lb.connect(ADDRESS) as sock:
                stream.exchange(sock, head + PAYLOAD, PAYLOAD)
                equal(server.wait(1).from_accept, SOURCE, "client")
        else:
            stream.refused(env.lb, ADDRESS, head)
    running.wait_stat("echo", "too_long", 1)
    equal(len(server.accepted), 1, "connections of the server")


@needs(INLINE, BPFTOOL)
def test_timeout(env):
    """Silence costs nothing and is not ended; half a header is."""
    server = inline.Server.start(env)
    running = inline.daemon(env, header_timeout="500ms")
    for count, data in enumerate((b"P", b"PROXY TCP4 203.", b"\r\n\r\n\0", GOOD[:-1]), 1):
        seconds = stream.refused(env.lb, ADDRESS, data)
        check(0.4 < seconds < 3, f"given up on after {seconds:.2f} s")
        running.wait_stat("echo", "timeout", count)
    equal(server.accepted, [], "connections of the server")
    inline.nothing_left(running)


TLVS = (header.CRC_TLV + header.tlv(header.TLV_AUTHORITY, b"broker.test")
        + header.tlv(header.TLV_UNIQUE_ID, b"id-7")
        + header.tlv(header.TLV_ALPN, b"mqtt")
        + header.tlv(header.TLV_AWS, b"\x01vpce-08d2bf15fac5001c9")
        + header.ssl_tlv(7, 0, header.tlv(header.TLV_SSL_CN, b"device-7")))


@needs(INLINE, BPFTOOL)
def test_record(env):
    """The record of an inline connection, TLVs included, and its end."""
    inline.Server.start(env, ("::", 1883))
    running = inline.daemon(env)
    for server, local, source, destination, family in (
            (SERVER, LB, SOURCE, DESTINATION, "ipv4"),
            (SERVER6, LB6, SOURCE6, (LB_FRONT6, 1883), "ipv6")):
        with env.lb.connect((server, 1883)) as sock:
            stream.exchange(sock, header.v2(source, destination, TLVS) + PAYLOAD, PAYLOAD)
            entry = running.wait_connections(1)[0]
            want = {
                "listener": "echo", "client": source[0], "client_port": source[1],
                "proxy": local, "proxy_port": sock.getsockname()[1],
                "destination": destination[0], "destination_port": destination[1],
                "family": family, "version": 2, "command": "proxy", "delivery": "inline",
                "offload": "accept"}
            equal({key: entry[key] for key in want}, want, "values")
            want = {"authority": "broker.test", "unique_id": "id-7",
                    "aws_vpce_id": "vpce-08d2bf15fac5001c9", "ssl_cn": "device-7"}
            equal({key: entry["tlvs"].get(key) for key in want}, want, "tlvs")
        running.wait_connections(0)
    inline.nothing_left(running)
    equal((running.stat("echo", "connections"), running.stat("echo", "header_v2")), (2, 2),
          "connections, header_v2")


@needs(INLINE, BPFTOOL)
def test_record_of_local(env):
    inline.Server.start(env)
    running = inline.daemon(env)
    for head in (header.AWS_HEALTH_CHECK, b"PROXY UNKNOWN\r\n"):
        with env.lb.connect(ADDRESS) as sock:
            stream.exchange(sock, head + PAYLOAD, PAYLOAD)
            entry = running.wait_connections(1)[0]
            equal((entry["command"], entry["client"], entry["client_port"]),
                  ("local", *sock.getsockname()), "command and client")
        running.wait_connections(0)


FIRST_BYTES = [b"hello world", b"GET / HTTP/1.1\r\n\r\n", b"PING\r\n", b"PUB a 1\r\nb\r\n",
               b"\r\n\r\nCONNECT\n", b"\x10\x0c\0\4MQTT\4\2\0\x3c\0\0", b"\0" * 20, b"x"]


class Plain(inline.Server):
    """For first bytes that begin like a header."""

    def verify(self):
        for accepted in self.accepted:
            if not any(data.startswith(accepted.data) for data in (*FIRST_BYTES, PAYLOAD)):
                raise AssertionError(f"the server got {accepted.data!r}")


@needs(INLINE, BPFTOOL)
def test_enabled(env):
    """With a header its client, without one the peer's own address."""
    server = Plain.start(env)
    running = inline.daemon(env, proxy_protocol="enabled")
    count = 0
    for data in FIRST_BYTES:
        for head in (b"", GOOD, header.v1(SOURCE, DESTINATION)):
            count += 1
            with env.lb.connect(ADDRESS) as sock:
                stream.exchange(sock, head + data, data)
                want = SOURCE if head else sock.getsockname()
                accepted = server.wait(count)
                equal((accepted.from_accept, accepted.peer), (want, want), f"client of {data!r}")
    equal(running.stat("echo", "direct"), len(FIRST_BYTES), "direct")
    inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_enabled_refuses_malformed(env):
    """What begins like a header and is none is no plain client either."""
    server = Plain.start(env)
    running = inline.daemon(env, proxy_protocol="enabled")
    for count, data in enumerate(REFUSED["malformed"], 1):
        stream.refused(env.lb, ADDRESS, data)
        running.wait_stat("echo", "malformed", count)
    equal(server.accepted, [], "connections of the server")


@needs(INLINE, BPFTOOL)
def test_enabled_prefix_of_a_signature(env):
    """Bytes that may become a header wait for header_timeout at most."""
    server = Plain.start(env)
    inline.daemon(env, proxy_protocol="enabled", header_timeout="500ms")
    for count, data in enumerate((b"P", b"\r\n", b"\r"), 1):
        begin = time.monotonic()
        with env.lb.connect(ADDRESS) as sock:
            sock.sendall(data)
            wait_for(lambda: len(server.accepted) >= count, "accept()")  # noqa: B023
            check(time.monotonic() - begin < 3, "long after header_timeout")
            equal(stream.receive_exactly(sock, len(data)), data, "echo")
            equal(server.accepted[-1].peer, sock.getsockname(), "client")


@needs(INLINE, BPFTOOL)
def test_enabled_server_first(env):
    """A silent client of a server that speaks first gets the greeting."""
    server = inline.Server.start(env, behaviour=greet)
    running = inline.daemon(env, proxy_protocol="enabled", header_timeout="500ms")
    begin = time.monotonic()
    with env.lb.connect(ADDRESS) as sock:
        equal(stream.receive_until(sock, b"\n"), b"INFO hello\r\n", "greeting")
        seconds = time.monotonic() - begin
        check(0.3 < seconds < 3, f"greeted after {seconds:.2f} s")
        equal(server.wait(1).peer, sock.getsockname(), "client")
        stream.exchange(sock, PAYLOAD)
    inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_late_header(env):
    """The server was told already that there is none, and is not given one as
    payload, be it whole or in pieces; a plain client has one look, no more.

    Fails without rp_screen_late(), screen.h, without rp_has_silent() in
    rp_is_screening(), accept.bpf.c, and without rp_forget_silent() in either of its
    places.
    """
    server = inline.Server.start(env, ("::", 1883), behaviour=greet)
    running = inline.daemon(env, WILDCARD, proxy_protocol="enabled", header_timeout="500ms")
    ends = [(ADDRESS, GOOD), ((SERVER6, 1883), GOOD), (ADDRESS, header.v1(SOURCE, DESTINATION))]
    for count, (address, head) in enumerate(ends * 2, 1):
        pieces = [head + PAYLOAD] if count <= len(ends) else [head[:4], head[4:] + PAYLOAD]
        with env.lb.connect(address) as sock:
            equal(stream.receive_until(sock, b"\n"), b"INFO hello\r\n", "greeting")
            equal(inline.map_size(running, "silent"), 1, "silent ones")
            stream.send_pieces(sock, pieces)
            equal(stream.ended_by(sock), ("reset", b""), "a late header")
        running.wait_stat("echo", "timeout", count)
        wait_for(lambda: server.accepted[-1].ended, "it to end")
    equal([a.data for a in server.accepted], [b""] * 2 * len(ends), "bytes at the server")
    for _ in range(2):
        with env.lb.connect(ADDRESS) as sock:
            equal(stream.receive_until(sock, b"\n"), b"INFO hello\r\n", "greeting")
            stream.exchange(sock, PAYLOAD)
            equal(inline.map_size(running, "silent"), 0, "silent ones")
        with env.lb.connect(ADDRESS) as sock:
            equal(stream.receive_until(sock, b"\n"), b"INFO hello\r\n", "greeting")
    inline.nothing_left(running)
    equal(bpf.map_values(running.map_path("gates"))[0]["silent"], 0, "what opens the gate")


@needs(INLINE, BPFTOOL)
def test_required_server_first(env):
    """Behind a balancer that sends its header at once the greeting follows."""
    server = inline.Server.start(env, behaviour=greet)
    inline.daemon(env)
    with env.lb.connect(ADDRESS) as sock:
        sock.sendall(GOOD)
        equal(stream.receive_until(sock, b"\n"), b"INFO hello\r\n", "greeting")
        equal(server.wait(1).peer, SOURCE, "client")
        stream.exchange(sock, PAYLOAD)


@needs(INLINE, BPFTOOL)
def test_disabled(env):
    """No header is looked for, and none is consumed: bytes are bytes."""
    listening = env.server.listen(ADDRESS)
    env.at_end(listening.close)
    listening.settimeout(5)
    inline.daemon(env, proxy_protocol="disabled")
    for data in (GOOD + PAYLOAD, PAYLOAD):
        with env.lb.connect(ADDRESS) as sock:
            sock.sendall(data)
            accepted, peer = listening.accept()
            with accepted:
                equal(peer, sock.getsockname(), "client")
                equal(stream.receive_exactly(accepted, len(data)), data, "bytes at the server")


FORGED = {
    SERVER_SIDE: [GOOD, header.v1(SOURCE, DESTINATION), header.v2_local(),
                  header.AWS_HEALTH_CHECK],
    SERVER_SIDE6: [header.v2(SOURCE6, (LB_FRONT6, 1883)), header.v1(SOURCE6, (LB_FRONT6, 1883)),
                   header.v2_local()],
}


def trusted_works(env, server):
    count = len(server.accepted) + 1
    with env.lb.connect((SERVER6, 1883)) as sock:
        stream.exchange(sock, header.v2(SOURCE6, (LB_FRONT6, 1883)) + PAYLOAD, PAYLOAD)
        equal(server.wait(count).peer, SOURCE6, "client of the trusted proxy")


@needs(INLINE, BPFTOOL)
def test_untrusted_reset(env):
    """Their SYN is refused, whatever they would have sent."""
    for mode in ("required", "enabled"):
        server = inline.Server.start(env, ("::", 1883))
        running = inline.daemon(env, WILDCARD, proxy_protocol=mode, untrusted="reset")
        count = 0
        for address in FORGED:
            for _ in range(10):
                count += 1
                try:
                    env.stranger.connect((address, 1883)).close()
                except ConnectionRefusedError:
                    continue
                raise AssertionError(f"{address}: not refused")
        running.wait_stat("echo", "untrusted", count)
        equal(server.accepted, [], "connections of the server")
        trusted_works(env, server)
        server.destroy()
        equal(running.stop(), 0, "exit status")


@needs(INLINE, BPFTOOL)
def test_in_two(env):
    """Cut at each byte, by a real stack: the daemon takes these."""
    server = inline.Server.start(env)
    running = inline.daemon(env)
    count = 0
    for head in (GOOD, header.v1(SOURCE, DESTINATION), header.v2(SOURCE, DESTINATION, TLVS)):
        for cut in range(1, len(head) + 3):
            count += 1
            with env.lb.connect(ADDRESS) as sock:
                data = head + PAYLOAD
                stream.send_pieces(sock, (data[:cut], data[cut:]), 0.002)
                equal(stream.receive_exactly(sock, len(PAYLOAD)), PAYLOAD, f"cut at {cut}")
                accepted = server.wait(count)
                equal((accepted.from_accept, accepted.peer), (SOURCE, SOURCE), f"cut at {cut}")
    inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_byte_by_byte(env):
    server = inline.Server.start(env)
    running = inline.daemon(env)
    for count, head in enumerate((GOOD, header.v1(SOURCE, DESTINATION)), 1):
        with env.lb.connect(ADDRESS) as sock:
            stream.send_pieces(sock, [bytes([byte]) for byte in head + PAYLOAD], 0.001)
            equal(stream.receive_exactly(sock, len(PAYLOAD)), PAYLOAD, "echo")
            equal(server.wait(count).peer, SOURCE, "client")
            equal(running.wait_connections(1)[0]["client"], SOURCE[0], "the record's client")
        running.wait_connections(0)
    inline.nothing_left(running)
