# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""delivery = inline and the server's listening socket: of any kind, full, gone,
started again, in another cgroup."""

import os
import socket
import sys
import time

from lib import bpf, crowd, handshakes, header, inline, stream
from lib.inline import INLINE, PAYLOAD
from lib.poll import check, equal, wait_for
from lib.realpeer import listener
from lib.requirement import BPFTOOL, Skip, needs
from lib.topology import (CLIENTS, CLIENTS6, LB, LB_FRONT, LB_FRONT6, SERVER, SERVER6,
                          SERVER_SIDE, STRANGER)

ADDRESS = (SERVER, 1883)
SOURCE, SOURCE6 = (CLIENTS[0], 40001), (CLIENTS6[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
HEADER6 = header.v2(SOURCE6, (LB_FRONT6, 1883))


def works(env, server, address=ADDRESS, head=HEADER, want=SOURCE, look=None):
    count = len(server.accepted) + 1
    with env.lb.connect(address) as sock:
        stream.exchange(sock, head + PAYLOAD, PAYLOAD)
        accepted = server.wait(count)
        equal((accepted.from_accept, accepted.peer), (want, want), "client")
        if look:
            look(accepted.sock)


def is_refused(env, address=ADDRESS):
    try:
        env.lb.connect(address, timeout=3).close()
    except ConnectionRefusedError:
        return
    raise AssertionError("not refused")


@needs(INLINE, BPFTOOL)
def test_no_server(env):
    """Nobody listens, so nobody says otherwise: health checks stay honest.

    Fails without RP_OWNER_NOBODY in rp_on_syn(), handshake.h.
    """
    running = inline.daemon(env)
    for number, address in enumerate((ADDRESS, (SERVER6, 1883)), 1):
        is_refused(env, address)
        running.wait_stat("echo", "handler_failed", number)
    server = inline.Server.start(env)
    works(env, server)
    running.stop(9)
    server.destroy()
    is_refused(env)


@needs(INLINE, BPFTOOL)
def test_other_server(env):
    """The one that is meant, on another port, is down: who listens on the clients'
    port, or where a rule leads to, gets no header.

    Fails if rp_on_syn(), handshake.h, leaves such a SYN to the stack.
    """
    other = inline.Server.start(env, ("0.0.0.0", 1883))
    running = inline.daemon(env, "0.0.0.0:1883", handler="11883", proxy_protocol="enabled")
    is_refused(env)
    server = inline.Server.start(env, ("0.0.0.0", 11883))
    works(env, server)
    equal(other.accepted, [], "connections of the other server")
    inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_restarted_server(env):
    """The daemon need not be told. A handshake in between ends with a reset.

    Fails without rp_refuse() in rp_accept_past(), accept.bpf.c.
    """
    running = inline.daemon(env)
    for number in range(1, 4):
        server = inline.Server.start(env)
        works(env, server)
        between = env.lb.connect(ADDRESS)
        server.destroy()
        is_refused(env)
        between.sendall(HEADER + PAYLOAD)
        equal(stream.ended_by(between), ("reset", b""), "a header for a server that went")
        between.close()
        running.wait_stat("echo", "handler_failed", 2 * number)
    inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_full_accept_queue(env):
    """Nothing is lost while the server does not accept, longer than
    header_timeout, and nothing loops.

    Fails without RP_STAGE_JUDGED in rp_pass_without(), accept.bpf.c. And if the
    table, when it is full, forgets whose sockets are to come first, so without
    known->since in rp_accept_from(), accept.bpf.c.
    """
    count = 8
    listening = env.server.listen(ADDRESS, backlog=3)  # room for four
    env.at_end(listening.close)
    running = inline.daemon(env, header_timeout="60s")
    counting = bpf.count_runs()
    env.at_end(lambda: os.close(counting))
    clients = [env.lb.connect(ADDRESS) for _ in range(count)]
    begin = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    for number, client in enumerate(clients):
        client.sendall(header.v2((CLIENTS[1], number + 1), (LB_FRONT, 1883))
                       + PAYLOAD + bytes([number]))
    with handshakes.Handshakes(running) as table:
        wait_for(lambda: len(table.since()) == count - 4 and min(table.since()) > begin,
                 "those without a socket to be young again")
    running.reload(listener("echo", listen=f"{SERVER}:1883, [{SERVER6}]:1883", delivery="inline",
                            header_timeout="500ms"))
    # after 0.2, 0.4, 0.8 s more
    wait_for(lambda: retransmitted(env) >= 3 * (count - 4), "segments to be sent again", 10)
    runs = inline.program_runs(running, env.server, "back")
    check(runs < 30 * count, f"{runs} runs of the program for {count} connections")
    listening.settimeout(20)
    seen = set()
    while len(seen) < count:
        accepted, peer = listening.accept()
        with accepted:
            accepted.settimeout(5)
            data = stream.receive_exactly(accepted, len(PAYLOAD) + 1)
            equal((peer, data), ((CLIENTS[1], data[-1] + 1), PAYLOAD + data[-1:]), "client")
            seen.add(data[-1])
    for sock in clients:
        sock.close()
    inline.nothing_left(running)
    equal(running.stat("echo", "connections"), count, "connections")
    equal(running.stat("echo", "timeout"), 0, "timeout")


def retransmitted(env):
    text = env.lb.run("nstat", "-asz", "TcpRetransSegs").stdout
    return int(text.split("TcpRetransSegs")[1].split()[0])


@needs(INLINE, BPFTOOL)
def test_handler_on_another_port(env):
    """Clients know 1883, the server listens on 18830."""
    for address in ((SERVER, 18830), ("0.0.0.0", 18830)):
        server = inline.Server.start(env, address)
        running = inline.daemon(env, f"{SERVER}:1883", handler=18830, proxy_protocol="enabled")
        works(env, server, look=lambda sock: equal(
            sock.getsockname(), ADDRESS, "the local address"))
        with env.lb.connect(ADDRESS) as sock:
            stream.exchange(sock, PAYLOAD)
            equal(server.wait(2).peer, sock.getsockname(), "a plain client")
        with env.lb.connect(ADDRESS) as sock:
            stream.send_pieces(sock, (HEADER[:5], HEADER[5:] + PAYLOAD))
            equal(stream.receive_exactly(sock, len(PAYLOAD)), PAYLOAD, "echo")
            equal(server.wait(3).peer, SOURCE, "client of a header in pieces")
        inline.nothing_left(running)
        server.destroy()
        is_refused(env)
        equal(running.stop(), 0, "exit status")


@needs(INLINE, BPFTOOL)
def test_handler_on_another_port_direct(env):
    """Untrusted plain clients find it as well."""
    server = inline.Server.start(env, ("0.0.0.0", 18830))
    running = inline.daemon(env, "0.0.0.0:1883", handler=18830, untrusted="direct")
    with env.stranger.connect((SERVER_SIDE, 1883)) as sock:
        stream.exchange(sock, PAYLOAD)
        equal(server.wait(1).peer, (STRANGER, sock.getsockname()[1]), "client")
    works(env, server)
    inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_reuseport(env):
    """Several processes share the port, and all get their part."""
    servers = [inline.Server.start(env, listening=env.server.listen(ADDRESS, reuse_port=True))
               for _ in range(4)]
    running = inline.daemon(env)
    clients = []
    for number in range(60):
        source = (CLIENTS[2], number + 1)
        clients.append(env.lb.connect(ADDRESS))
        stream.exchange(clients[-1], header.v2(source, (LB_FRONT, 1883)) + PAYLOAD, PAYLOAD)
    equal(sorted(accepted.peer for server in servers for accepted in server.accepted),
          [(CLIENTS[2], number + 1) for number in range(60)], "clients")
    shares = [len(server.accepted) for server in servers]
    check(min(shares) > 0, f"shares of the servers: {shares}")
    for sock in clients:
        sock.close()
    inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_one_address(env):
    """The listener has one address of the server's two; the other is plain."""
    server = inline.Server.start(env, ("0.0.0.0", 1883))
    running = inline.daemon(env, f"{SERVER}:1883")
    works(env, server)
    with env.stranger.connect((SERVER_SIDE, 1883)) as sock:
        stream.exchange(sock, PAYLOAD)
        equal(server.wait(2).peer, (STRANGER, sock.getsockname()[1]), "a plain client")
    equal(running.stat("echo", "connections"), 1, "connections")


