# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""SIGHUP: listeners come, go and change, and no connection is dropped."""

import re
import threading

from lib import bpf, header, stream
from lib.inline import INLINE
from lib.poll import check, equal, wait_for
from lib.realpeer import GLOBAL, listener
from lib.requirement import BPF, BPFTOOL, needs
from lib.topology import CLIENTS, LB_FRONT, SERVER

SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))


def relay(name, port, handler=9000, **settings):
    settings = {"client_address": "getpeername", **settings}
    return listener(name, listen=f"{SERVER}:{port}", handler=f"127.0.0.1:{handler}", **settings)


def open_connection(env, port):
    sock = env.lb.connect((SERVER, port))
    stream.exchange(sock, HEADER + b"hello", b"hello")
    return sock


def listens(env, port):
    return f":{port} " in env.server.run("ss", "-Hltn").stdout


@needs(BPF)
def test_listeners_come_and_go(env):
    handler = env.handler()
    daemon = env.realpeerd(relay("one", 1881) + relay("two", 1882))
    one, two = open_connection(env, 1881), open_connection(env, 1882)
    daemon.reload(relay("two", 1882) + relay("three", 1883))
    wait_for(lambda: not listens(env, 1881), "the removed listener to be closed")
    three = open_connection(env, 1883)
    equal(handler.wait(3).peer, SOURCE, "client of the new listener")
    for sock in (one, two, three):
        stream.exchange(sock, b"still here")
    equal({entry["listener"] for entry in daemon.connections()}, {"one", "two", "three"},
          "listeners in the list")
    equal([entry["name"] for entry in daemon.ctl_json("status")["listeners"]],
          ["two", "three"], "listeners in the status")
    for sock in (one, two, three):
        sock.close()
    daemon.wait_connections(0)


@needs(BPF, BPFTOOL)
def test_numbers_go_on(env):
    """A new listener counts its own connections, from zero.

    Fails without server_mark_numbers(), or without server_clear_counts(), in
    daemon_number(), daemon_setup.c.
    """
    env.handler()
    keep = relay("keep", 1880)
    daemon = env.realpeerd(keep + relay("one", 1881) + relay("two", 1882))
    sock = open_connection(env, 1881)
    open_connection(env, 1882).close()
    daemon.wait_connections(1)
    daemon.reload(keep)
    wait_for(lambda: len(bpf.map_values(daemon.map_path("listeners"))) == 1,
             "the map to forget the others", 20)
    new = [f"new{number}" for number in range(3)]
    daemon.reload(keep + "".join(relay(name, 1881 + number) for number, name in enumerate(new)))
    for name in new:
        equal([value for value in daemon.stats(name).values() if value], [], f"counts of {name}")
        equal(daemon.status_of(name)["active"], 0, f"active of {name}")
    stream.exchange(sock, b"still here")
    sock.close()
    open_connection(env, 1883).close()
    daemon.wait_connections(0)
    equal([daemon.stat(name, "connections") for name in new], [0, 0, 1], "connections")


@needs(BPF)
def test_settings_change(env):
    """New connections have the new handler and mode, old ones stay."""
    handler = env.handler()
    other = env.handler(("127.0.0.1", 9002))
    daemon = env.realpeerd(relay("one", 1881))
    old = open_connection(env, 1881)
    daemon.reload(relay("one", 1881, 9002, proxy_protocol="enabled"))
    with env.lb.connect((SERVER, 1881)) as sock:
        stream.exchange(sock, b"no header")
        equal(other.wait(1).peer, sock.getsockname(), "client at the new handler")
    stream.exchange(old, b"still here")
    equal(len(handler.accepted), 1, "connections at the old handler")
    old.close()


@needs(BPF)
def test_trust_changes(env):
    env.handler()
    daemon = env.realpeerd(relay("one", 1881))
    daemon.reload(relay("one", 1881, trusted="192.0.2.0/24"))
    stream.refused(env.lb, (SERVER, 1881), HEADER + b"hello")
    daemon.reload(relay("one", 1881))
    open_connection(env, 1881).close()


@needs(BPF)
def test_bad_configuration_keeps_the_old(env):
    """All its errors are logged with file and line; nothing changes."""
    handler = env.handler()
    daemon = env.realpeerd(relay("one", 1881))
    sock = open_connection(env, 1881)
    bad = GLOBAL + "colour = blue\n" + relay("one", 1881, proxy_protocol="perhaps")
    daemon.reload(bad, rf"{re.escape(daemon.config_path)}:\d+: .*perhaps")
    line = bad.splitlines().index("colour = blue") + 1
    check(daemon.process.lines(rf"{re.escape(daemon.config_path)}:{line}: .*colour"),
          "the other error is not logged")
    daemon.process.wait_log("reload msg=.failed")
    stream.exchange(sock, b"still here")
    open_connection(env, 1881).close()
    equal(handler.wait(2).peer, SOURCE, "client under the old configuration")
    daemon.reload(relay("one", 1881) + relay("two", 1882))
    open_connection(env, 1882).close()
    sock.close()


@needs(BPF)
def test_address_in_use_keeps_the_old(env):
    """A listener that can't be had changes nothing."""
    env.handler()
    taken = env.server.listen((SERVER, 1882))
    env.at_end(taken.close)
    daemon = env.realpeerd(relay("one", 1881))
    daemon.reload(relay("two", 1882), rf"{re.escape(SERVER)}:1882")
    open_connection(env, 1881).close()
    equal([entry["name"] for entry in daemon.ctl_json("status")["listeners"]], ["one"],
          "listeners in the status")


@needs(BPF)
def test_reload_by_realpeerctl(env):
    env.handler()
    daemon = env.realpeerd(relay("one", 1881))
    daemon.configure(relay("one", 1881) + relay("two", 1882))
    daemon.ctl("reload")
    wait_for(lambda: listens(env, 1882), "the new listener")
    open_connection(env, 1882).close()


@needs(BPF)
def test_reload_under_load(env):
    """20 reloads while connections are made: none fails."""
    env.handler()
    daemon = env.realpeerd(relay("one", 1881))
    for number in range(20):
        extra = relay("two", 1882) if number % 2 else ""
        daemon.configure(relay("one", 1881) + extra)
        daemon.process.kill(1)
        for _ in range(10):
            open_connection(env, 1881).close()
    daemon.wait_stat("one", "connections", 200)
    daemon.wait_connections(0)


@needs(INLINE)
def test_offload_changes(env):
    """Whoever read the header of a connection, what follows it is payload, be it
    like a header, and the client is the first one's.

    Fails if acceptor_serve(), acceptor.c, forgets that the kernel read headers.
    """
    forged = header.v2((CLIENTS[1], 40002), (LB_FRONT, 1883))
    handler = env.handler()
    daemon = env.realpeerd(relay("one", 1881, offload="accept"))
    over, count = threading.Event(), 0

    def change():
        while not over.is_set():
            for offload in ("off", "accept"):
                daemon.reload(relay("one", 1881, offload=offload))
    changing = threading.Thread(target=change)
    changing.start()
    try:
        while count < 300 or not 0 < daemon.stat("one", "handshakes") < count:
            check(count < 6000, "the offload never changed")
            for _ in range(100):
                with env.lb.connect((SERVER, 1881)) as sock:
                    stream.exchange(sock, HEADER + forged + b"hello", forged + b"hello")
                count += 1
    finally:
        over.set()
        changing.join()
    equal([accepted.peer for accepted in handler.accepted], count * [SOURCE], "clients")
