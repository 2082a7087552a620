# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Where a guest's CPUs are beside each other decides what a proxy costs that has
its peers on the other: a cache line may take four times as long from one chip, or
cluster of cores, to the next. Compares what was measured at the same distance."""

import json
import os
import statistics
import subprocess
import time

NEAR = 2.5       # times the least distance that was seen
TRIES = 3        # of one measurement, if the cores do not stay where they are
PATIENCE = 15.0  # seconds to wait for them to be near
INTERVAL = 0.1
FIRST_LOOKS = 20


class Distance:
    """Waits for `patience` seconds in all."""

    def __init__(self, cores, build, patience):
        self._argv = [os.path.join(build, "tests", "bench", "distance"),
                      str(cores.load), str(cores.proxy)]
        self._seen = []
        self._left = patience
        self._taken = self._far = 0
        for _ in range(FIRST_LOOKS):
            self._look()
            time.sleep(INTERVAL)

    def _look(self):
        """ns that a cache line takes from core to core and back."""
        done = subprocess.run(self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              check=True, timeout=60)
        self._seen.append(json.loads(done.stdout)["round_trip_ns"])
        return self._seen[-1]

    def _is_near(self):
        return self._look() <= NEAR * min(self._seen)

    def _wait(self):
        started = time.monotonic()
        deadline = started + min(PATIENCE, self._left)
        while not self._is_near() and time.monotonic() < deadline:
            time.sleep(INTERVAL)
        self._left -= time.monotonic() - started

    def measured(self, task):
        """What task() returns while the cores are near, if that can be had."""
        self._taken += 1
        for _ in range(TRIES):
            self._wait()
            found = task()
            if self._is_near():
                return found
            if self._left <= 0:
                break
        self._far += 1
        return found

    def result(self):
        return {"least": min(self._seen), "median": statistics.median(self._seen),
                "most": max(self._seen), "taken": self._taken, "far": self._far}
