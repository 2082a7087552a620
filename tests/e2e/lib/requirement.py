# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a test needs of the machine. A test without it is skipped, never passed.

A program can be installed, so under CI a missing one is a failure; a right
or a kernel feature that isn't there is not.
"""

import os
import shutil

from . import bpf, build

SKIP_STATUS = 77


class Skip(Exception):
    """Ends a test that cannot run here; str() is the reason."""


class Requirement:
    def __init__(self, what, is_there, installable=False):
        self.what = what
        self.is_there = is_there
        self.installable = installable


def program(name):
    return Requirement(f"the program {name}",
                       lambda: shutil.which(name) is not None,
                       installable=True)


def needs(*requirements):
    """Decorates a test function."""
    def decorate(function):
        function.needs = getattr(function, "needs", ()) + requirements
        return function
    return decorate


def missing(function):
    """The requirements of a test that are not there."""
    return [requirement for requirement in (ROOT, *getattr(function, "needs", ()))
            if not requirement.is_there()]


ROOT = Requirement("root", lambda: os.geteuid() == 0)
BPF = Requirement("the right to load BPF programs", bpf.allowed)
TCX = Requirement("tcx (Linux 6.6)", lambda: bpf.kernel_release() >= (6, 6))
NO_SANITIZER = Requirement("a build without sanitizers", lambda: not build.sanitized())
HAPROXY = program("haproxy")
NGINX = program("nginx")
MOSQUITTO = program("mosquitto")
MOSQUITTO_CLIENTS = program("mosquitto_pub")
BPFTOOL = program("bpftool")
OPENSSL = program("openssl")
CLANG = program("clang")
TC = program("tc")
