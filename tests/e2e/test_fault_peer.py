# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a peer can do wrong at a bad moment, and what many of them can use up.
Wrong headers: test_required.py; floods: test_inline_load.py."""

import re
import socket

from lib import fault, header, inline, stream
from lib.inline import INLINE, PAYLOAD
from lib.poll import check, equal, wait_for, wait_unchanged
from lib.requirement import BPF, BPFTOOL, needs
from lib.topology import CLIENTS, LB_FRONT, SERVER, SERVER_SIDE

ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
FORGED = header.v2((CLIENTS[1], 40002), (LB_FRONT, 1883))


def sockets(daemon):
    return sum(name.startswith("socket:") for name in daemon.process.descriptors())


def works(env, handler):
    count = len(handler.accepted) + 1
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + b"hello", b"hello")
        equal(handler.wait(count).peer, SOURCE, "client")


def answer_at_end(accepted):
    data = b""
    while (more := accepted.receive()) is not None:
        data += more
    accepted.sock.sendall(b"all: " + data)


@needs(BPF)
def test_reset_within_the_header(env):
    """No error for anybody to read, and nothing left.

    Fails without closed_early() for an error in admission_read(), admission.c.
    """
    handler = env.handler()
    for offload in ("auto", "off"):
        daemon = env.relay(offload=offload)
        before = wait_unchanged(lambda: sockets(daemon), "sockets", 0.1)  # noqa: B023
        for _ in range(10):
            sock = env.lb.connect(ADDRESS)
            sock.sendall(HEADER[:5])
            wait_for(lambda: sockets(daemon) > before, "it to be accepted")  # noqa: B023
            stream.close_with_reset(sock)
            wait_for(lambda: sockets(daemon) == before, "it to be gone")  # noqa: B023
        daemon.wait_stat("echo", "closed_early", 10)
        equal(daemon.process.lines("refused|error"), [], "lines about it")
        works(env, handler)
        equal(daemon.stop(), 0, "exit status")
    equal(len(handler.accepted), 2, "connections of the handler")


@needs(INLINE, BPFTOOL)
def test_reset_behind_the_header(env):
    """The kernel read the header, and the record went with the socket: what the
    client said next, be it like a header, is no header.

    Fails without is_over() in registry_take(), registry.c.
    """
    handler = env.handler()
    daemon = env.relay(offload="accept")
    for count, payload in enumerate((b"", PAYLOAD, FORGED + PAYLOAD), 1):
        with fault.paused(daemon):
            sock = env.lb.connect(ADDRESS)
            sock.sendall(HEADER + payload)
            wait_for(daemon.records, "the socket")
            stream.close_with_reset(sock)
            wait_for(lambda: not daemon.records(), "its end")
        daemon.wait_stat("echo", "closed_early", count)
    works(env, handler)
    daemon.wait_connections(0)
    inline.nothing_left(daemon)
    equal(len(handler.accepted), 1, "connections of the handler")


@needs(INLINE, BPFTOOL)
def test_end_behind_the_header(env):
    """It says all it has and waits for the answer, while the daemon is away.

    Fails if admit_headless(), admission.c, does not hand on what it read.
    """
    handler = env.handler(behaviour=answer_at_end)
    daemon = env.relay(offload="accept")
    for payload in (b"", PAYLOAD):
        with env.lb.connect(ADDRESS) as sock:
            with fault.paused(daemon):
                sock.sendall(HEADER + payload)
                sock.shutdown(socket.SHUT_WR)
                wait_for(daemon.records, "the socket")
            equal(stream.ended_by(sock), ("eof", b"all: " + payload), "answer")
        daemon.wait_connections(0)
    equal([accepted.peer for accepted in handler.accepted], 2 * [SOURCE], "clients")


def send_urgent(sock, before, urgent, behind):
    sock.sendall(before)
    sock.send(urgent, socket.MSG_OOB)
    sock.sendall(behind)


@needs(BPF)
def test_urgent_data(env):
    """TCP's, in a header, behind it, and in a transfer at full speed, all there
    before the daemon reads: no byte stays behind, though a read stops before each.

    Fails without EPOLLPRI in settle(), connection.c, and in relay_event(), relay.c.
    """
    large, got = bytes(4 << 20), []

    def count(accepted):
        accepted.sock.sendall(stream.receive_exactly(accepted.sock, 6))
        got.append(stream.receive_exactly(accepted.sock, len(large)))
        accepted.sock.sendall(b"more")
        accepted.sock.sendall(stream.receive_exactly(accepted.sock, 3))

    env.handler(behaviour=count)
    daemon = env.relay(offload="off")
    with fault.paused(daemon):
        sock = env.lb.connect(ADDRESS)
        env.at_end(sock.close)
        send_urgent(sock, HEADER[:9], HEADER[9:10], HEADER[10:] + b"abc")
    with fault.paused(daemon):
        send_urgent(sock, b"d", b"e", b"f")
    equal(stream.receive_exactly(sock, 6), b"abcdef", "echo")
    sock.sendall(large)
    equal(stream.receive_exactly(sock, 4), b"more", "answer")
    with fault.paused(daemon):
        send_urgent(sock, b"x", b"y", b"z")
    equal(stream.receive_exactly(sock, 3), b"xyz", "echo behind the transfer")
    equal(got, [large], "the transfer")


@needs(BPF)
def test_untrusted_resets_before_it_speaks(env):
    """It was connected to the handler at once, which is told of its end.

    Fails without connection_close() for an error in admission_screen().
    """
    handler = env.handler()
    daemon = env.relay(listen="0.0.0.0:1883", untrusted="direct")
    before = wait_unchanged(lambda: sockets(daemon), "sockets", 0.1)
    for count in range(1, 6):
        sock = env.stranger.connect((SERVER_SIDE, 1883))
        handler.wait(count)
        stream.close_with_reset(sock)
        wait_for(lambda: handler.accepted[count - 1].ended == "reset",  # noqa: B023
                 "the handler to be told")
        equal(handler.accepted[count - 1].data, b"", "bytes at the handler")
    wait_for(lambda: sockets(daemon) == before, "nothing to be left")
    works(env, handler)


@needs(INLINE, BPFTOOL)
def test_port_of_the_daemon(env):
    """Somebody on this host finds the port to which the kernel hands over: he is
    reset, whatever he sends, though he may send headers elsewhere.

    Fails without find_listener() in accept_one() of handover.c.
    """
    server = inline.Server.start(env)
    running = inline.daemon(env, trusted="127.0.0.0/8, 10.77.0.0/24")
    text = env.server.run("ss", "-Hltnp").stdout
    ports = {int(port) for port in re.findall(
        rf"127\.0\.0\.1\]?:(\d+) .*pid={running.process.pid},", text)}
    check(ports, f"the daemon listens nowhere else: {text}")
    for port in ports:
        stream.refused(env.server, ("127.0.0.1", port), HEADER + PAYLOAD)
    equal((server.accepted, running.stat("echo", "handed_over")), ([], 0),
          "connections of the server, and connections that were taken for its")
    works(env, server)


@needs(BPF)
def test_no_ports_left(env):
    """Every relayed connection takes a local port. Without one a client is reset,
    and those that have one go on.

    Fails without fail() for an error of attempt() in handler_open(), handler.c.
    """
    handler = env.handler()
    daemon = env.relay()
    env.server.sysctl("net.ipv4.ip_local_port_range", "50000 50009")
    held = []
    for _ in range(10):
        held.append(env.lb.connect(ADDRESS))
        env.at_end(held[-1].close)
        stream.exchange(held[-1], HEADER + b"hello", b"hello")
    for count in range(1, 6):
        stream.refused(env.lb, ADDRESS, HEADER + b"hello")
        daemon.wait_stat("echo", "handler_failed", count)
    daemon.process.wait_log("handler not reached.*Cannot assign requested address")
    for sock in held:
        stream.exchange(sock, b"still here")
    for sock in held[:5]:
        stream.close_with_reset(sock)
    wait_for(lambda: daemon.status_of("echo")["active"] == 5, "five to end")
    works(env, handler)
