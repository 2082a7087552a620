# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Pinned maps that a test reads or fills up, with bpf(2): bpftool writes one
entry for each process that it is started as."""

import ctypes
import os
import struct

from . import bpf

BPF_MAP_LOOKUP_ELEM = 1
BPF_OBJ_GET_INFO_BY_FD = 15
BPF_MAP_FREEZE = 22
BPF_MAP_UPDATE_BATCH = 26
BPF_MAP_DELETE_BATCH = 27
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

    def _batch(self, command, keys, values):
        bpf._bpf(command, struct.pack(
            "QQQQIIQQ", 0, 0, _address(keys), _address(values) if values else 0,
            len(keys) // self.key_size, self.fd, 0, 0))

    def _keys(self, first, count):
        tail = b"\xfe" * (self.key_size - 4)
        return bytearray(b"".join(tail + struct.pack(">I", number)
                                  for number in range(first, first + count)))

    def _write(self, first, count, values):
        self._batch(BPF_MAP_UPDATE_BATCH, self._keys(first, count), values)

    def get(self, key):
        key, value = bytearray(key), bytearray(self.value_size)
        bpf._bpf(BPF_MAP_LOOKUP_ELEM, struct.pack(
            "IIQQQ", self.fd, 0, _address(key), _address(value), 0))
        return bytes(value)

    def put(self, key, value):
        self._batch(BPF_MAP_UPDATE_BATCH, bytearray(key), bytearray(value))

    def freeze(self):
        """Programs may still write it, but no system call."""
        bpf._bpf(BPF_MAP_FREEZE, struct.pack("I", self.fd))

    def remove(self, key):
        self._batch(BPF_MAP_DELETE_BATCH, bytearray(key), None)

    def clear(self, but=0):
        """Takes out what fill() put in."""
        for first in range(0, self.size - but, BATCH):
            count = min(BATCH, self.size - but - first)
            self._batch(BPF_MAP_DELETE_BATCH, self._keys(first, count), None)

    def fill(self, byte=b"\0", but=0):
        """As many entries as it has room for, `but` so many, of such bytes; an LRU
        map forgets others for them, those included that were used since they
        were written."""
        values = bytearray(byte * (BATCH * self.value_size))
        for first in range(0, self.size - but, BATCH):
            count = min(BATCH, self.size - but - first)
            self._write(first, count, values)

    def exchange(self, first, count):
        """Entries of zeros; those that the last call, with `first - count`, put in
        go at the same rate."""
        for number in range(first, first + count, 1000):
            self._write(number, 1000, bytearray(1000 * self.value_size))
            if first:
                self._batch(BPF_MAP_DELETE_BATCH, self._keys(number - count, 1000), None)

    def drive_out(self):
        """Everything that an LRU map had. What was used lately has one more turn,
        so these are written again and again, and used thereby as well."""
        values = bytearray(BATCH * self.value_size)
        for first in range(0, 4 * self.size, BATCH):
            self._write(first, BATCH, values)
            self._write(first, BATCH, values)
