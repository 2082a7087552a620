# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Pinned maps that a test fills up, with bpf(2): bpftool writes one entry for
each process that it is started as."""

import ctypes
import os
import struct

from . import bpf

BPF_OBJ_GET_INFO_BY_FD = 15
BPF_MAP_FREEZE = 22
BPF_MAP_UPDATE_BATCH = 26
BATCH = 16384


def _address(buffer):
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


class Map:
    """The keys that it is filled with begin with 0xfe, and so are nobody's: no
    cookie is as large, and no peer's address in fec0::/10."""

    def __init__(self, path):
        name = bytearray(path.encode() + b"\0")
        self.fd = bpf._bpf(bpf.BPF_OBJ_GET, struct.pack("QII", _address(name), 0, 0))
        info = bytearray(128)
        bpf._bpf(BPF_OBJ_GET_INFO_BY_FD, struct.pack("IIQ", self.fd, len(info), _address(info)))
        _, _, self.key_size, self.value_size, self.size = struct.unpack_from("5I", info)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        os.close(self.fd)

    def _write(self, first, count, values):
        tail = b"\xfe" * (self.key_size - 4)
        keys = bytearray(b"".join(tail + struct.pack(">I", number)
                                  for number in range(first, first + count)))
        bpf._bpf(BPF_MAP_UPDATE_BATCH, struct.pack(
            "QQQQIIQQ", 0, 0, _address(keys), _address(values), count, self.fd, 0, 0))

    def freeze(self):
        """Programs may still write it, but no system call."""
        bpf._bpf(BPF_MAP_FREEZE, struct.pack("I", self.fd))

    def fill(self):
        """As many entries as it has room for; an LRU map forgets others for them,
        those included that were used since they were written."""
        values = bytearray(BATCH * self.value_size)
        for first in range(0, self.size, BATCH):
            count = min(BATCH, self.size - first)
            self._write(first, count, values)

    def drive_out(self):
        """Everything that an LRU map had. What was used lately has one more turn,
        so these are written again and again, and used thereby as well."""
        values = bytearray(BATCH * self.value_size)
        for first in range(0, 4 * self.size, BATCH):
            self._write(first, BATCH, values)
            self._write(first, BATCH, values)
