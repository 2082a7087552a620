# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""NAT rules in the server's network namespace, as Docker makes them, make the
kernel lose the sockets that TC assigns: the daemon notices, says so, and
relays. Notrack rules for the port keep it inline."""

import contextlib
import signal
import subprocess

from lib import header, inline, stream
from lib.inline import INLINE, PAYLOAD
from lib.poll import check, equal, wait_for
from lib.realpeer import LOSSES
from lib.requirement import needs, program
from lib.topology import CLIENTS, CLIENTS6, LB_FRONT, LB_FRONT6, SERVER, SERVER6, SERVER_SIDE

NFT = program("nft")
SOURCE = (CLIENTS[0], 40001)
SOURCE6 = (CLIENTS6[0], 40001)
V4 = ((SERVER, 1883), SOURCE, header.v2(SOURCE, (LB_FRONT, 1883)))
V6 = ((SERVER6, 1883), SOURCE6, header.v2(SOURCE6, (LB_FRONT6, 1883)))
WARNING = "TC assigns"

MASQUERADE = """
    chain leave {
        type nat hook postrouting priority srcnat;
        ip saddr 172.17.0.0/16 masquerade
        ip6 saddr fd17::/64 masquerade
    }
"""
OTHER_PORT = """
    chain come {
        type nat hook prerouting priority dstnat;
        tcp dport 8080 dnat ip to 172.17.0.2:80
        tcp dport 8080 dnat ip6 to [fd17::2]:80
    }
"""
# As README.md has them.
NOTRACK = """
    chain prerouting {
        type filter hook prerouting priority raw
        fib daddr type local tcp dport 1883 notrack
    }
    chain output {
        type filter hook output priority raw
        tcp sport 1883 notrack
    }
