# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""delivery = inline under load: as many connections as two cores can make, each
asked whom the server sees; and floods that never send a header."""

import os
import socket
import struct
import time

from lib import fault, header, inline, load, packets, stream
from lib.inline import INLINE, PAYLOAD
from lib.packets import ACK, SYN
from lib.poll import check, equal, wait_for
from lib.requirement import BPFTOOL, needs, program
from lib.topology import CLIENTS, LB_FRONT, SERVER

# Of each kind. A tenth is enough to see that something is very wrong.
COUNT = int(os.environ.get("REALPEER_E2E_CONNECTIONS", 200000))
FLOOD = int(os.environ.get("REALPEER_E2E_FLOOD", 100000))
ETHTOOL = program("ethtool")
ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))


def storm(env, running, namespace, address, source, count=COUNT, *options):
    """`count` connections, with a header of each kind."""
    for kind in ("v2", "v1", "v2-crc32c"):
        share = count // 2 if kind == "v2" else count // 4
        going = load.Load(env, namespace, "connect", address, "-c", share, "-f", 64, "-H", kind,
                          "--check", "--source", source, *options)
        said = going.good(share, 140)
        print(f"{kind}: {said['per_second']:.0f} connections/s")
    inline.nothing_left(running)


@needs(INLINE, BPFTOOL)
def test_loopback(env):
    load.Backend(env, env.server, ("127.0.0.1", 1883))
    running = inline.daemon(env, "127.0.0.1:1883", trusted="127.0.0.0/8")
    storm(env, running, env.server, ("127.0.0.1", 1883), "127.0.1.0/28")
    equal(running.stat("echo", "connections"), COUNT // 4 * 4, "connections")
    equal(running.stat("echo", "handed_over"), 0, "handed_over")


def veth(env, *changes):
    for namespace in (env.lb, env.server):
        for what in changes:
            namespace.run("ethtool", "-K", "back", *what)
    env.lb.run("sh", "-c",
               "for i in $(seq 128 143); do ip address add 10.77.0.$i/24 dev back; done")
    load.Backend(env, env.server, ADDRESS)
    running = inline.daemon(env)
    storm(env, running, env.lb, ADDRESS, "10.77.0.128/28")
    equal(running.stat("echo", "handed_over"), 0, "handed_over")


@needs(INLINE, BPFTOOL)
def test_veth(env):
    """Checksums are left to a device that isn't there."""
    veth(env)


@needs(INLINE, BPFTOOL, ETHTOOL)
def test_veth_without_offload(env):
    """Each packet comes with its checksum, and nobody has verified it."""
    veth(env, ("tx", "off"), ("rx", "off"), ("tso", "off"), ("gro", "off"))


@needs(INLINE, BPFTOOL, ETHTOOL)
def test_veth_with_gro(env):
    veth(env, ("gro", "on"))


for _test in (test_loopback, test_veth, test_veth_without_offload, test_veth_with_gro):
    _test.limit = 180


