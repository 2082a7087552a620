# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""delivery = inline on every kind of interface: VLAN, bridge, tunnel, loopback,
one that comes later; and what is only forwarded."""

import os
import socket
import subprocess

from lib import bpf, header, inline, packets, stream
from lib.inline import INLINE, PAYLOAD
from lib.poll import check, equal, wait_for
from lib.programs import Programs
from lib.requirement import BPFTOOL, CLANG, Requirement, needs, program
from lib.topology import (CLIENTS, CLIENTS6, LB, LB_FRONT, LB_FRONT6, SERVER, SERVER6,
                          STRANGER)

ETHTOOL = program("ethtool")
TUN = Requirement("TUN devices", lambda: os.path.exists("/dev/net/tun"))


def device(kind, *rest):
    """A type of network device that this kernel may be built without."""
    def is_there():
        add = ["unshare", "-n", "sh", "-c", "ip link add d0 type veth && "
               "ip link add link d0 name d1 type " + " ".join((kind, *rest))]
        return subprocess.run(add, capture_output=True, check=False).returncode == 0
    return Requirement(f"network devices of type {kind}", is_there)


VLAN = device("vlan", "id", "10")
MACVLAN = device("macvlan")
DUMMY = device("dummy")
IPIP = device("ipip", "local", "127.0.0.1", "remote", "127.0.0.2")
VXLAN = device("vxlan", "id", "7", "local", "127.0.0.1", "remote", "127.0.0.2")
SOURCE, SOURCE6 = (CLIENTS[0], 40001), (CLIENTS6[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
HEADER6 = header.v1(SOURCE6, (LB_FRONT6, 1883))
TRUSTED = "10.77.0.0/16, 10.78.0.0/24, fd77::/64, fd78::/64, 127.0.0.0/8, ::1"
BIG = PAYLOAD + bytes(range(256)) * 1000

# what the tests add: (lb's address, server's address), each with /24 and /64
EXTRA, EXTRA6 = ("10.78.0.1", "10.78.0.2"), ("fd78::1", "fd78::2")
# one more of the server's own
ALIAS, ALIAS6 = "10.77.0.50", "fd77::50"


def start(env, **settings):
    server = inline.Server.start(env, ("::", 1883))
    return server, inline.daemon(env, "[::]:1883", trusted=TRUSTED, **settings)


def addresses(env, lb_interface, server_interface):
    """EXTRA and EXTRA6 on two interfaces, which are set up."""
    for number, (namespace, name) in enumerate(
            ((env.lb, lb_interface), (env.server, server_interface))):
        namespace.run("ip", "address", "add", f"{EXTRA[number]}/24", "dev", name)
        namespace.run("ip", "address", "add", f"{EXTRA6[number]}/64", "dev", name, "nodad")
        namespace.run("ip", "link", "set", name, "up")


def connection(namespace, server, address, head, source, pieces):
    """Header and payload come in these pieces; the server sees the client."""
    want = source if ":" in source[0] else (f"::ffff:{source[0]}", source[1])
    count = len(server.accepted) + 1
    with namespace.connect((address, 1883)) as sock:
        stream.send_pieces(sock, pieces)
        whole = b"".join(pieces)[len(head):]
        equal(stream.receive_exactly(sock, len(whole)) == whole, True, "echo")
        accepted = server.wait(count)
        equal((accepted.from_accept, accepted.peer), (want, want), "client")


def works(env, server, running, targets=(EXTRA[1], EXTRA6[1]), namespace=None):
    """Both families: small, large, and in pieces; nothing is left."""
    before = running.stat("echo", "connections")
    for address in targets:
        head, source = (HEADER6, SOURCE6) if ":" in address else (HEADER, SOURCE)
        for pieces in ((head + PAYLOAD,), (head + BIG,), (head, BIG)):
            connection(namespace or env.lb, server, address, head, source, pieces)
    equal(running.stat("echo", "connections") - before, 3 * len(targets), "inline connections")
    inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_loopback(env):
    """A balancer on the same host: no checksum is ever computed there."""
    server, running = start(env)
    works(env, server, running, ("127.0.0.1", "::1", SERVER, SERVER6), env.server)


@needs(INLINE, BPFTOOL)
def test_two_interfaces(env):
    """Each has the programs: what comes in by one leaves by the same."""
    server, running = start(env)
    works(env, server, running, (SERVER, SERVER6))
    equal(running.stat("echo", "untrusted"), 0, "untrusted")
    try:
        env.stranger.connect(("10.66.0.2", 1883)).close()
    except ConnectionRefusedError:
        pass
    equal(running.stat("echo", "untrusted"), 1, "untrusted, by the other interface")


@needs(INLINE, BPFTOOL, VLAN)
def test_vlan(env):
    """A VLAN device on top of the interface, there before the daemon or not."""
    for before in (True, False):
        if not before:
            server, running = start(env)
        for namespace in (env.lb, env.server):
            namespace.run("ip", "link", "add", "link", "back", "name", "back.10",
                          "type", "vlan", "id", "10")
        addresses(env, "back.10", "back.10")
        if before:
            server, running = start(env)
        else:
            attached(env, running, "back.10")
        works(env, server, running)
        works(env, server, running, (SERVER, SERVER6))
        server.destroy()
        equal(running.stop(), 0, "exit status")
        env.lb.run("ip", "link", "delete", "back.10")
        env.server.run("ip", "link", "delete", "back.10")


def attached(env, running, name):
    """Waits until the daemon has noticed a new interface."""
    def there():
        return inline.is_attached(running, env.server, name)
    wait_for(there, f"the program at {name}")


@needs(INLINE, BPFTOOL, ETHTOOL, VLAN)
def test_vlan_without_offload(env):
    """Tags that stand in the frame, as from a device that leaves them there."""
    for namespace in (env.lb, env.server):
        namespace.run("ethtool", "-K", "back", "txvlan", "off", "rxvlan", "off")
        namespace.run("ip", "link", "add", "link", "back", "name", "back.10",
                      "type", "vlan", "id", "10")
    addresses(env, "back.10", "back.10")
    server, running = start(env)
    works(env, server, running)


def bridge(env, address=None):
    """The server's end of a veth is a port of a bridge that has the address."""
    env.lb.run("ip", "link", "add", "port", "type", "veth", "peer", "name", "port", "netns",
               env.server.name)
    env.server.run("ip", "link", "add", "br0", "type", "bridge")
    env.server.run("ip", "link", "set", "port", "master", "br0", "up")
    if address:
        env.server.run("ip", "link", "set", "br0", "address", address)
    addresses(env, "port", "br0")


