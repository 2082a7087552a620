# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The rounds: A B C A B C ..., so that whatever else the machine does meets
all alike. Keeps every value; what is made of them is report.py's."""

import os
import platform
import time

from . import tasks
from .chart import HELD_CHART
from .distance import Distance
from .paths import Loopback
from .place import Place
from .systems import Realpeer
from .usage import Meter

HELD = (1, 1000, 10000, 50000)
MANY = (1, 10, 100, 1000)
GROWTH_SYSTEMS = ("direct", "inline", "relay-peek", "haproxy")
GROWTH_ROUNDS = 5
GROWTH_CONNECTIONS = 5000


class Bench:
    """`plan`: [(path, systems to measure over it)]; `patience`: how many seconds
    to wait in all for a better moment."""

    def __init__(self, cores, build, plan, patience):
        self.cores = cores
        self.build = build
        self.plan = plan
        self.values = {path.name: {system.name: {} for system in systems}
                       for path, systems in plan}
        self.texts = {}  # on the paths
        # as many at each point, so that only what is held differs
        self.growth_backends = tasks.processes_for(max(HELD))
        self.growth = {}
        self.failures = []
        self.noise = []
        self.distance = Distance(cores, build, patience)
        self.rounds = 0

    def _say(self, text):
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def _at(self, path, system, task, backends=1):
        """What task(place) returns, or None if the system failed at it."""
        try:
            with Place(self.cores, self.build, path, backends) as place:
                self.texts[path.name] = place.path.text
                place.proxy = system.start(place)
                return task(place)
        except AssertionError as error:
            failure = f"{system.name} over {path.name}: {error}"
            self._say(f"FAILED: {failure}")
            self.failures.append(failure)
            return None

    def _quiet_second(self):
        """How busy the machine is when we do nothing."""
        with Place(self.cores, self.build, Loopback) as place:
            with Meter(place) as meter:
                time.sleep(1)
        self.noise.append({"busy": meter.busy / meter.seconds / os.cpu_count(),
                           "steal": meter.steal / meter.seconds / os.cpu_count()})

    def measure(self, rounds, sizes):
        for number in range(rounds):
            self._quiet_second()
            for path, systems in self.plan:
                for system in systems:
                    self._say(f"round {number + 1} of {rounds}: {system.name} over {path.name}")
                    found = self._at(path, system, lambda place, system=system: tasks.all_of(
                        place, system, sizes, self.distance)) or {}
                    for key, value in found.items():
                        # by round, so that ratios are of neighbours
                        self.values[path.name][system.name].setdefault(key, {})[number] = value
        self.rounds = rounds

    def _grow(self, chart, system, point, held):
        self._say(f"growth, {chart}: {system.name} at {point:,}")
        path, _ = self.plan[0]
        found = self._at(path, system, lambda place: tasks.growth(
            place, system, held, GROWTH_CONNECTIONS, self.distance), self.growth_backends)
        if found:
            line = self.growth.setdefault(chart, {}).setdefault(system.name, {})
            line.setdefault(point, []).append(found)

    @staticmethod
    def _first_above(held):
        """Where the limit of descriptors is in the way, it is met once."""
        return min((count for count in HELD if count > held), default=0)

    def measure_growth(self):
        chosen = [system for system in self.plan[0][1] if system.name in GROWTH_SYSTEMS]
        for _ in range(GROWTH_ROUNDS):
            for count in HELD:
                for system in chosen:
                    held = tasks.most_held(system, count, self.growth_backends)
                    if held == count or count == self._first_above(held):
                        self._grow(HELD_CHART, system, held, held)
            for count in MANY:
                for system in chosen:
                    if isinstance(system, Realpeer):
                        self._grow("listeners", system.grown(listeners=count), count, 1)
                        self._grow("trusted prefixes", system.grown(prefixes=count), count, 1)

    def result(self):
        return {"values": self.values, "paths": self.texts, "growth": self.growth,
                "failures": self.failures, "noise": self.noise,
                "distance": self.distance.result(), "rounds": self.rounds,
                "kernel": platform.release(), "cpus": os.cpu_count(), "cpu": _cpu_name(),
                "cores": vars(self.cores), "descriptors": tasks.descriptor_limit(),
                "when": time.strftime("%Y-%m-%d %H:%M")}


def _cpu_name():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()
