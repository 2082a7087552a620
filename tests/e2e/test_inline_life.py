# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""delivery = inline over time: ports used again at once, a daemon that is
killed, stopped, restarted or told to attach and detach."""

import os
import signal
import socket
import threading
import time

from lib import bpf, header, inline, load, stream
from lib.handler import echo
from lib.inline import INLINE, PAYLOAD
from lib.packets import ACK, PSH, SYN, Peer, Wire
from lib.poll import check, equal, wait_for
from lib.requirement import BPFTOOL, needs
from lib.topology import CLIENTS, CLIENTS6, LB, LB6, LB_FRONT, SERVER, SERVER6, SERVER_SIDE

ADDRESS = (SERVER, 1883)
GHOST = "10.77.0.99"  # no interface has it
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))


def works(env, server, address=ADDRESS):
    count = len(server.accepted) + 1
    with env.lb.connect(address) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        accepted = server.wait(count)
        equal((accepted.from_accept, accepted.peer), (SOURCE, SOURCE), "client")


def answer_and_close(accepted):
    """The server closes first, so TIME_WAIT is on its side."""
    if accepted.receive() is not None:
        accepted.sock.sendall(PAYLOAD)


def reuse(env, server, rounds, address, local):
    """The same port again and again; the client of each header is another."""
    for number in range(rounds):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with env.lb.connect(address, local) as sock:
            source = ((CLIENTS6[1] if family == socket.AF_INET6 else CLIENTS[1]), number + 1)
            sock.sendall(header.v2(source, (address[0], 1883)) + PAYLOAD)
            equal(stream.ended_by(sock), ("eof", PAYLOAD), f"answer in round {number}")
        accepted = server.accepted[-1]
        equal((accepted.from_accept, accepted.peer), (source, source), f"client in {number}")


def each_reuse(env, rounds, killed, **settings):
    for address, local in ((ADDRESS, (LB, 30001)), ((SERVER6, 1883), (LB6, 30001))):
        target = (address[0], settings.get("handler", 1883))
        server = inline.Server.start(env, target, answer_and_close)
        running = inline.daemon(env, **settings)
        reuse(env, server, 1, address, local)
        if killed:
            running.stop(signal.SIGKILL)
        reuse(env, server, rounds - 1, address, local)
        equal(len(server.accepted), rounds, "connections of the server")
        waiting = env.server.run("ss", "-Htan", "state", "time-wait", "sport = :1883").stdout
        check(":30001" in waiting, f"the tuple is in TIME_WAIT: {waiting!r}")
        if killed:
            running.start()
        inline.wait_map_empty(running, "connections")
        equal(running.stop(), 0, "exit status")
        server.destroy()


@needs(INLINE, BPFTOOL)
def test_time_wait(env):
    """Through the safety net and the daemon."""
    each_reuse(env, 1000, False)


@needs(INLINE, BPFTOOL)
def test_time_wait_without_daemon(env):
    """The client's stack finds out and tries again by itself."""
    each_reuse(env, 500, True)


@needs(INLINE, BPFTOOL)
def test_time_wait_of_another_port(env):
    """The server listens elsewhere: the tuple that counts is the client's."""
    each_reuse(env, 50, False, handler=18830)
    each_reuse(env, 50, True, handler=18830)


def churn(env, server_address, rate, count):
    """Connections at a rate, in the background; result() waits for them."""
    return load.Load(env, env.lb, "connect", server_address, "--rate", rate, "-c", count,
                     "-f", 64, "--check", "--clients", "203.0.113.0/24")


@needs(INLINE, BPFTOOL)
def test_kill(env):
    """kill -9 while 200 connections/s come: none fails, none is wrong."""
    load.Backend(env, env.server, ADDRESS)
    running = inline.daemon(env)
    running.wait_connections(0)
    going = churn(env, ADDRESS, 200, 1600)
    wait_for(lambda: running.stat("echo", "connections") > 200, "connections")
    running.stop(signal.SIGKILL)
    check(going.alive(), "it was killed in the middle")
    before = len(bpf.bpftool("map", "dump", "pinned", running.map_path("listeners")))
    equal(before, 1, "pinned listeners")
    running.start()
    check(going.alive(), "it was started again in the middle")
    going.good(1600)
    equal(running.stat("echo", "connections"), 1600, "connections, those without daemon too")
    inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_killed_for_good(env):
    """Nobody starts it again: all that the kernel can decide goes on."""
    server = inline.Server.start(env)
    running = inline.daemon(env)
    held = env.lb.connect(ADDRESS)
    stream.exchange(held, HEADER + PAYLOAD, PAYLOAD)
    running.stop(signal.SIGKILL)
    stream.exchange(held, b"and more")
    equal(server.accepted[0].sock.getpeername(), SOURCE, "getpeername() of the one before")
    for _ in range(20):
        works(env, server)
    stream.refused(env.lb, ADDRESS, b"not a header")
    with env.lb.connect(ADDRESS) as sock:
        sock.settimeout(0.5)
        stream.send_pieces(sock, (HEADER[:5], HEADER[5:] + PAYLOAD))
        try:
            data = sock.recv(100)
        except (socket.timeout, ConnectionResetError):
            data = b""
        check(data in (b"", PAYLOAD), f"answer {data!r}")  # retransmitted as one
    held.close()


