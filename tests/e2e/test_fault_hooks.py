# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Other people's programs on the hooks of inline delivery, which go on working
beside realpeer's; and a hook that somebody keeps for himself. The hooks of a
relay: test_coexistence.py."""

import os
import subprocess

from test_coexistence import Other, all_run, still_run

from lib import bpf, fault, header, inline, stream
from lib.build import ROOT_DIRECTORY, build_directory
from lib.inline import INLINE, PAYLOAD
from lib.poll import check, equal, wait_for
from lib.realpeer import listener
from lib.requirement import BPF, BPFTOOL, CLANG, TCX, Requirement, needs
from lib.topology import CLIENTS, LB, LB_FRONT, SERVER, SERVER_SIDE, STRANGER

SK_LOOKUP = 36  # of enum bpf_attach_type
ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
OTHER_SOURCE = (CLIENTS[1], 40002)


def _may_make_cgroups():
    where = bpf.mounted("cgroup2")
    return where is not None and os.access(where, os.W_OK)


CGROUP2 = Requirement("a cgroup2 hierarchy to make cgroups in", _may_make_cgroups)


class OtherLookup:
    """The program of other_lookup.bpf.c, attached to the server's namespace."""

    def __init__(self, env):
        self.pins = f"{bpf.BPFFS_ROOT}/{env.prefix}-lookup"
        target = os.path.join(build_directory(), "tests/e2e/other_lookup.bpf.o")
        variables = {key: value for key, value in os.environ.items() if key != "MAKEFLAGS"}
        subprocess.run(["make", "-s", "-C", ROOT_DIRECTORY, f"O={build_directory()}", target],
                       check=True, timeout=60, env=variables)
        bpf.bpftool("prog", "loadall", target, self.pins, "pinmaps", f"{self.pins}/maps")
        netns = os.open(env.server.path, os.O_RDONLY)
        link = bpf.attach(f"{self.pins}/other_lookup", netns, SK_LOOKUP)
        os.close(netns)
        env.at_end(lambda: os.close(link))

    def count(self):
        return bpf.bpftool("map", "dump", "pinned",
                           f"{self.pins}/maps/looked_up")[0]["formatted"]["value"]


def through_the_net(env, running, server):
    """A connection that the safety net has to catch: its tuple is in TIME_WAIT."""
    for _ in range(2):
        count = len(server.accepted) + 1
        with env.lb.connect(ADDRESS, (LB, 30001)) as sock:
            sock.sendall(HEADER + PAYLOAD)
            equal(stream.ended_by(sock), ("eof", PAYLOAD), "answer")
        equal(server.wait(count).peer, SOURCE, "client")
    check(running.stat("echo", "handed_over") > 0, "the safety net caught nothing")


def answer_and_close(accepted):
    if accepted.receive() is not None:
        accepted.sock.sendall(PAYLOAD)


def each_lookup(env, first):
    server = inline.Server.start(env, behaviour=answer_and_close)
    plain = env.handler((SERVER, 1885))
    other = OtherLookup(env) if first else None
    running = inline.daemon(env)
    other = other or OtherLookup(env)
    before = other.count()
    through_the_net(env, running, server)
    check(other.count() > before, "the other program did not run")
    equal(running.stop(), 0, "exit status")
    before = other.count()
    with env.lb.connect((SERVER, 1885)) as sock:
        stream.exchange(sock, PAYLOAD)
        equal(plain.wait(1).peer, sock.getsockname(), "client of a plain server")
    check(other.count() > before, "the other program is no longer attached")


@needs(INLINE, BPFTOOL, CLANG)
def test_lookup_first(env):
    """Fails without the attachment of rp_lookup, datapath_attach_hooks()."""
    each_lookup(env, True)


@needs(INLINE, BPFTOOL, CLANG)
def test_lookup_later(env):
    """Fails without the attachment of rp_lookup, datapath_attach_hooks()."""
    each_lookup(env, False)


@needs(INLINE, BPFTOOL, CLANG, TCX)
def test_inline(env):
    """With another's programs on the cgroup, and on tcx behind ours.

    Fails if rp_ingress_accept says TC_ACT_OK in the place of TC_ACT_UNSPEC.
    """
    server = inline.Server.start(env)
    other = Other(env)
    running = inline.daemon(env)
    other.attach_cgroup()
    other.attach_tcx()
    all_run(env, other, server, "beside inline")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        before = other.counts()["ingress"]
        for _ in range(20):
            stream.exchange(sock, b"request")
        seen = other.counts()["ingress"] - before
        check(seen >= 20, f"the other program saw {seen} of 20 segments")
    equal(running.stat("echo", "connections"), 2, "inline connections")
    equal(running.stop(), 0, "exit status")
    still_run(env, other)


