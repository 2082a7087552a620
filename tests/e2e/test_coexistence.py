# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Other people's programs on the same hooks go on working beside realpeer's,
whoever came first, and are still attached when it has gone."""

import os
import socket

from lib import bpf, header, stream
from lib.poll import check, equal
from lib.programs import Programs
from lib.realpeer import listener
from lib.requirement import BPF, BPFTOOL, CLANG, TC, TCX, needs
from lib.topology import CLIENTS, LB_FRONT, SERVER, SERVER_SIDE, STRANGER

SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
COUNTED = ("ingress", "peername", "established", "state")


class Other(Programs):
    """The programs of other.bpf.c."""

    def __init__(self, env):
        super().__init__(env, "other")

    def attach_cgroup(self):
        cgroup = os.open(bpf.mounted("cgroup2"), os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.link("other_peername", cgroup, bpf.CGROUP_INET4_GETPEERNAME)
            self.link("other_sockops", cgroup, bpf.CGROUP_SOCK_OPS)
        finally:
            os.close(cgroup)

    def attach_tcx(self):
        with self.env.server.entered():
            self.link("other_ingress", socket.if_nametoindex("back"), bpf.TCX_INGRESS)

    def attach_clsact(self):
        run = self.env.server.run
        # not "add": without tcx realpeer made one already, if it came first
        run("tc", "qdisc", "replace", "dev", "back", "clsact")
        run("tc", "filter", "add", "dev", "back", "ingress", "bpf", "direct-action",
            "object-pinned", f"{self.pins}/other_ingress")

    def counts(self):
        return self.counted(COUNTED)


def all_run(env, other, handler, what):
    """One connection: right client, and each of the other programs ran."""
    before = other.counts()
    count = len(handler.accepted) + 1
    with env.lb.connect((SERVER, 1883)) as sock:
        stream.exchange(sock, HEADER + b"hello", b"hello")
        equal(handler.wait(count).peer, SOURCE, f"client {what}")
    after = other.counts()
    for key in COUNTED:
        check(after[key] > before[key], f"{key} did not run {what}")


def still_run(env, other):
    """The same without realpeer: a plain connection to a plain server."""
    before = other.counts()
    listening = env.server.listen((SERVER, 1885))
    env.at_end(listening.close)
    with env.lb.connect((SERVER, 1885)) as sock:
        accepted, peer = listening.accept()
        equal(peer, sock.getsockname(), "the client of a plain server")
        accepted.close()
    after = other.counts()
    for key in COUNTED:
        check(after[key] > before[key], f"{key} is no longer attached")


def others_first(env, attach):
    handler = env.handler()
    other = Other(env)
    other.attach_cgroup()
    attach(other)
    daemon = env.relay(offload="peek")
    all_run(env, other, handler, "attached first")
    equal(daemon.stat("echo", "peeked"), 1, "peeked")
    equal(daemon.stop(), 0, "exit status")
    still_run(env, other)


def others_later(env, attach):
    handler = env.handler()
    other = Other(env)
    daemon = env.relay(offload="peek")
    other.attach_cgroup()
    attach(other)
    all_run(env, other, handler, "attached later")
    equal(daemon.stat("echo", "peeked"), 1, "peeked")
    equal(daemon.stop(), 0, "exit status")
    still_run(env, other)


@needs(BPF, BPFTOOL, CLANG, TCX)
def test_tcx_first(env):
    others_first(env, Other.attach_tcx)


@needs(BPF, BPFTOOL, CLANG, TCX)
def test_tcx_later(env):
    """Fails with TC_ACT_OK for TC_ACT_UNSPEC in rp_ingress_accept()."""
    others_later(env, Other.attach_tcx)


@needs(BPF, BPFTOOL, CLANG, TC)
def test_clsact_first(env):
    others_first(env, Other.attach_clsact)


@needs(BPF, BPFTOOL, CLANG, TC)
def test_clsact_later(env):
    """Fails with TC_ACT_OK for TC_ACT_UNSPEC in rp_ingress_accept()."""
    others_later(env, Other.attach_clsact)


@needs(BPF, BPFTOOL, CLANG, TC)
def test_qdisc_is_not_taken_away(env):
    """A clsact qdisc that was there before stays, with its filters.

    Fails, where tcx is not used, if filter_detach() destroys the hook as well.
    """
    other = Other(env)
    other.attach_clsact()
    before = env.server.run("tc", "filter", "show", "dev", "back", "ingress").stdout
    daemon = env.relay()
    equal(daemon.stop(), 0, "exit status")
    equal(env.server.run("tc", "filter", "show", "dev", "back", "ingress").stdout, before,
          "filters on the interface")


@needs(BPF)
def test_traffic_of_others(env):
    """Servers that realpeer doesn't know are not touched, header or not."""
    env.relay()
    handler = env.handler((SERVER, 1885))
    with env.lb.connect((SERVER, 1885)) as sock:
        stream.exchange(sock, HEADER + b"hello", HEADER + b"hello")
        equal(handler.wait(1).peer, sock.getsockname(), "client")


@needs(BPF)
def test_two_daemons_in_two_namespaces(env):
    """The cgroup hooks are shared by all namespaces; records are not mixed."""
    here, there = env.handler(), env.handler(namespace=env.stranger)
    env.relay()
    env.realpeerd(listener("echo", listen=f"{STRANGER}:1883", handler="127.0.0.1:9000",
                           trusted=SERVER_SIDE, client_address="getpeername"),
                  name="second", namespace=env.stranger)
    other_source = (CLIENTS[1], 40002)
    for count in range(1, 21):
        with env.lb.connect((SERVER, 1883)) as one, \
                env.server.connect((STRANGER, 1883)) as two:
            one.sendall(HEADER + b"one")
            two.sendall(header.v2(other_source, (LB_FRONT, 1883)) + b"two")
            equal(stream.receive_exactly(one, 3), b"one", "echo of the first")
            equal(stream.receive_exactly(two, 3), b"two", "echo of the second")
            equal((here.wait(count).peer, there.wait(count).peer), (SOURCE, other_source),
                  "clients")
