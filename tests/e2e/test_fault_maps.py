# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Maps that are full: the documented thing happens, and no byte of a header
reaches a server for it."""

import itertools
import signal
import struct
import subprocess
import time

from lib import bpf, handshakes, header, inline, maps, stream
from lib.inline import INLINE, PAYLOAD
from lib.manager import Manager
from lib.poll import check, equal, wait_for
from lib.realpeer import listener
from lib.requirement import BPF, BPFTOOL, Requirement, needs, program
from lib.topology import CLIENTS, LB, LB_FRONT, SERVER, SERVER_SIDE, SERVER_SIDE6

ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
WITH_TLV = header.v2(SOURCE, (LB_FRONT, 1883), b"\x02\x00\x07example")  # PP2_TYPE_AUTHORITY
CLOSED = bytes(67) + b"\x01" + bytes(36)  # struct rp_connection
FORGED = header.v2((CLIENTS[1], 40002), (LB_FRONT, 1883))


def _available():
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) << 10


NFT = program("nft")
MEMORY = Requirement("2 GiB of memory for a full map", lambda: _available() > 2 << 30)


def fill(daemon, name):
    with maps.Map(daemon.map_path(name)) as one:
        one.fill()


def drive_out(daemon, name):
    with maps.Map(daemon.map_path(name)) as one:
        one.drive_out()


def relays(env, handler, port=1883):
    """A connection with a header, whose client the handler sees."""
    count = len(handler.accepted) + 1
    with env.lb.connect((SERVER, port)) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        accepted = handler.wait(count)
        equal((accepted.peer, accepted.data), (SOURCE, PAYLOAD), "client and bytes")


@needs(INLINE, BPFTOOL)
def test_forgotten_handshakes(env):
    """A peer that said nothing while too many others came is not known any more.
    Its header is answered with a reset; who comes now is served.

    The stack may look whether the peer is one of its own: it does with SYN
    cookies, which a plain client had it make here. Fails if TC's sequence numbers
    are such cookies, without rp_mark_isn() in rp_make_isn(), and if the safety
    net, rp_lookup(), lets the peer through to the server.
    """
    for cookies in (1, 2):
        env.server.sysctl("net.ipv4.tcp_syncookies", cookies)
        server = inline.Server.start(env, ("0.0.0.0", 1883))
        running = inline.daemon(env, "0.0.0.0:1883", untrusted="direct")
        with env.stranger.connect((SERVER_SIDE, 1883)) as sock:
            stream.exchange(sock, PAYLOAD)
        server.accepted.clear()
        forgotten = [env.lb.connect(ADDRESS) for _ in range(3)]
        with handshakes.Handshakes(running) as table:
            table.drive_out()
        for sock in forgotten:
            sock.sendall(HEADER + PAYLOAD)
            equal(stream.ended_by(sock), ("reset", b""), "answer to a forgotten peer")
            sock.close()
        equal(server.accepted, [], "connections of the server")
        relays(env, server)
        equal(running.stop(), 0, "exit status")
        server.destroy()


@needs(INLINE, BPFTOOL)
def test_full_of_others(env):
    """Maps of things that wait for something forget the oldest for the newest.

    Fails with BPF_MAP_TYPE_HASH in the place of LRU_HASH in maps.h, and without
    rp_oldest_way() in rp_find_room(), handshakes.h.
    """
    server = inline.Server.start(env)
    handler = env.handler()
    running = env.realpeerd("".join((
        listener("inline", listen=f"{SERVER}:1883", delivery="inline"),
        *(listener(offload, listen=f"{SERVER}:{port}", handler="127.0.0.1:9000", offload=offload,
                   client_address="getpeername")
          for port, offload in ((1884, "accept"), (1885, "peek"), (1886, "off"))))))
    for name in ("pending", "awaiting"):
        fill(running, name)
    with handshakes.Handshakes(running) as table:
        table.drive_out()
    for count in range(1, 4):
        relays(env, server)
        for port in (1884, 1885, 1886):
            relays(env, handler, port)
        equal(running.stat("peek", "peeked"), count, "peeked")


@needs(BPF, BPFTOOL, MEMORY)
def test_full_connections(env):
    """A relayed connection that needs its record goes no further, one that does
    not goes on without it; either is counted.

    Fails without datapath_is_unrecorded() in registry_take(), registry.c: what
    comes behind a header is no header. And without the count in registry_add().
    """
    handler = env.handler()
    daemon = env.realpeerd("".join(
        listener(name, listen=f"{SERVER}:{port}", handler="127.0.0.1:9000", offload=offload,
                 trusted="0.0.0.0/0")  # so that 0.0.0.0 is, which accept() tells then
        for name, port, offload in (("any", 1883, "auto"), ("off", 1884, "off"))))
    full = daemon.status_of("any")["offload"]
    fill(daemon, "connections")
    with env.lb.connect((SERVER, 1884)) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        equal(handler.wait(1).data, PAYLOAD, "bytes at the handler")
        equal(daemon.stat("off", "map_full"), 1, "map_full")
    if full == "accept":
        for payload in (FORGED + PAYLOAD, PAYLOAD):
            stream.refused(env.lb, ADDRESS, HEADER + payload)
        equal(len(handler.accepted), 1, "connections of the handler")
    else:
        relays(env, handler)
    check(daemon.stat("any", "map_full") > 0, "it is not counted")


@needs(BPF, BPFTOOL, MEMORY)
def test_full_connections_shown(env):
    """A handler that getpeername() tells the client is told of nobody rather than
    of realpeerd, once; then nobody is connected to it until there is room.

    Fails without is_full(), datapath.c, and without rp_bind_nobody(), sockops.bpf.c.
    """
    handler = env.handler()
    daemon = env.realpeerd("".join(
        listener(offload, listen=f"{SERVER}:{port}", handler="127.0.0.1:9000", offload=offload,
                 client_address="getpeername")
        for port, offload in ((1883, "peek"), (1884, "off"))))
    with maps.Map(daemon.map_path("connections")) as connections:
        connections.fill()
        with env.lb.connect(ADDRESS) as sock:
            stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
            equal(handler.wait(1).peer, ("0.0.0.0", 0), "client")
        for port in (1883, 1884):
            stream.refused(env.lb, (SERVER, port), HEADER + PAYLOAD)
        equal(len(handler.accepted), 1, "connections of the handler")
        connections.clear()
    for port in (1883, 1884):
        relays(env, handler, port)
    check(daemon.stat("off", "map_full") > 0, "it is not counted")


@needs(INLINE, BPFTOOL, MEMORY)
def test_full_connections_inline(env):
    """The server is told nobody's address rather than the balancer's by the
    connection that finds it full; those after it are refused until there is room.

    Fails without rp_bind_nobody(), sockops.bpf.c, without rp_find_nobody(),
    peername.bpf.c, and without rp_is_full(), accept.bpf.c; and without the removal of
    TLVs in rp_bind(), sockops.bpf.c.
    """
    for address, nobody in ((SERVER, "0.0.0.0"), ("::", "::")):
        server = inline.Server.start(env, (address, 1883))
        running = inline.daemon(env)
        with maps.Map(running.map_path("connections")) as connections:
            connections.fill()
            with env.lb.connect(ADDRESS) as sock:
                stream.exchange(sock, WITH_TLV + PAYLOAD, PAYLOAD)
                accepted = server.wait(1)
                equal((accepted.from_accept, accepted.peer), ((nobody, 0),) * 2, "client")
                equal(inline.map_size(running, "tlvs"), 0, "TLVs of nobody")
            for count in (2, 3):
                stream.refused(env.lb, ADDRESS, HEADER + PAYLOAD)
                running.wait_stat("echo", "map_full", count)
            equal(len(server.accepted), 1, "connections of the server")
            connections.clear()
        relay_count = len(server.accepted) + 1
        with env.lb.connect(ADDRESS) as sock:
            stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
            shown = ("::ffff:" if address == "::" else "") + SOURCE[0]
            equal(server.wait(relay_count).peer, (shown, SOURCE[1]), "client")
        for name in ("connections", "unrecorded"):
            inline.wait_map_empty(running, name)
        equal(running.stop(), 0, "exit status")
        server.destroy()


def is_full(running):
    return int(bpf.map_values(running.map_path("gates"))[0]["full"])


def few_places_free(env, running, server):
    want = [SOURCE]

    def takes_the_place():
        sock = env.lb.connect(ADDRESS)
        env.at_end(sock.close)
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        return sock, server.accepted[-1]

    with maps.Map(running.map_path("connections")) as connections:
        connections.fill(but=1)
        sock, accepted = takes_the_place()
        with env.lb.connect(ADDRESS) as other:  # and finds it full
            stream.exchange(other, HEADER + PAYLOAD, PAYLOAD)
        want.append(("0.0.0.0", 0))
        for count in range(3):
            stream.close_with_reset(sock)
            wait_for(lambda: accepted.ended, "the server to see it end")  # noqa: B023
            if count:
                time.sleep(1.2)  # upkeep, once a second, has looked
            sock, accepted = takes_the_place()
            want.append(SOURCE)
            for _ in range(3):
                stream.refused(env.lb, ADDRESS, HEADER + PAYLOAD)
            equal([one.peer for one in server.accepted], want, "clients")
        equal(is_full(running), 1, "known to be full")
        connections.clear(but=1)
    wait_for(lambda: not is_full(running), "room to be found")
    relays(env, server)
    running.wait_connections(1)


@needs(INLINE, BPFTOOL, MEMORY)
def test_few_places_free_inline(env):
    """Where one place is free, who gets it is shown right, and who does not is
    reset, each time; with room for many nobody is tried any more.

    Fails if rp_is_full(), accept.bpf.c, clears `full` when there is one place, or
    clear_full(), datapath_upkeep.c, with a SLACK of 1; and without clear_full().
    """
    server = inline.Server.start(env)
    few_places_free(env, inline.daemon(env), server)


@needs(BPF, BPFTOOL, MEMORY)
def test_few_places_free_shown(env):
    """The same for a handler. Fails if is_full(), datapath.c, clears `full`."""
    handler = env.handler()
    few_places_free(env, env.relay(offload="off"), handler)


def ended_in_the_queue(env, running, count=1):
    """The socket that has such a connection still in its queue."""
    listening = env.server.listen(ADDRESS)
    env.at_end(listening.close)
    sock = env.lb.connect(ADDRESS)
    sock.sendall(HEADER + PAYLOAD)
    running.wait_stat("echo", "connections", count)
    stream.close_with_reset(sock)
    wait_for(lambda: any(int(record["closed"]) for record in
                         bpf.map_values(running.map_path("connections"))), "the end")
    return listening


@needs(INLINE, BPFTOOL)
def test_ended_in_the_queue(env):
    """accept() of a connection that is over tells its client, and nothing is left.

    Fails without rp_keep_orphan(), sockops.bpf.c, and without rp_forget_orphan(),
    peername.bpf.c.
    """
    running = inline.daemon(env)
    listening = ended_in_the_queue(env, running)
    equal((running.connections(), inline.map_size(running, "orphans")), ([], 1),
          "connections listed, orphans")
    accepted, peer = listening.accept()
    accepted.close()
    equal(peer, SOURCE, "client")
    equal([inline.map_size(running, name) for name in ("connections", "orphans")], [0, 0],
          "records, orphans")


@needs(INLINE, BPFTOOL)
def test_ended_in_accept(env):
    """Where the record went while accept() was under way, it tells nobody.

    Fails without rp_ended_meanwhile(), peername.bpf.c.
    """
    running = inline.daemon(env, "0.0.0.0:1883")
    listening = ended_in_the_queue(env, running)
    with maps.Map(running.map_path("connections")) as connections:
        entry, = bpf.bpftool("map", "dump", "pinned", running.map_path("connections"))
        connections.remove(struct.pack("=Q", entry["formatted"]["key"]))
    accepted, peer = listening.accept()
    accepted.close()
    equal(peer, ("0.0.0.0", 0), "client")


def established(env):
    return env.server.run("ss", "-Htn", "state", "established", "sport = :1883").stdout


@needs(INLINE, BPFTOOL)
def test_plain_ended_in_accept(env):
    """A plain client has no record that could go. Fails without rp_is_trusted() in
    rp_ended_meanwhile(), peername.bpf.c."""
    running = inline.daemon(env, "[::]:1883, 0.0.0.0:1883", untrusted="direct")
    for address, any_address in ((SERVER_SIDE, "0.0.0.0"), (SERVER_SIDE6, "::")):
        with env.server.listen((any_address, 1883)) as listening:
            sock = env.stranger.connect((address, 1883))
            sock.sendall(PAYLOAD)
            client = sock.getsockname()[:2]
            wait_for(lambda: established(env), "its socket")
            stream.close_with_reset(sock)
            wait_for(lambda: not established(env), "its end")
            accepted, peer = listening.accept()
            accepted.close()
            equal(peer[:2], client, "client")
    equal(running.connections(), [], "records")


@needs(INLINE, BPFTOOL)
def test_never_accepted(env):
    """It is not waited for for ever. Fails without drop_orphans(), datapath_upkeep.c."""
    running = inline.daemon(env)
    with ended_in_the_queue(env, running):
        entry, = bpf.bpftool("map", "dump", "pinned", running.map_path("orphans"))
        with maps.Map(running.map_path("orphans")) as orphans:
            orphans.put(struct.pack("=Q", entry["formatted"]["key"]), struct.pack("=Q", 1))
        for name in ("connections", "orphans"):
            inline.wait_map_empty(running, name)


@needs(INLINE, BPFTOOL)
def test_full_orphans(env):
    """Its record stays all the same, and is found when there is room again.

    Fails without find_lost_orphans(), datapath_upkeep.c, or if that takes what it
    found no room for as seen; and without `closed` in rp_keep_orphan() where
    `orphans` is full, sockops.bpf.c.
    """
    running = inline.daemon(env)
    with maps.Map(running.map_path("orphans")) as orphans:
        orphans.fill(b"\x7f")  # times to come: upkeep leaves them
        with ended_in_the_queue(env, running) as listening:
            accepted, peer = listening.accept()
            accepted.close()
            equal(peer, SOURCE, "client")
        with ended_in_the_queue(env, running, 2):
            time.sleep(1.2)  # upkeep, once a second, has tried
            orphans.clear()
            wait_for(lambda: inline.map_size(running, "orphans") == 1, "it to be found")


@needs(INLINE, BPFTOOL)
def test_lost_orphans_among_others(env):
    """They are found wherever they stand, though the other records come and go.
    Fails if a turn of find_lost_orphans(), datapath_upkeep.c, goes on from a record."""
    running = inline.daemon(env)
    others, lost = 10000, 20
    with maps.Map(running.map_path("connections")) as connections, \
            maps.Map(running.map_path("orphans")) as orphans:
        orphans.fill(b"\x7f")
        with ended_in_the_queue(env, running):
            connections.exchange(0, others)
            for number in range(lost):
                connections.put(struct.pack("=Q", number + 1), CLOSED)
            orphans.clear()
            for first in itertools.count(others, others):
                if inline.map_size(running, "orphans") == lost + 1:
                    break
                check(first < 300 * others, "orphans that were never found")
                connections.exchange(first, others)
                time.sleep(0.1)


@needs(BPF, BPFTOOL)
def test_no_record_for_the_handler(env):
    """If getpeername() could not tell it the client, but would tell our own
    address, there is no connection.

    Fails without the error of registry_add() in attempt(), handler.c.
    """
    handler = env.handler()
    daemon = env.relay()
    relays(env, handler)
    with maps.Map(daemon.map_path("outgoing")) as outgoing:
        outgoing.freeze()
    stream.refused(env.lb, ADDRESS, HEADER + PAYLOAD)
    equal(len(handler.accepted), 1, "connections of the handler")
    daemon.wait_stat("echo", "handler_failed", 1)


def wait_for_handler(env, count):
    """Connections to the daemon, and a handler whose queue has room for one."""
    listening = env.server.listen(("127.0.0.1", 9000), backlog=0)
    env.at_end(listening.close)
    listening.settimeout(10)
    daemon = env.relay()
    socks = [env.lb.connect(ADDRESS) for _ in range(count)]
    for number, sock in enumerate(socks):
        env.at_end(sock.close)
        sock.sendall(HEADER + PAYLOAD)
        if not number:  # two at once might both find room
            daemon.wait_stat("echo", "connections", 1)
    wait_for(lambda: all(inline.map_size(daemon, name) == count - 1
                         for name in ("outgoing", "announced")), "connections to wait")
    return listening, daemon, socks


@needs(BPF, BPFTOOL)
def test_announcements_stay(env):
    """A handler that is slow to accept sees each client, whatever came in between;
    when no more can wait for it, the next is refused.

    Fails with LRU_HASH for `outgoing` in maps.h, and if registry_add() goes on
    without an announcement.
    """
    listening, daemon, socks = wait_for_handler(env, 3)
    drive_out(daemon, "pending")
    with maps.Map(daemon.map_path("outgoing")) as outgoing:
        outgoing.fill(but=2)
        size = outgoing.size
    stream.refused(env.lb, ADDRESS, HEADER + PAYLOAD)
    equal((daemon.stat("echo", "map_full"), daemon.stat("echo", "resource")), (1, 1), "counts")
    check(daemon.process.lines("handler not reached.*No buffer space"), "it is not logged")
    equal([listening.accept()[1] for _ in socks], [SOURCE] * 3, "clients")
    equal(inline.map_size(daemon, "outgoing"), size - 2, "entries of nobody's")
    equal(inline.map_size(daemon, "announced"), 0, "announcements left over")


@needs(BPF, BPFTOOL)
def test_announcements_end(env):
    """What no handler will ask for is taken back: the client left while its
    connection waited; connect() found no port; the daemon was killed before it.

    Fails without rp_withdraw() in rp_on_closed(), without registry_withdraw() in
    attempt(), and without review_outgoing() in map_gates(), one after the other.
    """
    _, daemon, socks = wait_for_handler(env, 3)
    for sock in socks:
        stream.close_with_reset(sock)
    for name in ("outgoing", "announced"):
        inline.wait_map_empty(daemon, name, 10)
    ports = env.server.run("sysctl", "-n", "net.ipv4.ip_local_port_range").stdout
    failed = daemon.stat("echo", "handler_failed")
    env.server.sysctl("net.ipv4.ip_local_port_range", "40000 40000")
    with env.server.listen(("127.0.0.1", 40000)):
        stream.refused(env.lb, ADDRESS, HEADER + PAYLOAD)
    env.server.sysctl("net.ipv4.ip_local_port_range", ports)
    daemon.wait_stat("echo", "handler_failed", failed + 1)
    equal(inline.map_size(daemon, "outgoing"), 0, "announcements that were not connected")
    daemon.stop(signal.SIGKILL)
    with maps.Map(daemon.map_path("outgoing")) as outgoing:
        outgoing.fill(but=outgoing.size - 3)
    daemon.start()
    equal(inline.map_size(daemon, "outgoing"), 0, "announcements of the dead")


@needs(BPF, BPFTOOL, NFT)
def test_handler_out_of_sight(env):
    """A handler behind a translated address is in another network namespace and
    never asks who its client is. Its connections live on, and more than there
    is room for announcements of.

    Fails without registry_review() in relay(), connection.c: the third is refused. Conntrack
    and connections that TC accepts are test_firewall.py's.
    """
    handler = env.handler((LB, 9000), namespace=env.lb)
    subprocess.run(env.server.command("nft", "-f", "-"), check=True, text=True, timeout=20,
                   input=f"""
