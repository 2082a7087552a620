# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Signals in every state of the daemon and of its connections: each does what
realpeerd(8) says and no more, and after a stop nothing is left behind."""

import contextlib
import os
import signal
import threading
import time

from lib import bpf, fault, header, inline, stream
from lib.inline import INLINE, PAYLOAD
from lib.poll import check, equal, wait_for
from lib.realpeer import GLOBAL, listener
from lib.requirement import BPF, BPFTOOL, needs
from lib.topology import CLIENTS, LB_FRONT, SERVER

SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
STOPPING = (signal.SIGTERM, signal.SIGINT)
LONG = GLOBAL.replace("drain_timeout = 2s", "drain_timeout = 20s").replace(
    "header_timeout = 3s", "header_timeout = 60s")
CONFIG = LONG + "".join(
    listener(name, listen=f"{SERVER}:{port}", handler=f"127.0.0.1:{handler}",
             client_address="getpeername")
    for name, port, handler in (("echo", 1883, 9000), ("busy", 1884, 9001), ("late", 1885, 9002)))


class Connections:
    """One in each state: its header is incomplete; its handler does not accept
    yet; relayed; relayed, and one side is closed."""

    def __init__(self, env):
        self.env = env
        self.port = 1883
        self.answer = None
        env.handler()
        env.handler(("127.0.0.1", 9002), self.answer_late)
        self.busy = env.server.listen(("127.0.0.1", 9001), backlog=0)
        env.at_end(self.busy.close)

    def answer_late(self, accepted):
        answer = self.answer
        while accepted.receive() is not None:
            pass
        answer.wait(20)
        accepted.sock.sendall(b"late answer")

    def open(self, daemon):
        before = {name: daemon.stat(name, "header_v2") for name in ("busy", "late")}
        self.answer = threading.Event()
        self.env.at_end(self.answer.set)
        self.busy.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.busy.accept()[0].close()
        filler = self.env.server.connect(("127.0.0.1", 9001))  # all that the backlog holds
        self.env.at_end(filler.close)
        self.header = self.connect(self.port, HEADER[:5])
        self.connecting = self.connect(1884, HEADER + b"hello")
        self.relayed = self.connect(self.port, HEADER + b"hello")
        equal(stream.receive_exactly(self.relayed, 5), b"hello", "echo")
        self.half = self.connect(1885, HEADER + b"hello")
        self.half.shutdown(1)
        for name in ("busy", "late"):
            daemon.wait_stat(name, "header_v2", before[name] + 1)
        wait_for(lambda: daemon.status_of("late")["active"] == 1, "the half-closed connection")

    def connect(self, port, data):
        sock = self.env.lb.connect((SERVER, port))
        self.env.at_end(sock.close)
        sock.sendall(data)
        return sock

    def finish(self):
        """Each goes on to its end as if nothing had been, those first that are
        relayed already."""
        stream.exchange(self.relayed, b"still here")
        self.relayed.shutdown(1)
        equal(stream.ended_by(self.relayed), ("eof", b""), "end")
        self.answer.set()
        equal(stream.ended_by(self.half), ("eof", b"late answer"), "the half-closed one")
        time.sleep(0.1)  # a daemon that stops has looked what is left
        self.header.sendall(HEADER[5:] + b"hello")
        equal(stream.receive_exactly(self.header, 5), b"hello", "echo behind a late header")
        self.header.shutdown(1)
        equal(stream.ended_by(self.header), ("eof", b""), "end")
        self.busy.settimeout(10)
        self.busy.accept()[0].close()
        accepted, peer = self.busy.accept()
        with accepted:
            equal((peer, stream.receive_exactly(accepted, 5)), (SOURCE, b"hello"), "the late one")
            accepted.sendall(b"done")
        equal(stream.ended_by(self.connecting), ("eof", b"done"), "answer to the late one")
        self.connecting.close()

    def all(self):
        return (self.header, self.connecting, self.relayed, self.half)


def shared(env, name):
    """A daemon of several that take over from each other."""
    return env.daemon(CONFIG, name=name, bpffs=f"{bpf.BPFFS_ROOT}/{env.prefix}-shared",
                      run=env.path("run"))


def gone(daemon):
    """What an ordinary stop leaves: nothing."""
    check(not os.path.exists(daemon.bpffs), f"{daemon.bpffs} is left")
    check(not os.path.exists(f"{daemon.run_directory}/control"), "the control socket is left")


def works(env):
    with env.lb.connect((SERVER, 1883)) as sock:
        stream.exchange(sock, HEADER + b"hello", b"hello")


@needs(BPF)
def test_that_say_nothing(env):
    """Not meant for it, or only meant to wake it: no connection notices.

    Fails without SIG_IGN for SIGUSR2 in block_signals(), realpeerd.c.
    """
    connections = Connections(env)
    daemon = env.realpeerd(CONFIG)
    connections.open(daemon)
    for number in (signal.SIGUSR2, signal.SIGPIPE, signal.SIGCHLD, signal.SIGCONT,
                   signal.SIGURG, signal.SIGWINCH, signal.SIGUSR1, signal.SIGHUP):
        for _ in range(3):
            daemon.process.kill(number)
        works(env)
    equal(daemon.ctl_json("status")["pid"], daemon.process.pid, "who answers")
    connections.finish()
    equal(daemon.log_complaints(), [], "complaints in the log")


@needs(BPF)
def test_stop(env):
    """No new connection; those in every state may end by themselves. What else
    comes meanwhile changes nothing.

    Fails without has_connections(), server.c, for those that are not relayed yet.
    And without `stopping` for SIGHUP in handle_signal(), realpeerd.c.
    """
    connections = Connections(env)
    for number in STOPPING:
        daemon = env.daemon(CONFIG, name=f"daemon{number}").start()
        connections.open(daemon)
        daemon.process.kill(number)
        wait_for(lambda: ":1883 " not in env.server.run("ss", "-Hltn").stdout, "no more listening")
        for other in (signal.SIGHUP, signal.SIGUSR2, signal.SIGCONT):
            daemon.process.kill(other)
        connections.finish()
        equal(daemon.process.wait(15), 0, "exit status, long before drain_timeout")
        gone(daemon)
        equal(daemon.process.lines("reload"), [], "reloads")


@needs(BPF)
def test_second_stop(env):
    """Ends it at once, whatever its connections do, and takes everything away.

    Fails without datapath_unpin() in stop(), realpeerd.c.
    """
    connections = Connections(env)
    for first, second in zip(STOPPING, reversed(STOPPING)):
        daemon = env.daemon(CONFIG, name=f"daemon{first}").start()
        connections.open(daemon)
        daemon.process.kill(first)
        daemon.process.wait_log("msg=stopping")
        begin = time.monotonic()
        daemon.process.kill(second)
        equal(daemon.process.wait(5), 0, "exit status")
        check(time.monotonic() - begin < 5, "it waited for its connections")
        gone(daemon)
        for sock in connections.all():
            equal(stream.ended_by(sock)[1], b"", "what follows")


@needs(BPF)
def test_next_takes_over(env):
    """SIGUSR1 before a stop, while it waits for connections, or before the second
    one: pins stay, and the next daemon serves with them.

    Fails without keep_pins in finish() and in stop(), realpeerd.c.
    """
    connections = Connections(env)
    for numbers in ((signal.SIGUSR1, signal.SIGTERM), (signal.SIGTERM, signal.SIGUSR1),
                    (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM)):
        daemon = shared(env, f"daemon{len(env.daemons)}").start()
        connections.open(daemon)
        for number in numbers:
            daemon.process.kill(number)
            daemon.process.wait_log("takes over" if number == signal.SIGUSR1 else "msg=stop")
        if numbers.count(signal.SIGTERM) == 1:
            connections.finish()
        equal(daemon.process.wait(), 0, "exit status")
        check(os.path.exists(f"{daemon.bpffs}/connections"), "no pins are left")
    daemon = shared(env, "last").start()
    works(env)
    equal(daemon.stop(), 0, "exit status")
    gone(daemon)


class SlowConfig:
    """A configuration that takes as long to read as the test likes: a FIFO, which
    then is replaced by a file."""

    def __init__(self, daemon):
        self.path = daemon.config_path
        self.daemon = daemon
        os.rename(self.path, self.path + ".file")
        os.mkfifo(self.path)

    def wait_reading(self):
        """Opened by the daemon, which waits for what comes."""
        def opened():
            try:
                return os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                return None
        self.fifo = wait_for(opened, "the daemon to open its configuration", 10)
        os.rename(self.path + ".file", self.path)

    def go_on(self):
        with open(self.path, "rb") as file:
            os.write(self.fifo, file.read())
        os.close(self.fifo)


@needs(BPF)
def test_while_starting(env):
    """They wait until it is ready, and are not lost.

    Fails without block_signals() at the beginning of start(), realpeerd.c.
    """
    env.handler()
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, *STOPPING):
        daemon = shared(env, f"daemon{number}")
        slow = SlowConfig(daemon)
        daemon.process = env.start(daemon.name, daemon.argv(), daemon.variables)
        slow.wait_reading()
        daemon.process.kill(number)
        slow.go_on()
        if number in STOPPING:
            equal(daemon.process.wait(15), 0, "exit status")
            gone(daemon)
            continue
        daemon.process.wait_log("msg=started", 10)
        works(env)
        if number == signal.SIGHUP:
            daemon.process.wait_log("reload msg=done")
        equal(daemon.stop(), 0, "exit status")
        check(os.path.exists(daemon.bpffs) == (number == signal.SIGUSR1), "pins")


@needs(BPF)
def test_while_reloading(env):
    """Connections go on meanwhile, and what was asked for is done afterwards.

    Fails without SIGTERM and SIGUSR1 in block_signals(), realpeerd.c: it ends in
    the middle.
    """
    connections = Connections(env)
    for numbers in ((signal.SIGHUP,), (signal.SIGUSR1, signal.SIGHUP), (signal.SIGTERM,),
                    (signal.SIGUSR1, signal.SIGINT)):
        daemon = shared(env, f"daemon{len(env.daemons)}").start()
        connections.open(daemon)
        slow = SlowConfig(daemon)
        daemon.process.kill(signal.SIGHUP)
        slow.wait_reading()
        for number in numbers:
            daemon.process.kill(number)
        works(env)
        slow.go_on()
        daemon.process.wait_log("reload msg=done")
        connections.finish()
        if signal.SIGHUP in numbers:
            wait_for(lambda: len(daemon.process.lines("reload msg=done")) == 2,  # noqa: B023
                     "the other reload")
            works(env)
            daemon.process.kill(signal.SIGTERM)
        equal(daemon.process.wait(), 0, "exit status")
        equal(os.path.exists(daemon.bpffs), signal.SIGUSR1 in numbers, "pins are left")


@needs(INLINE, BPFTOOL)
def test_stopped_and_continued(env):
    """SIGSTOP for longer than any deadline. Inline connections don't need the
    daemon; of those that do, who spoke in time is served when it goes on, and so
    is he whose handler accepted in time.

    Fails without is_decided_now() in admission_timeout(), and without poll() in
    handler_timeout().
    """
    server = inline.Server.start(env)
    connections = Connections(env)
    running = env.realpeerd(CONFIG.replace("1883", "1886").replace("header_timeout = 60s",
                                                                   "header_timeout = 5s")
                            + listener("inline", listen=f"{SERVER}:1883", delivery="inline"))
    connections.port = 1886
    connections.open(running)
    silent = connections.connect(1886, HEADER[:5])
    running.wait_stat("echo", "handed_over", 2)
    with fault.paused(running):
        connections.header.sendall(HEADER[5:] + b"hello")
        connections.busy.settimeout(10)
        connections.busy.accept()[0].close()
        accepted, peer = connections.busy.accept()
        for count in range(1, 6):
            with env.lb.connect((SERVER, 1883)) as sock:
                stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
                equal(server.wait(count).peer, SOURCE, "client")
        time.sleep(6)  # more than header_timeout, and than a handler may take
    equal(stream.receive_exactly(connections.header, 5), b"hello", "echo")
    equal((peer, stream.receive_exactly(accepted, 5)), (SOURCE, b"hello"), "the late one")
    accepted.close()
    equal(stream.ended_by(silent), ("reset", b""), "end of the silent one")
    equal(running.stat("echo", "timeout"), 1, "timeout")
    stream.exchange(connections.relayed, b"still here")
    connections.answer.set()
    for sock in (*connections.all(), silent):
        sock.close()
