# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A header counts only from a trusted proxy. From elsewhere it is never
honoured, whatever the mode, and nothing of it reaches the handler."""

import socket

from lib import bpf, header, stream
from lib.poll import check, equal
from lib.requirement import BPF, BPFTOOL, needs
from lib.topology import (CLIENTS, CLIENTS6, LB_FRONT, LB_FRONT6, SERVER, SERVER6,
                          SERVER_SIDE, SERVER_SIDE6, STRANGER, STRANGER6)

LISTEN = "0.0.0.0:1883, [::]:1883"
FORGED = {
    SERVER_SIDE: [header.v1((CLIENTS[0], 4444), (LB_FRONT, 1883)),
                  header.v2((CLIENTS[0], 4444), (LB_FRONT, 1883)),
                  header.v2_local(), header.AWS_HEALTH_CHECK],
    SERVER_SIDE6: [header.v1((CLIENTS6[0], 4444), (LB_FRONT6, 1883)),
                   header.v2((CLIENTS6[0], 4444), (LB_FRONT6, 1883)),
                   header.v2_local()],
}


def start(env, mode, untrusted, **settings):
    handler = env.handler(("::1", 9000))
    daemon = env.relay(listen=LISTEN, handler="[::1]:9000", proxy_protocol=mode,
                       untrusted=untrusted, **settings)
    return handler, daemon


def trusted_works(env, handler):
    """The same listener does honour the proxy's header."""
    count = len(handler.accepted) + 1
    source = (CLIENTS6[1], 5555)
    with env.lb.connect((SERVER6, 1883)) as sock:
        stream.exchange(sock, header.v2(source, (LB_FRONT6, 1883)) + b"hello", b"hello")
        equal(handler.wait(count).peer, source, "client of the trusted proxy")


def all_reset(env, mode):
    handler, daemon = start(env, mode, "reset")
    count = 0
    for address, heads in FORGED.items():
        for data in [b"hello", b"PING\r\n", *heads, *(head + b"hello" for head in heads)]:
            stream.refused(env.stranger, (address, 1883), data)
            count += 1
    daemon.wait_stat("echo", "untrusted", count)
    equal(handler.accepted, [], "connections at the handler")
    trusted_works(env, handler)


@needs(BPF)
def test_reset_required(env):
    all_reset(env, "required")


@needs(BPF)
def test_reset_enabled(env):
    all_reset(env, "enabled")


def direct(env, mode, **settings):
    """Plain clients pass with their own address; a header is refused."""
    handler, daemon = start(env, mode, "direct", **settings)
    for address, source in ((SERVER_SIDE, f"::ffff:{STRANGER}"), (SERVER_SIDE6, STRANGER6)):
        for data in (b"hello", b"PING\r\n", b"\r\n\r\nCONNECT\n"):
            count = len(handler.accepted) + 1
            with env.stranger.connect((address, 1883)) as sock:
                stream.exchange(sock, data)
                equal(handler.wait(count).peer, (source, sock.getsockname()[1]),
                      "client of a direct connection")
    delivered = len(handler.accepted)
    refused = 0
    for address, heads in FORGED.items():
        for head in heads:
            for data in (head, head + b"hello"):
                stream.refused(env.stranger, (address, 1883), data)
                refused += 1
    daemon.wait_stat("echo", "untrusted_header", refused)
    equal([accepted.data for accepted in handler.accepted[delivered:] if accepted.data],
          [], "bytes at the handler")
    trusted_works(env, handler)


@needs(BPF)
def test_direct_required(env):
    direct(env, "required")


@needs(BPF)
def test_direct_enabled(env):
    direct(env, "enabled")


@needs(BPF)
def test_direct_offload_off(env):
    direct(env, "enabled", offload="off")


@needs(BPF, BPFTOOL)
def test_direct_is_recorded(env):
    """In the pinned map too, where TC reads the headers of others. Fails without
    `headless = false` in admission_begin(), admission.c."""
    _, daemon = start(env, "required", "direct", client_address="none")
    with env.stranger.connect((SERVER_SIDE, 1883)) as sock:
        stream.exchange(sock, b"hello")
        entry, = bpf.map_values(daemon.map_path("connections"))
        equal(int(entry["client_port"]), sock.getsockname()[1], "the client's port")


