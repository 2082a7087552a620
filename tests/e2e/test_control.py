# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What realpeerctl says when not all is well, and what the daemon answers to
whoever else may open its control socket."""

import json
import os
import signal
import socket
import subprocess

from lib import header, inline, stream
from lib.inline import INLINE, PAYLOAD
from lib.poll import check, equal
from lib.realpeer import GLOBAL, listener
from lib.requirement import BPF, needs
from lib.topology import CLIENTS, LB, LB_FRONT, SERVER

HEADER = header.v2((CLIENTS[0], 40001), (LB_FRONT, 1883))
RELAY = listener("echo", listen=f"{SERVER}:1883", handler="127.0.0.1:9000",
                 client_address="getpeername")


def request(daemon, text):
    """The answer to a line on the control socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(os.path.join(daemon.run_directory, "control"))
        sock.sendall(text + b"\n")
        return json.loads(stream.receive_until(sock, b"\n"))


def refused(daemon, reason, text):
    answer = request(daemon, text if isinstance(text, bytes) else json.dumps(text).encode())
    check(not answer["ok"] and reason in answer["error"],
          f"the answer to {text[:80] if isinstance(text, bytes) else text}: {answer}")


@needs(BPF)
def test_wrong_requests(env):
    """Each is answered with a reason, and the daemon goes on."""
    daemon = env.realpeerd("[global]\n")
    refused(daemon, "", b"nonsense")
    refused(daemon, "", b'{"verb":7}')
    refused(daemon, "", {"verb": "unheard-of"})
    for port in (0, 65536, -1, "1883", None, 1.5, [1883]):
        refused(daemon, "port: 1 to 65535", {"verb": "attach", "port": port, "trusted": [LB]})
        refused(daemon, "port: 1 to 65535", {"verb": "detach", "port": port})
    refused(daemon, "port: 1 to 65535", {"verb": "attach"})
    for trusted in (["10.0.0.0/99"], [1], [None], [["10.0.0.0/8"]], ["everybody"]):
        refused(daemon, "is no CIDR", {"verb": "attach", "port": 1883, "trusted": trusted})
    refused(daemon, "", {"verb": "attach", "port": 1883, "trusted": ["::/0"] * 4097})
    refused(daemon, "whose headers?", {"verb": "attach", "port": 1883})
    refused(daemon, "whose headers?", {"verb": "attach", "port": 1883, "trusted": "10.0.0.1"})
    refused(daemon, "not attached", {"verb": "detach", "port": 1883})
    equal(daemon.ctl_json("status")["listeners"], [], "listeners")
    equal(daemon.log_complaints(), [], "complaints")


@needs(INLINE)
def test_attached_already(env):
    daemon = env.realpeerd(GLOBAL)
    daemon.ctl("attach", "1883")
    check("attached already" in daemon.ctl("attach", "1883", status=1), "not clear")
    equal(len(daemon.ctl_json("status")["listeners"]), 1, "listeners")
    equal(daemon.ctl_json("attach", "1884", "--trusted", f"{LB}/32, 10.1.0.0/16"),
          {"attached": 1884}, "the answer")
    equal(daemon.ctl_json("detach", "1884"), {"detached": 1884}, "the answer")


@needs(BPF)
def test_reload(env):
    """realpeerctl reload fails as the reload does, and tells its errors."""
    daemon = env.realpeerd(RELAY)
    equal(daemon.ctl_json("reload"), {"reloaded": True}, "the answer")
    daemon.configure(RELAY + "colour = blue\n")
    said = daemon.ctl("reload", status=1)
    check(f"{daemon.config_path}:" in said and "colour" in said and "stays in force" in said,
          f"not clear: {said}")
    daemon.stop()
    check("not running" in daemon.ctl("reload", status=1), "not clear")


def listed(daemon):
    """Without the time of day, which comes from two clocks that are not read at once."""
    return [{key: value for key, value in entry.items() if key != "since"}
            for entry in daemon.connections()]


@needs(INLINE)
def test_without_daemon(env):
    """The pins tell connections and counts while no daemon runs."""
    inline.Server.start(env)
    daemon = inline.daemon(env)
    with env.lb.connect((SERVER, 1883)) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        before = listed(daemon)
        daemon.stop(signal.SIGKILL)
        equal(listed(daemon), before, "connections")
        stream.refused(env.lb, (SERVER, 1883), b"not a header")
        counted = {key: value for key, value in daemon.stats("echo").items() if value}
        equal(counted, {"connections": 1, "header_v2": 1, "not_header": 1, "handshakes": 2},
              "counters")
        check("not_header" in daemon.ctl("stats"), "the table has no not_header")
    said = daemon.ctl("status", status=1)
    check("realpeerd is not running" in said, f"not clear: {said}")
    result = subprocess.run([env.binary("realpeerctl"), "status", "--json"],
                            env=daemon.variables, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, check=False)
    equal((result.returncode, json.loads(result.stdout)), (1, {"running": False}), "status")


def test_nothing_to_ask(env):
    """Neither a daemon nor pins: both are told."""
    daemon = env.daemon(RELAY)
    for verb in ("connections", "stats"):
        said = daemon.ctl(verb, status=1)
        check("realpeerd is not running" in said and "pinned maps" in said, f"not clear: {said}")


@needs(BPF)
def test_only_root(env):
    """Others are told that they may not, by the daemon and by the pins."""
    daemon = env.realpeerd(RELAY)
    os.chmod(daemon.run_directory, 0o755)
    for mode in (0o600, 0o666):
        os.chmod(os.path.join(daemon.run_directory, "control"), mode)
        for verb in ("status", "connections", "stats", "reload"):
            result = subprocess.run(
                ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                 env.binary("realpeerctl"), verb], env=daemon.variables, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
            check(result.returncode == 1 and "root and its own user only" in result.stderr,
                  f"{verb}, mode {mode:o}: {result.returncode} {result.stderr}")
    equal(daemon.ctl_json("status")["pid"], daemon.process.pid, "who answers root")


def test_check_as_json(env):
    daemon = env.daemon(RELAY)
    equal(daemon.ctl_json("check", daemon.config_path),
          {"file": daemon.config_path, "valid": True, "listeners": ["echo"], "errors": []},
          "a good file")
    path = env.write("bad.conf", RELAY + "colour = blue\nlisten = nowhere\n")
    result = subprocess.run([env.binary("realpeerctl"), "check", path, "--json"],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    said = json.loads(result.stdout)
    equal((result.returncode, said["valid"], said["listeners"]), (1, False, []), "a bad file")
    equal([error.split(" ")[0] for error in said["errors"]], [f"{path}:6:", f"{path}:7:"],
          "errors")
    check("No such file" in daemon.ctl("check", env.path("nowhere"), status=1), "not clear")


@needs(BPF)
def test_full_output(env):
    """What cannot be written is a failure, not half an answer."""
    daemon = env.realpeerd(RELAY)
    for arguments in (["status"], ["stats", "--json"], ["version"]):
        with open("/dev/full", "w", encoding="ascii") as full:
            result = subprocess.run([env.binary("realpeerctl"), *arguments], stdout=full,
                                    stderr=subprocess.PIPE, text=True, env=daemon.variables,
                                    check=False)
        equal(result.returncode, 1, f"exit status of {arguments}")
        check("No space left" in result.stderr, f"not clear: {result.stderr}")
