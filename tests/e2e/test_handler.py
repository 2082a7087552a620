# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The handler's side of a relay: where it may be, what it is told of the
client, and what happens when it is not there."""

import contextlib
import socket
import struct

from lib import balancer, header, inline, stream
from lib.poll import check, equal, wait_for
from lib.realpeer import listener
from lib.requirement import BPF, HAPROXY, NGINX, needs
from lib.topology import (CLIENTS, CLIENTS6, LB, LB_FRONT, LB_FRONT6, SERVER, SERVER6,
                          SERVER_SIDE, STRANGER)

ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
DESTINATION = (LB_FRONT, 1883)
HEADER = header.v2(SOURCE, DESTINATION)
SOURCE6 = (CLIENTS6[0], 40006)
DESTINATION6 = (LB_FRONT6, 1883)
TCPI_SEGS_IN = 140  # tcpi_segs_in of struct tcp_info, linux/tcp.h


@needs(BPF)
def test_down(env):
    """A reset at once, one clear line, a count; and it recovers by itself.

    Fails without fail() in on_answer(), handler.c.
    """
    daemon = env.relay()
    for count in range(1, 4):
        stream.refused(env.lb, ADDRESS, HEADER + b"hello")
        daemon.wait_stat("echo", "handler_failed", count)
    line = daemon.process.wait_log(r"127\.0\.0\.1:9000")
    check("echo" in line and "efused" in line, f"not clear: {line}")
    handler = env.handler()
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + b"hello", b"hello")
        equal(handler.wait(1).peer, SOURCE, "client")


@needs(BPF)
def test_down_does_not_fill_the_log(env):
    """Many failures are few lines.

    Fails without log_limit_pass() in fail(), handler.c.
    """
    daemon = env.relay()
    for _ in range(300):
        stream.refused(env.lb, ADDRESS, HEADER)
    daemon.wait_stat("echo", "handler_failed", 300)
    lines = len(daemon.process.lines("127.0.0.1:9000"))
    check(0 < lines < 150, f"{lines} lines for 300 failures")


@needs(BPF)
def test_unreachable(env):
    """A handler that never answers the SYN: a reset, no hang.

    Fails without timer_arm() in wait(), handler.c.
    """
    env.server.run("ip", "address", "add", "192.0.2.1/24", "dev", "side")
    daemon = env.relay(handler="192.0.2.77:9000", client_address="none")
    env.server.run("ip", "neighbour", "add", "192.0.2.77", "lladdr", "02:00:00:00:00:77",
                   "dev", "side", "nud", "permanent")
    seconds = stream.refused(env.lb, ADDRESS, HEADER + b"hello", timeout=20)
    check(seconds < 15, f"refused after {seconds:.2f} s")
    daemon.wait_stat("echo", "handler_failed", 1)


test_unreachable.limit = 40


@needs(BPF)
def test_unix_socket(env):
    handler = env.unix_handler(env.path("handler.sock"))
    daemon = env.relay(handler=f"unix:{env.path('handler.sock')}", client_address="none")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + b"hello", b"hello")
        entry = daemon.wait_connections(1)[0]
        equal((entry["client"], entry["client_port"]), SOURCE, "the record's client")
    equal(handler.wait(1).data, b"hello", "bytes at the handler")


@needs(BPF)
def test_unix_socket_down(env):
    """Fails without fail() in handler_open(), handler.c."""
    daemon = env.relay(handler=f"unix:{env.path('nobody.sock')}", client_address="none")
    stream.refused(env.lb, ADDRESS, HEADER)
    daemon.wait_stat("echo", "handler_failed", 1)
    daemon.process.wait_log("nobody.sock")


@needs(BPF)
def test_ipv6(env):
    handler = env.handler(("::1", 9000))
    env.relay(handler="[::1]:9000")
    with env.lb.connect((SERVER6, 1883)) as sock:
        stream.exchange(sock, header.v2(SOURCE6, DESTINATION6) + b"hello", b"hello")
        accepted = handler.wait(1)
        equal((accepted.peer, accepted.from_accept), (SOURCE6, SOURCE6), "client")


@needs(BPF)
def test_remote(env):
    """A handler on another host: a relay with client_address = proxy-v2."""
    listening = env.stranger.listen((STRANGER, 9000))
    env.at_end(listening.close)
    listening.settimeout(5)
    env.relay(handler=f"{STRANGER}:9000", client_address="proxy-v2")
    with env.lb.connect(ADDRESS) as sock:
        sock.sendall(HEADER + b"hello")
        accepted, peer = listening.accept()
        with accepted:
            equal(peer[0], SERVER_SIDE, "peer")
            parsed = header.Parsed(stream.receive_exactly(accepted, len(HEADER) + 5))
            equal((parsed.source, parsed.rest), (SOURCE, b"hello"), "what was sent on")


@needs(BPF)
def test_first_bytes_come_at_once(env):
    """They carry the ACK that ends the handshake: the SYN and they are all.

    Fails without TCP_QUICKACK in open_socket(), and without read_first() in
    admit_headless(), admission.c.
    """
    segments = []

    def count(accepted):
        accepted.receive()
        info = accepted.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
        segments.append(struct.unpack_from("I", info, TCPI_SEGS_IN)[0])
        accepted.sock.sendall(accepted.data)

    env.handler(behaviour=count)
    for offload in ("auto", "off"):
        daemon = env.relay(offload=offload)
        for _ in range(3):
            with env.lb.connect(ADDRESS) as sock:
                stream.exchange(sock, HEADER + b"hello", b"hello")
        equal(daemon.stop(), 0, "exit status")
    equal(segments, 6 * [2], "segments that the handler's socket got")


def emitted(env, client_address, head, server=SERVER, payload=b"hello", **settings):
    """The bytes that the handler gets for one connection with `head`."""
    handler = env.handler()
    daemon = env.relay(client_address=client_address, **settings)
    with env.lb.connect((server, 1883)) as sock:
        sock.sendall(head + payload)
        sock.shutdown(socket.SHUT_WR)
        own = sock.getsockname()[:2]
        stream.ended_by(sock)
    data = handler.wait(1).data
    check(data.endswith(payload), f"payload not at the end: {data!r}")
    equal(daemon.stop(), 0, "exit status")
    handler.destroy()
    return data, own


@needs(BPF)
def test_proxy_v1(env):
    data, _ = emitted(env, "proxy-v1", HEADER)
    equal(data, header.v1(SOURCE, DESTINATION) + b"hello", "IPv4")
    data, _ = emitted(env, "proxy-v1", header.v2(SOURCE6, DESTINATION6), SERVER6)
    equal(data, header.v1(SOURCE6, DESTINATION6) + b"hello", "IPv6")


@needs(BPF)
def test_proxy_v1_local(env):
    """Without a client to tell of, v1 says UNKNOWN or the real endpoints."""
    data, own = emitted(env, "proxy-v1", header.v2_local())
    check(data in (b"PROXY UNKNOWN\r\nhello", header.v1(own, ADDRESS) + b"hello"),
          f"sent on: {data!r}")


@needs(BPF)
def test_proxy_v2(env):
    for head, source, destination, server in (
            (HEADER, SOURCE, DESTINATION, SERVER),
            (header.v1(SOURCE6, DESTINATION6), SOURCE6, DESTINATION6, SERVER6)):
        parsed = header.Parsed(emitted(env, "proxy-v2", head, server)[0])
        equal((parsed.version, parsed.command, parsed.source, parsed.destination, parsed.rest),
              (2, header.PROXY, source, destination, b"hello"), "the header sent on")


@needs(BPF)
def test_proxy_v2_local(env):
    parsed = header.Parsed(emitted(env, "proxy-v2", header.AWS_HEALTH_CHECK)[0])
    equal((parsed.version, parsed.command, parsed.rest), (2, header.LOCAL, b"hello"),
          "the header sent on")


@needs(BPF)
def test_proxy_v2_direct(env):
    """Mode enabled: a plain client's own endpoints are told."""
    data, own = emitted(env, "proxy-v2", b"", proxy_protocol="enabled")
    parsed = header.Parsed(data)
    equal((parsed.command, parsed.source, parsed.destination, parsed.rest),
          (header.PROXY, own, ADDRESS, b"hello"), "the header sent on")


