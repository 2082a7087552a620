# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""An interface goes away and comes back under a listener: connections are
inline again, without a word to the daemon, and the log tells of it."""

import contextlib
import signal

from lib import bpf, fault, header, inline, stream
from lib.inline import INLINE, PAYLOAD
from lib.poll import equal, wait_for
from lib.requirement import BPFTOOL, TCX, needs
from lib.topology import CLIENTS, LB_FRONT, SERVER

SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
HERE, THERE = "10.78.0.2", "10.78.0.1"
HERE6, THERE6 = "fd78::2", "fd78::1"
TRUSTED = "10.77.0.0/16, 10.78.0.0/24, fd78::/64"
INDEX = 77  # the same number each time
ATTACHED = r"msg=attached interface=(later|renamed)$"


class Link:
    """A veth between lb and the server that the test does things to."""

    def __init__(self, env, listen):
        self.env = env
        self.name = "later"
        self.add()
        self.server = inline.Server.start(env, ("::", 1883))
        self.running = inline.daemon(env, listen, trusted=TRUSTED)

    def add(self):
        self.env.server.run("ip", "link", "add", "later", "index", str(INDEX), "type", "veth",
                            "peer", "name", "later", "netns", self.env.lb.name)
        self.configure(self.env.lb, THERE, THERE6)
        self.configure(self.env.server, HERE, HERE6)

    def configure(self, namespace, address, address6):
        namespace.run("ip", "address", "add", f"{address}/24", "dev", self.name)
        namespace.run("ip", "address", "add", f"{address6}/64", "dev", self.name, "nodad")
        namespace.run("ip", "link", "set", self.name, "up")

    def set(self, *what, namespace=None):
        (namespace or self.env.server).run("ip", "link", "set", self.name, *what)

    def delivery(self, address=HERE):
        """How a connection reaches the server, whose client is right in any case."""
        count = len(self.server.accepted) + 1
        with self.env.lb.connect((address, 1883)) as sock:
            stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
            equal(self.server.wait(count).peer, (f"::ffff:{SOURCE[0]}", SOURCE[1]), "client")
            port = sock.getsockname()[1]
            return next(entry["delivery"] for entry in self.running.connections()
                        if entry["proxy_port"] == port)

    def wait_attached(self, count):
        """In all. What comes before that, and speaks afterwards, is reset as `stray`."""
        wait_for(lambda: len(self.running.process.lines(ATTACHED)) == count,
                 f"{count} lines of the log with {ATTACHED}")

    def wait_inline(self, address=HERE):
        wait_for(lambda: self.delivery(address) == "inline", "connections to be inline again")
        inline.nothing_left(self.running)

    @contextlib.contextmanager
    def unseen(self):
        """The daemon looks only when all of it has happened."""
        with fault.paused(self.running):
            yield

    def told(self, pattern, count):
        lines = self.running.process.lines(pattern)
        equal(len(lines), count, f"lines with {pattern}: {lines}")


@needs(INLINE, BPFTOOL)
def test_replaced(env):
    """Gone, and another one is there with its number, before the daemon looked.

    Fails without is_attached() in interface_keep(), datapath_attach.c: relayed
    from then on.
    """
    link = Link(env, "[::]:1883")
    link.wait_inline()
    with link.unseen():
        link.set("down")
        env.server.run("ip", "link", "delete", "later")
        link.add()
    link.wait_attached(2)
    link.wait_inline()
    link.told("detached, another interface has its number.* interface=later$", 1)
    equal(link.running.log_complaints(), [], "complaints in the log")


@needs(INLINE, BPFTOOL)
def test_replaced_without_a_daemon(env):
    """The same, between one daemon that was killed and the next.

    Fails without unlink() in link_take(), datapath_attach.c.
    """
    link = Link(env, "[::]:1883")
    link.wait_inline()
    link.running.stop(signal.SIGKILL)
    env.server.run("ip", "link", "delete", "later")
    link.add()
    link.running.start()
    link.wait_inline()
    equal(link.running.log_complaints(), [], "complaints in the log")


@needs(INLINE, BPFTOOL)
def test_comes_and_goes(env):
    """Deleted and made again, while the daemon looks on.

    Fails without datapath_handle_event() in run() of realpeerd.c.
    """
    link = Link(env, "[::]:1883")
    for count in range(1, 4):
        link.wait_attached(count)
        link.wait_inline()
        env.server.run("ip", "link", "delete", "later")
        link.running.process.wait_log("msg=detached interface=later$")
        wait_for(lambda: len(link.running.process.lines(  # noqa: B023
            "msg=detached interface=later$")) == count,  # noqa: B023
                 "a line for the interface that went")
        link.add()
    link.wait_attached(4)
    link.wait_inline()
    equal(link.running.log_complaints(), [], "complaints in the log")


@needs(INLINE, BPFTOOL)
def test_down_up_and_renamed(env):
    """An IPv6 address goes when its interface goes down, and comes later than the
    interface comes up. Until then it may come by any. A connection outlives it as
    TCP does.

    Fails without RTMGRP_IPV6_IFADDR in open_netlink(), datapath.c.
    """
    link = Link(env, f"[{HERE6}]:1883")
    held = env.lb.connect((HERE6, 1883))
    stream.exchange(held, HEADER + PAYLOAD, PAYLOAD)
    for count, name in enumerate(("later", "renamed", "later"), 1):
        old, link.name = link.name, name
        env.server.run("ip", "link", "set", old, "down")
        wait_for(lambda: len(link.running.process.lines(  # noqa: B023
            "msg=attached interface=back$")) == count,  # noqa: B023
                 "a line for the address that went")
        if name != old:
            env.server.run("ip", "link", "set", old, "name", name)
        env.server.run("ip", "link", "set", name, "up")
        env.server.run("ip", "address", "add", f"{HERE6}/64", "dev", name, "nodad")
        wait_for(lambda: len(link.running.process.lines(  # noqa: B023
            "msg=detached interface=back$")) == count,  # noqa: B023
                 "a line for the address that came")
        stream.exchange(held, b"still here")
        wait_for(lambda: link.delivery(HERE6) == "inline", "connections to be inline again")
    held.close()
    inline.nothing_left(link.running)
    equal(link.running.log_complaints(), [], "complaints in the log")


@needs(INLINE, BPFTOOL)
def test_moved_away_and_back(env):
    """Through another namespace, as containers' interfaces are, whether the daemon
    sees it there or not. What is the other namespace's it lets go of.

    Fails without datapath_handle_event() in run() of realpeerd.c.
    """
    link = Link(env, f"{HERE}:1883")
    link.wait_inline()
    link.set("netns", env.stranger.name)
    link.running.process.wait_log("msg=detached interface=later$")
    link.set("netns", env.server.name, namespace=env.stranger)
    link.configure(env.server, HERE, HERE6)
    link.wait_attached(2)
    link.wait_inline()
    with link.unseen():
        link.set("netns", env.stranger.name)
        link.set("netns", env.server.name, namespace=env.stranger)
        link.configure(env.server, HERE, HERE6)
    link.wait_inline()
    equal(link.running.log_complaints(), [], "complaints in the log")


@needs(INLINE, BPFTOOL)
def test_attached_meanwhile(env):
    """The SYN came before the program was there, so the safety net gave it to the
    daemon, and the header after.

    Fails without rp_is_of_daemon(), sockops.bpf.c: a child that nobody judged.
    """
    server = inline.Server.start(env, ("::", 1883))
    running = inline.daemon(env, "[::]:1883", trusted=TRUSTED)
    with fault.paused(running):
        env.server.run("ip", "link", "add", "later", "type", "veth", "peer", "name", "later",
                       "netns", env.lb.name)
        for namespace, address in ((env.server, HERE), (env.lb, THERE)):
            namespace.run("ip", "address", "add", f"{address}/24", "dev", "later")
            namespace.run("ip", "link", "set", "later", "up")
        sock = env.lb.connect((HERE, 1883))
    running.process.wait_log("msg=attached interface=later")
    with sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        equal(server.wait(1).peer, (f"::ffff:{SOURCE[0]}", SOURCE[1]), "client")


@needs(INLINE, BPFTOOL, TCX)
def test_program_taken_away(env):
    """By whoever may: the safety net takes the connections, and the next news of
    an interface puts the program back. There may be news from before.

    Fails without rp_lookup, datapath_attach_hooks(); and without is_attached().
    """
    link = Link(env, "[::]:1883")
    link.wait_inline()
    pin = link.running.map_path(f"links/ingress_{INDEX}")

    def taken_away():
        bpf.bpftool("link", "detach", "pinned", pin)
        return link.delivery() == "relay"

    wait_for(taken_away, "a connection without the program")
    link.set("mtu", "1400")
    wait_for(lambda: len(link.running.process.lines(ATTACHED)) > 1, "the program to be back")
    link.wait_inline()


@needs(INLINE, BPFTOOL)
def test_many_go_at_once(env):
    """Interfaces that went since the daemon saw them are no mistake of anybody's,
    and no reason to refuse a reload.

    Fails without went() in datapath_attach_interfaces().
    """
    running = inline.daemon(env, f"[::]:1883, {SERVER}:1884")
    env.server.run("ip", "link", "add", "d99", "group", "7", "type", "bridge")
    running.process.wait_log("msg=attached interface=d99")
    commands = "".join(f"link add d{n} group 7 type bridge\n" for n in range(20))
    for _ in range(4):
        env.server.run("sh", "-c", f"ip -batch - <<EOF\n{commands}link delete group 7\nEOF")
        running.reload(done="reload msg=done")
    equal(running.log_complaints(), [], "complaints in the log")
