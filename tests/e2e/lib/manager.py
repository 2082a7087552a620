# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What systemd is to the daemon: it is told when the daemon is ready, keeps
descriptors for it (the file descriptor store), and passes them to the next."""

import array
import contextlib
import os
import signal
import socket
import sys
import threading

from .poll import equal, wait_for

FDSTORE_MAX = 4096

# Descriptors 3 and up are what sd_listen_fds(3) looks for.
LAUNCHER = """
import fcntl, os, sys
n = int(sys.argv[1])
fds = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 3 + n) for fd in sys.argv[2:2 + n]]
for number, fd in enumerate(fds):
    os.dup2(fd, 3 + number)
for fd in map(int, sys.argv[2:2 + n]):
    if fd >= 3 + n:
        os.close(fd)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2 + n], sys.argv[2 + n:])
"""


class Manager:
    """Runs one daemon, again and again. `places`: of the store; 0: there is none."""

    def __init__(self, daemon, places=FDSTORE_MAX):
        self.daemon = daemon
        self.places = places
        self.told = places  # to the daemon
        self.received = []
        self._store = []  # (name, descriptor)
        self._lock = threading.Lock()
        self._path = daemon.env.path(f"{daemon.name}.manager")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._path)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        daemon.env.at_end(self.destroy)

    def _listen(self):
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(4 * 253))
            except OSError:
                return
            if not data:
                return
            fds = array.array("i")
            for _, _, payload in ancillary:
                fds.frombytes(payload)
            with self._lock:
                self._obey(data.decode().split("\n"), list(fds))

    def _obey(self, lines, fds):
        self.received += lines
        values = dict(line.split("=", 1) for line in lines if "=" in line)
        name = values.get("FDNAME", "stored")
        if values.get("FDSTORE") == "1":
            have = {os.fstat(fd).st_ino for _, fd in self._store}
            for fd in list(fds):
                if os.fstat(fd).st_ino not in have and len(self._store) < self.places:
                    self._store.append((name, fd))
                    fds.remove(fd)
        if values.get("FDSTOREREMOVE") == "1":
            for stored in [stored for stored in self._store if stored[0] == name]:
                os.close(stored[1])
                self._store.remove(stored)
        for fd in fds:  # a barrier is lifted by that
            os.close(fd)

    def stored(self):
        """The names of what it has, one for each descriptor."""
        with self._lock:
            return sorted(name for name, _ in self._store)

    def launch(self, *arguments):
        """Starts the daemon and waits for nothing."""
        with self._lock:
            names, fds = [name for name, _ in self._store], [fd for _, fd in self._store]
            self.received.clear()
            variables = dict(self.daemon.variables, NOTIFY_SOCKET=self._path)
            if self.told:
                variables["FDSTORE"] = str(self.told)
            if fds:
                variables.update(LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=":".join(names))
                self.daemon.prefix = [sys.executable, "-c", LAUNCHER, str(len(fds)),
                                      *map(str, fds)]
            else:
                self.daemon.prefix = []
            self.daemon.process = self.daemon.env.start(
                self.daemon.name, self.daemon.argv(*arguments), variables, fds)

    def start(self, *arguments, timeout=20.0):
        self.launch(*arguments)

        def ready():
            if not self.daemon.process.alive():
                raise AssertionError(f"{self.daemon.name} ended before READY=1")
            return "READY=1" in self.received
        wait_for(ready, f"READY=1 of {self.daemon.name}", timeout)
        return self

    def restart(self, timeout=10.0):
        """As `systemctl restart` does it with realpeer.service."""
        self.daemon.process.kill(signal.SIGUSR1)
        equal(self.daemon.stop(timeout=timeout), 0, "exit status")
        return self.start()

    def stop(self, timeout=10.0):
        """For good: what is stored then goes."""
        equal(self.daemon.stop(timeout=timeout), 0, "exit status")
        self.release()

    def release(self):
        with self._lock:
            for _, fd in self._store:
                os.close(fd)
            self._store.clear()

    def destroy(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()
        self.release()
