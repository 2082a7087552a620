# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Nobody takes the log's lines, or there is no place for them: connections go
on, and no line goes where it does not belong."""

import contextlib
import os
import signal
import subprocess

from lib import header, stream
from lib.poll import check, equal, wait_for
from lib.realpeer import GLOBAL, listener
from lib.requirement import BPF, needs
from lib.topology import CLIENTS, LB_FRONT, SERVER

ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
# With offload off the daemon itself refuses, and says so each time.
LISTENER = listener("echo", listen=f"{SERVER}:1883", handler="127.0.0.1:9000", offload="off",
                    client_address="getpeername")


def start(env, redirection, pass_fds=()):
    """A daemon whose standard descriptors the shell has redirected."""
    daemon = env.daemon(LISTENER, prefix=["sh", "-c", f'exec "$@" {redirection}', "sh"])
    real_start = env.start
    env.start = lambda name, argv, variables: real_start(name, argv, variables, pass_fds)
    try:
        daemon.start()
    finally:
        env.start = real_start
    return daemon


def works(env, handler, daemon):
    """Lines are written for some of this; what clients get is right."""
    for _ in range(3):
        stream.refused(env.lb, ADDRESS, b"not a header at all")
        count = len(handler.accepted) + 1
        with env.lb.connect(ADDRESS) as sock:
            stream.exchange(sock, HEADER + b"hello", b"hello")
            accepted = handler.wait(count)
            equal((accepted.peer, accepted.data), (SOURCE, b"hello"), "client and bytes")
    daemon.process.kill(signal.SIGHUP)
    wait_for(lambda: daemon.status_of("echo")["active"] == 0, "an answer after SIGHUP")


class Pipe:
    """What the daemon has as standard error, and its reader."""

    def __init__(self, env):
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        env.at_end(self.close)

    def close(self):
        for fd in (self.reading, self.writing):
            with contextlib.suppress(OSError):
                os.close(fd)

    def fill(self):
        os.set_blocking(self.writing, False)
        for size in (4096, 1):
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(self.writing, b"." * size)
        os.set_blocking(self.writing, True)

    def read(self):
        text = b""
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self.reading, 1 << 16):
                text += more
        return text.decode()


@needs(BPF)
def test_full_pipe(env):
    """Its reader stands still: the daemon does not wait for it, not even when it
    stops. When it reads on it is told how many lines it missed.

    Fails without poll() in try_write() of log.c: everything stands still.
    """
    handler = env.handler()
    pipe = Pipe(env)
    daemon = start(env, f"2>&{pipe.writing}", (pipe.writing,))
    pipe.fill()
    works(env, handler, daemon)
    daemon.configure(GLOBAL + "colour = blue\n")
    daemon.process.kill(signal.SIGHUP)
    works(env, handler, daemon)
    check(pipe.read().rstrip(".").endswith("listeners=1\n"), "there was room")
    stream.refused(env.lb, ADDRESS, b"not a header at all")
    text = ""

    def told():
        nonlocal text
        text += pipe.read()
        return "lines were lost" in text
    wait_for(told, "the number of lost lines")
    check("reason=not_header" in text, f"what followed: {text}")
    pipe.fill()
    equal(daemon.stop(), 0, "exit status")
    check(not os.path.exists(daemon.bpffs), "pins are left")


@needs(BPF)
def test_reader_gone(env):
    """A write that would raise SIGPIPE, and fails.

    Fails without SIG_IGN for SIGPIPE in block_signals(), realpeerd.c.
    """
    handler = env.handler()
    pipe = Pipe(env)
    daemon = start(env, f"2>&{pipe.writing}", (pipe.writing,))
    pipe.close()
    works(env, handler, daemon)
    equal(daemon.stop(), 0, "exit status")


@needs(BPF)
def test_disk_full(env):
    """/dev/full has no room for anything, as a full disk has none.

    Fails if a line that could not be written ends the daemon, as a check of
    try_write()'s result in put_line() would.
    """
    handler = env.handler()
    daemon = start(env, "2>/dev/full")
    works(env, handler, daemon)
    equal(daemon.stop(), 0, "exit status")


@needs(BPF)
def test_closed(env):
    """No standard descriptors at all: no socket gets their numbers, and with them
    the log's lines.

    Fails without open_standard_descriptors(), realpeerd.c.
    """
    handler = env.handler()
    daemon = start(env, "0<&- 1>&- 2>&-")
    for fd in range(3):
        equal(os.readlink(f"/proc/{daemon.process.pid}/fd/{fd}"), "/dev/null", f"descriptor {fd}")
    works(env, handler, daemon)
    equal(daemon.stop(), 0, "exit status")


@needs(BPF)
def test_commands_cannot_print(env):
    """What a script reads is all there, or the exit status says otherwise.

    Fails without fflush() in check() of realpeerd.c, main() of realpeerctl.c.
    """
    daemon = env.realpeerd(LISTENER)
    for argv in (["realpeerctl", "status", "--json"], ["realpeerctl", "stats"],
                 ["realpeerctl", "connections"], ["realpeerd", "-n", "-c", daemon.config_path]):
        with open("/dev/full", "wb") as full:
            result = subprocess.run(
                env.server.command(env.binary(argv[0]), *argv[1:]), env=daemon.variables,
                stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, text=True,
                timeout=20, check=False)
        equal(result.returncode, 1, f"exit status of {argv}")
