# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A header may come in any pieces: cut at each byte boundary with a pause, and
byte by byte, it gives the right client and the exact payload."""

from lib import header, stream
from lib.poll import equal
from lib.requirement import BPF, needs
from lib.topology import CLIENTS, CLIENTS6, LB_FRONT, LB_FRONT6, SERVER, SERVER6

PAYLOAD = b"\x10\x0c\0\4MQTT\4\2\0\x3c\0\0"
TLVS = header.CRC_TLV + header.tlv(header.TLV_AUTHORITY, b"broker.test")

V4 = ((CLIENTS[2], 50123), (LB_FRONT, 1883))
V6 = ((CLIENTS6[2], 50124), (LB_FRONT6, 1883))


def send_each(env, daemon, handler, head, source, server, cuts):
    """One connection for each list of pieces that `cuts` gives."""
    for pieces in cuts(head + PAYLOAD):
        count = len(handler.accepted) + 1
        with env.lb.connect((server, 1883)) as sock:
            stream.send_pieces(sock, pieces)
            echoed = stream.receive_exactly(sock, len(PAYLOAD))
            sizes = [len(piece) for piece in pieces]
            equal(echoed, PAYLOAD, f"payload of pieces {sizes}")
            accepted = handler.wait(count)
            equal(accepted.peer, source, f"client of pieces {sizes}")
            equal(accepted.from_accept, source, f"accept() of pieces {sizes}")
    for accepted in handler.accepted:
        equal(accepted.data, PAYLOAD, "bytes at the handler")
    equal(daemon.stat("echo", "peek_mismatch"), 0, "peek_mismatch")


def in_two(data):
    return [(data[:cut], data[cut:]) for cut in range(1, len(data))]


def in_bytes(data):
    return [[data[at:at + 1] for at in range(len(data))]]


def each_version(env, mode, cuts, **settings):
    handler4 = env.handler()
    handler6 = env.handler(("::1", 9000))
    for handler, server, (source, destination) in (
            (handler4, SERVER, V4), (handler6, SERVER6, V6)):
        daemon = env.relay(listen=f"{server}:1883" if ":" not in server else f"[{server}]:1883",
                           handler="127.0.0.1:9000" if handler is handler4 else "[::1]:9000",
                           proxy_protocol=mode, **settings)
        for head in (header.v1(source, destination), header.v2(source, destination, TLVS)):
            send_each(env, daemon, handler, head, source, server, cuts)
        equal(daemon.stop(), 0, "exit status")


@needs(BPF)
def test_in_two_required(env):
    each_version(env, "required", in_two)


@needs(BPF)
def test_in_two_enabled(env):
    each_version(env, "enabled", in_two)


@needs(BPF)
def test_byte_by_byte_required(env):
    each_version(env, "required", in_bytes)


@needs(BPF)
def test_byte_by_byte_enabled(env):
    each_version(env, "enabled", in_bytes)


@needs(BPF)
def test_in_two_offload_off(env):
    each_version(env, "required", in_two, offload="off")


@needs(BPF)
def test_long_header_in_two(env):
    """2 KiB of TLVs, as a client certificate brings; header_max is 4096."""
    handler = env.handler()
    daemon = env.relay()
    tlvs = header.CRC_TLV + header.tlv(0x28, bytes(2000))
    head = header.v2(*V4, tlvs)
    send_each(env, daemon, handler, head, V4[0], SERVER,
              lambda data: [(data[:cut], data[cut:]) for cut in (1, 15, 16, 17, 1400, 2047, 2049)])


@needs(BPF)
def test_payload_in_the_same_segment(env):
    """64 KiB right behind the header, in as few segments as the stack likes."""
    handler = env.handler()
    env.relay()
    payload = bytes(range(256)) * 256
    with env.lb.connect((SERVER, 1883)) as sock:
        stream.exchange(sock, header.v2(*V4) + payload, payload)
    equal(handler.wait(1).peer, V4[0], "client")
