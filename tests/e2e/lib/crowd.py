# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Many connections at once or one after the other, in processes of their own;
see crowd_worker.py."""

import os
import re
import sys

from .poll import equal, wait_for

WORKER = os.path.join(os.path.dirname(__file__), "crowd_worker.py")


def _start(env, namespace, name, *arguments):
    return env.start(name, namespace.command(
        sys.executable, "-B", WORKER, *map(str, arguments)))


def start_servers(env, address, count, name="crowd-server", namespace=None):
    """`count` handlers that share one address."""
    servers = [_start(env, namespace or env.server, f"{name}{number}", "serve", *address)
               for number in range(count)]
    for server in servers:
        server.wait_log("^ready")
    return servers


def stop_servers(servers):
    """How many connections came from the right client."""
    total = 0
    for server in servers:
        equal(server.stop(), 0, f"exit status of {server.name}")
        total += int(re.search(r"^right (\d+)$", server.log(), re.M).group(1))
    return total


def churn(env, address, total, workers, timeout=150):
    """`total` connections, opened and closed one after the other."""
    share = total // workers
    counts = [share] * (workers - 1) + [total - share * (workers - 1)]
    running = [_start(env, env.lb, f"crowd-churn{number}", "churn", *address, count, number)
               for number, count in enumerate(counts)]

    def ended():
        for worker in running:
            if not worker.alive():
                equal(worker.wait(), 0, f"exit status of {worker.name}")
        return not any(worker.alive() for worker in running)
    wait_for(ended, f"{total} connections to be over", timeout)


def hold(env, address, total, workers, timeout=60, namespace=None, name="crowd-hold"):
    """Opens `total` connections that stay open; returns their processes."""
    share = total // workers
    running = [_start(env, namespace or env.lb, f"{name}{number}", "hold", *address, share, number)
               for number in range(workers)]
    for worker in running:
        worker.wait_log(f"^ready {share}$", timeout)
    return running
