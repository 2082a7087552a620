# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What an idle relayed connection costs the daemon: at most 512 bytes, and no
pipe. 10,000 of them, in two daemons because of the limit on descriptors."""

import os
import resource

from lib import crowd
from lib.environment import Environment
from lib.poll import check, equal
from lib.requirement import BPF, NO_SANITIZER, Skip, needs
from lib.topology import SERVER

TOTAL = int(os.environ.get("REALPEER_E2E_IDLE", "10000"))
MOST = 512  # bytes of a connection


def raise_limit(wanted):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < wanted:
        raise Skip(f"RLIMIT_NOFILE is {hard}, {wanted} needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def memory(daemon):
    """Bytes of the daemon's own pages; file-backed ones are shared."""
    return daemon.process.status("RssAnon") * 1024


def fill(env, count):
    """One daemon with `count` idle connections; returns bytes for each."""
    daemon = env.relay()
    servers = crowd.start_servers(env, ("127.0.0.1", 9000), 2)
    warm = crowd.hold(env, (SERVER, 1883), 64, 2, name="warm")
    for worker in warm:
        worker.stop()
    daemon.wait_connections(0)
    before, descriptors = memory(daemon), len(daemon.process.descriptors())
    crowd.hold(env, (SERVER, 1883), count, 2)
    equal(daemon.status_of("echo")["active"], count, "active connections")
    each = (memory(daemon) - before) / count
    opened = daemon.process.descriptors()
    print(f"{count} connections: {each:.0f} bytes each")
    equal([name for name in opened if name.startswith("pipe:")], [], "pipes")
    check(len(opened) <= descriptors + 2 * count, f"{len(opened)} descriptors")
    equal(len(daemon.connections()), count, "entries of realpeerctl connections")
    return daemon, servers, each


@needs(BPF, NO_SANITIZER)
def test_idle(env):
    share = TOTAL // 2
    raise_limit(2 * share + 200)
    os.mkdir(env.path("b"))
    with Environment(f"{env.prefix}-b", env.path("b")) as second:
        halves = [fill(one, share) for one in (env, second)]
        for _, _, each in halves:
            check(each <= MOST, f"{each:.0f} bytes for an idle connection")
        for daemon, servers, _ in halves:
            for process in daemon.env.processes.all:
                if process.name.startswith("crowd-hold"):
                    process.stop()
            equal(crowd.stop_servers(servers), share + 64, "right clients")
            daemon.wait_connections(0, 20)


test_idle.limit = 120
