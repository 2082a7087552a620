# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Restarts, reloads, other builds and crashes while 500 connections/s come and
1,000 long-lived ones are open, half of them inline, half relayed. The manager
stands in for systemd, and keeps what the daemon asks it to keep."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading

from lib import bpf, build, bulk, header, inline, load, stream
from lib.inline import INLINE
from lib.manager import Manager
from lib.poll import check, equal, wait_for
from lib.realpeer import GLOBAL, listener
from lib.requirement import BPF, BPFTOOL, CLANG, needs, program
from lib.topology import CLIENTS, LB_FRONT, SERVER, SERVER_SIDE

DIRECT, RELAYED = (SERVER, 1883), (SERVER, 1884)
CLIENT_NETWORK = "203.0.113.0/24"
RATE = 250  # connections/s of each listener
HELD = 500  # of each listener
SECONDS = 12
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1884))

# Where a daemon starts slowly, segments are sent again three times and more.
PATIENT = {"header_timeout": "10s"}
CONFIG = listener("direct", listen=f"{SERVER}:1883", delivery="inline", **PATIENT) + listener(
    "relayed", listen=f"{SERVER}:1884", handler="127.0.0.1:9000", client_address="getpeername",
    **PATIENT)


class Traffic:
    """Load on both listeners, in the background."""

    def __init__(self, env):
        load.Backend(env, env.server, DIRECT, "backend-direct")
        load.Backend(env, env.server, ("127.0.0.1", 9000), "backend-relayed")
        self.env = env
        self.coming, self.held, self.expected = [], [], []

    def start(self):
        def both(address, rate, held, *options):
            options += ("--check", "--clients", CLIENT_NETWORK)
            self.held.append(load.Held(self.env, self.env.lb, address, held, *options))
            self.coming.append(load.Load(self.env, self.env.lb, "connect", address, "--rate", rate,
                                         "-c", rate * SECONDS, *options))
            self.expected += (self.coming[-1], rate * SECONDS), (self.held[-1], held)
        both(DIRECT, RATE, HELD)
        both(RELAYED, RATE, HELD)
        # the kernel leaves these to the daemon, though they are inline
        both(DIRECT, RATE // 10, HELD // 10, "--pieces", 2, "--pause", 20)

    def still_comes(self, when):
        for coming in self.coming:
            check(coming.alive(), f"the load was over before {when}")

    def all_good(self):
        """Not one was lost, refused, or had a wrong client."""
        for one, count in self.expected:
            one.good(count)

    def lost(self, number):
        """How many of each were, at most; none had a wrong client."""
        said = [one[number].result() for one in (self.coming, self.held)]
        equal([one["wrong_peer"] for one in said], [0, 0], "connections with a wrong client")
        return tuple(one["failed"] for one in said)


def begin(env, config=CONFIG, **arguments):
    traffic = Traffic(env)
    manager = Manager(env.daemon(config, **arguments)).start()
    traffic.start()
    daemon = manager.daemon
    wait_for(lambda: daemon.stat("relayed", "connections") > HELD + RATE, "the load")
    return manager, daemon, traffic


def nothing_left(daemon):
    daemon.wait_connections(0)
    inline.nothing_left(daemon)


@needs(INLINE, BPFTOOL)
def test_restart(env):
    """As systemctl does it. Fails without takeover.c (the relayed ones are
    reset) and without the store (new ones are refused meanwhile)."""
    manager, daemon, traffic = begin(env)
    for number in range(3):
        manager.restart()
        # two listening sockets, of which one a thread
        equal(set(manager.stored()), {f"listen {SERVER}_1884"}, "what is stored")
        traffic.still_comes(f"the end of restart {number}")
    equal(len(daemon.connections("direct")) >= HELD, True, "records of inline connections")
    traffic.all_good()
    equal(daemon.log_complaints(), [], "complaints")
    nothing_left(daemon)
    manager.stop()


@needs(INLINE, BPFTOOL)
def test_reload(env):
    """Listeners come and go, of both kinds, ten times."""
    manager, daemon, traffic = begin(env)
    more = listener("third", listen=f"{SERVER}:1885", delivery="inline") + listener(
        "fourth", listen=f"{SERVER}:1886", handler="127.0.0.1:9000")
    for number in range(10):
        daemon.reload(CONFIG + more if number % 2 == 0 else CONFIG)
        equal(len(daemon.ctl_json("status")["listeners"]), 2 if number % 2 else 4, "listeners")
    wait_for(lambda: set(manager.stored()) == {f"listen {SERVER}_1884"},
             lambda: f"the other sockets to go, have {manager.stored()}")
    traffic.still_comes("the last reload")
    traffic.all_good()
    nothing_left(daemon)
    manager.stop()


@needs(INLINE, BPFTOOL)
def test_kill(env):
    """kill -9 ends what is relayed, and nothing else: whoever connects waits."""
    manager, daemon, traffic = begin(env)
    daemon.stop(signal.SIGKILL)
    waiting = [env.lb.connect(RELAYED) for _ in range(20)]
    for sock in waiting:
        sock.sendall(HEADER + b"WHO\n")
    traffic.still_comes("the kill")
    manager.start()
    traffic.still_comes("the next start")
    for sock in waiting:
        want = f"{SOURCE[0]} {SOURCE[1]}\n".encode()
        equal(stream.receive_exactly(sock, len(want)), want, "who waited")
        sock.close()
    equal(traffic.lost(0), (0, 0), "lost inline connections")
    # those that were on their way through the daemon when it was killed
    for number, held in ((1, HELD), (2, HELD // 10)):
        lost = traffic.lost(number)
        check(lost[0] <= 64 and lost[1] == held, f"of those that were relayed: {lost}")
    nothing_left(daemon)
    manager.stop()


def change(path, pattern, replacement):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return count


def other_build(env, name, alter):
    """Copies the source, has it altered, builds a realpeerd from it."""
    source, output = env.path(name), env.path(f"{name}.build")
    for part in ("bpf", "include", "user"):
        shutil.copytree(os.path.join(build.ROOT_DIRECTORY, part), os.path.join(source, part))
    shutil.copy(os.path.join(build.ROOT_DIRECTORY, "Makefile"), source)
    alter(source)
    variables = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME")}
    made = subprocess.run(
        ["make", "-C", source, "-j2", f"O={output}", "CFLAGS=-O0", f"VERSION=0-{name}",
         f"{output}/realpeerd"], env=variables, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    equal(made.returncode, 0, f"exit status of make: {made.stdout}")
    return f"{output}/realpeerd"


def alter_programs(source):
    """A call more in each BPF program, so that none is what it was."""
    directory = os.path.join(source, "bpf")
    changed = sum(change(os.path.join(directory, name), r"^(SEC\([^)]*\)\nint \w+\([^)]*\)\n{\n)",
                         r"\1\tbpf_get_prandom_u32();\n")
                  for name in os.listdir(directory) if name.endswith(".bpf.c"))
    check(changed >= 5, f"only {changed} programs were found")


def tags(daemon):
    """What the programs in force are made of."""
    return {name: bpf.bpftool("prog", "show", "id", str(bpf.bpftool(
        "link", "show", "pinned", daemon.map_path(f"links/{name}"))["prog_id"]))["tag"]
            for name in ("sockops", "lookup", "getpeername4")}


@needs(INLINE, BPFTOOL, CLANG, program("make"))
def test_other_build(env):
    """A binary with other BPF programs takes over, and the first one again."""
    other = other_build(env, "other", alter_programs)
    manager, daemon, traffic = begin(env)
    first, before = daemon.program, tags(daemon)
    daemon.program = other
    manager.restart()
    traffic.still_comes("the other build's start")
    equal(daemon.ctl_json("status")["version"], "0-other", "version that runs")
    equal(set(tags(daemon).values()) & set(before.values()), set(), "programs that stayed")
    daemon.program = first
    manager.restart()
    traffic.still_comes("the first build's start")
    equal(tags(daemon), before, "programs")
    traffic.all_good()
    equal(daemon.log_complaints(), [], "complaints")
    nothing_left(daemon)
    manager.stop()


test_other_build.limit = 240


def alter_abi(source):
    equal(change(os.path.join(source, "include/realpeer/abi.h"),
                 r"^(#define RP_ABI_VERSION\s+)\d+", r"\g<1>4711"), 1, "ABI versions")


def alter_map(source):
    """Another layout, and nobody thought of the version."""
    check(change(os.path.join(source, "bpf/maps.h"), r"^(\t__uint\(max_entries, )\d{3,}\)",
                 r"\g<1>7777)") > 0, "no map was changed")


def refused(manager, other):
    """`other` does not start, and says why."""
    daemon = manager.daemon
    daemon.process.kill(signal.SIGUSR1)
    equal(daemon.stop(), 0, "exit status")
    first, daemon.program = daemon.program, other
    before = len(daemon.process.lines("ABI version"))
    manager.launch()
    equal(daemon.process.wait(15), 1, "exit status of the other build")
    said = daemon.process.lines("^error: .*ABI version")[before:]
    check(said and all(word in said[0] for word in (daemon.bpffs, "ours=", "remove", "stop")),
          f"not clear: {said}")
    daemon.program = first
    manager.start()


@needs(INLINE, BPFTOOL, CLANG, program("make"))
def test_other_abi(env):
    """It refuses the pins and says what to do; meanwhile nothing is lost, and
    the old one can be put back. Fails without log_other_pins()'s callers."""
    others = [other_build(env, "abi", alter_abi), other_build(env, "map", alter_map)]
    manager, daemon, traffic = begin(env)
    for other in others:
        refused(manager, other)
        traffic.still_comes("the first build's start")
    traffic.all_good()
    nothing_left(daemon)
    manager.stop()


test_other_abi.limit = 300


def relay(listen=f"{SERVER}:1884", name="echo", **settings):
    settings = {"handler": "127.0.0.1:9000", "client_address": "getpeername", **settings}
    return listener(name, listen=listen, **settings)


@needs(INLINE, BPFTOOL)
def test_other_offload(env):
    """Whose header the kernel read for the daemon before is whom it said, and what
    follows is payload, also for a daemon that reads headers itself.

    Fails without acceptor.inherited, acceptor.c, and if admission_begin() does as
    the mode says before it asks for the record.
    """
    forged = header.v2((CLIENTS[1], 40002), (LB_FRONT, 1884))
    handler = env.handler()
    manager = Manager(env.daemon(relay(offload="accept")))
    for settings in ({"offload": "off"}, {"offload": "peek"}, {"proxy_protocol": "disabled"}):
        manager.daemon.configure(relay(offload="accept"))
        manager.start()
        manager.daemon.stop(signal.SIGKILL)
        manager.daemon.configure(relay(**settings))
        handler.accepted.clear()
        with env.lb.connect(RELAYED) as sock:
            sock.sendall(HEADER + forged)
            wait_for(manager.daemon.records, "the socket")
            manager.start()
            stream.exchange(sock, b"hello", forged + b"hello")
            equal(handler.wait(1).peer, SOURCE, "client")
            with env.lb.connect(RELAYED) as other:
                stream.exchange(other, HEADER + b"hello",
                                HEADER + b"hello" if "proxy_protocol" in settings else b"hello")
        manager.daemon.wait_connections(0)
        equal(manager.daemon.stop(), 0, "exit status")
    manager.stop()


@needs(BPF)
def test_bytes_on_their_way(env):
    """Transfers both ways that a restart meets at full speed, through pipes, and
    with receivers that do not read: every byte arrives, in order."""
    pattern = bulk.Pattern(16 << 20, 1)
    env.handler()
    manager = Manager(env.daemon(relay())).start()
    socks = [env.lb.connect(RELAYED, timeout=40) for _ in range(3)]
    for sock in socks:
        sock.sendall(HEADER)
    going = [bulk.send(sock, pattern) for sock in socks]
    coming = [bulk.receive(sock) for sock in socks[:2]]
    wait_for(lambda: all(one.done > 2 << 20 for one in coming), "bytes")
    for _ in range(2):
        before = coming[0].done
        manager.restart()
        wait_for(lambda: coming[0].done > before or not coming[0].is_alive(),  # noqa: B023
                 "bytes after the restart")
    coming.append(bulk.receive(socks[2]))  # its echo was stuck all the time
    for one in going + coming:
        one.finish(60)
    for one in coming:
        equal(one.result, pattern.digest(), "what came back")
    for sock in socks:
        sock.close()
    manager.daemon.wait_connections(0)
    manager.stop()


test_bytes_on_their_way.limit = 150


@needs(BPF)
def test_states(env):
    """Restarted while headers are incomplete, while an untrusted peer's first
    bytes are held, while one half of a connection is closed: each goes on."""
    go_on = threading.Event()

    def late(accepted):
        while (data := accepted.receive()) is not None:
            accepted.sock.sendall(data)
        go_on.wait(30)
        accepted.sock.sendall(b" and late")
    handler = env.handler(behaviour=late)
    manager = Manager(env.daemon(relay("0.0.0.0:1884", untrusted="direct",
                                       header_timeout="60s"))).start()
    piece, silent, half, offered = (env.lb.connect(RELAYED) for _ in range(4))
    plain, liar = (env.stranger.connect((SERVER_SIDE, 1884)) for _ in range(2))
    piece.sendall(HEADER[:20])
    half.sendall(HEADER + b"first")
    half.shutdown(socket.SHUT_WR)
    equal(stream.receive_exactly(half, 5), b"first", "echo")
    plain.sendall(b"PROX")
    liar.sendall(b"PROX")
    handler.wait(3)
    manager.restart()
    offered.close()
    manager.daemon.wait_stat("echo", "closed_early", 1)
    piece.sendall(HEADER[20:] + b"second")
    equal(stream.receive_exactly(piece, 6), b"second", "echo")
    equal(handler.wait(4).peer, SOURCE, "client whose header came in pieces")
    silent.sendall(HEADER + b"third")
    equal(stream.receive_exactly(silent, 5), b"third", "echo")
    equal(handler.wait(5).peer, SOURCE, "client that had said nothing")
    plain.sendall(b"IMITY")
    equal(stream.receive_exactly(plain, 9), b"PROXIMITY", "a plain client's bytes")
    liar.sendall(b"Y ")
    equal(stream.ended_by(liar), ("reset", b""), "an untrusted header")
    go_on.set()
    equal(stream.ended_by(half), ("eof", b" and late"), "the half-closed one")
    equal([accepted.ended for accepted in handler.accepted if accepted.data == b"first"],
          ["eof"], "how its other half ended")
    for sock in (piece, silent, plain):
        sock.close()
    manager.daemon.wait_connections(0)
    manager.stop()


@needs(BPF)
def test_listener_is_gone(env):
    """A new configuration may take away the listener: then its connections are
    reset, its socket is closed, and the others stay."""
    env.handler()
    both = relay() + relay(f"{SERVER}:1885", "other")
    manager = Manager(env.daemon(both)).start()
    stays, goes = env.lb.connect(RELAYED), env.lb.connect((SERVER, 1885))
    for sock in (stays, goes):
        stream.exchange(sock, HEADER + b"hello", b"hello")
    equal(set(manager.stored()), {f"listen {SERVER}_1884", f"listen {SERVER}_1885"}, "stored")
    manager.daemon.configure(relay())
    manager.restart()
    equal(stream.ended_by(goes), ("reset", b""), "the connection without a listener")
    stream.exchange(stays, b"still here")
    wait_for(lambda: set(manager.stored()) == {f"listen {SERVER}_1884"}, "one to be forgotten")
    equal(env.server.run("ss", "-Hltn", "sport = :1885").stdout, "", "sockets of the other")
    stays.close()
    manager.stop()


def announced(daemon):
    return bpf.map_values(daemon.map_path("gates"))[0]["announced"]


@needs(BPF, BPFTOOL)
def test_records(env):
    """The next daemon tells the same of each connection, until it ends."""
    env.handler()
    off = relay(f"{SERVER}:1885", "other", offload="off", client_address="none")
    manager = Manager(env.daemon(relay() + off)).start()
    socks = [env.lb.connect(RELAYED), env.lb.connect((SERVER, 1885))]
    tlvs = header.tlv(header.TLV_AUTHORITY, b"broker.test")
    for sock in socks:
        stream.exchange(sock, header.v2(SOURCE, (LB_FRONT, 1884), tlvs) + b"hello", b"hello")
    before = sorted(manager.daemon.wait_connections(2), key=str)
    manager.restart()
    equal(sorted(manager.daemon.wait_connections(2), key=str), before, "connections")
    equal([entry["tlvs"] for entry in before], [{"authority": "broker.test"}] * 2, "TLVs")
    equal([entry["active"] for entry in manager.daemon.ctl_json("status")["listeners"]], [1, 1],
          "active ones")
    for sock in socks:
        sock.close()
    manager.daemon.wait_connections(0)
    for name in ("connections", "tlvs"):
        inline.wait_map_empty(manager.daemon, name)
    equal(announced(manager.daemon), 0, "announced connections")
    manager.stop()


@needs(INLINE, BPFTOOL)
def test_headers_in_pieces(env):
    """As many as can be, while it restarts five times: the kernel leaves them to
    the daemon, so it must stop doing so before the daemon leaves."""
    load.Backend(env, env.server, DIRECT)
    config = listener("direct", listen=f"{SERVER}:1883", delivery="inline", **PATIENT)
    manager = Manager(env.daemon(config)).start()
    coming = load.Load(env, env.lb, "connect", DIRECT, "-c", 16000, "--pieces", 2, "--pause", 5,
                       "--check", "--clients", CLIENT_NETWORK)
    for _ in range(5):
        before = manager.daemon.stat("direct", "handed_over")
        wait_for(lambda: manager.daemon.stat("direct", "handed_over") > before + 300, "them")
        manager.restart()
    check(coming.alive(), "the load was over before the last restart")
    coming.good(16000)
    manager.stop()


@needs(BPF)
def test_stop_is_no_restart(env):
    """Without SIGUSR1 nothing is kept: who comes then is refused at once, while
    those that are open are waited for."""
    env.handler()
    manager = Manager(env.daemon(relay())).start()
    sock = env.lb.connect(RELAYED)
    stream.exchange(sock, HEADER + b"hello", b"hello")
    manager.daemon.process.kill(signal.SIGTERM)
    wait_for(lambda: not manager.stored(), "what is stored to go")
    wait_for(lambda: not env.server.run("ss", "-Hltn", "sport = :1884").stdout, "no listener")
    stream.exchange(sock, b"still here")
    sock.close()
    equal(manager.daemon.process.wait(), 0, "exit status")


@needs(BPF)
def test_no_store(env):
    """Where nobody keeps anything, a restart waits for the connections."""
    env.handler()
    manager = Manager(env.daemon(relay()), places=0).start()
    sock = env.lb.connect(RELAYED)
    stream.exchange(sock, HEADER + b"hello", b"hello")
    manager.daemon.process.kill(signal.SIGUSR1)
    manager.daemon.process.kill(signal.SIGTERM)
    wait_for(lambda: not env.server.run("ss", "-Hltn", "sport = :1884").stdout, "no listener")
    stream.exchange(sock, b"still here")
    sock.close()
    equal(manager.daemon.process.wait(), 0, "exit status")
    check("FDSTORE=1" not in manager.received, "it asked to keep something")


@needs(BPF)
def test_full_store(env):
    """Of listening sockets it keeps what leaves room for the connections, which
    go on, and says what to raise; also after a daemon that left no room.

    Fails without places_left() in store.c, and without endpoint.left.
    """
    env.handler()
    more = relay(f"{SERVER}:1885", "other")
    manager = Manager(env.daemon(GLOBAL + "threads = 4\n" + relay() + more), places=6)
    manager.told = 100
    manager.start()
    equal(manager.stored(), [f"listen {SERVER}_1884"] * 4 + [f"listen {SERVER}_1885"] * 2,
          "what fills the store")
    manager.told = 6
    manager.daemon.process.kill(signal.SIGUSR1)
    equal(manager.daemon.stop(), 0, "exit status")
    manager.start()
    sock = env.lb.connect((SERVER, 1885))
    stream.exchange(sock, HEADER + b"hello", b"hello")
    for count in (1, 2):
        wait_for(lambda: manager.stored() == [f"listen {SERVER}_1884"] * 4 + [
            f"listen {SERVER}_1885"], lambda: f"one place: {manager.stored()}")
        said = manager.daemon.process.lines("does not keep all")
        check(len(said) == 1 and "FileDescriptorStoreMax" in said[0], f"not clear: {said}")
        manager.restart()
        stream.exchange(sock, b"still here")
        equal(len(manager.daemon.connections()), 1, f"connections after restart {count}")
    manager.daemon.reload(GLOBAL + "threads = 4\n" + more)
    sock.close()
    manager.stop()


@needs(BPF)
def test_store_is_gone(env):
    """What cannot be kept is reset, for it is not complete, and that is said.
    Fails with what was said before: that it waits for the next daemon."""
    env.handler()
    manager = Manager(env.daemon(relay())).start()
    sock = env.lb.connect(RELAYED)
    stream.exchange(sock, HEADER + b"hello", b"hello")
    manager.destroy()
    manager.daemon.process.kill(signal.SIGUSR1)
    equal(manager.daemon.stop(), 0, "exit status")
    equal(stream.ended_by(sock), ("reset", b""), "the connection")
    equal(len(manager.daemon.process.lines("connections are reset, systemd cannot")), 1, "lines")
    equal(manager.daemon.process.lines("wait for the next daemon"), [], "lines")


@needs(BPF)
def test_failed_start(env):
    """A daemon that cannot start leaves everything for the next attempt."""
    env.handler()
    manager = Manager(env.daemon(relay())).start()
    sock = env.lb.connect(RELAYED)
    stream.exchange(sock, HEADER + b"hello", b"hello")
    manager.daemon.configure(relay() + "nonsense = 1\n")
    manager.daemon.process.kill(signal.SIGUSR1)
    equal(manager.daemon.stop(), 0, "exit status")
    taken = env.server.listen((SERVER, 1885))
    for config in (relay() + "nonsense = 1\n", relay() + relay(f"{SERVER}:1885", "other")):
        manager.daemon.configure(config)
        manager.launch()
        equal(manager.daemon.process.wait(15), 1, "exit status")
    taken.close()
    manager.daemon.configure(relay())
    manager.start()
    stream.exchange(sock, b"still here")
    sock.close()
    manager.stop()


@needs(BPF)
def test_other_number_of_threads(env):
    """More threads than sockets share them, fewer serve several each: none of
    those that wait in a queue is forgotten."""
    env.handler()
    manager = Manager(env.daemon(relay(), name="threads")).start()
    for threads in (4, 1, 3, 2):
        waiting = []
        manager.daemon.configure(GLOBAL + f"threads = {threads}\n" + relay())
        manager.daemon.process.kill(signal.SIGUSR1)
        equal(manager.daemon.stop(), 0, "exit status")
        for _ in range(40):
            waiting.append(env.lb.connect(RELAYED))
            waiting[-1].sendall(HEADER + b"hello")
        manager.start()
        for sock in waiting:
            equal(stream.receive_exactly(sock, 5), b"hello", f"echo with {threads} threads")
            sock.close()
    manager.stop()
