# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Processes that a test starts: each has a log file, and none survives it."""

import os
import re
import signal
import subprocess

from .poll import wait_for

DUMP_LINES = 60  # of each log, when a test failed


class Process:
    """One child. `name` is also the name of its log file."""

    def __init__(self, name, argv, log_path, env=None, pass_fds=()):
        self.name = name
        self.argv = argv
        self.log_path = log_path
        self.expected_to_end = False
        with open(log_path, "ab") as log:
            # the kernel ends the child if the test's process is killed
            self.popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                pass_fds=pass_fds)

    @property
    def pid(self):
        # setpriv, nsenter and sh exec the command, so it has their pid
        return self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def lines(self, pattern):
        """The log's lines in which the regular expression is found."""
        return [line for line in self.log().splitlines()
                if re.search(pattern, line)]

    def wait_log(self, pattern, timeout=5.0):
        def look():
            found = self.lines(pattern)
            if not found and not self.alive():
                raise AssertionError(f"{self.name} ended, no /{pattern}/ in its log")
            return found
        return wait_for(look, f"/{pattern}/ in the log of {self.name}", timeout)[0]

    def kill(self, number):
        self.popen.send_signal(number)

    def wait(self, timeout=5.0):
        """The exit status, -N for signal N."""
        self.expected_to_end = True
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} still runs after {timeout} s") from None

    def stop(self, number=signal.SIGTERM, timeout=5.0):
        self.expected_to_end = True
        if self.alive():
            self.kill(number)
        return self.wait(timeout)

    def destroy(self):
        if self.alive():
            self.popen.kill()
        self.popen.wait()

    def status(self, key):
        """A number of /proc/PID/status, such as VmRSS in KiB."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith(key + ":"):
                    return int(line.split()[1])
        raise AssertionError(f"no {key} of {self.name}")

    def descriptors(self):
        """What each open descriptor is: "socket:[1]", "pipe:[2]", a path."""
        found = []
        directory = f"/proc/{self.pid}/fd"
        for fd in os.listdir(directory):
            try:
                found.append(os.readlink(f"{directory}/{fd}"))
            except FileNotFoundError:
                pass
        return found


class Processes:
    """All children of a test, in the order of their start."""

    def __init__(self, directory):
        self.directory = directory
        self.all = []

    def start(self, name, argv, env=None, pass_fds=()):
        path = os.path.join(self.directory, f"{name}.log")
        process = Process(name, argv, path, env, pass_fds)
        self.all.append(process)
        return process

    def destroy(self):
        for process in reversed(self.all):
            process.destroy()

    def dump(self):
        """The end of every log, for the reader of a failure."""
        for process in self.all:
            code = process.popen.poll()
            state = "running" if code is None else f"exit status {code}"
            print(f"--- {process.name} ({state}): {' '.join(process.argv)}")
            lines = process.log().splitlines()
            if len(lines) > DUMP_LINES:
                print(f"    ... {len(lines) - DUMP_LINES} lines before")
            for line in lines[-DUMP_LINES:]:
                print(f"    {line}")
