# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Somebody sets the time of day: no deadline moves, and records tell when their
connections came. And the daemon in a time namespace, whose clocks are not those
of the programs in the kernel."""

import datetime
import os
import signal
import struct
import subprocess
import time

from lib import header, inline, stream
from lib.build import ROOT_DIRECTORY
from lib.inline import INLINE, PAYLOAD
from lib.poll import check, equal
from lib.realpeer import listener
from lib.requirement import BPF, BPFTOOL, NO_SANITIZER, Requirement, needs, program
from lib.topology import CLIENTS, LB_FRONT, SERVER

CC = program("cc")
TIME_NAMESPACES = Requirement("time namespaces (Linux 5.6)",
                              lambda: os.path.exists("/proc/self/ns/time"))
ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
DAY = 86400


class WallClock:
    """The daemon's, and realpeerctl's if it is told so."""

    def __init__(self, env):
        self.path = env.path("wall_clock")
        library = env.path("wall_clock.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-D_GNU_SOURCE", "-o", library,
                        f"{ROOT_DIRECTORY}/tests/e2e/wall_clock.c"], check=True, timeout=60)
        self.set(0)
        self.variables = {"LD_PRELOAD": library, "WALL_CLOCK": self.path}

    def set(self, seconds):
        with open(self.path, "r+b" if os.path.exists(self.path) else "wb") as file:
            file.write(struct.pack("q", seconds))


def since(daemon):
    """When the only connection came, in seconds of the Unix time."""
    text = daemon.wait_connections(1)[0]["since"]
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def is_reset_after(sock, least, begin):
    """And long before a day is over."""
    equal(stream.ended_by(sock, 20), ("reset", b""), "end of a silent client")
    seconds = time.monotonic() - begin
    check(least <= seconds, f"it ended after {seconds:.2f} s")


@needs(BPF, CC, NO_SANITIZER)
def test_set_by_a_day(env):
    """Forth and back again, while deadlines run: that of a header, and that of a
    stop.

    Fails with CLOCK_REALTIME in clock_ms() of event.c: they come at once, or in
    a day.
    """
    clock = WallClock(env)
    env.handler()
    daemon = env.daemon(listener("echo", listen=f"{SERVER}:1883", handler="127.0.0.1:9000",
                                 offload="off", client_address="getpeername",
                                 header_timeout="1s"),
                        variables=clock.variables).start()
    for shift in (DAY, -DAY, 0):
        begin = time.monotonic()
        with env.lb.connect(ADDRESS) as sock:
            sock.sendall(HEADER[:5])
            clock.set(shift)
            is_reset_after(sock, 0.95, begin)
    held = env.lb.connect(ADDRESS)
    stream.exchange(held, HEADER + b"hello", b"hello")
    begin = time.monotonic()
    daemon.process.kill(signal.SIGTERM)
    clock.set(-DAY)
    is_reset_after(held, 1.9, begin)  # drain_timeout = 2s
    equal(daemon.process.wait(), 0, "exit status")


def inline_daemon(env, silent, **settings):
    """Two listeners: `echo`, and `silent` with that header_timeout."""
    return env.daemon("".join(
        listener(name, listen=f"{SERVER}:{port}", delivery="inline", header_timeout=timeout)
        for name, port, timeout in (("echo", 1883, "60s"), ("silent", 1884, silent))),
        **settings).start()


@needs(INLINE, BPFTOOL, CC, NO_SANITIZER)
def test_age_of_connections(env):
    """It is told in the time of day that now is, and the age stays what it is.
    The daemon goes on to look for peers that say nothing.

    Fails if since_format(), view.c, takes another clock than that of records, or with
    CLOCK_REALTIME in now_ms() of realpeerd.c.
    """
    clock = WallClock(env)
    inline.Server.start(env)
    inline.Server.start(env, (SERVER, 1884))
    running = inline_daemon(env, "100ms", variables=clock.variables)
    begin = time.time()
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        end = time.time()
        for shift in (0, DAY, -DAY):
            clock.set(shift)  # realpeerctl has the daemon's variables
            check(begin - 0.1 <= since(running) - shift <= end + 0.1,
                  f"since {since(running)} by a clock shifted by {shift} s, it was {begin}")
    with env.lb.connect((SERVER, 1884)):
        running.wait_stat("silent", "timeout", 1)


@needs(INLINE, BPFTOOL, TIME_NAMESPACES)
def test_time_namespace(env):
    """The programs in the kernel know the host's clock only. Ages and deadlines of
    handshakes are right all the same, whichever way the daemon's is off.

    Fails without offset_ns in clock_boot_ns(), clock.c: each handshake is overdue.
    """
    server = inline.Server.start(env)
    inline.Server.start(env, (SERVER, 1884))
    for offset in (DAY, -(int(time.clock_gettime(time.CLOCK_BOOTTIME)) - 60)):
        running = inline_daemon(env, "1s", prefix=[
            "unshare", "--time", f"--boottime={offset}", f"--monotonic={offset}"])
        count = len(server.accepted)
        with env.lb.connect(ADDRESS) as late, env.lb.connect((SERVER, 1884)) as silent:
            running.wait_stat("silent", "timeout", 1)
            before = time.time()
            stream.exchange(late, HEADER + PAYLOAD, PAYLOAD)
            equal(server.wait(count + 1).peer, SOURCE, "client")
            check(before - 0.5 < since(running) < time.time() + 0.5,
                  f"since {since(running)}, it is {time.time()}")
            silent.close()
        inline.nothing_left(running)
        equal(running.stop(), 0, "exit status")
