# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Where one system is measured: a path between load and server, new for each
time, and the processes at its ends, each on its core."""

import json
import os
import socket
import subprocess
import tempfile
import time

from lib import bpf, realpeer
from lib.poll import wait_for
from lib.process import Processes

BACKEND_PORT = 9000
PROXY_PORT = 8000
HEADER_TIMEOUT = 0.5
SETTLES = HEADER_TIMEOUT + 1.3  # and a turn of upkeep
MANY_PORTS = (20000, 21023)  # of listeners that nobody uses

SYSCTLS = {
    # room for every connection of a measurement, TIME_WAIT included
    "net.ipv4.ip_local_port_range": "1024 65535",
    "net.ipv4.ip_local_reserved_ports":
        f"{PROXY_PORT},{BACKEND_PORT},{MANY_PORTS[0]}-{MANY_PORTS[1]}",
}


class Cores:
    """The core of load and backend, and that of the system between them."""

    def __init__(self, load, proxy):
        self.load = load
        self.proxy = proxy


class Place:
    """`with Place(...) as place:` nothing of it is left behind."""

    header_timeout = f"{HEADER_TIMEOUT * 1000:.0f}ms"
    _count = 0

    def __init__(self, cores, build, path, backends=1):
        Place._count += 1
        self.prefix = f"rpbench-{os.getpid()}-{Place._count}"
        self.pins = f"{realpeer.BPFFS_ROOT}/{self.prefix}-pins"
        self.cores = cores
        self.build = build
        self.path = path(self.prefix)
        self._backends = backends
        self.backends = []  # they share a port
        self.proxy = None  # the process of the system, if it has one
        self.settled_at = 0.0
        self.links = []

    def __enter__(self):
        self._directory = tempfile.TemporaryDirectory(prefix="rpbench-")
        self.directory = self._directory.name
        self.processes = Processes(self.directory)
        try:
            self.path.create()
            for namespace in {self.path.load, self.path.server}:
                for name, value in SYSCTLS.items():
                    namespace.sysctl(name, value)
            for number in range(self._backends):
                self._start_backend(number)
        except BaseException:
            self.processes.dump()
            self._destroy()
            raise
        return self

    def __exit__(self, kind, error, traceback):
        if kind is not None:
            self.processes.dump()
        self._destroy()

    def _destroy(self):
        for link in self.links:
            os.close(link)
        self.processes.destroy()
        self.path.destroy()
        for path in realpeer.pins_left(self.prefix):
            realpeer.remove_pins(path)
        self._directory.cleanup()

    def tool(self, name):
        return os.path.join(self.build, "tests", "bench", name)

    def start(self, name, core, argv, variables=None):
        """A process of the server's host."""
        argv = self.path.server_command(["taskset", "-c", str(core), *argv])
        return self.processes.start(name, argv, dict(os.environ, **(variables or {})))

    def _start_backend(self, number):
        backend = self.start(f"backend{number}", self.cores.load, [
            self.tool("backend"), *(["--reuse-port"] if self._backends > 1 else []),
            f"{self.path.server_address}:{BACKEND_PORT}"])
        self.backends.append(backend)
        self.wait_listening(backend, BACKEND_PORT, number + 1)

    def attach(self, program, kind):
        """A pinned program, where realpeerd attaches those of its own: to the
        interface between load and server, and to the cgroup."""
        if kind == bpf.TCX_INGRESS:
            with self.path.server.entered():
                target = socket.if_nametoindex(self.path.interface)
                self.links.append(bpf.attach(program, target, kind))
            return
        cgroup = os.open(self.path.cgroup(), os.O_RDONLY)
        try:
            self.links.append(bpf.attach(program, cgroup, kind))
        finally:
            os.close(cgroup)

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def wait_listening(self, process, port, sockets=1):
        end = f":{port:04X}"

        def listening():
            if not process.alive():
                raise AssertionError(f"{process.name} ended")
            try:
                with open(f"/proc/{process.pid}/net/tcp", encoding="ascii") as file:
                    rows = [line.split() for line in list(file)[1:]]
            except (FileNotFoundError, ProcessLookupError):
                return False
            return sum(row[1].endswith(end) and row[3] == "0A" for row in rows) >= sockets
        wait_for(listening, f"{process.name} to listen on port {port}", 15)

    def start_realpeerd(self, config):
        """Returns the process once it has said READY=1."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            path = os.path.join(self.directory, "notify")
            notify.bind(path)
            notify.setblocking(False)
            process = self.start("realpeerd", self.cores.proxy, [
                os.path.join(self.build, "realpeerd"), "-c",
                self.write("realpeer.conf", config)], {
                    "NOTIFY_SOCKET": path,
                    "REALPEER_BPFFS": self.pins,
                    "REALPEER_RUN": os.path.join(self.directory, "run")})

            def ready():
                if not process.alive():
                    raise AssertionError("realpeerd ended before READY=1")
                try:
                    return b"READY=1" in notify.recv(4096)
                except BlockingIOError:
                    return False
            wait_for(ready, "READY=1 of realpeerd", 30)
        self.settled_at = time.monotonic() + SETTLES
        return process

    def settle(self):
        """For `header_timeout` after its start realpeerd's kernel part looks for
        older connections, which costs something for each segment."""
        time.sleep(max(0.0, self.settled_at - time.monotonic()))

    def _load_argv(self, arguments):
        return self.path.load.command("taskset", "-c", str(self.cores.load), self.tool("load"),
                                      *map(str, arguments))

    def load(self, *arguments, timeout=120):
        """Runs the load generator and returns what it says."""
        done = subprocess.run(self._load_argv(arguments), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, text=True, timeout=timeout, check=False)
        if done.returncode:
            raise AssertionError(f"load {' '.join(map(str, arguments))}: exit status "
                                 f"{done.returncode}\n{done.stdout}")
        return json.loads(done.stdout)

    def load_beside(self, *arguments):
        """Starts the load generator; its standard input and output are pipes."""
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self._load_argv(arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop_backends(self):
        """Ends them and returns what each has counted."""
        for backend in self.backends:
            backend.stop()
        return [json.loads(backend.log()) for backend in self.backends]
