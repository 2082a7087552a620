# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The benchmark runs, over loopback and over veth. What it measures here is
worth nothing: no value is looked at, only that there is one."""

import json
import os
import subprocess

from lib.build import ROOT_DIRECTORY, build_directory
from lib.inline import INLINE
from lib.poll import check, equal
from lib.requirement import NO_SANITIZER, Requirement, needs

TWO_CPUS = Requirement("two CPUs", lambda: len(os.sched_getaffinity(0)) > 1)
SYSTEMS = {"loopback": ("direct", "empty", "bystander", "inline", "relay-accept"),
           "veth": ("direct", "empty", "bystander", "inline")}
METRICS = ("v2_rate", "one_p50", "request_rate", "up_rate", "down_rate", "idle_kernel")


@needs(INLINE, NO_SANITIZER, TWO_CPUS)
def test_quick(env):
    """Fails without the routes of measure/paths.py, seen by taking them out."""
    output = env.path("bench")
    done = subprocess.run(
        [os.path.join(ROOT_DIRECTORY, "tests/bench/run"), "--quick", "--rounds", "1",
         "--only", ",".join(SYSTEMS["loopback"]), "--output", output],
        env=dict(os.environ, O=build_directory()), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=220, check=False)
    equal(done.returncode, 0, f"exit status, with this output:\n{done.stdout}")
    with open(f"{output}/bench.json", encoding="utf-8") as file:
        result = json.load(file)
    for path, systems in SYSTEMS.items():
        equal(set(result["values"][path]), set(systems), f"systems over {path}")
        for system in systems:
            for metric in METRICS:
                check(result["values"][path][system].get(metric),
                      f"no {metric} of {system} over {path}")
    equal(result["distance"]["taken"], 5, "measurements of a proxy")
    check("## Over veth" in done.stdout, f"not reported: {done.stdout}")


test_quick.limit = 240