@needs(INLINE, BPFTOOL)
def test_in_pieces(env):
    """Half of a header in each segment: all of these are the daemon's."""
    load.Backend(env, env.server, ADDRESS)
    running = inline.daemon(env)
    count = max(COUNT // 40, 100)
    going = load.Load(env, env.lb, "connect", ADDRESS, "-c", count, "-f", 64, "--check",
                      "--pieces", 2, "--pause", 2)
    going.good(count)
    equal(running.stat("echo", "handed_over"), count, "handed_over")
    inline.nothing_left(running)


class Flood:
    """SYN, and the right ACK for each SYN-ACK, from addresses of nobody."""

    def __init__(self, env, hosts):
        self.hosts = hosts
        self.wire = packets.Wire(env, hosts)
        self.wire.sock.settimeout(5)
        self.partial = struct.pack("=BBHHHH", packets.VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0,
                                   14 + 20, 16)
        self.syns, self.acks = {}, {}
        for host in hosts:
            ends = ((host, 0), ADDRESS)
            self.syns[host] = self._template(ends, SYN, {packets.MSS: 1460})
            self.acks[host] = self._template(ends, ACK, {})

    def _template(self, ends, flags, options):
        """A frame whose checksum the other side takes for granted."""
        peer = packets.Peer(self.wire, *ends)
        packet = packets.pack_segment(peer.addresses, peer.ports, peer.isn, 0, flags,
                                      options=options)
        return bytearray(self.partial + self.wire.server_mac + self.wire.mac + b"\x08\0" + packet)

    def _send(self, template, port, seq=None, ack=None):
        struct.pack_into("!H", template, 44, port)
        if seq is not None:
            struct.pack_into("!II", template, 48, seq, ack)
        self.wire.sock.send(template)

    def round(self, host, ports):
        """Handshakes; returns how many SYN-ACKs came."""
        for port in ports:
            self._send(self.syns[host], port)
        answered, packed = 0, socket.inet_aton(host)
        while answered < len(ports):
            data, address = self.wire.sock.recvfrom(2048)
            if address[2] == packets.PACKET_OUTGOING or data[40:44] != packed:
                continue  # not for us
            port, seq, ack = struct.unpack_from("!HII", data, 46)
            if data[57] != SYN | ACK:
                raise AssertionError(
                    f"port {port}: flags {data[57]:#x}, not a SYN-ACK")
            self._send(self.acks[host], port, ack, (seq + 1) % packets.MODULO)
            answered += 1


def sockets(env):
    """TCP sockets of the namespace, TIME_WAIT included."""
    with env.server.entered(), open("/proc/thread-self/net/sockstat", encoding="ascii") as file:
        fields = next(line for line in file if line.startswith("TCP:")).split()
    numbers = dict(zip(fields[1::2], map(int, fields[2::2])))
    return numbers["inuse"] + numbers["tw"]


def switches(process):
    return process.status("voluntary_ctxt_switches")


def cpu_seconds(process):
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@needs(INLINE, BPFTOOL)
def test_flood(env):
    """100,000 handshakes without a header: no socket, nobody is woken; and a
    real client comes through."""
    backend = load.Backend(env, env.server, ADDRESS)
    running = inline.daemon(env)
    flood = Flood(env, ["10.77.0.98", "10.77.0.99"])
    before = switches(backend.process), switches(running.process), sockets(env)
    cpu, begin = cpu_seconds(running.process), time.monotonic()
    sent = 0
    for host in flood.hosts:
        for first in range(10000, 10000 + FLOOD // 2, 250):
            flood.round(host, range(first, first + 250))
            sent += 250
    seconds = time.monotonic() - begin
    check(sent >= FLOOD, f"{sent} handshakes")
    equal(switches(backend.process), before[0], "how often the server was woken")
    equal(sockets(env), before[2], "sockets")
    woken = switches(running.process) - before[1]
    check(woken < 20 + 20 * seconds, f"the daemon was woken {woken} times in {seconds:.1f} s")
    used = cpu_seconds(running.process) - cpu
    check(used < 0.05 + 0.05 * seconds, f"the daemon used {used} s of CPU in {seconds:.1f} s")
    equal(running.stat("echo", "handshakes"), sent, "handshakes")
    print(f"{sent / seconds:.0f} handshakes/s")


@needs(INLINE, BPFTOOL)
def test_real_clients_in_a_flood(env):
    """Nobody has to send its SYN again, which is after a second."""
    server = inline.Server.start(env)
    running = inline.daemon(env, header_timeout="60s")
    flood = Flood(env, ["10.77.0.97", "10.77.0.98", "10.77.0.99"])
    took = []
    for host in flood.hosts:
        for first in range(10000, 10000 + FLOOD // 2, 250):
            flood.round(host, range(first, first + 250))
            if first % 5000:
                continue
            begin = time.monotonic()
            with env.lb.connect(ADDRESS) as sock:
                stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
            took.append(time.monotonic() - begin)
    slow = [seconds for seconds in took if seconds > 0.9]
    check(len(slow) < 2, f"seconds that clients took: {slow}")  # one may be the machine's
    equal([accepted.peer for accepted in server.accepted], [SOURCE] * len(took), "real clients")
    wait_for(lambda: inline.map_size(running, "connections") == 0, "records to go")


@needs(INLINE, BPFTOOL)
def test_flood_is_forgotten(env):
    """Their entries go when header_timeout is over; none is called an error."""
    server = inline.Server.start(env)
    running = inline.daemon(env, header_timeout="500ms")
    flood = Flood(env, ["10.77.0.99"])
    with fault.paused(running):
        flood.round("10.77.0.99", range(10000, 12000))
        equal(inline.map_size(running, "handshakes"), 2000, "handshakes")
    inline.wait_map_empty(running, "handshakes", 20)
    running.wait_stat("echo", "timeout", 2000)
    equal((server.accepted, running.log_complaints()), ([], []), "connections, complaints")
