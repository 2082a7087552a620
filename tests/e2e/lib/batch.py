# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Packets that a device hands over in one list, as a busy NIC does."""

import contextlib
import os

from .poll import check

class Device:
    """The server's end of a veth pair, polled by a kernel thread that gets its CPU
    when the test lets go of it."""

    def __init__(self, env, name="back"):
        # What its peer could have left whole it does not poll.
        env.lb.run("ethtool", "-K", name, "tso", "off")
        env.server.run("ethtool", "-K", name, "gro", "on")
        before = self._threads(name)
        env.server.run("unshare", "--mount", "sh", "-ec",
                       "mount -t sysfs none /sys; "
                       f"echo 1 > /sys/class/net/{name}/threaded")
        threads = self._threads(name) - before
        check(threads, "no thread polls the device")
        self.cpu = min(os.sched_getaffinity(0))
        for thread in threads:
            os.sched_setaffinity(thread, {self.cpu})

    @staticmethod
    def _threads(name):
        found = set()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), \
                    open(f"/proc/{pid}/comm", encoding="ascii") as file:
                if file.read().startswith(f"napi/{name}-"):
                    found.add(int(pid))
        return found

    @contextlib.contextmanager
    def held_up(self):
        """What is sent meanwhile, by this thread, is one list."""
        cpus = os.sched_getaffinity(0)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(40))
        try:
            os.sched_setaffinity(0, {self.cpu})
            yield
        finally:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            os.sched_setaffinity(0, cpus)
