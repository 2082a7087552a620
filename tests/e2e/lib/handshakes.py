# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The table of handshakes, two arrays that bpftool would print with all their
empty places. See struct rp_handshake and struct rp_bucket in abi.h."""

import mmap
import struct
import time

from . import maps

WAYS = 8
SINCE = 56  # offsets in struct rp_handshake
STAGE = 68


class Handshakes:
    def __init__(self, running):
        self._tags = self._map(running.map_path("handshake_tags"))
        self._entries = self._map(running.map_path("handshakes"))

    @staticmethod
    def _map(path):
        with maps.Map(path) as one:
            size = one.size * one.value_size
            pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
            return mmap.mmap(one.fd, pages), size, one.value_size

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._tags[0].close()
        self._entries[0].close()

    def _used(self):
        memory, size, _ = self._tags
        tags = struct.unpack(f"={size // 4}I", memory[:size])
        return [place for place, tag in enumerate(tags) if tag]

    def count(self):
        return len(self._used())

    def stages(self):
        """enum rp_stage of each entry."""
        memory, _, each = self._entries
        return [memory[place * each + STAGE] for place in self._used()]

    def since(self):
        """CLOCK_BOOTTIME ns of each entry: the least goes first."""
        memory, _, each = self._entries
        return [struct.unpack_from("=Q", memory, place * each + SINCE)[0]
                for place in self._used()]

    def drive_out(self):
        """What is there is forgotten, and every place is taken: by nobody, and for
        longer than by whoever comes; but not so long that the daemon frees it."""
        since = struct.pack("=Q", time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        memory, size, each = self._entries
        for place in range(size // each):
            memory[place * each + SINCE:place * each + SINCE + 8] = since
        memory, size, _ = self._tags
        memory[:size] = struct.pack("=I", 0xfefefeff) * (size // 4)


def count(running):
    with Handshakes(running) as table:
        return table.count()
