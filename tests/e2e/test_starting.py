# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Stopped while systemd does not know yet that it runs: no ExecStop has told
whether the next daemon wants the pins, so those that were there stay."""

import contextlib
import os
import signal
import socket

from lib import bpf
from lib.poll import check, equal
from lib.realpeer import Realpeer
from lib.requirement import BPF, BPFTOOL, needs


class Slow(Realpeer):
    """systemd is slow to read: SIGTERM is sent between READY=1 and BARRIER=1."""

    def start_and_stop(self):
        path = os.path.join(self.env.directory, f"{self.name}.notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(path)
            notify.settimeout(15)
            self.process = self.env.start(self.name, self.argv(), dict(
                self.variables, NOTIFY_SOCKET=path, FDSTORE="64"))
            while b"READY=1" not in notify.recv(4096):
                pass
            self.process.kill(signal.SIGTERM)
            # What is read without its descriptor closes that: the barrier.
            notify.settimeout(0.1)
            while self.process.alive():
                with contextlib.suppress(TimeoutError):
                    notify.recv(4096)
            return self.process.wait()


def map_id(daemon):
    return bpf.bpftool("map", "show", "pinned", daemon.map_path("connections"))["id"]


@needs(BPF, BPFTOOL)
def test_pins_that_were_there_stay(env):
    """Fails if realpeerd does not wait for systemd before the pins are its own."""
    env.handler()
    first = env.relay()
    before = map_id(first)
    first.stop(signal.SIGKILL)
    with open(first.config_path, encoding="ascii") as file:
        second = Slow(env, file.read(), name="second", bpffs=first.bpffs)
    equal(second.start_and_stop(), 0, "exit status")
    equal(map_id(second), before, "the map after the stop")
    first.start()
    equal(map_id(first), before, "the map of the next daemon")


@needs(BPF)
def test_no_pins_stay_where_none_were(env):
    """Fails if pins stay whenever a stop comes early."""
    first = Slow(env, "[listener echo]\nlisten = 10.77.0.2:1883\ndelivery = relay\n"
                 "handler = 127.0.0.1:9000\nclient_address = getpeername\n")
    equal(first.start_and_stop(), 0, "exit status")
    check(not os.path.exists(first.bpffs), "pins were left")
