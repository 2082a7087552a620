# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Something that the daemon stands on is not there, is full, or is held by
somebody else: it says what, why, and what it does instead, and relays; or says
why it cannot do what was asked of it. Inline without cgroup2: test_inline_plan.py."""

import os

from lib import fault, header, stream
from lib.poll import check, equal
from lib.realpeer import listener
from lib.requirement import BPF, needs, program
from lib.topology import CLIENTS, LB_FRONT, SERVER

SETPRIV = program("setpriv")
ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
SENT_ON = header.v1(SOURCE, (LB_FRONT, 1883)) + b"hello"
UNMOUNT_BPFFS = "while umount /sys/fs/bpf 2>/dev/null; do :; done"
UNMOUNT_CGROUP2 = ("awk '$3 == \"cgroup2\" { print $2 }' /proc/mounts |"
                   " while read -r at; do umount \"$at\"; done")


def relay(client_address, **settings):
    return listener("echo", listen=f"{SERVER}:1883", handler="127.0.0.1:9000",
                    client_address=client_address, **settings)


def relays_alone(env, name, prefix, *words, variables=None, run=None):
    """It does everything itself, and has said why. The header that it sends on
    tells the handler the client."""
    handler = env.handler()
    daemon = env.daemon(relay("proxy-v1"), name=name, prefix=prefix, variables=variables,
                        run=run).start()
    for count in range(1, 4):
        with env.lb.connect(ADDRESS) as sock:
            stream.exchange(sock, HEADER + b"hello", SENT_ON)
            equal(handler.wait(count).data, SENT_ON, "bytes at the handler")
            equal(daemon.connections()[0]["client"], SOURCE[0], "client in the list")
    line = daemon.process.wait_log(r"^warning: .*the daemon does everything itself")
    for word in words:
        check(word in line and word in daemon.status_of("echo")["why"], f"no {word}: {line}")
    equal(daemon.status_of("echo")["offload"], "off", "offload")
    equal(daemon.stop(), 0, "exit status")
    handler.destroy()


def refuses(env, name, prefix, *words):
    """What a listener demands and cannot have."""
    for demand in (relay("getpeername"), relay("none", offload="peek")):
        said = env.daemon(demand, name=name, prefix=prefix).fails_to_start()
        for word in (*words, "echo"):
            check(word in said, f"no {word}: {said}")


@needs(BPF)
def test_no_bpffs(env):
    """None is mounted: the daemon mounts one, for itself alone.

    Fails without mount() in make_directory(), datapath.c.
    """
    handler = env.handler()
    daemon = env.daemon(relay("getpeername"), prefix=fault.in_mounts(UNMOUNT_BPFFS)).start()
    check(daemon.status_of("echo")["offload"] != "off", "it could do no better")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + b"hello", b"hello")
        equal(handler.wait(1).peer, SOURCE, "client")
    equal(daemon.log_complaints(), [], "complaints in the log")
    check(not os.path.exists(daemon.bpffs), "it used another bpffs")


@needs(BPF)
def test_bpffs_read_only(env):
    """It is there, but no pin can be made.

    Fails without the second setup_plan() in open_datapath(), realpeerd.c.
    """
    prefix = fault.in_mounts("mount -o remount,bind,ro /sys/fs/bpf")
    relays_alone(env, "alone", prefix, "BPF programs", "Read-only file system")
    refuses(env, "refused", prefix, "Read-only file system")


@needs(BPF, SETPRIV)
def test_no_right_to_mount_a_bpffs(env):
    """None is mounted, and there is no CAP_SYS_ADMIN to change that.

    Fails without the second setup_plan() in open_datapath(), realpeerd.c.
    """
    prefix = [*fault.in_mounts(UNMOUNT_BPFFS), "setpriv", "--bounding-set", "-sys_admin",
              "--inh-caps", "-sys_admin"]
    os.chmod(env.directory, 0o777)
    relays_alone(env, "alone", prefix, "BPF programs", "not permitted")


@needs(BPF)
def test_no_cgroup2(env):
    """No hook could show a client, and none could follow a connection.

    Fails without `features.bpf = features.getpeername` in datapath_probe().
    """
    prefix = fault.in_mounts(UNMOUNT_CGROUP2)
    relays_alone(env, "alone", prefix, "cgroup2")
    refuses(env, "refused", prefix, "cgroup2")


@needs(BPF)
def test_run_directory_full(env):
    """No control socket: it says so, and does without.

    Fails without the tolerance in daemon_open_control(), daemon_verbs.c.
    """
    handler = env.handler()
    run = env.path("full")
    os.mkdir(run)
    # one inode, and that is the directory's own
    prefix = fault.in_mounts(f"mount -t tmpfs -o size=4k,nr_inodes=1 none {run}")
    daemon = env.daemon(relay("getpeername"), prefix=prefix, run=run).start()
    line = daemon.process.wait_log("^warning: .*no control socket")
    check(run in line and "No space left" in line, f"not clear: {line}")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + b"hello", b"hello")
        equal(handler.wait(1).peer, SOURCE, "client")
    daemon.reload()
    equal(daemon.stop(), 0, "exit status")
    check(not os.path.exists(daemon.bpffs), "pins are left")