@needs(INLINE, BPFTOOL)
def test_bridge(env):
    bridge(env)
    server, running = start(env)
    works(env, server, running)


@needs(INLINE, BPFTOOL)
def test_bridge_with_own_address(env):
    """Frames for another station until the bridge has seen them."""
    bridge(env, "02:00:00:00:00:77")
    server, running = start(env)
    works(env, server, running)


@needs(INLINE, BPFTOOL, VLAN)
def test_bridge_with_vlan(env):
    bridge(env)
    for namespace, name in ((env.lb, "port"), (env.server, "br0")):
        namespace.run("ip", "address", "flush", "dev", name)
        namespace.run("ip", "link", "add", "link", name, "name", "tagged",
                      "type", "vlan", "id", "20")
    addresses(env, "tagged", "tagged")
    server, running = start(env)
    works(env, server, running)


@needs(INLINE, BPFTOOL, MACVLAN)
def test_macvlan(env):
    env.server.run("ip", "link", "add", "mac0", "link", "back", "type", "macvlan", "mode", "bridge")
    env.lb.run("ip", "link", "add", "mac0", "link", "back", "type", "macvlan", "mode", "bridge")
    addresses(env, "mac0", "mac0")
    server, running = start(env)
    works(env, server, running)


@needs(INLINE, BPFTOOL, MACVLAN)
def test_macvlan_passthru(env):
    """It has the MAC address of the device below, so packets are for both.

    Fails without rp_is_assigned() in rp_on_later(), accept.bpf.c.
    """
    env.server.run("ip", "link", "add", "mac0", "link", "back", "type", "macvlan",
                   "mode", "passthru")
    env.server.run("ip", "address", "flush", "dev", "back")
    env.server.run("ip", "address", "add", f"{SERVER}/24", "dev", "mac0")
    env.server.run("ip", "link", "set", "mac0", "up")
    server, running = start(env)
    works(env, server, running, (SERVER,))


