# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""make install puts the configuration where the installed realpeerd reads it,
and where its documents say that it does."""

import glob
import os
import subprocess

from lib import build
from lib.poll import check, equal
from lib.requirement import needs, program

MAKE = program("make")
CC = program("cc")
DEFAULT = "/etc/realpeer"
# what a `make check` hands on that is not about this build
OF_MAKE = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "V", "PREFIX", "SYSCONFDIR", "SYSTEMDUNITDIR")
LISTENER = "[listener of_sysconfdir]\nlisten = 127.0.0.1:1883\nproxy_protocol = disabled\n"


class Build:
    """A copy of what was built: what make does to it is seen by no other test."""

    def __init__(self, env):
        self.directory = env.path("build")
        os.mkdir(self.directory)
        for name in ("realpeerd", "realpeerctl", "realpeer.a", "sysconfdir", "bpf", "user"):
            subprocess.run(["cp", "-a", os.path.join(build.build_directory(), name),
                            self.directory], check=True)
        self.options = {"O": self.directory, "DESTDIR": ""}
        if build.sanitized():
            self.options["SAN"] = "1"
        if glob.glob(f"{self.directory}/user/*.gcno"):
            self.options["COVERAGE"] = "1"

    def make(self, target, **options):
        """Returns what it built anew."""
        inherited = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
        result = subprocess.run(
            ["make", "--no-print-directory", "-C", build.ROOT_DIRECTORY, target,
             *(f"{name}={value}" for name, value in {**self.options, **options}.items())],
            env=inherited, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=50, check=False)
        print(result.stdout)
        equal(result.returncode, 0, f"exit status of make {target}")
        return [line.split()[1].removeprefix(f"{self.directory}/")
                for line in result.stdout.splitlines() if line.startswith("  ")]


def usage(directory):
    return subprocess.run([f"{directory}/realpeerd", "--help"], text=True,
                          stdout=subprocess.PIPE, timeout=30, check=True).stdout


def documents(prefix):
    found = glob.glob(f"{prefix}/share/man/*/*") + glob.glob(f"{prefix}/share/doc/realpeer/*")
    check(found, "no documents")
    text = ""
    for path in found:
        with open(path, encoding="utf-8") as file:
            text += file.read()
    return text


@needs(MAKE, CC)
def test_sysconfdir(env):
    """Fails without -DREALPEER_SYSCONFDIR, or the sed on INSTALLED_TEXT, in the Makefile."""
    prefix, etc = env.path("prefix"), env.path("etc")
    built = Build(env)
    built.make("install", PREFIX=prefix, SYSCONFDIR=etc)
    check(os.path.exists(f"{etc}/realpeer/realpeer.conf"), "no configuration")
    with open(f"{etc}/realpeer/conf.d/a.conf", "w", encoding="ascii") as file:
        file.write(LISTENER)
    check("listener of_sysconfdir" in env.server.run(f"{prefix}/sbin/realpeerd", "-n").stdout,
          "it reads another file")
    text = documents(prefix)
    check(f"{etc}/realpeer/realpeer.conf" in text, "the documents do not name it")
    check(DEFAULT not in text.replace(f"{etc}/realpeer", ""), "they name another one")

    built.make("uninstall", PREFIX=prefix, SYSCONFDIR=etc)
    left = [name for _, _, names in os.walk(env.path("prefix")) for name in names]
    left += [name for _, _, names in os.walk(etc) for name in names]
    equal(left, ["a.conf"], "files that make uninstall leaves")


@needs(MAKE, CC)
def test_sysconfdir_changes(env):
    """What was built for another one is built anew, and only that; without a word of it
    the configuration is in /etc.

    Fails without $(O)/sysconfdir in the Makefile.
    """
    built = Build(env)
    built.make("all")
    equal(built.make("all"), [], "built anew for nothing")
    want = ["user/options.o", "realpeer.a", "realpeerctl", "realpeerd"]
    equal(sorted(built.make("all", SYSCONFDIR="/elsewhere")), sorted(want), "built anew")
    check("(/elsewhere/realpeer/realpeer.conf)" in usage(built.directory), "not elsewhere")
    stage = env.path("stage")
    built.make("install", DESTDIR=stage, PREFIX="/usr")
    check(f"({DEFAULT}/realpeer.conf)" in usage(f"{stage}/usr/sbin"), "not in /etc")
    check(os.path.exists(f"{stage}{DEFAULT}/realpeer.conf"), "no configuration")
    check(f"{DEFAULT}/realpeer.conf" in documents(f"{stage}/usr"), "the documents do not name it")
