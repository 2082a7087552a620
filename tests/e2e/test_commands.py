# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The commands: what they print and how they exit."""

import json
import os
import re
import subprocess

from lib.poll import check, equal
from lib.realpeer import GLOBAL, listener
from lib.requirement import BPF, needs
from lib.topology import SERVER

GOOD = (listener("mqtt", listen=f"{SERVER}:1883", handler="127.0.0.1:9000",
                 client_address="getpeername", offload="peek")
        + listener("plain", listen=f"{SERVER}:1884", handler="127.0.0.1:9001", offload="off",
                   proxy_protocol="enabled"))
BAD = GLOBAL + """\
colour = blue
[listener one]
listen = 10.77.0.2
delivery = relay
handler = 127.0.0.1:9000
proxy_protocol = perhaps
[listener two]
delivery = relay
[lister three]
"""


def run(env, daemon, program, *arguments):
    return subprocess.run(
        env.server.command(env.binary(program), *arguments), env=daemon.variables, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        timeout=20, check=False)


def all_errors(text, path):
    """Every error of BAD is told, each with its file and line."""
    lines = BAD.splitlines()
    for line, word in (("colour = blue", "colour"), ("listen = 10.77.0.2", "10.77.0.2"),
                       ("proxy_protocol = perhaps", "perhaps"), ("[listener two]", "two"),
                       ("[lister three]", "lister")):
        place = f"{path}:{lines.index(line) + 1}: "
        check(any(told.startswith(place) and word in told for told in text.splitlines()),
              f"no error {place}... {word} in:\n{text}")


@needs(BPF)
def test_n(env):
    """realpeerd -n: what each listener will get; nothing is left behind."""
    daemon = env.daemon(GOOD)
    result = run(env, daemon, "realpeerd", "-n", "-c", daemon.config_path)
    print(result.stdout, result.stderr)
    equal(result.returncode, 0, "exit status")
    for name, offload in (("mqtt", "peek"), ("plain", "off")):
        check(any(re.search(rf"\b{name}\b.*\b{offload}\b", line) or
                  re.search(rf"\b{offload}\b", block) and re.search(rf"\b{name}\b", block)
                  for block in re.split(r"\n(?=\S)", result.stdout + result.stderr)
                  for line in block.splitlines()), f"{name} with {offload} is not told")
    check(not os.path.exists(daemon.bpffs) and not os.path.exists(daemon.run_directory),
          "something was left")


@needs(BPF)
def test_n_bad(env):
    daemon = env.daemon(BAD)
    result = run(env, daemon, "realpeerd", "-n", "-c", daemon.config_path)
    equal(result.returncode, 1, "exit status")
    all_errors(result.stderr, daemon.config_path)


@needs()
def test_check(env):
    daemon = env.daemon(GOOD)
    equal(run(env, daemon, "realpeerctl", "check", daemon.config_path).returncode, 0,
          "exit status for a good file")
    daemon.configure(BAD)
    result = run(env, daemon, "realpeerctl", "check", daemon.config_path)
    equal(result.returncode, 1, "exit status for a bad file")
    all_errors(result.stderr, daemon.config_path)
    missing = env.path("missing.conf")
    result = run(env, daemon, "realpeerctl", "check", missing)
    equal(result.returncode, 1, "exit status without a file")
    check(missing in result.stderr, f"not named: {result.stderr}")


@needs()
def test_bad_configuration_does_not_start(env):
    daemon = env.daemon(BAD)
    all_errors(daemon.fails_to_start(), daemon.config_path)


@needs()
def test_version(env):
    daemon = env.daemon(GOOD)
    text = run(env, daemon, "realpeerctl", "version").stdout
    number = re.search(r"\d+\.\d+\.\d+", text).group()
    result = run(env, daemon, "realpeerctl", "version", "--json")
    check(number in json.loads(result.stdout).values(), result.stdout)


@needs()
def test_usage(env):
    """Mistakes in the command line are exit status 2."""
    daemon = env.daemon(GOOD)
    for program, *arguments in (["realpeerctl"], ["realpeerctl", "dance"],
                                ["realpeerctl", "status", "--colour"],
                                ["realpeerctl", "status", "more"], ["realpeerctl", "check"],
                                ["realpeerd", "-z"], ["realpeerd", "more"]):
        result = run(env, daemon, program, *arguments)
        equal(result.returncode, 2, f"exit status of {program} {arguments}")
        check(result.stderr and not result.stdout, f"not on stderr alone: {result.stdout}")


@needs()
def test_no_daemon(env):
    """Without a daemon reading verbs fail, and say so."""
    daemon = env.daemon(GOOD)
    for verb in ("status", "stats", "connections", "reload"):
        result = run(env, daemon, "realpeerctl", verb)
        equal(result.returncode, 1, f"exit status of {verb}")
        check("realpeerd" in result.stdout + result.stderr, f"not clear: {result.stderr}")


@needs(BPF)
def test_environment_wins(env):
    """REALPEER_<NAME>_PROXY_PROTOCOL over REALPEER_PROXY_PROTOCOL over the file."""
    daemon = env.realpeerd(GOOD, variables={"REALPEER_PROXY_PROTOCOL": "enabled",
                                            "REALPEER_PLAIN_PROXY_PROTOCOL": "disabled"})
    equal([(entry["name"], entry["mode"]) for entry in daemon.ctl_json("status")["listeners"]],
          [("mqtt", "enabled"), ("plain", "disabled")], "modes")


@needs(BPF)
def test_drop_ins(env):
    """conf.d/*.conf are read in the order of their names, other files are not."""
    daemon = env.daemon(GOOD)
    os.mkdir(env.path("conf.d"))
    for name, port in (("20-b.conf", 1886), ("10-a.conf", 1885), ("30-c.conf.off", 1887)):
        env.write(f"conf.d/{name}", listener(
            name[3:4], listen=f"{SERVER}:{port}", handler="127.0.0.1:9000"))
    daemon.start()
    equal([entry["name"] for entry in daemon.ctl_json("status")["listeners"]],
          ["mqtt", "plain", "a", "b"], "listeners")