@needs(INLINE, BPFTOOL, TUN)
def test_tunnel(env):
    """Packets without an Ethernet header."""
    packets.Tunnel(env, (env.lb, env.server))
    addresses(env, "tunnel", "tunnel")
    server, running = start(env)
    works(env, server, running)
    works(env, server, running, (SERVER, SERVER6))


@needs(INLINE, BPFTOOL, IPIP)
def test_tunnel_of_ip(env):
    for namespace, local, remote in ((env.lb, LB, SERVER), (env.server, SERVER, LB)):
        namespace.run("ip", "link", "add", "tunnel", "type", "ipip", "local", local,
                      "remote", remote)
    addresses(env, "tunnel", "tunnel")
    server, running = start(env)
    works(env, server, running, EXTRA[1:])


class Sums(Programs):
    """summed.bpf.c behind realpeer's program on an interface of the server."""

    def __init__(self, env, interface):
        super().__init__(env, "summed")
        with env.server.entered():
            self.link("summed_ingress", socket.if_nametoindex(interface), bpf.TCX_INGRESS)

    def read(self):
        return self.counted(("otherwise", "right", "wrong"))


def tunnel_that_sums(env):
    """Ends of a VXLAN, "summed". The kernel adds up what comes by it, to check
    the outer UDP checksum, and leaves it the sum: CHECKSUM_COMPLETE."""
    for namespace, local, remote in ((env.lb, LB, SERVER), (env.server, SERVER, LB)):
        namespace.run("ethtool", "-K", "back", "tx", "off")
        namespace.run("ip", "link", "add", "summed", "type", "vxlan", "id", "7", "dstport",
                      "4789", "local", local, "remote", remote, "dev", "back", "udpcsum")
        # it would make large packets without a sum
        namespace.run("ethtool", "-K", "summed", "gro", "off")
    addresses(env, "summed", "summed")


def heads(source, to):
    """Headers of even and odd length."""
    return (header.v1(source, (to, 1883)), header.v1(source, (to, 18830)),
            header.v2(source, (to, 1883)),
            header.v2(source, (to, 1883), header.tlv(header.TLV_NOOP, b"")))


@needs(INLINE, BPFTOOL, CLANG, ETHTOOL, VXLAN)
def test_device_sums_all(env):
    """CHECKSUM_COMPLETE: skb->csum is right behind the program too.

    Fails without the look at it in rp_can_strip().
    """
    tunnel_that_sums(env)
    server, running = start(env)
    attached(env, running, "summed")
    sums = Sums(env, "summed")
    for address, source, to in ((EXTRA[1], SOURCE, LB_FRONT), (EXTRA6[1], SOURCE6, LB_FRONT6)):
        for head in heads(source, to):
            for pieces in ((head + PAYLOAD,), (head + BIG,), (head, BIG)):
                connection(env.lb, server, address, head, source, pieces)
    count = running.stat("echo", "connections")
    equal(count, 2 * 4 * 3, "inline connections")
    inline.nothing_left(running)
    counted = sums.read()
    equal(counted["wrong"], 0, "packets with a wrong sum")
    # What the program cuts off takes the sum with it; all others have it.
    check(counted["otherwise"] <= count and counted["right"] > 2 * count,
          f"{counted} packets of {count} connections")
    errors = env.server.run("nstat", "-asz", "*InCsumErrors").stdout.splitlines()[1:]
    equal([line for line in errors if line.split()[1] != "0"], [], "checksum errors")


