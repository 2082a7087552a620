# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Much data arrives bit for bit, with fast, slow and stalled readers, while
the daemon's memory stays flat; each direction ends by itself."""

import os
import socket

from lib import bulk, header, stream
from lib.build import sanitized
from lib.poll import check, equal, wait_unchanged
from lib.requirement import BPF, needs
from lib.topology import CLIENTS, LB_FRONT, SERVER

SIZE = int(os.environ.get("REALPEER_E2E_BULK", 1 << 30))
SMALL = min(SIZE, 32 << 20)
HEADER = header.v2((CLIENTS[0], 40001), (LB_FRONT, 1883))
GROWTH = 4096  # KiB of RSS that the daemon may grow by; pipes are the kernel's
TIMEOUT = 120
HELD = 64 << 20  # bytes in all socket buffers and pipes on the way


class Pair:
    """A client's socket and the handler's, with the daemon between them."""

    def __init__(self, env, **settings):
        self.listening = env.server.listen(("127.0.0.1", 9000))
        env.at_end(self.listening.close)
        self.daemon = env.relay(**settings)
        self.listening.settimeout(5)
        self.open(env)
        # from here on the peak counts, not that of the start
        with open(f"/proc/{self.daemon.process.pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
        self.rss = self.daemon.process.status("VmRSS")

    def open(self, env):
        """The next connection takes the place of the one before."""
        self.client = env.lb.connect((SERVER, 1883), timeout=TIMEOUT)
        env.at_end(self.client.close)
        self.client.sendall(HEADER)
        self.handler, _ = self.listening.accept()
        self.handler.settimeout(TIMEOUT)
        env.at_end(self.handler.close)

    def verify(self):
        """After a transfer: memory is what it was."""
        growth = self.daemon.process.status("VmHWM") - self.rss
        check(sanitized() or growth <= GROWTH, f"the daemon grew by {growth} KiB")


def both_ways(env, size, pace=None, **settings):
    pair = Pair(env, **settings)
    up, down = bulk.Pattern(size, "up"), bulk.Pattern(size, "down")
    receivers = [bulk.receive(pair.handler, pace=pace), bulk.receive(pair.client, pace=pace)]
    senders = [bulk.send(pair.client, up), bulk.send(pair.handler, down)]
    for sender in senders:
        sender.finish(TIMEOUT)
    equal(receivers[0].finish(TIMEOUT), up.digest(), "sha256 of client to handler")
    equal(receivers[1].finish(TIMEOUT), down.digest(), "sha256 of handler to client")
    pair.verify()
    pair.daemon.wait_connections(0)
    pair.daemon.wait_stat("echo", "bytes_up", size)
    pair.daemon.wait_stat("echo", "bytes_down", size)


@needs(BPF)
def test_fast(env):
    both_ways(env, SIZE)


test_fast.limit = 150


@needs(BPF)
def test_fast_offload_off(env):
    both_ways(env, SMALL, offload="off", client_address="none")


@needs(BPF)
def test_slow_readers(env):
    both_ways(env, SMALL, bulk.slow)


def stalled(sender, receiver, pair):
    """The sender has to wait, not the daemon to hoard; then all arrives."""
    pattern = bulk.Pattern(4 * SMALL, "stalled")
    stall = bulk.Stall(SMALL // 2)
    receiving = bulk.receive(receiver, pace=stall)
    sending = bulk.send(sender, pattern)
    check(stall.reached.wait(TIMEOUT), "the reader did not get as far as its stall")
    wait_unchanged(lambda: sending.done, "the sender")
    held = sending.done - receiving.done
    check(sending.is_alive() and held < HELD, f"{held} bytes were taken from the sender")
    pair.verify()
    stall.resume()
    sending.finish(TIMEOUT)
    equal(receiving.finish(TIMEOUT), pattern.digest(), "sha256 after the stall")
    pair.verify()


@needs(BPF)
def test_stalled_handler(env):
    """Fails without STEP_BLOCKED of flush() in pump(), relay.c."""
    pair = Pair(env)
    stalled(pair.client, pair.handler, pair)


@needs(BPF)
def test_stalled_client(env):
    """Fails without STEP_BLOCKED of flush() in pump(), relay.c."""
    pair = Pair(env)
    stalled(pair.handler, pair.client, pair)


@needs(BPF)
def test_other_direction_during_a_stall(env):
    """A direction that stands still holds up neither the other one nor others.

    Fails without STEP_BLOCKED of flush() in pump(), relay.c.
    """
    pair = Pair(env)
    stall = bulk.Stall(SMALL // 2)
    pattern, other = bulk.Pattern(4 * SMALL, "stalled"), bulk.Pattern(SMALL, "other")
    receiving = bulk.receive(pair.handler, pace=stall)
    sending = bulk.send(pair.client, pattern)
    wait_unchanged(lambda: sending.done, "the sender")
    receiving_other = bulk.receive(pair.client)
    bulk.send(pair.handler, other).finish(TIMEOUT)
    equal(receiving_other.finish(TIMEOUT), other.digest(), "sha256 of the other way")
    with env.lb.connect((SERVER, 1883)) as sock:
        sock.sendall(HEADER)
        accepted, _ = pair.listening.accept()
        with accepted:
            accepted.sendall(b"hello")
            equal(stream.receive_exactly(sock, 5), b"hello", "another connection")
    stall.resume()
    sending.finish(TIMEOUT)
    equal(receiving.finish(TIMEOUT), pattern.digest(), "sha256 after the stall")


@needs(BPF)
def test_messages_and_bulk_in_turns(env):
    """Small messages, then much, then small again: the data path changes
    between read/write and splice, and nothing is lost or held back."""
    pair = Pair(env)
    for number in range(6):
        for _ in range(50):
            for sender, receiver in ((pair.client, pair.handler), (pair.handler, pair.client)):
                sender.sendall(b"ping")
                equal(stream.receive_exactly(receiver, 4), b"ping", "a small message")
        pattern = bulk.Pattern(SMALL // 2, number)
        sender, receiver = ((pair.client, pair.handler), (pair.handler, pair.client))[number % 2]
        receiving = bulk.receive(receiver, pattern.size)
        bulk.send(sender, pattern, half_close=False).finish(TIMEOUT)
        equal(receiving.finish(TIMEOUT), pattern.digest(), "sha256")
    pair.verify()


@needs(BPF)
def test_half_close(env):
    """Each direction's end comes through while the other one goes on.

    Fails without shutdown() in finish(), relay.c.
    """
    pair = Pair(env)
    for first, second in (("client", "handler"), ("handler", "client")):
        one, two = getattr(pair, first), getattr(pair, second)
        one.sendall(b"request")
        one.shutdown(socket.SHUT_WR)
        equal(stream.ended_by(two), ("eof", b"request"), f"what the {second} reads")
        pattern = bulk.Pattern(SMALL // 4, first)
        receiving = bulk.receive(one)
        bulk.send(two, pattern).finish(TIMEOUT)
        equal(receiving.finish(TIMEOUT), pattern.digest(), f"sha256 at the {first}")
        pair.daemon.wait_connections(0)
        pair.open(env)


@needs(BPF)
def test_reset_comes_through(env):
    """A reset on one side is a reset, not an ordinary end, on the other.

    Fails without set_reset_on_close() in connection_close().
    """
    pair = Pair(env)
    stream.close_with_reset(pair.client)
    equal(stream.ended_by(pair.handler)[0], "reset", "end at the handler")
    pair.open(env)
    stream.close_with_reset(pair.handler)
    equal(stream.ended_by(pair.client)[0], "reset", "end at the client")
    pair.daemon.wait_connections(0)