TLVS = (header.tlv(header.TLV_AUTHORITY, b"broker.test")
        + header.tlv(header.TLV_UNIQUE_ID, b"id-7")
        + header.tlv(header.TLV_AWS, b"\x01vpce-08d2bf15fac5001c9")
        + header.ssl_tlv(7, 0, header.tlv(header.TLV_SSL_CN, b"device-7"))
        + header.tlv(0xE1, b"vendor"))


@needs(BPF)
def test_proxy_v2_tlvs(env):
    """Only the TLVs that forward_tlvs names are sent on."""
    head = header.v2(SOURCE, DESTINATION, TLVS)
    kinds = {header.TLV_CRC32C, header.TLV_NOOP}
    parsed = header.Parsed(emitted(env, "proxy-v2", head)[0])
    equal(set(parsed.tlvs) - kinds, set(), "TLVs without forward_tlvs")
    parsed = header.Parsed(emitted(env, "proxy-v2", head,
                                   forward_tlvs="authority, unique_id")[0])
    equal({kind: parsed.tlvs[kind] for kind in set(parsed.tlvs) - kinds},
          {header.TLV_AUTHORITY: b"broker.test", header.TLV_UNIQUE_ID: b"id-7"}, "TLVs")
    parsed = header.Parsed(emitted(env, "proxy-v2", head, forward_tlvs="ssl, aws_vpce_id")[0])
    equal(parsed.tlvs[header.TLV_AWS], b"\x01vpce-08d2bf15fac5001c9", "AWS TLV")
    equal(parsed.tlvs[header.TLV_SSL][:5], b"\x07\0\0\0\0", "SSL TLV")