@needs(INLINE, BPFTOOL)
def test_interface_comes_later(env):
    """And goes, and comes again; the others go on.

    Fails without datapath_handle_event() in run(), realpeerd.c.
    """
    server, running = start(env)
    for _ in range(2):
        env.lb.run("ip", "link", "add", "later", "type", "veth", "peer", "name", "later", "netns",
                   env.server.name)
        addresses(env, "later", "later")
        attached(env, running, "later")
        works(env, server, running)
        env.lb.run("ip", "link", "delete", "later")
        works(env, server, running, (SERVER, SERVER6))
    equal(running.log_complaints(), [], "complaints in the log")


@needs(INLINE, BPFTOOL)
def test_before_the_program_is_there(env):
    """A SYN by an interface that has no program yet: the daemon takes it."""
    server, running = start(env)
    env.server.run("ip", "link", "add", "later", "type", "veth", "peer", "name", "later", "netns",
                   env.lb.name)
    wait_for(lambda: env.server.run("ip", "link", "show", "later", check=False), "the link")
    addresses(env, "later", "later")
    attached(env, running, "later")
    inline.detach(running, env.server, "later")
    with env.lb.connect((EXTRA[1], 1883)) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        equal(server.wait(1).peer, (f"::ffff:{SOURCE[0]}", SOURCE[1]), "client")


def service(env, address):
    """An address of the server's whose way lb has from a routing protocol."""
    via = SERVER6 if ":" in address else SERVER
    env.lb.run("ip", "route", "add", address, "via", via)


def inline_by(env, addresses_, names):
    """Who connects to one of them, and no other is listened to, is served inline,
    with the programs at those interfaces and no other."""
    server = inline.Server.start(env, ("::", 1883))
    running = inline.daemon(env, ", ".join(f"[{one}]:1883" if ":" in one else f"{one}:1883"
                                           for one in addresses_), trusted=TRUSTED)
    works(env, server, running, addresses_)
    equal(running.stat("echo", "handed_over"), 0, "connections that were relayed")
    equal([name for name in ("lo", "back", "side") if inline.is_attached(
        running, env.server, name)], names, "interfaces that have the programs")
    return server, running


@needs(INLINE, BPFTOOL)
def test_address_with_label(env):
    """Of an alias, as ifupdown and keepalived make them, and not of another one.

    Fails without strcspn() in is_on(), datapath_attach.c.
    """
    env.server.run("ip", "address", "add", f"{ALIAS}/24", "dev", "back", "label", "back:1")
    inline_by(env, (ALIAS,), ["lo", "back"])


@needs(INLINE, BPFTOOL)
def test_address_on_lo(env):
    """Of a service that more hosts have: other interfaces lead to it.

    Fails without is_inside(), datapath_attach.c. Without is_loopback() there the
    last daemon has programs where nobody can reach it.
    """
    for address in (ALIAS, ALIAS6):
        env.server.run("ip", "address", "add", address, "dev", "lo")
        service(env, address)
    server, running = inline_by(env, (ALIAS, ALIAS6), ["lo", "back", "side"])
    equal(running.stop(), 0, "exit status")
    server.destroy()
    running = inline.daemon(env, "127.0.0.1:1883, [::1]:1883")
    equal([inline.is_attached(running, env.server, name) for name in ("lo", "back")],
          [True, False], "programs at lo, at back")


def addresses_inside(env):
    """On the device `inside` of the server, which no packet comes in by."""
    env.server.run("ip", "link", "set", "inside", "up")
    env.server.run("ip", "address", "add", ALIAS, "dev", "inside")
    env.server.run("ip", "address", "add", ALIAS6, "dev", "inside", "nodad")
    for address in (ALIAS, ALIAS6):
        service(env, address)


@needs(INLINE, BPFTOOL, DUMMY)
def test_address_on_dummy(env):
    """As on lo. Fails without IFF_NOARP in is_inside(), datapath_attach.c."""
    env.server.run("ip", "link", "add", "inside", "type", "dummy")
    addresses_inside(env)
    inline_by(env, (ALIAS, ALIAS6), ["lo", "back", "side"])


