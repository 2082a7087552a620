# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A relay's handler that is slow, closes, resets or never reads: its client is
told, nothing is lost before that, and the daemon and its other clients are as
they were. That it is down: test_handler.py; that it stalls: test_bulk.py."""

import errno
import socket

from lib import bulk, fault, header, stream
from lib.build import sanitized
from lib.poll import check, equal, wait_for, wait_unchanged
from lib.realpeer import listener
from lib.requirement import BPF, needs
from lib.topology import CLIENTS, LB_FRONT, SERVER

ADDRESS, OTHER = (SERVER, 1883), (SERVER, 1884)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
SIZE = 4 << 20


class Bench:
    """The daemon; a handler on port 9000 that the test plays itself, and one on
    9001, behind port 1884, that must not notice anything."""

    def __init__(self, env, backlog=64):
        self.env = env
        self.listening = env.server.listen(("127.0.0.1", 9000), backlog=backlog)
        self.listening.settimeout(10)
        env.at_end(self.listening.close)
        env.handler(("127.0.0.1", 9001))
        self.daemon = env.realpeerd("".join(
            listener(name, listen=f"{SERVER}:{port}", handler=f"127.0.0.1:{handler}",
                     client_address="getpeername")
            for name, port, handler in (("echo", 1883, 9000), ("other", 1884, 9001))))
        self.other = env.lb.connect(OTHER)
        env.at_end(self.other.close)
        stream.exchange(self.other, HEADER + b"hello", b"hello")
        self.sockets = self.open_sockets()

    def open_sockets(self):
        return sum(name.startswith("socket:") for name in self.daemon.process.descriptors())

    def pair(self):
        """A client's socket and the handler's."""
        client = self.env.lb.connect(ADDRESS)
        self.env.at_end(client.close)
        client.sendall(HEADER)
        handler, peer = self.listening.accept()
        self.env.at_end(handler.close)
        handler.settimeout(20)
        client.settimeout(20)
        equal(peer, SOURCE, "client")
        return client, handler

    def verify(self):
        """Nothing is left of the first listener's connections, all of the other's."""
        wait_for(lambda: self.open_sockets() == self.sockets,
                 lambda: f"the daemon to have {self.sockets} sockets, it has "
                         f"{self.open_sockets()}")
        stream.exchange(self.other, b"still here")
        equal(len(self.daemon.wait_connections(1)), 1, "records")


def was_reset(sending):
    """A sender, which may have had the error before any reader."""
    try:
        sending.finish(20)
    except (ConnectionResetError, BrokenPipeError):
        return
    raise AssertionError("all of it was taken")


@needs(BPF)
def test_slow_to_accept(env):
    """Its clients wait, and each gets through with what it had said.

    Fails without wait() in send_first(), handler.c.
    """
    bench = Bench(env, backlog=0)
    clients = []
    for number in range(6):  # the backlog has room for one
        clients.append(env.lb.connect(ADDRESS))
        clients[-1].sendall(header.v2((CLIENTS[1], number + 1), (LB_FRONT, 1883))
                            + b"hello" + bytes([number]))
    bench.daemon.wait_stat("echo", "header_v2", len(clients))
    waiting = ("ss", "-Htn", "state", "syn-sent", "dport", "=", ":9000")
    wait_for(lambda: len(env.server.run(*waiting).stdout.splitlines()) >= 4,
             "connections that wait to be accepted")
    for _ in clients:
        accepted, peer = bench.listening.accept()
        with accepted:
            data = stream.receive_exactly(accepted, 6)
            equal((peer, data[:5]), ((CLIENTS[1], data[5] + 1), b"hello"), "client")
            accepted.sendall(b"done")
    for sock in clients:
        equal(stream.receive_exactly(sock, 4), b"done", "answer")
        sock.close()
    equal(bench.daemon.stat("echo", "handler_failed"), 0, "handler_failed")
    bench.verify()


@needs(BPF)
def test_accepts_and_closes(env):
    """At once, with a word or without: the client sees an orderly end.

    Fails without `hup` in relay_event(): an end right behind data is not seen.
    """
    bench = Bench(env)
    for said in (b"", b"busy") * 6:
        client, handler = bench.pair()
        with fault.paused(bench.daemon):
            handler.sendall(said)
            handler.close()
        equal(stream.ended_by(client), ("eof", said), "end at the client")
        client.close()
    bench.verify()


@needs(BPF)
def test_accepts_and_resets(env):
    """At once, with the client's first bytes unread, or without any.

    Fails without RELAY_FAILED of a read that failed, STEP_FAILED in run_one().
    """
    bench = Bench(env)
    for number in range(12):
        client, handler = bench.pair()
        if number % 2:
            client.sendall(b"hello")
        stream.close_with_reset(handler)
        equal(stream.ended_by(client), ("reset", b""), "end at the client")
        client.close()
    bench.verify()


@needs(BPF)
def test_closes_mid_upload(env):
    """What it answered before arrives; then the client is told that the rest of
    its bytes went nowhere.

    Fails without on_broken() in relay.c, which reads what is still to come.
    """
    bench = Bench(env)
    for _ in range(5):
        client, handler = bench.pair()
        sending = bulk.send(client, bulk.Pattern(8 * SIZE, "up"))
        stream.receive_exactly(handler, SIZE)
        with fault.paused(bench.daemon):
            handler.sendall(b"enough")
            handler.close()  # with bytes unread: a reset
        equal(stream.ended_by(client)[1], b"enough", "answer")
        was_reset(sending)
        client.close()
    bench.verify()


@needs(BPF)
def test_client_gone_after_half_close(env):
    """It said its last word, waited for an answer, and is gone: the handler is
    told, though it has nothing to send yet that would show it.

    Fails without is_client_gone(), relay.c.
    """
    bench = Bench(env)
    for _ in range(3):
        client, handler = bench.pair()
        client.sendall(b"that is all")
        client.shutdown(socket.SHUT_WR)
        equal(stream.ended_by(handler), ("eof", b"that is all"), "what the handler gets")
        stream.close_with_reset(client)
        # the error of a reset that comes behind an end
        wait_for(lambda: handler.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # noqa: B023
                 == errno.EPIPE, "the handler to be told")
        handler.close()
    bench.verify()


@needs(BPF)
def test_resets_mid_download(env):
    """A transfer that was cut off does not look like a complete one.

    Fails without the reset in connection_close(): the client reads an end.
    """
    bench = Bench(env)
    whole = b"".join(bulk.Pattern(SIZE, "down").blocks())
    for _ in range(5):
        client, handler = bench.pair()
        handler.sendall(whole[:SIZE // 32])
        data = stream.receive_exactly(client, SIZE // 64)
        stream.close_with_reset(handler)
        how, rest = stream.ended_by(client)
        equal(how, "reset", "end at the client")
        check(whole.startswith(data + rest), "other bytes than were sent")
        client.close()
    bench.verify()


@needs(BPF)
def test_never_reads(env):
    """50 clients that send to a handler that reads nothing: each is stopped,
    and the daemon holds 64 KiB of each at most.

    Fails without STEP_BLOCKED in flush(): it reads on, and what it holds grows.
    """
    count, held = 50, 64 << 10
    for name in ("rmem", "wmem"):  # so that the buffers of 50 are soon full
        env.server.sysctl(f"net.ipv4.tcp_{name}", "4096 65536 262144")
    bench = Bench(env)
    with open(f"/proc/{bench.daemon.process.pid}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    before = bench.daemon.process.status("VmRSS")
    pairs = [bench.pair() for _ in range(count)]
    sending = [bulk.send(client, bulk.Pattern(64 << 20, "up")) for client, _ in pairs]
    wait_unchanged(lambda: sum(one.done for one in sending), "the clients")
    check(all(one.is_alive() for one in sending), "a client was not stopped")
    grown = (bench.daemon.process.status("VmHWM") - before) * 1024
    check(sanitized() or grown < count * held + (4 << 20), f"the daemon grew by {grown} bytes")
    stream.exchange(bench.other, b"meanwhile")
    for _, handler in pairs:
        handler.close()
    for number, (client, _) in enumerate(pairs):
        was_reset(sending[number])
        client.close()
    bench.verify()
