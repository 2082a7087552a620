# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""BPF programs of the tests' own: NAME.bpf.c of tests/e2e."""

import os
import subprocess

from . import bpf
from .build import ROOT_DIRECTORY, build_directory


class Programs:
    """The programs of a source, loaded and pinned, not attached yet."""

    def __init__(self, env, name):
        self.env = env
        self.pins = f"{bpf.BPFFS_ROOT}/{env.prefix}-{name}"
        target = os.path.join(build_directory(), f"tests/e2e/{name}.bpf.o")
        variables = {key: value for key, value in os.environ.items() if key != "MAKEFLAGS"}
        subprocess.run(["make", "-s", "-C", ROOT_DIRECTORY, f"O={build_directory()}", target],
                       check=True, timeout=60, env=variables)
        bpf.bpftool("prog", "loadall", target, self.pins, "pinmaps", f"{self.pins}/maps")

    def link(self, program, target, attach_type):
        """Attaches one until the end of the test."""
        link = bpf.attach(f"{self.pins}/{program}", target, attach_type)
        self.env.at_end(lambda: os.close(link))

    def counted(self, names):
        """The numbers of the map `counted`, by these names."""
        return dict(zip(names, (
            entry["formatted"]["value"]
            for entry in bpf.bpftool("map", "dump", "pinned", f"{self.pins}/maps/counted"))))