@needs(INLINE, BPFTOOL)
def test_address_without_neighbours(env):
    """The same, on what looks like a dummy device. Fails without IFF_NOARP, too."""
    env.server.run("ip", "link", "add", "inside", "arp", "off", "type", "veth",
                   "peer", "name", "unused")
    env.server.run("ip", "link", "set", "unused", "up")
    addresses_inside(env)
    inline_by(env, (ALIAS, ALIAS6), ["lo", "back", "side"])


@needs(INLINE, BPFTOOL)
def test_address_on_none(env):
    """A local route makes it one of the host's; or it is still to come.

    Fails without is_any_wanted() in datapath_attach_interfaces(), datapath_attach.c.
    """
    for address in (ALIAS, ALIAS6):
        env.server.run("ip", "route", "add", "local", address, "dev", "lo")
        service(env, address)
    _, running = inline_by(env, (ALIAS, ALIAS6), ["lo", "back", "side"])
    for address, length in ((ALIAS, 24), (ALIAS6, 64)):
        env.server.run("ip", "address", "add", f"{address}/{length}", "dev", "back")
    wait_for(lambda: not inline.is_attached(running, env.server, "side"),
             "the programs to go where nobody needs them")
    check(inline.is_attached(running, env.server, "back"), "no program where the address is")


@needs(INLINE, BPFTOOL)
def test_forwarded(env):
    """A router leaves alone what is not for itself, though it listens to all."""
    server, running = start(env)
    other = inline.Server.start(env, (STRANGER, 1883), listening=env.stranger.listen(
        (STRANGER, 1883)), first=HEADER)
    other.verify = lambda: None  # it is another host's: it gets what was sent
    for name in ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"):
        env.server.sysctl(name, 1)
    env.lb.run("ip", "route", "add", "10.66.0.0/24", "via", SERVER)
    env.stranger.run("ip", "route", "add", "10.77.0.0/24", "via", "10.66.0.2")
    with env.lb.connect((STRANGER, 1883)) as sock:
        stream.exchange(sock, HEADER + PAYLOAD)
        equal(other.wait(1).peer, sock.getsockname(), "the other host's client")
    equal(server.accepted, [], "connections of the router's own server")
    works(env, server, running, (SERVER, SERVER6))


@needs(INLINE, BPFTOOL, ETHTOOL)
def test_offloads(env):
    """Checksums, TSO and GRO by the device or by nobody."""
    server, running = start(env)
    for what in (("tx", "off"), ("rx", "off"), ("tso", "off"), ("gro", "on"), ("tx", "on"),
                 ("gso", "off"), ("sg", "off")):
        for namespace in (env.lb, env.server):
            namespace.run("ethtool", "-K", "back", *what)
        works(env, server, running, (SERVER, SERVER6))


@needs(INLINE, BPFTOOL)
def test_mtu(env):
    for mtu in (1280, 9000, 65535):
        for namespace in (env.lb, env.server):
            namespace.run("ip", "link", "set", "back", "mtu", str(mtu))
        server, running = start(env)
        works(env, server, running, (SERVER, SERVER6))
        server.destroy()
        equal(running.stop(), 0, "exit status")


@needs(INLINE, BPFTOOL)
def test_other_station(env):
    """A frame with somebody else's MAC address is nobody's SYN."""
    server, running = start(env)
    wire = packets.Wire(env, ["10.77.0.99"])
    right = wire.server_mac
    wire.server_mac = b"\x02\0\0\0\0\x99"
    peer = packets.Peer(wire, ("10.77.0.99", 20001), (SERVER, 1883))
    peer.send_syn()
    peer.expect_nothing("a frame for another station")
    equal(inline.map_size(running, "handshakes"), 0, "handshakes")
    wire.server_mac = right
    peer.handshake()
    peer.data(HEADER + PAYLOAD)
    equal(peer.read(len(PAYLOAD)), PAYLOAD, "echo")
    check(server.wait(1).peer[0].endswith(SOURCE[0]), "client")
    peer.reset()
