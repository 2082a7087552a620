# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The daemon has used up its descriptors: it waits without spinning, what is
connected goes on, and it recovers when some are free again. Inline connections
need none of them."""

import subprocess
import time

from lib import fault, header, inline, stream
from lib.inline import INLINE, PAYLOAD
from lib.poll import check, equal, wait_for
from lib.requirement import BPF, BPFTOOL, needs
from lib.topology import CLIENTS, LB_FRONT, SERVER

ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))


def open_connection(env):
    sock = env.lb.connect(ADDRESS)
    env.at_end(sock.close)
    stream.exchange(sock, HEADER + b"hello", b"hello")
    return sock


def silent(env, count):
    """Clients that have sent nothing: each takes one descriptor."""
    socks = []
    for _ in range(count):
        socks.append(env.lb.connect(ADDRESS))
        env.at_end(socks[-1].close)
    return socks


def close(socks):
    for sock in socks:
        sock.close()


def told_each_second(daemon, begin):
    """At most, and once at either end, and of the sysctls."""
    lines = daemon.process.lines("Too many open files")
    most = time.monotonic() - begin + 3
    check(0 < len(lines) <= most, f"{len(lines)} lines, not {most:.1f}: {lines[:8]}")


@needs(BPF)
def test_none_to_accept_with(env):
    """New clients wait in the queue, and are served as soon as others go.

    Fails without loop_unwatch() in pause_accepting(), acceptor.c: it spins.
    """
    env.handler()
    daemon = env.relay(offload="off", header_timeout="30s")
    held = open_connection(env)
    idle = len(daemon.process.descriptors())
    begin = time.monotonic()
    fault.leave_descriptors(daemon.process, 4)
    waiting = silent(env, 10)
    wait_for(lambda: len(daemon.process.descriptors()) == idle + 4, "the limit to be reached")
    late = env.lb.connect(ADDRESS)
    late.sendall(HEADER + b"late")
    fault.sleeps(daemon.process)
    stream.exchange(held, b"still here")
    close(waiting)
    equal(stream.receive_exactly(late, 4), b"late", "echo for the one that waited")
    late.close()
    check(daemon.stat("echo", "resource") > 0, "it is not counted")
    told_each_second(daemon, begin)
    for _ in range(4):
        open_connection(env).close()


@needs(BPF)
def test_none_to_connect_with(env):
    """Those that cannot be connected are reset, and told of in few lines.

    Fails without listener_shortage() in fail() of handler.c: ten lines a second.
    """
    handler = env.handler()
    daemon = env.relay()
    held = open_connection(env)
    begin = time.monotonic()
    allow = fault.leave_descriptors(daemon.process, 1)
    for _ in range(100):
        stream.refused(env.lb, ADDRESS, HEADER + b"hello")
    stream.exchange(held, b"still here")
    equal(len(handler.accepted), 1, "connections of the handler")
    # more where the one descriptor was another's for a moment
    wait_for(lambda: daemon.stat("echo", "resource") >= 100, "all to be counted")
    equal(daemon.stat("echo", "handler_failed"), 0, "handler_failed")
    told_each_second(daemon, begin)
    allow()
    open_connection(env).close()


@needs(BPF)
def test_none_for_realpeerctl(env):
    """It has to wait, and the daemon's main thread waits as well.

    Fails without pause_accepting() in control.c: it spins.
    """
    env.handler()
    daemon = env.relay(offload="off", header_timeout="30s")
    idle = len(daemon.process.descriptors())
    fault.leave_descriptors(daemon.process, 2)
    waiting = silent(env, 4)
    wait_for(lambda: len(daemon.process.descriptors()) == idle + 2, "the limit to be reached")
    asking = subprocess.Popen([env.binary("realpeerctl"), "status", "--json"],
                              env=daemon.variables, stdout=subprocess.PIPE, text=True)
    try:
        fault.sleeps(daemon.process)
        equal(asking.poll(), None, "realpeerctl's exit status")
        close(waiting)
        check('"running": true' in asking.communicate(timeout=5)[0], "no answer")
    finally:
        asking.kill()
        asking.wait()


@needs(INLINE, BPFTOOL)
def test_inline(env):
    """Its connections go on, new ones too. What the kernel leaves to the daemon
    waits, and gets through.

    Fails without update_sysctls() in datapath_maps.c: the programs are told that
    tcp_syncookies is 0. And without pause_accepting() in handover.c: it spins.
    """
    server = inline.Server.start(env)
    running = inline.daemon(env)
    allow = fault.leave_descriptors(running.process, 0)
    running.process.wait_log("cannot read sysctls.*Too many open files")
    pieces = []
    for _ in range(3):
        pieces.append(env.lb.connect(ADDRESS))
        env.at_end(pieces[-1].close)
        stream.send_pieces(pieces[-1], (HEADER[:5], HEADER[5:] + PAYLOAD))
    fault.sleeps(running.process)
    for count in range(1, 11):
        with env.lb.connect(ADDRESS) as sock:
            stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
            equal(server.wait(count).peer, SOURCE, "client")
    allow()
    for sock in pieces:
        equal(stream.receive_exactly(sock, len(PAYLOAD)), PAYLOAD, "echo")
    equal([accepted.peer for accepted in server.accepted], [SOURCE] * 13, "clients")
    equal(running.stat("echo", "handed_over"), 3, "handed_over")
    lines = running.process.lines("Too many open files")
    check(0 < len(lines) < 10, f"{len(lines)} lines: {lines[:12]}")


@needs(INLINE, BPFTOOL)
def test_interface_meanwhile(env):
    """An interface that came is attached to when there are descriptors again.

    Fails without attach_due in datapath_upkeep().
    """
    inline.Server.start(env, ("::", 1883))
    running = inline.daemon(env, "[::]:1883")
    allow = fault.leave_descriptors(running.process, 0)
    env.server.run("ip", "link", "add", "later", "type", "bridge")
    running.process.wait_log("cannot look at the interfaces")
    fault.sleeps(running.process)
    check(not inline.is_attached(running, env.server, "later"), "it is attached already")
    allow()
    wait_for(lambda: inline.is_attached(running, env.server, "later"), "the program at `later`")
    equal(len(running.process.lines("cannot look at the interfaces")), 1, "lines")
