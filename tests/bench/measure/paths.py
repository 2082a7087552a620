# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The ways from the load to the server: namespaces, links and addresses of
each. New for each measurement, and nothing leaves the machine."""

import ctypes
import fcntl
import os
import struct
import subprocess

from lib import bpf
from lib.netns import Namespace
from lib.topology import sweep_namespaces

_SIOCETHTOOL = 0x8946
_OFFLOADS = {  # ETHTOOL_G... of linux/ethtool.h
    "checksums sent": 0x16, "checksums received": 0x14, "TSO": 0x1e, "GSO": 0x23, "GRO": 0x2b}


class Loopback:
    """One namespace. Each packet, of either direction, meets the hooks of the
    server's host, and so does each event of the load's own sockets."""

    name = "loopback"
    interface = "lo"
    server_address = "127.0.0.1"
    trusted = "127.0.0.0/24"
    untrusted = "127.0.9.0/24"
    text = "Load, proxy and server share a network namespace, and a packet of either " \
           "direction arrives on its loopback interface."

    def __init__(self, prefix):
        self.server = self.load = Namespace(prefix)

    @staticmethod
    def missing():
        """Why it can't be used here, or None."""
        return None

    @staticmethod
    def held_source(number):
        """For connections that are held: a trusted address, so 64,000 ports."""
        return f"127.0.0.{2 + number}"

    @staticmethod
    def cgroup():
        """Where the hooks of the server's sockets are."""
        return bpf.mounted("cgroup2")

    def create(self):
        _create(self.server)

    def destroy(self):
        sweep_namespaces([self.server.name])

    def server_command(self, argv):
        """The command line that runs argv on the server's host."""
        return self.server.command(*argv)


class Veth:
    """
      ┌────────────────────┐   ┌─────────────────────────┐
      │ load               │   │ server and what is      │
      │ 10.77.0.128/25     │   │ measured, in a cgroup   │
      │ 10.77.9.0/24       │   │ of their own            │
      │    bench 10.77.0.2 ├───┤ bench 10.77.0.1         │
      └────────────────────┘   └─────────────────────────┘

    As with two hosts: only what arrives meets the hooks of the server's, and
    realpeerd attaches to a cgroup in which the load has no socket."""

    name = "veth"
    interface = "bench"
    server_address = "10.77.0.1"
    trusted = "10.77.0.0/24"
    untrusted = "10.77.9.0/24"

    def __init__(self, prefix):
        self.server = Namespace(f"{prefix}-server")
        self.load = Namespace(f"{prefix}-load")
        self._mount = bpf.mounted("cgroup2")
        self._cgroup = os.path.join(self._mount, prefix)

    @staticmethod
    def missing():
        mount = bpf.mounted("cgroup2")
        return None if mount and os.access(mount, os.W_OK) else "no cgroup2 to make cgroups in"

    @staticmethod
    def held_source(number):
        return f"10.77.0.{128 + number}"

    def cgroup(self):
        return self._cgroup

    def create(self):
        _create(self.server)
        _create(self.load)
        _ip(None, f"link add bench netns {self.server.name} type veth "
                  f"peer name bench netns {self.load.name}")
        _ip(self.server, "address add 10.77.0.1/30 dev bench", "link set bench up",
            "route add 10.77.0.0/16 via 10.77.0.2")
        _ip(self.load, "address add 10.77.0.2/30 dev bench", "link set bench up",
            "route add local 10.77.0.128/25 dev lo", f"route add local {self.untrusted} dev lo")
        os.mkdir(self._cgroup)

    def destroy(self):
        sweep_namespaces([self.server.name, self.load.name])
        if os.path.isdir(self._cgroup):
            os.rmdir(self._cgroup)

    def server_command(self, argv):
        # its cgroup is the root of the hierarchy it sees
        return self.server.command(
            "unshare", "--mount", "sh", "-c",
            f'echo $$ >{self._cgroup}/cgroup.procs && '
            f'mount --bind {self._cgroup} {self._mount} && exec "$@"', "sh", *argv)

    @property
    def text(self):
        """Asks the interface, so it must be there."""
        offloads = ", ".join(f"{name} {'on' if self._offload(number) else 'off'}"
                             for name, number in _OFFLOADS.items())
        return ("The load is in a network namespace of its own, joined to that of proxy and "
                f"server by a veth pair with its default offloads ({offloads}), and its "
                "sockets are outside the cgroup to which realpeerd attaches, as those of a "
                "load balancer on another host are.")

    def _offload(self, number):
        value = ctypes.create_string_buffer(struct.pack("II", number, 0))
        request = struct.pack("16sP", b"bench", ctypes.addressof(value))
        with self.server.socket() as sock:
            fcntl.ioctl(sock, _SIOCETHTOOL, request)
        return struct.unpack("II", value.raw[:8])[1]


def _ip(namespace, *commands):
    where = ["-netns", namespace.name] if namespace else []
    subprocess.run(["ip", *where, "-batch", "-"], input="\n".join(commands) + "\n", text=True,
                   check=True, timeout=30)


def _create(namespace):
    _ip(None, f"netns add {namespace.name}")
    _ip(namespace, "link set lo up")


PATHS = (Loopback, Veth)