@needs(INLINE, BPFTOOL)
def test_reload(env):
    """A listener more, a listener less, other settings; connections stay."""
    server = inline.Server.start(env)
    other = inline.Server.start(env, (SERVER, 1884))
    running = inline.daemon(env)
    held = env.lb.connect(ADDRESS)
    stream.exchange(held, HEADER + PAYLOAD, PAYLOAD)
    with open(running.config_path, encoding="ascii") as file:
        config = file.read()
    running.reload(config.replace("1883", "1884"))
    works(env, other, (SERVER, 1884))
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, PAYLOAD)
        equal(server.wait(2).peer, sock.getsockname(), "a plain client")
    running.reload(config)
    works(env, server)
    with env.lb.connect((SERVER, 1884)) as sock:
        stream.exchange(sock, PAYLOAD)
    stream.exchange(held, b" and more")
    equal(server.accepted[0].sock.getpeername(), SOURCE, "the client of the first")
    running.reload(config.replace("required", "enabled"))
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, PAYLOAD)
    held.close()
    inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_stop(env):
    """An ordinary stop takes it all away; the server is an ordinary one again."""
    server = inline.Server.start(env)
    running = inline.daemon(env)
    held = env.lb.connect(ADDRESS)
    stream.exchange(held, HEADER + PAYLOAD, PAYLOAD)
    equal(running.stop(), 0, "exit status")
    check(not os.path.exists(running.bpffs), "pins are left")
    stream.exchange(held, b" and more")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, PAYLOAD)
        equal(server.wait(2).peer, sock.getsockname(), "a plain client")
    held.close()


@needs(INLINE, BPFTOOL)
def test_restart(env):
    """SIGUSR1 says that another will come: nothing goes in between."""
    server = inline.Server.start(env)
    running = inline.daemon(env)
    held = env.lb.connect(ADDRESS)
    stream.exchange(held, HEADER + PAYLOAD, PAYLOAD)
    for _ in range(3):
        running.process.kill(signal.SIGUSR1)
        equal(running.stop(), 0, "exit status")
        works(env, server)
        running.start()
        works(env, server)
        stream.exchange(held, b" and more")
        equal(server.accepted[0].sock.getpeername(), SOURCE, "the client of the first")
        equal(len(running.wait_connections(1)), 1, "records")
    held.close()
    inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_attach_and_detach(env):
    """One command each, a server that runs already and is not restarted."""
    server = inline.Server.start(env, ("::", 1883))
    running = env.realpeerd("")
    before = env.lb.connect(ADDRESS)
    stream.exchange(before, PAYLOAD)
    running.ctl("attach", "1883", "--trusted", f"{LB}/32")
    want = (f"::ffff:{SOURCE[0]}", SOURCE[1])
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        equal(server.wait(2).peer, want, "client")
        entry = running.wait_connections(1)[0]
        equal((entry["client"], entry["delivery"]), (SOURCE[0], "inline"), "record")
        check(running.ctl_json("status")["listeners"], "no listener in the status")
        stream.exchange(before, b" and more")
        equal(server.accepted[0].peer, (f"::ffff:{LB}", before.getsockname()[1]), "a plain client")
        refuses_ipv6(env)
        running.ctl("detach", "1883")
        stream.exchange(sock, b" and more")
        equal(server.accepted[1].sock.getpeername()[:2], want, "client, after detach")
    equal(running.ctl_json("status")["listeners"], [], "listeners in the status")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, PAYLOAD)
        equal(server.accepted[-1].peer, (f"::ffff:{LB}", sock.getsockname()[1]), "a plain client")
    stream.exchange(before, b" and more")
    before.close()
    running.ctl("detach", "1883", status=1)
    inline.nothing_left(running)