@needs(BPF, HAPROXY, NGINX)
def test_chain_to_nginx(env):
    """HAProxy, realpeerd, and a handler that speaks PROXY itself."""
    balancer.nginx(env, "", [9000, 9002], name="handler", namespace=env.server, http="""
    access_log off;
    server {
        listen 127.0.0.1:9000 proxy_protocol;
        listen 127.0.0.1:9002 proxy_protocol;
        location / { return 200 "$proxy_protocol_addr:$proxy_protocol_port\\n"; }
    }""")
    env.realpeerd(
        listener("v1", listen=f"{SERVER}:1883", handler="127.0.0.1:9000",
                 client_address="proxy-v1")
        + listener("v2", listen=f"{SERVER}:1884", handler="127.0.0.1:9002",
                   client_address="proxy-v2"))
    balancer.haproxy(env, f"""
listen one
    bind {LB_FRONT}:1883
    server s {SERVER}:1883 send-proxy-v2
listen two
    bind {LB_FRONT}:1884
    server s {SERVER}:1884 send-proxy
""", [1883, 1884])
    for port in (1883, 1884):
        with env.client.connect((LB_FRONT, port), CLIENTS[5]) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            body = stream.ended_by(sock)[1].split(b"\r\n\r\n")[1].decode()
            equal(body, f"{CLIENTS[5]}:{sock.getsockname()[1]}\n", "what NGINX was told")


@needs(BPF)
def test_none(env):
    """client_address = none: the handler sees the daemon, the record the client."""
    handler = env.handler()
    daemon = env.relay(client_address="none")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + b"hello", b"hello")
        equal(handler.wait(1).peer[0], "127.0.0.1", "peer at the handler")
        equal(daemon.wait_connections(1)[0]["client"], SOURCE[0], "the record's client")


@needs(BPF)
def test_local_shows_the_balancer(env):
    """A LOCAL connection's client is the balancer: the real endpoint."""
    handler = env.handler()
    env.relay()
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, header.v2_local() + b"hello", b"hello")
        equal(handler.wait(1).peer, (LB, sock.getsockname()[1]), "client")


@needs(BPF)
def test_client_gone_during_connect(env):
    """Clients that leave while the handler is slow leave nothing behind."""
    listening = env.server.listen(("127.0.0.1", 9000), backlog=0)
    env.at_end(listening.close)
    daemon = env.relay()
    gone = []
    for _ in range(5):  # the backlog holds one; the others wait for a SYN-ACK
        gone.append(env.lb.connect(ADDRESS))
        gone[-1].sendall(HEADER + b"hello")
    daemon.wait_stat("echo", "header_v2", 5)
    for sock in gone:
        stream.close_with_reset(sock)
    wait_for(lambda: daemon.status_of("echo")["active"] == 0, "no active connection")
    # the one in the backlog is still to be accepted: its record stays until then
    accepted, peer = listening.accept()
    accepted.close()
    equal(peer, SOURCE, "client")
    listening.setblocking(False)

    def nothing_left():
        with contextlib.suppress(BlockingIOError):  # one that came as that one went
            while True:
                listening.accept()[0].close()
        return not any(inline.map_size(daemon, name)
                       for name in ("connections", "pending", "outgoing"))
    wait_for(nothing_left, "no record to be left", 10)
