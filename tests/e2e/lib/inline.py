# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""delivery = inline: servers that own their port, and swear that no byte of a
header ever reached them."""

import os
import socket

from . import bpf, handshakes, realpeer
from .handler import Handler, echo
from .header import SIGNATURE
from .poll import equal, wait_for
from .requirement import Requirement
from .topology import SERVER, SERVER6

PAYLOAD = b"hello"
BTF = "/sys/kernel/btf/vmlinux"


def _has_kfunc():
    with open("/proc/kallsyms", encoding="ascii") as file:
        return any(line.split()[2] == "bpf_sk_assign_tcp_reqsk" for line in file)


INLINE = Requirement("bpf_sk_assign_tcp_reqsk (Linux 6.9)",
                     lambda: bpf.allowed() and os.path.exists(BTF) and _has_kfunc())


class Server(Handler):
    """An ordinary server. What it receives begins with `first`, or is wrong."""

    first = PAYLOAD

    @classmethod
    def start(cls, env, address=(SERVER, 1883), behaviour=echo, listening=None, first=PAYLOAD):
        server = cls(listening or env.server.listen(address), behaviour)
        server.first = first
        env.at_end(server.destroy)
        env.daemons.append(server)  # whose verify() is called after the test
        return server

    def verify(self):
        for accepted in self.accepted:
            data = accepted.data
            if not data.startswith(self.first[:len(data)]) or SIGNATURE in data[:4096] or (
                    b"PROXY " in data[:4096]):
                raise AssertionError(f"the server got {data[:200]!r}")


def daemon(env, listen=f"{SERVER}:1883, [{SERVER6}]:1883", name="echo", variables=None,
           **settings):
    """A daemon with one inline listener."""
    return env.realpeerd(realpeer.listener(name, listen=listen, delivery="inline", **settings),
                         variables=variables)


def map_size(running, name):
    if name == "handshakes":
        return handshakes.count(running)
    return len(bpf.bpftool("map", "dump", "pinned", running.map_path(name)))


def wait_map_empty(running, name, timeout=5.0):
    have = None

    def empty():
        nonlocal have
        have = ([{"formatted": "a handshake"}] * handshakes.count(running)
                if name == "handshakes"
                else bpf.bpftool("map", "dump", "pinned", running.map_path(name)))
        return not have

    def what():
        # a record stays as long as its socket: is that still there?
        sockets = running.namespace.run("ss", "-Htane", "state", "all", "exclude", "listening",
                                        "exclude", "time-wait").stdout.splitlines()
        return (f"the map {name} to be empty, it has {len(have)}: "
                f"{[entry.get('formatted') for entry in have[:2]]}; {len(sockets)} sockets: "
                + "; ".join(sockets[:5]))
    wait_for(empty, what, timeout)


def nothing_left(running):
    """Every connection is over: no map remembers one."""
    for name in ("connections", "silent", "pending", "outgoing", "announced", "handshakes"):
        wait_map_empty(running, name)


def holds_no_connection(running, port):
    """The daemon's descriptors contain no socket of an established connection."""
    inodes = {link[8:-1] for link in running.process.descriptors() if link.startswith("socket:[")}
    with running.namespace.entered():
        for name in ("tcp", "tcp6"):
            with open(f"/proc/thread-self/net/{name}", encoding="ascii") as file:
                for line in list(file)[1:]:
                    fields = line.split()
                    if fields[3] != "0A" and fields[9] in inodes:
                        raise AssertionError(f"the daemon holds {line.strip()}")
    equal([line for line in running.namespace.run("ss", "-Htnp", f"sport = {port}").stdout
           .splitlines() if f"pid={running.process.pid}," in line], [],
          "connections of the daemon according to ss")


def mptcp_socket(namespace):
    """IPPROTO_MPTCP; None where the kernel has none."""
    try:
        with namespace.entered():
            return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    except OSError:
        return None


def _ingress(running, namespace, interface):
    with namespace.entered():
        return running.map_path(f"links/ingress_{socket.if_nametoindex(interface)}")


def is_attached(running, namespace, interface):
    return os.path.exists(_ingress(running, namespace, interface))


def detach(running, namespace, interface):
    """As if the program were not there yet: only the pin holds its link."""
    os.unlink(_ingress(running, namespace, interface))


def program_runs(running, namespace, interface):
    """How often the interface's program ran while bpf.count_runs() counted."""
    link = bpf.bpftool("link", "show", "pinned", _ingress(running, namespace, interface))
    link = link[0] if isinstance(link, list) else link
    program = bpf.bpftool("prog", "show", "id", str(link["prog_id"]))
    return program.get("run_cnt", 0)