def refuses_ipv6(env):
    """--trusted names one IPv4 address: nobody else is a proxy."""
    try:
        with env.lb.connect((SERVER6, 1883)) as sock:
            sock.sendall(HEADER + PAYLOAD)
            equal(stream.ended_by(sock), ("reset", b""), "a header over IPv6")
    except ConnectionRefusedError:
        pass


@needs(INLINE, BPFTOOL)
def test_attach_with_configuration(env):
    """It takes `trusted` from the file, and a listener of the file stays, also
    where its port is attached: that is for the server's other addresses."""
    configured = inline.Server.start(env, (SERVER, 1884))
    server = inline.Server.start(env)
    running = inline.daemon(env, f"{SERVER}:1884", "configured")
    running.ctl("attach", "1883")
    works(env, server)
    works(env, configured, (SERVER, 1884))
    running.ctl("detach", "1884", status=1)
    running.ctl("attach", "1884")
    works(env, configured, (SERVER, 1884))
    equal(running.stat("port-1884", "connections"), 0, "connections of the attached one")
    running.ctl("attach", "0", status=2)
    running.ctl("attach", "1885", "--trusted", "10.0.0.0/99", status=2)
    running.ctl("detach", "1884")
    running.ctl("detach", "1883")
    works(env, configured, (SERVER, 1884))


@needs(INLINE, BPFTOOL)
def test_attach_while_connections_come(env):
    """Plain clients before, during and after: none of them is lost."""
    server = inline.Server.start(env, ("0.0.0.0", 1883))
    running = env.realpeerd("[global]\nuntrusted = direct\n")
    stop, wrong = threading.Event(), []

    def connect():
        while not stop.is_set():
            try:
                with env.stranger.connect((SERVER_SIDE, 1883)) as sock:
                    stream.exchange(sock, PAYLOAD)
            except (OSError, AssertionError) as error:
                wrong.append(error)
    thread = threading.Thread(target=connect)
    thread.start()
    try:
        for _ in range(5):
            running.ctl("attach", "1883", "--trusted", f"{LB}/32")
            with env.lb.connect(ADDRESS) as sock:
                stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
            running.ctl("detach", "1883")
    finally:
        stop.set()
        thread.join()
    equal(wrong, [], "plain clients that failed")
    equal(sum(accepted.peer == SOURCE for accepted in server.accepted), 5, "right clients")


@needs(INLINE, BPFTOOL)
def test_early_server_first(env):
    """Attached late: a connection whose SYN came before is not believed."""
    server = inline.Server.start(env, behaviour=echo)
    running = env.realpeerd("")
    before = env.lb.connect(ADDRESS)
    running.ctl("attach", "1883", "--trusted", f"{LB}/32")
    before.sendall(PAYLOAD)
    equal(stream.receive_exactly(before, len(PAYLOAD)), PAYLOAD, "echo")
    equal(server.wait(1).peer, before.getsockname(), "a plain client")
    before.close()


@needs(INLINE, BPFTOOL)
def test_early_and_silent(env):
    """The same, long after that, when only its entry is left; what comes first is a
    keep-alive with a byte, or what stands behind the header.

    Fails if rp_on_stray(), accept.bpf.c, resets whatever comes: TCP takes no reset
    with such a number, and nobody knows the connection any more.
    """
    server = inline.Server.start(env)
    running = env.realpeerd("[global]\nheader_timeout = 1s\n")
    wire = Wire(env, [GHOST])
    for number, (first, offset) in enumerate(((b"\0", -1), (PAYLOAD, len(HEADER))), 1):
        peer = Peer(wire, (GHOST, 20000 + number), ADDRESS)
        peer.send_syn()
        peer.take_syn_ack(peer.expect(SYN | ACK, "the stack's SYN-ACK"))
        running.ctl("attach", "1883", "--trusted", f"{GHOST}/32")
        peer.send(ACK)
        server.wait(number)
        time.sleep(2.5)  # until TC looks at no others' first bytes
        peer.send(ACK | PSH, first, seq=peer.seq + offset)
        peer.data(HEADER + PAYLOAD)
        wait_for(lambda: server.accepted[-1].ended, "the end")
        equal(server.accepted[-1].data, b"", "bytes at the server")
        check(running.stat("port-1883", "stray") > 0, "it is not counted")
        running.ctl("detach", "1883")
