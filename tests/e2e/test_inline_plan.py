# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What realpeerd says of a listener's offload before and while it runs, and
why it is not a better one. Inline never silently becomes something else."""

import os
import socket

from lib import bpf, header, inline, stream
from lib.inline import INLINE, PAYLOAD
from lib.poll import check, equal, wait_for
from lib.realpeer import listener
from lib.requirement import BPFTOOL, Skip, needs
from lib.topology import CLIENTS, LB_FRONT, SERVER

ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
INLINE_LISTENER = listener("echo", listen=f"{SERVER}:1883", delivery="inline")
RELAY_LISTENER = listener("echo", listen=f"{SERVER}:1883", handler="127.0.0.1:9000")
WITHOUT_CGROUP2 = ["unshare", "--mount", "sh", "-c",
                   'awk \'$3 == "cgroup2" { print $2 }\' /proc/mounts |'
                   ' while read -r at; do umount "$at"; done && exec "$@"', "sh"]


def said(env, config, status=0, prefix=()):
    """The output of realpeerd -n."""
    daemon = env.daemon(config, name=f"check{len(env.daemons)}", prefix=prefix)
    text = daemon.plan(status)
    check(not os.path.exists(daemon.bpffs), "-n left pins")
    return text


def says(text, *words):
    for word in words:
        check(word in text, f"{word!r} is not said: {text}")


@needs(INLINE, BPFTOOL)
def test_best(env):
    """Here inline works, and nothing better is missed."""
    inline.Server.start(env)
    text = said(env, INLINE_LISTENER)
    says(text, "echo", "inline", "accept")
    check("warning" not in text, f"a warning: {text}")
    running = inline.daemon(env)
    status = running.status_of("echo")
    equal((status["delivery"], status["offload"], status["why"]), ("inline", "accept", ""),
          "status")


@needs(INLINE, BPFTOOL)
def test_no_syncookies(env):
    """tcp_syncookies = 0: the kernel would not take our children.

    Fails without the test for them in try_accept(), datapath_probe.c.
    """
    env.server.sysctl("net.ipv4.tcp_syncookies", 0)
    says(said(env, INLINE_LISTENER, 1), "inline", "tcp_syncookies")
    says(env.daemon(INLINE_LISTENER, name="refused").fails_to_start(), "tcp_syncookies")
    text = said(env, RELAY_LISTENER)
    says(text, "peek", "tcp_syncookies")
    handler = env.handler()
    running = env.relay()
    equal(running.status_of("echo")["offload"], "peek", "offload of a relay")
    says(running.status_of("echo")["why"], "tcp_syncookies")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        equal(handler.wait(1).peer, SOURCE, "client")


@needs(INLINE, BPFTOOL)
def test_syncookies_switched_off(env):
    """While the daemon runs: it relays until they are on again.

    Fails without the test for them in rp_on_syn(), handshake.h.
    """
    server = inline.Server.start(env)
    running = inline.daemon(env)

    def seen():
        return bpf.map_values(running.map_path("settings"))[0]["syncookies"]
    for count, (value, delivery) in enumerate(((1, "inline"), (0, "relay"), (1, "inline")), 1):
        env.server.sysctl("net.ipv4.tcp_syncookies", value)
        wait_for(lambda: seen() == value,  # noqa: B023
                 f"the daemon to see that tcp_syncookies is {value}")
        with env.lb.connect(ADDRESS) as sock:
            stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
            equal(server.wait(count).peer, SOURCE, "client")
            records = running.connections()
            equal([record["delivery"] for record in records], [delivery], "delivery")
    says(running.process.log(), "tcp_syncookies is 0", "on again")
    inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_syncookies_always(env):
    """tcp_syncookies = 2 is no hindrance."""
    env.server.sysctl("net.ipv4.tcp_syncookies", 2)
    server = inline.Server.start(env)
    inline.daemon(env)
    for count in range(1, 20):
        with env.lb.connect(ADDRESS) as sock:
            stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
            equal(server.wait(count).peer, SOURCE, "client")


@needs(INLINE, BPFTOOL)
def test_no_cgroup2(env):
    """Without it no hook could show the client.

    Fails without try_cgroup(), datapath_probe.c.
    """
    says(said(env, INLINE_LISTENER, 1, WITHOUT_CGROUP2), "inline", "cgroup2")
    says(said(env, RELAY_LISTENER + "client_address = none\n", 0, WITHOUT_CGROUP2), "cgroup2")
    env.handler()
    daemon = env.daemon(INLINE_LISTENER, name="refused", prefix=WITHOUT_CGROUP2)
    says(daemon.fails_to_start(), "cgroup2")


@needs(INLINE, BPFTOOL)
def test_no_rights(env):
    """An ordinary user is told what it takes.

    Fails without try_bpf(), datapath_probe.c.
    """
    prefix = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
              "--bounding-set", "-all", "--inh-caps", "-all"]
    os.chmod(env.directory, 0o777)
    says(said(env, INLINE_LISTENER, 1, prefix), "inline",
         "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN are missing")


@needs(INLINE, BPFTOOL)
def test_offload_asked_for(env):
    """inline with less than accept contradicts itself."""
    for offload in ("peek", "off"):
        text = said(env, listener("echo", listen=f"{SERVER}:1883", delivery="inline",
                                  offload=offload), 1)
        says(text, "inline", "accept")
    says(said(env, listener("echo", listen=f"{SERVER}:1883", delivery="inline",
                            offload="accept")), "accept")


@needs(INLINE, BPFTOOL)
def test_no_server_yet(env):
    """No reason to refuse, but worth a word."""
    says(said(env, INLINE_LISTENER), "accept", "no server")
    says(said(env, listener("echo", listen=f"{SERVER}:1883", delivery="inline",
                            handler=18830)), "accept", "no server")


@needs(INLINE, BPFTOOL)
def test_mptcp_listener(env):
    listening = inline.mptcp_socket(env.server)
    if not listening:
        raise Skip("no MPTCP in this kernel")
    env.at_end(listening.close)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(ADDRESS)
    listening.listen(16)
    text = said(env, INLINE_LISTENER)
    check("mptcp" in text.lower(), f"MPTCP is not said: {text}")


@needs(INLINE, BPFTOOL)
def test_relay_uses_accept(env):
    """A relaying daemon profits too: it accepts behind the header."""
    handler = env.handler()
    running = env.relay()
    equal(running.status_of("echo")["offload"], "accept", "offload")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        equal(handler.wait(1).peer, SOURCE, "client")
        entry = running.wait_connections(1)[0]
        equal((entry["delivery"], entry["offload"], entry["client"]),
              ("relay", "accept", SOURCE[0]), "record")
    equal(running.stat("echo", "handshakes"), 1, "handshakes")