@needs(INLINE, BPFTOOL)
def test_several_listeners(env):
    """Ports and addresses with settings of their own, in one daemon."""
    strict = inline.Server.start(env, (SERVER, 1883))
    optional = inline.Server.start(env, (SERVER, 1884))
    sixth = inline.Server.start(env, (SERVER6, 1883))
    running = env.realpeerd(
        listener("strict", listen=f"{SERVER}:1883", delivery="inline")
        + listener("optional", listen=f"{SERVER}:1884", delivery="inline",
                   proxy_protocol="enabled")
        + listener("sixth", listen=f"[{SERVER6}]:1883", delivery="inline"))
    works(env, strict)
    works(env, optional, (SERVER, 1884))
    works(env, sixth, (SERVER6, 1883), HEADER6, SOURCE6)
    with env.lb.connect((SERVER, 1884)) as sock:
        stream.exchange(sock, PAYLOAD)
        equal(optional.wait(2).peer, sock.getsockname(), "a plain client")
    stream.refused(env.lb, ADDRESS, PAYLOAD)
    for name, count in (("strict", 1), ("optional", 2), ("sixth", 1)):
        equal(running.stat(name, "connections"), count, f"connections of {name}")


@needs(INLINE, BPFTOOL)
def test_families_of_header_and_socket(env):
    """Proxies translate: an IPv4 client may come over IPv6 and the reverse."""
    server = inline.Server.start(env, ("::", 1883))
    running = inline.daemon(env)
    mapped = (f"::ffff:{SOURCE[0]}", SOURCE[1])
    for address in (ADDRESS, (SERVER6, 1883)):
        works(env, server, address, HEADER, mapped)
        works(env, server, address, HEADER6, SOURCE6)
    equal(running.stat("echo", "family_mismatch"), 0, "family_mismatch")


