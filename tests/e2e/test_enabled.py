# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Mode enabled: on one port, connections with a header show their client, and
those without reach the handler unharmed, whatever they begin with."""

import time

from lib import handler as handlers
from lib import header, mqtt, stream
from lib.poll import check, equal, wait_for
from lib.requirement import BPF, needs
from lib.topology import CLIENTS, LB_FRONT, SERVER

ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[3], 51000)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))

FIRST_BYTES = {
    "MQTT": mqtt.connect_packet("device"),
    "AMQP": b"AMQP\0\0\x09\x01",
    "STOMP": b"CONNECT\naccept-version:1.2\nhost:x\n\n\0",
    "STOMP after LF": b"\n\nCONNECT\nhost:x\n\n\0",
    "STOMP after CRLF": b"\r\nCONNECT\nhost:x\n\n\0",
    "STOMP after CRLF CRLF": b"\r\n\r\nCONNECT\nhost:x\n\n\0",
    "a NUL too": b"\r\n\r\n\0CONNECT",
    "all but the signature's last byte": b"\r\n\r\n\0\r\nQUIT\r",
    "NATS PING": b"PING\r\n",
    "NATS PUB": b"PUB subject 5\r\nhello\r\n",
    "one P": b"Pa",
    "PROXY and no space": b"PROXYING\r\n",
    "TLS": bytes.fromhex("16030100c2010000be0303") + bytes(range(190)),
    "HTTP": b"GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP PUT": b"PUT / HTTP/1.1\r\nHost: x\r\n\r\n",
    "NMEA": b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "zeros": bytes(64),
}


def both_ways(env, data):
    """`data` arrives exactly, long before any deadline, and so does a header's
    payload after it."""
    handler = env.handler()
    daemon = env.relay(proxy_protocol="enabled", header_timeout="60s")
    for name, first in FIRST_BYTES.items():
        for pieces in data(first):
            count = len(handler.accepted) + 1
            with env.lb.connect(ADDRESS) as sock:
                stream.send_pieces(sock, pieces)
                equal(stream.receive_exactly(sock, len(first)), first, name)
                equal(handler.wait(count).peer, sock.getsockname(), f"client of {name}")
            with env.lb.connect(ADDRESS) as sock:
                stream.exchange(sock, HEADER + first, first)
                equal(handler.wait(count + 1).peer, SOURCE, f"client of a header and {name}")
    for key in ("not_header", "malformed", "timeout"):
        equal(daemon.stat("echo", key), 0, key)


@needs(BPF)
def test_first_bytes(env):
    both_ways(env, lambda first: [[first]])


@needs(BPF)
def test_first_bytes_one_by_one(env):
    both_ways(env, lambda first: [[first[:1], first[1:2], first[2:]]])


@needs(BPF)
def test_signature_prefix_then_silence(env):
    """Bytes that could still become a header go on at the deadline."""
    handler = env.handler()
    env.relay(proxy_protocol="enabled", header_timeout="300ms")
    for number, first in enumerate((b"P", b"PROXY", b"\r\n\r\n", b"\r\n\r\n\0\r\nQUI"), 1):
        with env.lb.connect(ADDRESS) as sock:
            stream.exchange(sock, first)
            equal(handler.wait(number).peer, sock.getsockname(), "client")


@needs(BPF)
def test_silent_client(env):
    """A server that speaks first greets at header_timeout at the latest."""
    handler = env.handler(behaviour=handlers.greet)
    daemon = env.relay(proxy_protocol="enabled", header_timeout="300ms")
    begin = time.monotonic()
    with env.lb.connect(ADDRESS) as sock:
        equal(stream.receive_until(sock, b"\n"), b"INFO hello\r\n", "greeting")
        seconds = time.monotonic() - begin
        check(0.2 < seconds < 10, f"the greeting came after {seconds:.2f} s")
        stream.exchange(sock, b"PING\r\n")
        equal(handler.wait(1).peer, sock.getsockname(), "client")
    daemon.wait_stat("echo", "direct", 1)
    equal(daemon.log_complaints(), [], "complaints in the log")


@needs(BPF)
def test_greeting_behind_a_header(env):
    handler = env.handler(behaviour=handlers.greet)
    env.relay(proxy_protocol="enabled")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER, b"INFO hello\r\n")
        equal(handler.wait(1).peer, SOURCE, "client")


@needs(BPF)
def test_malformed_is_refused(env):
    """A full signature is a header: a broken one is never payload."""
    handler = env.handler()
    daemon = env.relay(proxy_protocol="enabled")
    broken = [header.v2_raw(command=5), header.SIGNATURE + b"\x31\x11\0\0",
              b"PROXY TCP4 1.2.3.4\r\n", b"PROXY rubbish\r\n"]
    for data in broken:
        stream.refused(env.lb, ADDRESS, data)
    daemon.wait_stat("echo", "malformed", len(broken))
    equal(handler.accepted, [], "connections at the handler")


CUT = [header.SIGNATURE, HEADER[:-1], b"PROXY ", b"PROXY TCP4 203.0.113.9 1"]


@needs(BPF)
def test_unfinished_header(env):
    """What has a signature is no payload at header_timeout. Fails without
    is_signature() in admission_timeout(), admission.c."""
    handler = env.handler()
    daemon = env.relay(proxy_protocol="enabled", header_timeout="300ms")
    for number, cut in enumerate(CUT, 1):
        stream.refused(env.lb, ADDRESS, cut)
        daemon.wait_stat("echo", "timeout", number)
    equal(handler.accepted, [], "connections at the handler")


@needs(BPF)
def test_header_without_its_end(env):
    """Nor at an end of stream. Fails without is_signature() in on_end(), admission.c."""
    handler = env.handler()
    daemon = env.relay(proxy_protocol="enabled", header_timeout="60s")
    for number, cut in enumerate(CUT, 1):
        with env.lb.connect(ADDRESS) as sock:
            sock.sendall(cut)
            sock.shutdown(1)
            equal(stream.ended_by(sock), ("eof", b""), "the end")
        daemon.wait_stat("echo", "closed_early", number)
    equal(handler.accepted, [], "connections at the handler")


@needs(BPF)
def test_late_header(env):
    """The handler was told already that there is none: it is not given one as
    payload, in however many pieces. Fails without admit_silent(), admission.c."""
    handler = env.handler(behaviour=handlers.greet)
    daemon = env.relay(proxy_protocol="enabled", header_timeout="300ms")
    for number, pieces in enumerate(([HEADER + b"PING\r\n"], [HEADER[:5], HEADER[5:]],
                                     [header.v1(SOURCE, (LB_FRONT, 1883))]), 1):
        with env.lb.connect(ADDRESS) as sock:
            equal(stream.receive_until(sock, b"\n"), b"INFO hello\r\n", "greeting")
            stream.send_pieces(sock, pieces)
            equal(stream.ended_by(sock), ("reset", b""), "a late header")
        daemon.wait_stat("echo", "timeout", number)
        wait_for(lambda: handler.accepted[-1].ended, "it to end")
    equal([accepted.data for accepted in handler.accepted], [b""] * 3, "bytes at the handler")


@needs(BPF)
def test_early_end_of_stream(env):
    """A client that sends a little and closes its side gets its answer."""
    env.handler()
    env.relay(proxy_protocol="enabled", header_timeout="60s")
    for first in (b"P", b"PROXY", b"\r\n\r\n", b"hello"):
        with env.lb.connect(ADDRESS) as sock:
            sock.sendall(first)
            sock.shutdown(1)
            equal(stream.ended_by(sock), ("eof", first), "the echo and its end")
