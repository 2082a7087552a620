# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Stops, kills and starts: pins are taken over or removed, never in the way."""

import os
import signal

from lib import bpf, header, stream
from lib.poll import check, equal, wait_for
from lib.realpeer import GLOBAL, listener
from lib.requirement import BPF, BPFTOOL, needs
from lib.topology import CLIENTS, LB_FRONT, SERVER

ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))


def pins(daemon):
    """Every pin of the daemon, by its path."""
    return sorted(os.path.join(root, name)
                  for root, _, files in os.walk(daemon.bpffs) for name in files)


def ids(daemon):
    """Kernel ids of the pinned maps, by name."""
    found = {}
    for path in pins(daemon):
        try:
            found[os.path.basename(path)] = bpf.bpftool("map", "show", "pinned", path)["id"]
        except AssertionError:
            continue  # a link or a program
    return found


def gone(daemon):
    """An ordinary stop leaves no pin, no directory."""
    left = pins(daemon) if os.path.exists(daemon.bpffs) else None
    equal(left, None, f"what is left in {daemon.bpffs}")


def works(env, daemon, handler):
    count = len(handler.accepted) + 1
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + b"hello", b"hello")
        equal(handler.wait(count).peer, SOURCE, "client")
        entry = daemon.wait_connections(1)[0]
        equal((entry["client"], entry["client_port"]), SOURCE, "the record")
        check(entry["offload"] != "off", "the daemon did it without the programs")
    daemon.wait_connections(0)


@needs(BPF, BPFTOOL)
def test_stop_removes_pins(env):
    daemon = env.relay()
    check(pins(daemon), "no pins while it runs")
    equal(daemon.stop(), 0, "exit status")
    gone(daemon)


@needs(BPF, BPFTOOL)
def test_kill_and_restart(env):
    """After kill -9 the pins are taken over, and connections work again."""
    handler = env.handler()
    daemon = env.relay()
    works(env, daemon, handler)
    held = env.lb.connect(ADDRESS)
    stream.exchange(held, HEADER + b"hello", b"hello")
    before, before_ids = pins(daemon), ids(daemon)
    daemon.stop(signal.SIGKILL)
    equal(stream.ended_by(held)[1], b"", "what follows on a relayed connection")
    held.close()
    equal(pins(daemon), before, "pins after kill -9")
    wait_for(lambda: not daemon.records(), "records to go with their sockets")
    daemon.start()
    equal(pins(daemon), before, "pins after the restart")
    equal(ids(daemon), before_ids, "the same maps")
    works(env, daemon, handler)
    equal(daemon.log_complaints(), [], "complaints in the log")
    equal(daemon.stop(), 0, "exit status")
    gone(daemon)


@needs(BPF, BPFTOOL)
def test_killed_again_and_again(env):
    handler = env.handler()
    daemon = env.relay()
    first = ids(daemon)
    for _ in range(3):
        daemon.stop(signal.SIGKILL)
        daemon.start()
        works(env, daemon, handler)
    equal(ids(daemon), first, "the same maps")


@needs(BPF, BPFTOOL)
def test_restart_with_other_listeners(env):
    """What the configuration no longer has goes from the maps."""
    handler = env.handler()
    daemon = env.relay("old", listen=f"{SERVER}:1999")
    daemon.stop(signal.SIGKILL)
    with open(daemon.config_path, encoding="ascii") as file:
        config = file.read()
    daemon.configure(config.replace("listener old", "listener new").replace("1999", "1883"))
    daemon.start()
    works(env, daemon, handler)

    def names():
        return [record["name"] for record in bpf.map_values(daemon.map_path("listeners"))]
    wait_for(lambda: names() == ["new"], lambda: f"one entry of `listeners`, not {names()}")


@needs(BPF, BPFTOOL)
def test_other_abi_is_refused(env):
    """Pins of another version are left alone, and it is said what to do."""
    env.handler()
    daemon = env.relay()
    daemon.stop(signal.SIGKILL)
    path = daemon.map_path("settings")
    value = bpf.bpftool("map", "lookup", "pinned", path, "key", "0", "0", "0", "0")["value"]
    value[:4] = ["0xe7", "0x03", "0x00", "0x00"]
    env.server.run("bpftool", "map", "update", "pinned", path, "key", "0", "0", "0", "0",
                   "value", *value)
    before = pins(daemon)
    said = daemon.fails_to_start()
    check("999" in said and daemon.bpffs in said, f"not clear: {said}")
    equal(pins(daemon), before, "pins after the refusal")


@needs(BPF)
def test_stop_drains(env):
    """SIGTERM: no new connection, and the open ones may end by themselves."""
    env.handler()
    daemon = env.realpeerd(GLOBAL.replace("drain_timeout = 2s", "drain_timeout = 60s") + listener(
        "echo", listen=f"{SERVER}:1883", handler="127.0.0.1:9000"))
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + b"hello", b"hello")
        daemon.process.kill(signal.SIGTERM)
        wait_for(lambda: not listens(env), "the listening socket to be closed")
        stream.exchange(sock, b"still here")
        check(daemon.process.alive(), "the daemon did not drain")
        sock.shutdown(1)
        equal(stream.ended_by(sock), ("eof", b""), "the end")
    equal(daemon.process.wait(15), 0, "exit status, before drain_timeout")


def listens(env):
    return ":1883 " in env.server.run("ss", "-Hltn").stdout


@needs(BPF)
def test_drain_has_a_deadline(env):
    """A connection that stays is reset at drain_timeout (2 s here)."""
    env.handler()
    daemon = env.relay()
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + b"hello", b"hello")
        daemon.process.kill(signal.SIGTERM)
        equal(stream.ended_by(sock)[0], "reset", "how it ends")
    equal(daemon.process.wait(), 0, "exit status")


@needs(BPF)
def test_second_signal(env):
    """Whoever does not want to wait says so again."""
    env.handler()
    daemon = env.daemon(GLOBAL.replace("drain_timeout = 2s", "drain_timeout = 60s") + listener(
        "echo", listen=f"{SERVER}:1883", handler="127.0.0.1:9000", client_address="getpeername"))
    for number in (signal.SIGTERM, signal.SIGINT):
        daemon.start()
        with env.lb.connect(ADDRESS) as sock:
            stream.exchange(sock, HEADER + b"hello", b"hello")
            daemon.process.kill(number)
            wait_for(lambda: not listens(env), "the listening socket to be closed")
            stream.exchange(sock, b"still here")
            daemon.process.kill(number)
            equal(stream.ended_by(sock)[1], b"", "what follows on the connection")
        equal(daemon.process.wait(), 0, "exit status")
        gone(daemon)


@needs(BPF)
def test_second_daemon_is_refused(env):
    """Two daemons never share pins and a control socket."""
    daemon = env.relay()
    second = env.daemon("", name="second", bpffs=daemon.bpffs, run=daemon.run_directory)
    with open(daemon.config_path, encoding="ascii") as file:
        second.configure(file.read().replace("1883", "1884"))
    said = second.fails_to_start()
    check("already" in said or "another" in said or "in use" in said, f"not clear: {said}")
    equal(daemon.ctl_json("status")["pid"], daemon.process.pid, "who answers")