@needs(INLINE, BPFTOOL)
def test_ipv6_client_of_an_ipv4_socket(env):
    """It cannot be shown there: the proxy's address is, and it is counted."""
    server = inline.Server.start(env)
    running = inline.daemon(env)
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER6 + PAYLOAD, PAYLOAD)
        accepted = server.wait(1)
        equal((accepted.from_accept, accepted.peer), (sock.getsockname(),) * 2, "client")
        entry = running.wait_connections(1)[0]
        equal((entry["client"], entry["client_port"], entry["proxy"]), (*SOURCE6, LB), "record")
    equal(running.stat("echo", "family_mismatch"), 1, "family_mismatch")


@needs(INLINE, BPFTOOL)
def test_mptcp_listener(env):
    """The kernel can't create its child for us, so the daemon relays, and says so
    when it sees the server. Fails without setup_look()."""
    listening = inline.mptcp_socket(env.server)
    if not listening:
        raise Skip("no MPTCP in this kernel")
    env.at_end(listening.close)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    running = inline.daemon(env)  # at boot, the server comes later
    equal(why(running), "no server listens on the port yet", "why, without a server")
    listening.bind(ADDRESS)
    listening.listen(16)
    server = inline.Server.start(env, listening=listening)
    works(env, server)
    equal(running.stat("echo", "handed_over"), 1, "handed_over")
    running.process.wait_log("^warning: listener=echo .*MPTCP")
    check("MPTCP" in why(running), "the status does not say why")


def why(running):
    entry, = running.ctl_json("status")["listeners"]
    return entry["why"]


@needs(INLINE, BPFTOOL)
def test_other_cgroup(env):
    """The programs are those of the root, which every cgroup inherits."""
    root = bpf.mounted("cgroup2")
    directory = os.path.join(root, env.prefix)
    os.mkdir(directory)
    process = env.start("server", env.server.command(
        "sh", "-c", f'echo $$ >{directory}/cgroup.procs && exec "$@"', "sh",
        sys.executable, "-B", crowd.WORKER, "serve", SERVER, "1883"))
    env.at_end(lambda: leave(process, directory))
    process.wait_log("^ready")
    with open(f"/proc/{process.pid}/cgroup", encoding="ascii") as file:
        check(env.prefix in file.read(), "the server is in a cgroup of its own")
    running = inline.daemon(env)
    crowd.churn(env, ADDRESS, 30, 1)
    equal(crowd.stop_servers([process]), 30, "right clients")
    equal(running.stat("echo", "connections"), 30, "connections")


def leave(process, directory):
    process.destroy()
    wait_for(lambda: rmdir(directory), f"{directory} to be empty")


def rmdir(directory):
    try:
        os.rmdir(directory)
    except OSError:
        return False
    return True


@needs(INLINE, BPFTOOL)
def test_options_are_inherited(env):
    """What the server sets on its listening socket, its children have."""
    listening = env.server.listen(ADDRESS)
    for level, name, value in ((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
                               (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
                               (socket.SOL_SOCKET, socket.SO_RCVBUF, 65536),
                               (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 3)):
        listening.setsockopt(level, name, value)
    server = inline.Server.start(env, listening=listening)
    inline.daemon(env)

    def look(sock):
        for level, name in same:
            equal(sock.getsockopt(level, name), listening.getsockopt(level, name),
                  f"option {name}")
    same = ((socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            (socket.IPPROTO_TCP, socket.TCP_NODELAY),
            (socket.SOL_SOCKET, socket.SO_RCVBUF))
    works(env, server, look=look)
