# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The daemon gets no more memory: single connections fail and are counted, the
others go on, and no handler ever reads a byte of a header. What happens when
the kernel kills it is that of any kill: test_restart.py, test_inline_life.py."""

import socket
import threading

from lib import fault, header, stream
from lib.poll import check, equal, wait_for, wait_unchanged
from lib.realpeer import listener
from lib.requirement import BPF, NO_SANITIZER, needs
from lib.topology import CLIENTS, LB_FRONT, SERVER

ADDRESS, OTHER = (SERVER, 1883), (SERVER, 1884)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
LONG = header.v2_raw(length=65000)  # and then nothing: it has to be kept room for


class Bench:
    """Port 1883 is to be starved; on 1884 a connection is held that lives on."""

    def __init__(self, env, room, behaviour=None):
        self.env = env
        self.handler = env.handler(**({"behaviour": behaviour} if behaviour else {}))
        self.other = env.handler(("127.0.0.1", 9001))
        self.daemon = env.realpeerd("".join(
            listener(name, listen=f"{SERVER}:{port}", handler=f"127.0.0.1:{handler}",
                     client_address="getpeername", header_max=65535, header_timeout="60s")
            for name, port, handler in (("starved", 1883, 9000), ("other", 1884, 9001))))
        self.held = env.lb.connect(OTHER)
        env.at_end(self.held.close)
        stream.exchange(self.held, HEADER + b"hello", b"hello")
        self.allow = fault.leave_memory(self.daemon.process, room)

    def resource(self):
        return self.daemon.stat("starved", "resource")

    def goes_on(self):
        stream.exchange(self.held, b"still here")
        lines = self.daemon.process.lines("Cannot allocate memory")
        check(0 < len(lines) < 30, f"{len(lines)} lines: {lines[:8]}")

    def recovers(self, address=ADDRESS):
        """All who come now are served, and nobody got a byte of a header."""
        wait_for(lambda: self.daemon.status_of("starved")["active"] == 0, "all to end")
        for _ in range(50):
            with self.env.lb.connect(address) as sock:
                stream.exchange(sock, HEADER + b"hello", b"hello")
        for accepted in self.handler.accepted + self.other.accepted:
            equal(accepted.peer, SOURCE, "client")
            check(accepted.data.startswith(b"hello"[:len(accepted.data)]), "rubbish at a handler")


def clients(env, count, data):
    """Those who were not reset yet."""
    socks = []
    for _ in range(count):
        sock = env.lb.connect(ADDRESS)
        env.at_end(sock.close)
        try:
            sock.sendall(data)
            socks.append(sock)
        except (ConnectionResetError, BrokenPipeError):
            pass
    return socks


@needs(BPF, NO_SANITIZER)
def test_long_headers(env):
    """Headers that don't end take what there is; those that find no room are
    refused.

    Fails without no_room() in decide() of admission.c.
    """
    bench = Bench(env, 2 << 20)
    socks = clients(env, 200, LONG)
    wait_for(lambda: bench.resource() > 100, "connections to be refused")
    bench.goes_on()
    for sock in socks:
        sock.close()
    bench.recovers()


def send_some(sock):
    """40,000 bytes, or what is taken of them. True if it was reset."""
    try:
        sock.send(bytes(40000), socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


@needs(BPF, NO_SANITIZER)
def test_stalled_handler(env):
    """Bytes that nobody takes need room; without any their connection ends,
    with a reset.

    Fails without no_memory in relay() of connection.c: it is not counted.
    """
    over = threading.Event()
    env.at_end(over.set)

    def five_bytes(accepted):
        accepted.data += stream.receive_exactly(accepted.sock, 5)
        accepted.sock.sendall(accepted.data)
        over.wait()

    for name in ("rmem", "wmem"):
        env.server.sysctl(f"net.ipv4.tcp_{name}", "4096 65536 262144")
    bench = Bench(env, 128 << 10, five_bytes)
    socks = clients(env, 40, HEADER + b"hello")
    for _ in range(12):  # less than a buffer each time: more would go through pipes
        ended = sum(send_some(sock) for sock in socks)
        wait_unchanged(lambda: bench.daemon.stat("starved", "bytes_up"), "bytes", 0.05)
    check(0 < ended < len(socks), f"{ended} of {len(socks)} were reset")
    check(bench.resource() >= ended, "they are not counted")
    bench.goes_on()
    for sock in socks:
        stream.close_with_reset(sock)
    bench.recovers()


@needs(BPF, NO_SANITIZER)
def test_reload(env):
    """It is refused, with its reason, and what was in force stays.

    Fails without the line for ENOMEM in daemon_run_step(), daemon_setup.c.
    """
    bench = Bench(env, 0)
    socks = clients(env, 100, LONG)
    wait_for(lambda: bench.resource() > 50, "connections to be refused")
    check("memory" in bench.daemon.ctl("reload", status=1), "realpeerctl does not say why")
    bench.daemon.process.wait_log("out of memory")
    bench.goes_on()
    equal(len(bench.daemon.ctl_json("status")["listeners"]), 2, "listeners")
    bench.allow()
    for sock in socks:
        sock.close()
    bench.daemon.reload(done="reload msg=done")
    bench.recovers()
