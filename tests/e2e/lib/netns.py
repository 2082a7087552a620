# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One network namespace: entering it, sockets and commands in it.

A socket stays in the namespace it was made in, so a test holds sockets of
several namespaces at once. Names and links are topology.py's.
"""

import contextlib
import ctypes
import errno
import os
import socket
import subprocess

from .poll import wait_for

CLONE_NEWNET = 0x40000000
RUN_NETNS = "/run/netns"

_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd):
    # os.setns() comes with Python 3.12
    if _libc.setns(fd, CLONE_NEWNET) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _connected(sock, address):
    """False while the socket that had the port before waits for its last ACK."""
    try:
        sock.connect(address)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        return False
    return True


class Namespace:
    def __init__(self, name):
        self.name = name
        self.path = f"{RUN_NETNS}/{name}"

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is in the namespace within the `with` block."""
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _setns(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _setns(back)
        finally:
            os.close(back)

    def command(self, *argv):
        """The command line that runs argv in the namespace."""
        return ["nsenter", f"--net={self.path}", *argv]

    def run(self, *argv, timeout=30, check=True, **arguments):
        result = subprocess.run(
            self.command(*argv), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            timeout=timeout, check=False, **arguments)
        if check and result.returncode:
            raise AssertionError(
                f"{' '.join(argv)}: exit status {result.returncode}\n"
                f"{result.stdout}{result.stderr}")
        return result

    def sysctl(self, name, value):
        path = "/proc/sys/" + name.replace(".", "/")
        with self.entered(), open(path, "w", encoding="ascii") as file:
            file.write(str(value))

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM):
        with self.entered():
            return socket.socket(family, kind)

    def connect(self, address, source=None, timeout=5.0):
        """A connected TCP socket; `source` is an address or (address, port)."""
        sock = self.socket(family_of(address[0]))
        try:
            sock.settimeout(timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((source, 0) if isinstance(source, str) else source)
                wait_for(lambda: _connected(sock, address), "the port to be free", timeout)
            else:
                sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock

    def listen(self, address, backlog=1024, reuse_port=False):
        sock = self.socket(family_of(address[0]))
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
        return sock

    def pids(self):
        result = subprocess.run(["ip", "netns", "pids", self.name],
                                stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, text=True,
                                check=False)
        return [int(pid) for pid in result.stdout.split()]
