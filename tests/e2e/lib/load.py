# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The load generator and its server, tests/bench: many connections, each of
which is asked whom the server sees."""

import json
import os

from .poll import equal, wait_for


def _target(address):
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


class Backend:
    """A server that answers with the peer it sees, and counts headers."""

    def __init__(self, env, namespace, address, name="backend"):
        self.process = env.start(name, namespace.command(
            env.binary("tests/bench/backend"), _target(address)))
        wait_for(lambda: f":{address[1]} " in namespace.run("ss", "-Hltn").stdout,
                 f"{name} to listen")
        env.daemons.append(self)  # whose verify() is called after the test

    def verify(self):
        """No first line of a connection was a header, or any other rubbish."""
        if self.process.expected_to_end:
            return
        self.process.stop()
        said = json.loads(self.process.log().splitlines()[-1])
        equal((said["headers"], said["unexpected"]), (0, 0), "headers at the server")


class Load:
    """Connections in the background."""

    number = 0

    def __init__(self, env, namespace, mode, address, *options, stdin="/dev/null"):
        Load.number += 1
        self.process = env.start(f"load{Load.number}", namespace.command(
            "sh", "-c", 'exec "$@" <"$0"', stdin,
            env.binary("tests/bench/load"), mode, *map(str, options), _target(address)))

    def alive(self):
        return self.process.alive()

    def result(self, timeout=60):
        self.process.wait(timeout)
        return json.loads(self.process.log().splitlines()[-1])

    def good(self, count, timeout=60):
        """All of them, and all of them right."""
        said = self.result(timeout)
        equal({key: said[key] for key in ("connections", "failed", "wrong_peer")},
              {"connections": count, "failed": 0, "wrong_peer": 0}, f"the load: {said}")
        return said


class Held(Load):
    """Connections that stay open, each asked at the end whether it works."""

    def __init__(self, env, namespace, address, count, *options):
        path = env.path(f"held{Load.number}")
        os.mkfifo(path)
        super().__init__(env, namespace, "idle", address, "-c", count, *options,
                         stdin=path)
        self._open = os.open(path, os.O_WRONLY)
        self.process.wait_log(r'^{"ready":', 30)

    def result(self, timeout=60):
        """What was said at the end: which begins now."""
        if self._open >= 0:
            os.close(self._open)
        self._open = -1
        return super().result(timeout)
