# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Packets that a device hands over in one list, as a busy NIC does."""

import contextlib
import os

from .poll import check

CPU = 0


class Device:
    """The server's end of a veth pair, polled by a kernel thread that gets its CPU
    when the test lets go of it."""

    def __init__(self, env, name="back"):
        # What its peer could have left whole it does not poll.
        env.lb.run("ethtool", "-K", name, "tso", "off")
        env.server.run("ethtool", "-K", name, "gro", "on")
        env.server.run("unshare", "--mount", "sh", "-ec",
                       "mount -t sysfs none /sys; "
                       f"echo 1 > /sys/class/net/{name}/threaded")
        self.threads = [int(pid) for pid in os.listdir("/proc")
                        if pid.isdigit() and self._is_polling(pid, name)]
        check(self.threads, "no thread polls the device")
        for thread in self.threads:
            os.sched_setaffinity(thread, {CPU})

    @staticmethod
    def _is_polling(pid, name):
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                return file.read().startswith(f"napi/{name}-")
        except OSError:
            return False

    @contextlib.contextmanager
    def held_up(self):
        """What is sent meanwhile, by this thread, is one list."""
        cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {CPU})
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(40))
        try:
            yield
        finally:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            os.sched_setaffinity(0, cpus)
