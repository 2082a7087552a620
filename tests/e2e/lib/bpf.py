# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The few bpf(2) calls and bpftool commands that tests need themselves."""

import ctypes
import json
import os
import platform
import re
import struct
import subprocess

SYS_BPF = {"x86_64": 321, "aarch64": 280}
BPF_MAP_CREATE = 0
BPF_OBJ_GET = 7
BPF_LINK_CREATE = 28
BPF_ENABLE_STATS = 32
BPF_STATS_RUN_TIME = 0
BPF_MAP_TYPE_ARRAY = 2

# enum bpf_attach_type
CGROUP_SOCK_OPS = 3
CGROUP_INET4_GETPEERNAME = 29
CGROUP_INET6_GETPEERNAME = 30
TCX_INGRESS = 46

BPFFS_ROOT = "/sys/fs/bpf"

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, 128)
    result = _libc.syscall(SYS_BPF[platform.machine()], command, buffer, 128)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def allowed():
    """May this process create a map, and is bpffs mounted?"""
    try:
        os.close(_bpf(BPF_MAP_CREATE,
                      struct.pack("IIII", BPF_MAP_TYPE_ARRAY, 4, 4, 1)))
    except (OSError, KeyError):
        return False
    return mounted("bpf") is not None


def kernel_release():
    return tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2])


def mounted(kind):
    """Where a file system of this kind is mounted, or None."""
    with open("/proc/self/mounts", encoding="ascii") as file:
        for line in file:
            _, where, what = line.split()[:3]
            if what == kind:
                return where
    return None


def mount_missing(directory):
    """Mounts bpffs and cgroup2 where a bare container has none.

    Returns what was mounted, for the end.
    """
    done = []
    for kind, where in (("bpf", BPFFS_ROOT), ("cgroup2", directory)):
        if mounted(kind) is None and subprocess.run(
                ["mount", "-t", kind, kind, where], check=False).returncode == 0:
            done.append(where)
    return done


def attach(path, target, attach_type):
    """Links a pinned program to a cgroup's fd or an interface's index.

    Returns the link's fd: what it attached goes when that is closed.
    """
    name = ctypes.create_string_buffer(path.encode())
    program = _bpf(BPF_OBJ_GET, struct.pack("QII", ctypes.addressof(name), 0, 0))
    try:
        return _bpf(BPF_LINK_CREATE, struct.pack("IIII", program, target, attach_type, 0))
    finally:
        os.close(program)


def bpftool(*argv):
    """Runs bpftool; returns what it prints as JSON, None if nothing."""
    result = subprocess.run(["bpftool", "-j", *argv], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, timeout=60, check=False)
    if result.returncode:
        raise AssertionError(f"bpftool {' '.join(argv)}: {result.stdout}{result.stderr}")
    return json.loads(result.stdout) if result.stdout.strip() else None


def _went_meanwhile(entry):
    """Was it deleted after bpftool had read its key?"""
    value = entry["value"]
    return isinstance(value, dict) and "error" in value


def map_values(path):
    """The values of a pinned map, with the names that BTF gives."""
    return [entry["formatted"]["value"]
            for entry in bpftool("map", "dump", "pinned", path)
            if not _went_meanwhile(entry)]


def count_runs():
    """Programs' runs are counted until the returned fd is closed."""
    return _bpf(BPF_ENABLE_STATS, struct.pack("I", BPF_STATS_RUN_TIME))
