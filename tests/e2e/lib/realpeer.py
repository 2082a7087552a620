# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""realpeerd and realpeerctl: one running daemon of a test and what it says."""

import contextlib
import glob
import json
import os
import signal
import socket
import struct
import subprocess

from . import bpf
from .bpf import BPFFS_ROOT
from .maps import Map
from .poll import equal, wait_for
from .topology import TRUSTED

SANITIZER = r"(ERROR|WARNING): \w+Sanitizer|runtime error:"

# REALPEER_E2E_OFFLOAD runs the tests that don't care with another offload.
GLOBAL = f"""\
[global]
offload = {os.environ.get("REALPEER_E2E_OFFLOAD", "auto")}
proxy_protocol = required
trusted = {TRUSTED}
header_timeout = 3s
drain_timeout = 2s
"""

LOSSES = 3  # RP_LOSSES in abi.h


def listener(name, **settings):
    """A section; "_" is left out of the keys' ends, so `global_` works."""
    lines = [f"[listener {name}]"]
    settings.setdefault("delivery", "relay")
    lines += [f"{key.rstrip('_')} = {value}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def pins_left(prefix):
    """bpffs directories of a test that was killed."""
    return glob.glob(f"{BPFFS_ROOT}/{glob.escape(prefix)}-*")


def remove_pins(directory):
    for root, directories, files in os.walk(directory, topdown=False):
        for name in files:
            os.unlink(os.path.join(root, name))
        for name in directories:
            os.rmdir(os.path.join(root, name))
    os.rmdir(directory)


class Realpeer:
    """`config` follows GLOBAL unless it has a [global] section of its own."""

    def __init__(self, env, config, name="realpeerd", namespace=None,
                 bpffs=None, run=None, variables=None, prefix=()):
        self.env = env
        self.name = name
        self.namespace = namespace or env.server
        self.prefix = list(prefix)  # before the program, such as setpriv ...
        self.bpffs = bpffs or f"{BPFFS_ROOT}/{env.prefix}-{name}"
        self.run_directory = run or os.path.join(env.directory, f"{name}.run")
        self.variables = dict(
            os.environ, REALPEER_BPFFS=self.bpffs,
            REALPEER_RUN=self.run_directory, **(variables or {}))
        self.program = env.binary("realpeerd")
        self.process = None
        self.loses = False  # see losing(): where there are NAT rules
        self.configure(config)

    def configure(self, config):
        """Writes the configuration file; a running daemon isn't told."""
        if "[global]" not in config:
            config = GLOBAL + config
        self.config_path = self.env.write(f"{self.name}.conf", config)

    def argv(self, *arguments):
        return self.namespace.command(
            *self.prefix, self.program, "-c", self.config_path, *arguments)

    def start(self, *arguments, timeout=15.0):
        """Starts the daemon and waits for its READY=1."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            path = os.path.join(self.env.directory, f"{self.name}.notify")
            if os.path.exists(path):
                os.unlink(path)
            notify.bind(path)
            os.chmod(path, 0o666)
            notify.setblocking(False)
            self.process = self.env.start(
                self.name, self.argv(*arguments),
                dict(self.variables, NOTIFY_SOCKET=path))

            def ready():
                if not self.process.alive():
                    raise AssertionError(f"{self.name} ended before READY=1")
                try:
                    return b"READY=1" in notify.recv(4096).split(b"\n")
                except BlockingIOError:
                    return False
            wait_for(ready, f"READY=1 of {self.name}", timeout)
        return self

    def fails_to_start(self, *arguments, timeout=15.0):
        """Runs it; it must end with status 1. Returns what it logged."""
        result = subprocess.run(
            self.argv(*arguments), env=self.variables, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=timeout, check=False)
        print(result.stdout)
        if result.returncode != 1:
            raise AssertionError(f"exit status {result.returncode}, not 1")
        return result.stdout

    def plan(self, status=0, timeout=30.0):
        """What realpeerd -n prints; it must end with this status."""
        result = subprocess.run(
            self.argv("-n"), env=self.variables, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=timeout, check=False)
        print(result.stdout)
        equal(result.returncode, status, f"exit status of -n: {result.stdout}")
        return result.stdout

    def stop(self, number=signal.SIGTERM, timeout=10.0):
        return self.process.stop(number, timeout)

    def reload(self, config=None, done=None):
        """SIGHUP, then waits for the log's next line that matches `done`."""
        if config is not None:
            self.configure(config)
        done = done or r"reload msg="
        before = len(self.process.lines(done))
        self.process.kill(signal.SIGHUP)
        wait_for(lambda: len(self.process.lines(done)) > before,
                 f"a line with /{done}/ after SIGHUP")

    def ctl(self, *arguments, status=0):
        result = subprocess.run(
            [self.env.binary("realpeerctl"), *arguments], env=self.variables,
            text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, timeout=30, check=False)
        if result.returncode != status:
            raise AssertionError(
                f"realpeerctl {' '.join(arguments)}: exit status "
                f"{result.returncode}, not {status}\n{result.stdout}{result.stderr}")
        return result.stdout if status == 0 else result.stderr

    def ctl_json(self, *arguments):
        return json.loads(self.ctl(*arguments, "--json"))

    def connections(self, listener_name=None):
        return [entry for entry in self.ctl_json("connections")
                if listener_name in (None, entry["listener"])]

    def wait_connections(self, count, timeout=5.0):
        """Waits until exactly `count` are listed, and returns them."""
        found = []

        def listed():
            nonlocal found
            found = self.connections()
            return len(found) == count
        wait_for(listed, lambda: f"{count} entries of realpeerctl connections, which has "
                 f"{len(found)}: {found[:5]}", timeout)
        return found

    def status_of(self, listener_name):
        """What `realpeerctl status` says of one listener."""
        for entry in self.ctl_json("status")["listeners"]:
            if entry["name"] == listener_name:
                return entry
        raise AssertionError(f"no listener {listener_name} in the status")

    def stats(self, listener_name):
        """Every counter of one listener, by name."""
        return self.ctl_json("stats")["listeners"][listener_name]

    def stat(self, listener_name, key):
        """One counter of one listener."""
        return self.stats(listener_name)[key]

    def wait_stat(self, listener_name, key, value, timeout=5.0):
        have = None

        def reached():
            nonlocal have
            have = self.stat(listener_name, key)
            return have == value
        wait_for(reached, lambda: f"{key} of {listener_name} to be {value}, it is {have}",
                 timeout)

    def map_path(self, name):
        return os.path.join(self.bpffs, name)

    def records(self):
        """The pinned map `connections`, read by bpftool."""
        return bpf.map_values(self.map_path("connections"))

    def losing(self):
        """Does the stack never see the sockets that TC assigns? rp_gates.lost"""
        path = self.map_path("gates")
        if not os.path.exists(path):
            return False
        with Map(path) as gates:
            return struct.unpack_from("Q", gates.get(bytes(4)), 7 * 8)[0] >= LOSSES

    def log_complaints(self):
        """Lines of level warning and error."""
        return self.process.lines(r"^(warning|error): ")

    def dump(self):
        """Counters of a running daemon, those that counted."""
        if self.process is None or not self.process.alive():
            return
        with contextlib.suppress(AssertionError, ValueError, subprocess.TimeoutExpired):
            for name, counters in self.ctl_json("stats")["listeners"].items():
                counted = {key: value for key, value in counters.items() if value}
                print(f"--- {self.name}, listener {name}: {counted}")

    def verify(self):
        """After a test: nothing crashed, an ordinary stop works."""
        if self.process is None:
            return
        if not self.process.expected_to_end:
            if not self.process.alive():
                raise AssertionError(
                    f"{self.name} ended by itself: {self.process.popen.returncode}")
            equal(self.losing(), self.loses, "whether sockets are lost")
            status = self.stop()
            if status:
                raise AssertionError(f"exit status of {self.name}: {status}")
        found = self.process.lines(SANITIZER)
        if found:
            raise AssertionError(f"{self.name}: {found[0]}")