@needs(BPF)
def test_direct_header_in_pieces(env):
    """A forged header is refused however it is cut."""
    handler, daemon = start(env, "required", "direct")
    head = FORGED[SERVER_SIDE][1]
    for cut in range(1, len(head)):
        with env.stranger.connect((SERVER_SIDE, 1883)) as sock:
            try:
                stream.send_pieces(sock, (head[:cut], head[cut:] + b"hello"))
                how, data = stream.ended_by(sock)
            except (ConnectionResetError, BrokenPipeError):
                continue
            equal((how, data), ("reset", b""), f"answer to a header cut at {cut}")
    equal([accepted.data for accepted in handler.accepted if accepted.data], [],
          "bytes at the handler")


def prefix_and_wait(env, **settings):
    """Seen to fail with open_gate() in admission_timeout(), admission.c."""
    handler, daemon = start(env, "required", "direct", header_timeout="1s", **settings)
    silent = env.stranger.connect((SERVER_SIDE, 1883))
    handler.wait(1)
    head = FORGED[SERVER_SIDE]
    for count, first in enumerate((head[0][:1], head[0][:5], head[1][:11]), 1):
        with env.stranger.connect((SERVER_SIDE, 1883)) as sock:
            sock.sendall(first)
            equal(stream.ended_by(sock), ("reset", b""), f"answer to {first}, and no more")
        daemon.wait_stat("echo", "untrusted_header", count)
    check(daemon.process.lines("reason=untrusted_header detail=timeout"), "it is not logged")
    with env.stranger.connect((SERVER_SIDE, 1883)) as sock:
        sock.sendall(head[0][:5])
        sock.shutdown(socket.SHUT_WR)
        equal(stream.ended_by(sock), ("eof", head[0][:5]), "the echo of what could not go on")
    with silent:
        stream.exchange(silent, b"hello")
    equal(sorted(accepted.data for accepted in handler.accepted if accepted.data),
          [head[0][:5], b"hello"], "bytes at the handler")
    trusted_works(env, handler)


@needs(BPF)
def test_direct_prefix(env):
    """Who began what may become a header has header_timeout to go on, not longer;
    who says nothing has all the time there is."""
    prefix_and_wait(env)


@needs(BPF)
def test_direct_prefix_offload_off(env):
    """The same of the daemon alone."""
    prefix_and_wait(env, offload="off")


@needs(BPF)
def test_disabled_honours_none(env):
    """Mode disabled: bytes are bytes, and every client is its own."""
    handler, _ = start(env, "disabled", "direct")
    for namespace, address in ((env.lb, SERVER), (env.stranger, SERVER_SIDE)):
        data = header.v2((CLIENTS[0], 4444), (LB_FRONT, 1883)) + b"hello"
        count = len(handler.accepted) + 1
        with namespace.connect((address, 1883)) as sock:
            stream.exchange(sock, data)
            own = sock.getsockname()
            equal(handler.wait(count).peer, (f"::ffff:{own[0]}", own[1]), "client")


@needs(BPF)
def test_untrusted_reset_disabled(env):
    """With reset, disabled mode honours no stranger's header either."""
    handler, _ = start(env, "disabled", "reset")
    with env.stranger.connect((SERVER_SIDE, 1883)) as sock:
        try:
            sock.sendall(FORGED[SERVER_SIDE][1])
            sock.shutdown(1)
            stream.ended_by(sock)
        except OSError:
            pass
    equal([accepted.peer for accepted in handler.accepted if CLIENTS[0] in accepted.peer[0]],
          [], "connections of the forged client")


@needs(BPF)
def test_trusted_by_listener(env):
    """`trusted` of a listener replaces the global list."""
    handler = env.handler()
    daemon = env.relay(listen="0.0.0.0:1883", trusted=STRANGER)
    source = (CLIENTS[1], 5555)
    with env.stranger.connect((SERVER_SIDE, 1883)) as sock:
        stream.exchange(sock, header.v2(source, (LB_FRONT, 1883)) + b"hello", b"hello")
        equal(handler.wait(1).peer, source, "client of the trusted proxy")
    stream.refused(env.lb, (SERVER, 1883), header.v2(source, (LB_FRONT, 1883)))
    daemon.wait_stat("echo", "untrusted", 1)
