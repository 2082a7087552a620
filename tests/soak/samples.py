# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a daemon and its part of the kernel take up, and whether it grows."""

import os
import statistics

from lib import bpf, inline

# Entries of these come and go with connections.
MAPS = ("connections", "tlvs", "handshakes", "pending", "outgoing", "announced", "awaiting",
        "orphans")

# How much more the last third may be than the second: a share, and a constant
# that no leak of a byte or entry for each of some thousand connections hides in.
TOLERANCE = {
    "memory": (0.02, 192),      # KiB of the daemon
    "map_memory": (0.02, 64),   # KiB of all maps
    "descriptors": (0, 8),      # pipes that are kept for the next one
    "threads": (0, 0),
    **{name: (0, 4) for name in MAPS},
}


class Samples:
    def __init__(self, daemon):
        self.daemon = daemon
        self.all = []

    def _map_memory(self):
        total = 0
        for name in os.listdir(self.daemon.bpffs):
            if name != "links":
                shown = bpf.bpftool("map", "show", "pinned", self.daemon.map_path(name))
                total += int(shown["bytes_memlock"])
        return total // 1024

    def take(self, seconds, connections):
        process = self.daemon.process
        sample = {
            "seconds": round(seconds),
            "served": connections,
            "memory": process.status("RssAnon"),
            "map_memory": self._map_memory(),
            "descriptors": len(process.descriptors()),
            "threads": process.status("Threads"),
        }
        for name in MAPS:
            sample[name] = inline.map_size(self.daemon, name)
        self.all.append(sample)

    def print_table(self, rows):
        names = list(self.all[0])
        step = max(1, -(-len(self.all) // rows))
        print(" ".join(f"{name:>11}" for name in names))
        for sample in self.all[::-1][::step][::-1]:
            print(" ".join(f"{sample[name]:>11}" for name in names))

    def judge(self):
        """What grew, for each thing that is measured: [] if it did not."""
        third = len(self.all) // 3
        found = {}
        for name, (share, constant) in TOLERANCE.items():
            before, after = (statistics.median(sample[name] for sample in part) for part in (
                self.all[third:2 * third], self.all[-third:]))
            most = before * (1 + share) + constant
            found[name] = [] if after <= most else [
                f"{name} grew from {before:g} to {after:g}: more than {most:g}"]
        return found
