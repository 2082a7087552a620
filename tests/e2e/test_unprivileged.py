# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Without privileges: offload = off needs none, and what can't be had is said."""

import os
import shutil

from lib import header, stream
from lib.poll import check, equal
from lib.realpeer import listener
from lib.requirement import needs, program
from lib.topology import CLIENTS, LB_FRONT, SERVER

SETPRIV = program("setpriv")
NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
             "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))


def daemon_of_nobody(env, offload, client_address="proxy-v1", own_run=True, **arguments):
    """The daemon as nobody, from a copy that nobody may execute."""
    directory = env.path("nobody.run")
    os.mkdir(directory)
    os.chmod(directory, 0o755)
    if own_run:
        os.chown(directory, NOBODY, NOBODY)
    daemon = env.daemon(
        listener("echo", listen=f"{SERVER}:1883", handler="127.0.0.1:9000",
                 client_address=client_address,
                 offload=offload),
        prefix=AS_NOBODY, run=directory, **arguments)
    daemon.program = shutil.copy(daemon.program, env.path("realpeerd"))
    return daemon


def relays(env, handler):
    with env.lb.connect(ADDRESS) as sock:
        want = header.v1(SOURCE, (LB_FRONT, 1883)) + b"hello"
        stream.exchange(sock, HEADER + b"hello", want)
        equal(handler.wait(1).data, want, "bytes at the handler")


@needs(SETPRIV)
def test_off(env):
    """offload = off: nothing is missing, so nothing is complained of."""
    handler = env.handler()
    daemon = daemon_of_nobody(env, "off").start()
    equal(daemon.process.status("Uid"), NOBODY, "the daemon's user")
    relays(env, handler)
    equal(daemon.stat("echo", "header_v2"), 1, "header_v2")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + b"x", header.v1(SOURCE, (LB_FRONT, 1883)) + b"x")
        equal(daemon.wait_connections(1)[0]["client"], SOURCE[0], "client in the list")
    equal(daemon.log_complaints(), [], "complaints in the log")
    check(not os.path.exists(daemon.bpffs), "pins were made")


@needs(SETPRIV)
def test_counts_apart(env):
    """Each listener counts under a number of its own, also one that comes later.

    Fails if plan_numbers(), plan.c, takes 0 for a number: all have that at the start.
    """
    def relay(name, port):
        return listener(name, listen=f"{SERVER}:{port}", handler="127.0.0.1:9000", offload="off")

    env.handler()
    daemon = daemon_of_nobody(env, "off")
    daemon.configure(relay("one", 1881) + relay("two", 1882))
    daemon.start()
    with env.lb.connect((SERVER, 1881)) as sock:
        stream.exchange(sock, HEADER + b"hello", b"hello")
        equal([daemon.stat(name, "connections") for name in ("one", "two")], [1, 0],
              "connections of either")
        daemon.reload(relay("two", 1882) + relay("three", 1883))
        equal([daemon.status_of(name)["active"] for name in ("two", "three")], [0, 0],
              "active ones of others")
    daemon.wait_connections(0)
    daemon.reload(relay("four", 1884))
    equal(daemon.stat("four", "connections"), 0, "connections of the last")


@needs(SETPRIV)
def test_auto_says_why(env):
    handler = env.handler()
    daemon = daemon_of_nobody(env, "auto").start()
    relays(env, handler)
    equal(daemon.status_of("echo")["offload"], "off", "offload")
    check(daemon.status_of("echo")["why"], "the status gives no reason")
    line = daemon.process.wait_log(r"^warning: .*why=.*(CAP_BPF|not permitted)")
    check("BPF" in line, f"not clear: {line}")


@needs(SETPRIV)
def test_never_silently_less(env):
    """What a listener demands and can't have stops the start."""
    for offload, client_address in (("peek", "none"), ("off", "getpeername"),
                                    ("auto", "getpeername")):
        daemon = daemon_of_nobody(env, offload, client_address)
        said = daemon.fails_to_start()
        check("echo" in said and (offload in said or client_address in said),
              f"not clear: {said}")
        shutil.rmtree(daemon.run_directory)


@needs(SETPRIV)
def test_unwritable_run_directory(env):
    """It works without a control socket, and says so."""
    handler = env.handler()
    daemon = daemon_of_nobody(env, "off", own_run=False).start()
    relays(env, handler)
    line = daemon.process.wait_log(r"nobody\.run")
    check("control" in line, f"not clear: {line}")
    daemon.ctl("status", status=1)