table ip translate {{
    chain output {{
        type nat hook output priority -100;
        ip daddr {SERVER} tcp dport 9000 dnat to {LB}:9000
    }}
}}
""")
    daemon = env.relay(handler=f"{SERVER}:9000", offload="peek")
    with maps.Map(daemon.map_path("outgoing")) as outgoing:
        outgoing.fill(but=2)
        size = outgoing.size
    # as if so many were connected
    gates = bpf.map_values(daemon.map_path("gates"))[0]
    with maps.Map(daemon.map_path("gates")) as one:
        gates["announced"] = size
        one.put(bytes(4), struct.pack(f"{len(gates)}Q", *gates.values()))
    socks = []
    for count in range(1, 7):
        socks.append(env.lb.connect(ADDRESS))
        env.at_end(socks[-1].close)
        stream.exchange(socks[-1], HEADER + PAYLOAD, PAYLOAD)
        equal(handler.wait(count).peer[0], SERVER, "what it sees is not changed")
    for sock in socks:
        stream.exchange(sock, PAYLOAD)
    equal(inline.map_size(daemon, "outgoing"), size - 2, "entries of nobody's")
    equal(inline.map_size(daemon, "announced"), 0, "announcements left over")


@needs(BPF, BPFTOOL)
def test_more_trusted_than_there_is_room_for(env):
    """Too many for old and new at once: the reload is refused as a whole.

    Fails without the second server_reload() in put_in_force(), daemon_setup.c.
    """
    def many(name, net):
        return "".join(
            listener(f"{name}{port}", listen=f"{SERVER}:{port}", delivery="relay",
                     handler="127.0.0.1:9000",
                     trusted=", ".join([f"{net}.{n >> 8}.{n & 255}.0/24" for n in range(4096)]))
            for port in range(2000, 2009))

    handler = env.handler()
    one = listener("one", listen=f"{SERVER}:1883", handler="127.0.0.1:9000",
                   client_address="getpeername")
    daemon = env.realpeerd(one + many("old", 20))
    relays(env, handler)
    daemon.reload(many("new", 30), "reload msg=.failed")
    check(daemon.process.lines("cannot be put into force: No space left"), "no reason is told")
    relays(env, handler)
    equal(daemon.ctl_json("status")["listeners"][0]["name"], "one", "first listener")


@needs(BPF)
def test_maps_that_cannot_be_written(env):
    """A reload that gets so far leaves everything as it was: who was listened for,
    how, and what systemd keeps.

    Fails if put_in_force(), datapath_maps.c, does not apply() what was before, if
    table_write() writes what is there, and if server_settle() comes before.
    """
    def relay(name, port, **settings):
        return listener(name, listen=f"{SERVER}:{port}", handler="127.0.0.1:9000",
                        client_address="getpeername", **settings)

    handler = env.handler()
    manager = Manager(env.daemon(relay("goes", 1884) + relay("stays", 1885))).start()
    daemon = manager.daemon
    kept = manager.stored()
    check(kept, "nothing is kept")
    with maps.Map(daemon.map_path("endpoints")) as endpoints:
        endpoints.freeze()
    daemon.reload(relay("stays", 1885, proxy_protocol="enabled") + relay("comes", 1886),
                  "reload msg=")
    check(daemon.process.lines("reload msg=.failed, the old configuration stays in force"),
          "what it says")
    for port in (1884, 1885):
        relays(env, handler, port)
    check(":1886 " not in env.server.run("ss", "-Hltn").stdout, "the new one is there still")
    equal([entry["name"] for entry in daemon.ctl_json("status")["listeners"]],
          ["goes", "stays"], "listeners")
    equal({value["mode"] for value in bpf.map_values(daemon.map_path("listeners"))}, {2},
          "modes that the kernel knows, RP_MODE_REQUIRED")
    wait_for(lambda: manager.stored() == kept, "the store to be as before")
    daemon.reload(relay("goes", 1884) + relay("stays", 1885), "reload msg=done")
    relays(env, handler, 1884)
