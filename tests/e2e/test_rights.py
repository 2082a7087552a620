# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The capabilities that are documented are enough, for a user who has no others
and is not root; and the one that is missing is named."""

import os
import re
import shutil

from lib import fault, header, inline, stream
from lib.handler import greet
from lib.inline import INLINE, PAYLOAD
from lib.poll import check, equal
from lib.realpeer import BPFFS_ROOT, listener
from lib.requirement import BPF, needs, program
from lib.topology import CLIENTS, LB_FRONT, SERVER

SETPRIV = program("setpriv")
NOBODY = 65534
RIGHTS = ("bpf", "perfmon", "net_admin")
ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
INLINE_LISTENER = listener("echo", listen=f"{SERVER}:1883", delivery="inline")


def daemon_with(env, capabilities, config):
    """Nobody's daemon, which finds a directory for its pins as with the unit."""
    name = f"nobody{len(env.daemons)}"
    directory, pins = env.path(name), f"{BPFFS_ROOT}/{env.prefix}-{name}"
    os.chmod(env.directory, 0o755)
    for path in (directory, pins):
        os.mkdir(path)
        os.chown(path, NOBODY, NOBODY)
    os.mkdir(f"{directory}/pins")
    granted = ",".join(["-all", *(f"+{capability}" for capability in capabilities)])
    daemon = env.daemon(
        config, name=name, bpffs=f"{directory}/pins", run=directory,
        prefix=[*fault.in_mounts(f"mount --bind {pins} {directory}/pins"),
                "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                f"--bounding-set={granted}", f"--inh-caps={granted}",
                f"--ambient-caps={granted}", "--no-new-privs"])
    daemon.program = shutil.copy(daemon.program, f"{directory}/realpeerd")
    return daemon


def relay(offload):
    return listener("echo", listen=f"{SERVER}:1883", handler="127.0.0.1:9000",
                    client_address="getpeername", offload=offload)


@needs(BPF, SETPRIV)
def test_suffice_for_a_relay(env):
    """Fails with one of RIGHTS less. README.md, SECURITY.md and realpeerd(8) name them."""
    handler = env.handler()
    for count, offload in enumerate(("peek", "off"), 1):
        daemon = daemon_with(env, RIGHTS, relay(offload)).start()
        equal(daemon.process.status("Uid"), NOBODY, "the daemon's user")
        equal(daemon.status_of("echo")["offload"], offload, "offload")
        with env.lb.connect(ADDRESS) as sock:
            stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
            equal(handler.wait(count).peer, SOURCE, "client")
        equal(daemon.log_complaints(), [], "complaints in the log")
        equal(daemon.stop(), 0, "exit status")


@needs(INLINE, SETPRIV)
def test_suffice_for_inline(env):
    """Likewise."""
    server = inline.Server.start(env)
    daemon = daemon_with(env, RIGHTS, INLINE_LISTENER)
    text = daemon.plan()
    check("CAP_" not in text, f"a capability is missed: {text}")
    daemon.start()
    equal(daemon.status_of("echo")["offload"], "accept", "offload")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        equal(server.wait(1).peer, SOURCE, "client")
    equal(daemon.log_complaints(), [], "complaints in the log")


@needs(BPF, SETPRIV)
def test_missing_one_is_named(env):
    """Fails without missing_or() in datapath_probe.c."""
    for missing in RIGHTS:
        others = [right for right in RIGHTS if right != missing]
        name = f"CAP_{missing.upper()}"
        text = daemon_with(env, others, relay("auto")).plan(1)
        check(f": {name} is missing" in text, f"{name} is not said to be missing: {text}")
        equal(set(re.findall("CAP_[A-Z_]+", text)), {name}, "capabilities that are named")


@needs(BPF, SETPRIV)
def test_missing_one_is_logged(env):
    """Fails without missing_or() in datapath_probe.c, and the log of it."""
    env.handler()
    daemon = daemon_with(env, ("bpf", "net_admin"),
                         relay("auto").replace("getpeername", "none")).start()
    daemon.process.wait_log("^warning: .*why=.*CAP_PERFMON is missing")
    check("CAP_PERFMON is missing" in daemon.status_of("echo")["why"], "not in the status")


@needs(INLINE, SETPRIV)
def test_silent_clients(env):
    """The server behind an `enabled` listener sees them with CAP_NET_RAW only.

    Fails without no_probes in plan_listener(), plan.c.
    """
    server = inline.Server.start(env, behaviour=greet)
    config = INLINE_LISTENER + "proxy_protocol = enabled\nheader_timeout = 500ms\n"
    daemon = daemon_with(env, RIGHTS, config)
    check("warning         CAP_NET_RAW is missing" in daemon.plan(), "no warning")
    daemon.start()
    daemon.process.wait_log("^warning: listener=echo .*CAP_NET_RAW is missing")
    equal(daemon.stop(), 0, "exit status")
    required = daemon_with(env, RIGHTS, INLINE_LISTENER).plan()
    check("CAP_" not in required, f"a capability is missed: {required}")

    daemon = daemon_with(env, (*RIGHTS, "net_raw"), config)
    check("CAP_" not in daemon.plan(), "a warning")
    daemon.start()
    with env.lb.connect(ADDRESS) as sock:
        equal(stream.receive_until(sock, b"\n"), b"INFO hello\r\n", "greeting")
        equal(server.wait(1).peer, sock.getsockname(), "client")
    equal(daemon.log_complaints(), [], "complaints in the log")
