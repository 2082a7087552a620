# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the fault tests do to a running daemon, and what they measure of it."""

import contextlib
import glob
import os
import resource
import signal
import time

from .poll import check, wait_for, wait_unchanged

BUSY = 0.2  # of a CPU: far above what an idle daemon takes, far below a loop


def cpu_seconds(process):
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def states(process):
    """A letter for each thread, as ps tells it: "S" sleeps, "T" is stopped."""
    found = set()
    for path in glob.glob(f"/proc/{process.pid}/task/*/stat"):
        with open(path, encoding="ascii") as file:
            found.add(file.read().rsplit(")", 1)[1].split()[0])
    return found


@contextlib.contextmanager
def paused(daemon):
    """What happens within it the daemon sees only afterwards, and all at once."""
    daemon.process.kill(signal.SIGSTOP)
    wait_for(lambda: states(daemon.process) == {"T"}, "the daemon to stand still")
    try:
        yield
    finally:
        daemon.process.kill(signal.SIGCONT)


def sleeps(process, seconds=1.0):
    """It waits for something rather than to ask for it again and again."""
    before = cpu_seconds(process)
    time.sleep(seconds)
    used = (cpu_seconds(process) - before) / seconds
    check(used < BUSY, f"{process.name} takes {used:.0%} of a CPU")


def leave_descriptors(process, count):
    """It may open `count` more, and no others. Returns how to undo it."""
    directory = f"/proc/{process.pid}/fd"
    # but for those that it has for a moment only, to read a sysctl
    numbers = wait_unchanged(lambda: sorted(map(int, os.listdir(directory))), "descriptors", 0.05)
    highest = numbers[-1]
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    free = highest + 1 - len(numbers)
    check(free <= count, f"{free} numbers are free below the highest one")
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (highest + 1 + count - free, before[1]))
    return lambda: resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)


def leave_memory(process, size):
    """Its own memory may grow by `size` bytes. Returns how to undo it."""
    before = resource.prlimit(process.pid, resource.RLIMIT_DATA)
    resource.prlimit(process.pid, resource.RLIMIT_DATA,
                     (process.status("VmData") * 1024 + size, before[1]))
    return lambda: resource.prlimit(process.pid, resource.RLIMIT_DATA, before)


def in_mounts(*commands):
    """A prefix: the program sees mounts of its own, on which `commands` ran.

    Nothing of it is seen elsewhere. But what is said of a file system and not
    of a mount is: a remount needs the option `bind`.
    """
    return ["unshare", "--mount", "sh", "-c", " && ".join((*commands, 'exec "$@"')), "sh"]