@needs(BPF)
def test_same_tuple_in_two_namespaces(env):
    """Two daemons, and the cgroup hooks of both see the sockets of both. What one
    waits for must not go to the other's, though its addresses and ports are the
    same: 127.0.0.1:50000 to 127.0.0.1:9000.

    Fails without rp_is_our_netns(), sockops.bpf.c.
    """
    here = env.handler()
    busy = env.stranger.listen(("127.0.0.1", 9000), backlog=0)
    env.at_end(busy.close)
    filler = env.stranger.connect(("127.0.0.1", 9000))  # all that the backlog holds
    env.at_end(filler.close)
    env.relay()
    env.realpeerd(listener("echo", listen=f"{STRANGER}:1883", handler="127.0.0.1:9000",
                           trusted=SERVER_SIDE, client_address="getpeername"),
                  name="second", namespace=env.stranger)
    for namespace in (env.server, env.stranger):
        namespace.sysctl("net.ipv4.ip_local_port_range", "50000 50001")
    with env.server.connect((STRANGER, 1883), (SERVER_SIDE, 40000)) as waits:
        waits.sendall(header.v2(OTHER_SOURCE, (LB_FRONT, 1883)) + b"hello")
        wait_for(lambda: ":50000 " in env.stranger.run(
            "ss", "-Htn", "state", "syn-sent", "dport = :9000").stdout, "a connection that waits")
        with env.lb.connect(ADDRESS) as sock:
            stream.exchange(sock, HEADER + b"hello", b"hello")
            equal(here.wait(1).peer, SOURCE, "client here")
            check(":50000 " in env.server.run("ss", "-Htn", "dport = :9000").stdout,
                  "the ports are not the same")
        busy.settimeout(10)
        busy.accept()[0].close()
        accepted, peer = busy.accept()
        accepted.close()
        equal(peer, OTHER_SOURCE, "client there")


@needs(BPF, BPFTOOL, CLANG, CGROUP2)
def test_hook_is_taken(env):
    """By a program that lets no other one beside it: what needs the hook does not
    start, what does not need it does, and both say why.

    Fails without try_cgroup() in datapath_probe().
    """
    other = Other(env)
    cgroup = os.path.join(bpf.mounted("cgroup2"), env.prefix)
    os.mkdir(cgroup)
    env.at_end(lambda: os.rmdir(cgroup))
    bpf.bpftool("cgroup", "attach", cgroup, "sock_ops", "pinned", f"{other.pins}/other_sockops")
    env.at_end(lambda: bpf.bpftool("cgroup", "detach", cgroup, "sock_ops", "pinned",
                                   f"{other.pins}/other_sockops"))
    mount = env.path("cgroup")
    os.mkdir(mount)
    prefix = ["sh", "-c", f'echo $$ >{cgroup}/cgroup.procs && exec "$@"', "sh",
              "unshare", "--cgroup", *fault.in_mounts(
                  "awk '$3 == \"cgroup2\" { print $2 }' /proc/mounts |"
                  " while read -r at; do umount \"$at\"; done",
                  f"mount -t cgroup2 none {mount}")]
    relay = listener("echo", listen=f"{SERVER}:1883", handler="127.0.0.1:9000")
    said = env.daemon(relay + "client_address = getpeername\n", name="refused",
                      prefix=prefix).fails_to_start()
    check("rp_sockops" in said and "cgroup" in said, f"not clear: {said}")
    handler = env.handler()
    daemon = env.daemon(relay + "client_address = proxy-v1\n", prefix=prefix).start()
    daemon.process.wait_log("^warning: .*cannot attach rp_sockops to the cgroup")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + b"hello", header.v1(SOURCE, (LB_FRONT, 1883)) + b"hello")
        check(handler.wait(1).data.startswith(b"PROXY TCP4"), "header at the handler")
    equal(daemon.stop(), 0, "exit status")
    wait_for(lambda: not open_procs(cgroup), "the cgroup to be empty")


def open_procs(cgroup):
    with open(f"{cgroup}/cgroup.procs", encoding="ascii") as file:
        return file.read()
