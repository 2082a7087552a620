# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Mode required: what isn't a good header is refused at once with a counted
reason; what follows the first header is payload."""

import struct
import time

from lib import header, mqtt, stream
from lib.poll import check, equal
from lib.requirement import BPF, needs
from lib.topology import CLIENTS, CLIENTS6, LB_FRONT, SERVER

ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
DESTINATION = (LB_FRONT, 1883)
BLOCK = header.block_of(SOURCE, DESTINATION)
V6_BLOCK = header.block_of((CLIENTS6[0], 1), (CLIENTS6[1], 2))
GOOD = header.v2(SOURCE, DESTINATION)


def v1_line(text):
    return f"PROXY {text}\r\n".encode()


def with_tlvs(*tlvs):
    return header.v2(SOURCE, DESTINATION, b"".join(tlvs))


def spoilt_crc():
    good = with_tlvs(header.CRC_TLV, header.tlv(2, b"broker.test"))
    return good[:-1] + b"X"


def source_of(address):
    other = CLIENTS6[1] if ":" in address else LB_FRONT
    return [header.v1((address, 1), (other, 2)), header.v2((address, 1), (other, 2))]


REFUSED = {
    "not_header": [
        b"hello world, no header", mqtt.connect_packet("device"), b"GET / HTTP/1.1\r\n\r\n",
        b"PING\r\n", b"proxy TCP4 203.0.113.10 203.0.113.1 1 2\r\n", b"PROXYTCP4 ",
        b"\r\n\r\nCONNECT\n", b"\r\n\r\n\0\r\nQUIT\r", b"\x16\x03\x01\0\xc2", b"\0" * 16,
        b" " + GOOD],
    "malformed": [
        # version 1, section 2.1
        v1_line("TCP5 203.0.113.10 203.0.113.1 1 2"), v1_line("tcp4 203.0.113.10 203.0.113.1 1 2"),
        v1_line("TCP4  203.0.113.10 203.0.113.1 1 2"), v1_line("TCP4 203.0.113.10 203.0.113.1 1"),
        v1_line("TCP4 203.0.113.10 203.0.113.1 1 2 "),
        v1_line("TCP4 203.0.113.10 203.0.113.1 01 2"),
        v1_line("TCP4 203.0.113.10 203.0.113.1 1 65536"),
        v1_line("TCP4 203.0.113.10 203.0.113.1 -1 2"),
        v1_line("TCP4 203.0.113.010 203.0.113.1 1 2"),
        v1_line("TCP4 203.0.113.256 203.0.113.1 1 2"),
        v1_line("TCP4 2001:db8::1 2001:db8::2 1 2"), v1_line("TCP6 203.0.113.10 203.0.113.1 1 2"),
        v1_line("TCP6 1:2:3:4:5:6:7:8:9 ::2 1 2"), v1_line("TCP6 1:2:3 ::2 1 2"),
        v1_line("TCP4 203.0.113.10 localhost 1 2"), v1_line("UNIX /x /y"), v1_line(""),
        b"PROXY TCP4 203.0.113.10 203.0.113.1 1 2\n",
        b"PROXY TCP4 203.0.113.10 203.0.113.1 1 2\r\r\n",
        # version 2, section 2.2
        header.v2_raw(version=1, block=BLOCK), header.v2_raw(version=3, block=BLOCK),
        header.v2_raw(command=2, block=BLOCK), header.v2_raw(command=15, block=BLOCK),
        header.v2_raw(family=4, block=BLOCK), header.v2_raw(transport=3, block=BLOCK),
        header.v2_raw(length=11, block=BLOCK), header.v2_raw(length=0, block=BLOCK),
        header.v2_raw(family=header.INET6, length=35, block=V6_BLOCK),
        # TLVs
        with_tlvs(b"\x02"), with_tlvs(b"\x02\0"), with_tlvs(b"\x02\0\5abcd"),
        with_tlvs(header.tlv(header.TLV_UNIQUE_ID, bytes(129))), spoilt_crc(),
        with_tlvs(header.tlv(header.TLV_CRC32C, b"abc")),
        with_tlvs(header.tlv(header.TLV_SSL, b"\1\0\0\0")),
        with_tlvs(header.ssl_tlv(7, 0, b"\x22\0\x40x")),
        with_tlvs(header.ssl_tlv(7, 0, header.tlv(header.TLV_SSL_CN, b"a\nb"))),
    ],
    "too_long": [
        b"PROXY UNKNOWN " + b"x" * 200, b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
        header.v2_raw(block=BLOCK, length=4097 - 16), header.v2_raw(block=BLOCK, length=65535),
        header.v2_raw(header.LOCAL, 0, 0, length=65535),
    ],
    "bad_source": [
        *source_of("127.0.0.1"), *source_of("127.8.9.10"), *source_of("0.0.0.0"),
        *source_of("255.255.255.255"), *source_of("224.0.0.1"), *source_of("239.1.2.3"),
        *source_of("::1"), *source_of("::"), *source_of("ff02::1"),
        *source_of("::ffff:127.0.0.1"),
    ],
}


def each_reason(env, reasons, **settings):
    handler = env.handler()
    daemon = env.relay(header_timeout="60s", **settings)
    for reason in reasons:
        for count, data in enumerate(REFUSED[reason], 1):
            stream.refused(env.lb, ADDRESS, data)
            try:
                daemon.wait_stat("echo", reason, count)
            except AssertionError as error:
                raise AssertionError(f"{error}, for {data[:120]!r}") from None
    equal(handler.accepted, [], "connections at the handler")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, GOOD + b"hello", b"hello")
        equal(handler.wait(1).peer, SOURCE, "client of a good header afterwards")


@needs(BPF)
def test_not_header(env):
    each_reason(env, ["not_header"])


@needs(BPF)
def test_malformed(env):
    each_reason(env, ["malformed", "too_long"])


@needs(BPF)
def test_rubbish_in_pieces(env):
    """What can't become a header any more is refused at once, not at the
    deadline, whatever it began with."""
    daemon = env.relay(header_timeout="60s")
    pieces = {"not_header": [(b"P", b"xyz"), (b"PROXY", b"x"), (b"\r\n", b"x"),
                             (b"\r\n\r\n", b"\0x"), (b"\r\n\r\n\0\r\nQUIT", b"x")],
              "malformed": [(b"PROXY ", b"x\r\n"), (b"PROXY TCP4", b"\r\n"),
                            (header.SIGNATURE, b"\x31"), (GOOD[:14], b"\0\0")]}
    for reason, cases in pieces.items():
        for count, (first, second) in enumerate(cases, 1):
            with env.lb.connect(ADDRESS) as sock:
                stream.send_pieces(sock, (first, second), pause=0.02)
                equal(stream.ended_by(sock), ("reset", b""), f"answer to {first} {second}")
            daemon.wait_stat("echo", reason, count)


@needs(BPF)
def test_bad_source(env):
    """Servers trust localhost: a header that claims it is refused."""
    each_reason(env, ["bad_source"])


@needs(BPF)
def test_all_offload_off(env):
    each_reason(env, REFUSED, offload="off")


@needs(BPF)
def test_special_source_accepted(env):
    """special_source = accept is for those who need it."""
    handler = env.handler()
    env.relay(special_source="accept")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, header.v2(("127.9.9.9", 7), DESTINATION) + b"hello", b"hello")
        equal(handler.wait(1).peer, ("127.9.9.9", 7), "client")


ACCEPTED = [
    GOOD, header.v1(SOURCE, DESTINATION),
    with_tlvs(header.CRC_TLV), with_tlvs(header.tlv(header.TLV_NOOP, bytes(100))),
    with_tlvs(header.tlv(0x7f, b"unknown"), header.tlv(0xE1, b"vendor")),
    with_tlvs(header.tlv(header.TLV_UNIQUE_ID, bytes(128))),
    with_tlvs(header.tlv(header.TLV_NOOP, bytes(4096 - len(GOOD) - 3))),
    with_tlvs(header.ssl_tlv(7, 1, header.tlv(header.TLV_SSL_CN, b"device"),
                             header.tlv(0x28, bytes(1500))), header.CRC_TLV),
]
LOCAL = [
    header.v2_local(), header.AWS_HEALTH_CHECK,
    header.v2_raw(header.LOCAL, header.INET, header.STREAM, block=BLOCK),
    header.v2_raw(header.LOCAL, header.INET, header.STREAM, block=b"abc"),
    header.v2_raw(header.PROXY, header.UNSPEC, 0),
    header.v2_raw(header.PROXY, header.UNSPEC, 0, tlvs=header.CRC_TLV),
    header.v2_raw(family=header.UNIX, block=bytes(216)),
    header.v2_raw(transport=header.DGRAM, block=BLOCK),
    v1_line("UNKNOWN"), v1_line("UNKNOWN " + "x" * 91), v1_line("UNKNOWN whatever follows 1 2"),
    v1_line("UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535"),
]


@needs(BPF)
def test_accepted(env):
    """Everything that the specification allows, long TLVs included."""
    handler = env.handler()
    daemon = env.relay()
    for count, head in enumerate(ACCEPTED + LOCAL, 1):
        with env.lb.connect(ADDRESS) as sock:
            try:
                stream.exchange(sock, head + b"hello", b"hello")
            except (AssertionError, OSError) as error:
                raise AssertionError(f"{error!r}, for {head[:120]!r}") from None
            want = SOURCE if count <= len(ACCEPTED) else sock.getsockname()
            equal(handler.wait(count).peer, want, f"client of {head[:120]!r}")
    equal(daemon.stat("echo", "local"), len(LOCAL), "local")
    equal(daemon.log_complaints(), [], "complaints in the log")


@needs(BPF)
def test_second_header_is_payload(env):
    """NLB does not strip what a client sent: exactly one is consumed."""
    handler = env.handler()
    env.relay()
    second = header.v2(("198.51.100.66", 666), DESTINATION) + header.v1(SOURCE, DESTINATION)
    for count, head in enumerate((GOOD, header.v1(SOURCE, DESTINATION)), 1):
        with env.lb.connect(ADDRESS) as sock:
            stream.exchange(sock, head + second + b"hello", second + b"hello")
            equal(handler.wait(count).peer, SOURCE, "client")
        equal(handler.accepted[count - 1].data, second + b"hello", "bytes at the handler")


@needs(BPF)
def test_timeout(env):
    """A header that doesn't come, or doesn't end, is given up on."""
    handler = env.handler()
    daemon = env.relay(header_timeout="500ms")
    for count, data in enumerate((b"P", b"PROXY TCP4 203.", b"\r\n\r\n\0", GOOD[:-1]), 1):
        begin = time.monotonic()
        stream.refused(env.lb, ADDRESS, data)
        seconds = time.monotonic() - begin
        check(0.4 < seconds < 3, f"given up on after {seconds:.2f} s")
        daemon.wait_stat("echo", "timeout", count)
    equal(handler.accepted, [], "connections at the handler")


@needs(BPF)
def test_timeout_of_a_silent_client(env):
    """It may learn of it when it speaks: the kernel part keeps no socket."""
    handler = env.handler()
    daemon = env.relay(header_timeout="2s")
    with env.lb.connect(ADDRESS) as sock:
        check(daemon.stat("echo", "timeout") == 0, "given up on at once")
        daemon.wait_stat("echo", "timeout", 1)
        try:
            sock.sendall(GOOD)
            equal(stream.ended_by(sock), ("reset", b""), "answer to a late header")
        except (ConnectionResetError, BrokenPipeError):
            pass
    equal(handler.accepted, [], "connections at the handler")


@needs(BPF)
def test_timeout_is_for_the_whole_header(env):
    """A byte now and then does not prolong the deadline."""
    daemon = env.relay(header_timeout="500ms")
    with env.lb.connect(ADDRESS) as sock:
        try:
            stream.send_pieces(sock, [bytes([byte]) for byte in GOOD], pause=0.1)
            stream.ended_by(sock)
        except (ConnectionResetError, BrokenPipeError):
            pass
    daemon.wait_stat("echo", "timeout", 1)


@needs(BPF)
def test_header_max(env):
    handler = env.handler()
    daemon = env.relay(header_max=200)
    for size, good in ((200, True), (201, False)):
        head = header.v2_raw(block=BLOCK, tlvs=header.tlv(
            header.TLV_NOOP, bytes(size - 16 - len(BLOCK) - 3)))
        equal(len(head), size, "the test's header")
        if good:
            with env.lb.connect(ADDRESS) as sock:
                stream.exchange(sock, head + b"hello", b"hello")
                equal(handler.wait(1).peer, SOURCE, "client")
        else:
            stream.refused(env.lb, ADDRESS, head)
    daemon.wait_stat("echo", "too_long", 1)


@needs(BPF)
def test_length_is_16_bits(env):
    """The length is 16 bits in network order, and honoured as such."""
    handler = env.handler()
    env.relay()
    head = header.SIGNATURE + struct.pack("!BBH", 0x20, 0x00, 0x0102) + bytes(0x0102)
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, head + b"hello", b"hello")
        equal(handler.wait(1).peer, sock.getsockname(), "client")
