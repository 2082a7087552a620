# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the machine and its processes use: CPU in ns as the scheduler counts
it, which has the softirqs that ran on behalf of a process, and memory."""

import glob
import os
import time

from lib import bpf

TICK = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

# Slabs of sockets, descriptors, epoll, and of BPF maps (kmalloc). Others, and
# dentries, change with whatever else the machine does.
SLABS = ("TCP", "request_sock", "sock_inode_cache", "filp", "eventpoll", "ep_head",
         "lsm_inode_cache", "lsm_file_cache", "kmalloc-", "skbuff")


def _lines(path):
    with open(path, encoding="ascii") as file:
        return file.read().splitlines()


def cpu_of(pid):
    """CPU seconds of all threads of a process."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        total += int(_lines(path)[0].split()[0])
    return total / 1e9


def wakeups_of(pid):
    """How often its threads went to sleep, so how often they were woken."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        for line in _lines(path):
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total


def _ksoftirqd():
    """Pids of the threads that do the softirqs nobody else does."""
    found = []
    for path in glob.glob("/proc/[0-9]*/comm"):
        try:
            if _lines(path)[0].startswith("ksoftirqd/"):
                found.append(path.split("/")[2])
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


KSOFTIRQD = _ksoftirqd()


SETTLED = 0.03  # seconds without work
SETTLE_MAX = 10.0


class Meter:
    """CPU between `with` and its end: of the system measured, of the
    backends, of softirq threads; and of the whole machine, whoever it was. What was to be
    done before is done before, and what load leaves to be done is counted."""

    def __init__(self, place):
        self.place = place

    def _settle(self):
        pids = [p.pid for p in (self.place.proxy, *self.place.backends) if p]
        deadline = time.monotonic() + SETTLE_MAX
        last = None
        while time.monotonic() < deadline:
            now = sum(cpu_of(pid) for pid in pids)
            # a daemon's watchdog and timers are not work
            if last is not None and now - last < SETTLED / 100:
                return
            last = now
            time.sleep(SETTLED)

    def _read(self):
        self._settle()
        proxy = self.place.proxy
        backends = [backend.pid for backend in self.place.backends]
        self.now = time.monotonic()
        self.machine_now = _machine()
        return [cpu_of(proxy.pid) if proxy else 0.0, sum(map(cpu_of, backends)),
                sum(cpu_of(pid) for pid in KSOFTIRQD),
                wakeups_of(proxy.pid) if proxy else 0, sum(map(wakeups_of, backends))]

    def __enter__(self):
        self._before = self._read()
        self._started = self.now
        self._machine = self.machine_now
        return self

    def __exit__(self, *_):
        after = self._read()
        (self.proxy, self.backend, self.softirq, self.proxy_wakeups,
         self.backend_wakeups) = (b - a for a, b in zip(self._before, after))
        self.seconds = self.now - self._started
        self.busy, self.steal = (
            b - a for a, b in zip(self._machine, self.machine_now))

    def total(self, load):
        """CPU seconds of all who took part; `load` is what load said."""
        return self.proxy + self.backend + self.softirq + load["cpu_seconds"]


def map_memory(directory):
    """Bytes of the maps that are pinned there; those without preallocation count
    what they hold."""
    if not os.path.isdir(directory):
        return 0
    paths = (os.path.join(directory, name) for name in os.listdir(directory))
    return sum(bpf.bpftool("map", "show", "pinned", path)["bytes_memlock"]
               for path in paths if not os.path.isdir(path))


def _machine():
    """Busy and stolen CPU seconds of the machine."""
    fields = [int(field) * TICK for field in _lines("/proc/stat")[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return user + nice + system + irq + softirq, steal


def user_memory(pid):
    """Bytes of its own that a process has in memory."""
    for line in _lines(f"/proc/{pid}/status"):
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no RssAnon of {pid}")


def kernel_memory():
    """Bytes that the kernel has for connections, wherever they belong to."""
    total = 0
    for line in _lines("/proc/slabinfo")[2:]:
        fields = line.split()
        if fields[0].startswith(SLABS):
            total += int(fields[1]) * int(fields[3])
    for line in _lines("/proc/net/sockstat"):
        if line.startswith("TCP:"):
            total += int(line.split()[-1]) * PAGE
    return total