"""


def set_rules(env, *chains):
    subprocess.run(env.server.command("nft", "-f", "-"), check=True, text=True, timeout=20,
                   input="flush ruleset\ntable inet nat {\n" + "".join(chains) + "}\n")


def attempt(env, address, data):
    """An established connection, or None if it was reset."""
    sock = env.lb.connect(address)
    try:
        stream.exchange(sock, data + PAYLOAD, PAYLOAD)
        stream.exchange(sock, b"and more", b"and more")
        return sock
    except ConnectionError:
        sock.close()
        return None


def finds_out(env, running, where):
    """The connections that meet the rules first are reset, save one by chance: the
    port that the kernel compares is what its memory was used for before."""
    for _ in range(10 * LOSSES):
        if running.losing():
            break
        sock = attempt(env, where[0], where[2])
        if sock:
            sock.close()
    check(running.losing(), "NAT rules are no hindrance any more")
    running.loses = True


def gets_through(env, running, where, delivery):
    """The next connection is served, the server sees the client."""
    address, source, data = where
    sock = attempt(env, address, data)
    check(sock, f"reset, delivery = {delivery}")
    with sock:
        record = running.wait_connections(1)[0]
        equal((record["client"], record["delivery"]), (source[0], delivery), "record")
    running.wait_connections(0)


def warnings(running):
    return running.process.lines(WARNING)


def wait_warned(running, count=1):
    wait_for(lambda: len(warnings(running)) >= count, f"{count} warnings")
    equal(len(warnings(running)), count, "warnings")


def survives(env, rules, first, second):
    """The connections that find the rules out are reset, all others are served."""
    server = inline.Server.start(env, (SERVER, 1883))
    server6 = inline.Server.start(env, (SERVER6, 1883))
    running = inline.daemon(env)
    gets_through(env, running, first, "inline")
    set_rules(env, rules)
    finds_out(env, running, first)
    running.wait_connections(0)
    before = len(server.accepted) + len(server6.accepted)
    for where in (first, second, first):
        gets_through(env, running, where, "relay")
    wait_warned(running)
    check(WARNING in running.status_of("echo")["why"], "no reason in the status")
    for each, source in ((server, SOURCE), (server6, SOURCE6)):
        for accepted in each.accepted:
            equal((accepted.from_accept[:2], accepted.peer[:2]), (source, source), "client")
    equal(len(server.accepted) + len(server6.accepted), before + 3, "accepted connections")
    inline.nothing_left(running)


@needs(INLINE, NFT)
def test_masquerade(env):
    """Of other traffic than ours.

    Fails without rp_is_lost() in lookup.bpf.c, and without rp_is_losing() in
    rp_on_syn(), handshake.h.
    """
    survives(env, MASQUERADE, V4, V6)


@needs(INLINE, NFT)
def test_other_port_ipv6(env):
    """A published port of a container; IPv6 finds out. Fails as the one above."""
    survives(env, OTHER_PORT, V6, V4)


@needs(INLINE, NFT)
def test_header_in_pieces(env):
    """What is handed over to the daemon is lost as well.

    Fails if rp_is_lost() in lookup.bpf.c does not know RP_CLAIM_OF_DAEMON.
    """
    set_rules(env, MASQUERADE)
    server = inline.Server.start(env)
    running = inline.daemon(env)
    address, _source, data = V4
    for _ in range(10 * LOSSES):
        if running.losing():
            break
        with env.lb.connect(address) as sock, contextlib.suppress(ConnectionError):
            stream.send_pieces(sock, (data[:14], data[14:] + PAYLOAD))
            stream.receive_exactly(sock, len(PAYLOAD))
    check(running.losing(), "NAT rules are no hindrance any more")
    running.loses = True
    server.accepted.clear()
    handshakes = running.stat("echo", "handshakes")
    with env.lb.connect(address) as sock:
        stream.send_pieces(sock, (data[:14], data[14:] + PAYLOAD))
        equal(stream.receive_exactly(sock, len(PAYLOAD)), PAYLOAD, "echo")
        equal(server.wait(1).peer, SOURCE, "client")
    equal(running.stat("echo", "handshakes"), handshakes, "handshakes of TC's")


@needs(INLINE, NFT)
def test_relay_listener(env):
    """The daemon's own socket is lost as the server's is.

    Fails if lookup.bpf.c looks at listeners with delivery = inline only.
    """
    set_rules(env, MASQUERADE)
    handler = env.handler()
    running = env.relay()
    equal(running.status_of("echo")["offload"], "accept", "offload")
    finds_out(env, running, V4)
    for _ in range(3):
        gets_through(env, running, V4, "relay")
    equal({accepted.peer for accepted in handler.accepted}, {SOURCE}, "clients")
    wait_warned(running)


@needs(INLINE, NFT)
def test_plain_clients(env):
    """A socket on another port, which TC assigns to their SYNs, is lost as well.

    Fails if sk_lookup gives only trusted peers to the daemon.
    """
    set_rules(env, MASQUERADE)
    server = inline.Server.start(env, ("0.0.0.0", 18830))
    running = inline.daemon(env, "0.0.0.0:1883", untrusted="direct", handler=18830)
    finds_out(env, running, V4)
    gets_through(env, running, V4, "relay")
    count = len(server.accepted) + 1
    with env.stranger.connect((SERVER_SIDE, 1883)) as sock:
        stream.exchange(sock, PAYLOAD, PAYLOAD)
        equal(server.wait(count).peer, sock.getsockname(), "plain client")
    stream.refused(env.stranger, (SERVER_SIDE, 1883), V4[2] + PAYLOAD)
    equal(running.stat("echo", "untrusted_header"), 1, "forged headers")
    inline.nothing_left(running)


@needs(INLINE, NFT)
def test_reload(env):
    """Tries inline again, and finds out again what is in its way.

    Fails without datapath_try_again() in daemon_reload().
    """
    set_rules(env, MASQUERADE)
    inline.Server.start(env)
    running = inline.daemon(env)
    finds_out(env, running, V4)
    gets_through(env, running, V4, "relay")
    wait_warned(running)
    running.reload()
    finds_out(env, running, V4)
    gets_through(env, running, V4, "relay")
    wait_warned(running, 2)
    subprocess.run(env.server.command("nft", "flush", "ruleset"), check=True, timeout=20)
    gets_through(env, running, V4, "relay")
    running.ctl("reload")
    for _ in range(3):
        gets_through(env, running, V4, "inline")
    equal(running.status_of("echo")["why"], "", "why after the reload")
    running.loses = False
    equal(len(warnings(running)), 2, "warnings")


@needs(INLINE, NFT)
def test_restart(env):
    """The next daemon knows, and says it again; nobody is reset for it.

    Fails if map_gates() in datapath.c clears `lost`, and without tell_losing()
    in datapath_upkeep().
    """
    set_rules(env, MASQUERADE)
    inline.Server.start(env)
    running = inline.daemon(env)
    finds_out(env, running, V4)
    wait_warned(running)
    running.stop(signal.SIGKILL)
    running.start()
    gets_through(env, running, V4, "relay")
    wait_warned(running, 2)


@needs(INLINE, NFT)
def test_notrack(env):
    """The way out that README.md names: inline from the first connection on."""
    set_rules(env, MASQUERADE, OTHER_PORT, NOTRACK)
    inline.Server.start(env, (SERVER, 1883))
    inline.Server.start(env, (SERVER6, 1883))
    running = inline.daemon(env)
    for where in (V4, V6, V4):
        gets_through(env, running, where, "inline")
    equal(warnings(running), [], "warnings")
