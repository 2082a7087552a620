# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""TCP segments made and read by hand, on an interface whose own kernel keeps
silent: the addresses used belong to nobody, and the other side is told once
where they are. So a test can send what no stack would."""

import fcntl
import ipaddress
import os
import select
import socket
import struct
import threading
import time

from .poll import PATIENCE

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6, ETH_P_8021Q = 0x0003, 0x0800, 0x86DD, 0x8100
PACKET_OUTGOING = 4
PACKET_VNET_HDR = 15
SOL_PACKET = 263
SO_RCVBUFFORCE = 33
VIRTIO_NET_HDR_F_NEEDS_CSUM = 1
VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6 = 1, 4

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
NAMES = "FIN SYN RST PSH ACK URG ECE CWR".split()

# Kinds of TCP options: RFC 9293, 7323, 2018
MSS, WSCALE, SACK_PERMITTED, TIMESTAMPS = 2, 3, 4, 8

MODULO = 1 << 32


def flag_names(flags):
    return "|".join(name for bit, name in enumerate(NAMES) if flags >> bit & 1) or "none"


def internet_sum(data):
    """RFC 1071, not yet complemented."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo_header(source, destination, length):
    """`source` and `destination` packed; RFC 9293 section 3.1, RFC 8200 8.1."""
    if len(source) == 4:
        return source + destination + struct.pack("!BBH", 0, socket.IPPROTO_TCP, length)
    return source + destination + struct.pack("!II", length, socket.IPPROTO_TCP)


def pack_options(options):
    """{kind: value}, padded to words. SACK_PERMITTED's value is ignored."""
    data = b""
    for kind, value in options.items():
        if kind == MSS:
            data += struct.pack("!BBH", MSS, 4, value)
        elif kind == WSCALE:
            data += struct.pack("!BBB", WSCALE, 3, value)
        elif kind == SACK_PERMITTED:
            data += struct.pack("!BB", SACK_PERMITTED, 2)
        elif kind == TIMESTAMPS:
            data += struct.pack("!BBII", TIMESTAMPS, 10, *value)
        else:
            data += struct.pack("!BB", kind, 2 + len(value)) + value
    return data + b"\x01" * (-len(data) % 4)


def unpack_options(data):
    options, at = {}, 0
    while at < len(data) and data[at]:
        if data[at] == 1:
            at += 1
            continue
        kind, size = data[at], data[at + 1]
        if size < 2 or at + size > len(data):
            raise AssertionError(f"malformed options {data!r}")
        value = data[at + 2:at + size]
        if kind in (MSS, WSCALE):
            value = int.from_bytes(value, "big")
        elif kind == SACK_PERMITTED:
            value = True
        elif kind == TIMESTAMPS:
            value = struct.unpack("!II", value)
        if kind in options:
            raise AssertionError(f"option {kind} twice in {data!r}")
        options[kind] = value
        at += size
    return options


def tcp_header(ports, seq, ack, flags, window, options, urgent=0):
    """With a checksum of 0."""
    words = 5 + len(options) // 4
    return struct.pack("!HHIIBBHHH", *ports, seq % MODULO, ack % MODULO, words << 4,
                       flags, window, 0, urgent) + options


def ip_header(source, destination, length, options=b"", extension=b""):
    """`length` is the TCP segment's; `extension` IPv6 destination options."""
    if len(source) == 4:
        words = 5 + len(options) // 4
        head = struct.pack("!BBHHHBBH", 0x40 | words, 0, 4 * words + length, 0, 0x4000, 64,
                           socket.IPPROTO_TCP, 0) + source + destination + options
        return head[:10] + struct.pack("!H", 0xFFFF ^ internet_sum(head)) + head[12:]
    following = socket.IPPROTO_DSTOPTS if extension else socket.IPPROTO_TCP
    return struct.pack("!IHBB", 6 << 28, len(extension) + length, following,
                       64) + source + destination + extension


class Segment:
    """A received TCP segment."""

    def __init__(self, ip, complete):
        if ip[0] >> 4 == 4:
            size, total = (ip[0] & 15) * 4, struct.unpack_from("!H", ip, 2)[0]
            addresses = ip[12:16], ip[16:20]
            if internet_sum(ip[:size]) != 0xFFFF:
                raise AssertionError(f"wrong IPv4 checksum: {ip[:size].hex()}")
        else:
            size, total = 40, 40 + struct.unpack_from("!H", ip, 4)[0]
            addresses = ip[8:24], ip[24:40]
        if len(ip) < total:
            raise AssertionError(f"{len(ip)} bytes of a packet of {total}")
        tcp = ip[size:total]
        self.source, self.destination = (str(ipaddress.ip_address(a)) for a in addresses)
        (self.source_port, self.destination_port, self.seq, self.ack, words, self.flags,
         self.window, check, self.urgent) = struct.unpack_from("!HHIIBBHHH", tcp)
        head = (words >> 4) * 4
        self.options = unpack_options(tcp[20:head])
        self.payload = tcp[head:]
        if complete and internet_sum(pseudo_header(*addresses, len(tcp)) + tcp) != 0xFFFF:
            raise AssertionError(f"wrong TCP checksum {check:#06x} of {self}")

    def __str__(self):
        return (f"{flag_names(self.flags)} seq={self.seq} ack={self.ack} "
                f"options={self.options} payload={self.payload[:60]!r}({len(self.payload)})")


class Wire:
    """Frames of `interface` in `namespace`; "server" is who is on the other end.

    The kernel of `namespace` does not answer for `addresses`, for they are not
    its own; the server is told once where to send what is for them.
    """

    def __init__(self, env, addresses, interface="back", namespace=None):
        self.sock = (namespace or env.lb).socket(socket.AF_PACKET, socket.SOCK_RAW)
        env.at_end(self.sock.close)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        self.sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.sock.bind((interface, ETH_P_ALL))
        self.mac = self.sock.getsockname()[4]
        with env.server.socket(socket.AF_PACKET, socket.SOCK_RAW) as other:
            other.bind((interface, 0))
            self.server_mac = other.getsockname()[4]
        lladdr = ":".join(f"{byte:02x}" for byte in self.mac)
        for address in addresses:
            env.server.run("ip", "neighbour", "replace", address, "lladdr", lladdr,
                           "dev", interface, "nud", "permanent")

    def send_frame(self, ip, offload=bytes(10), tag=None):
        """`ip` is a whole IP packet, `offload` a struct virtio_net_hdr, `tag` a VLAN's
        number."""
        kind = struct.pack("!H", ETH_P_IP if ip[0] >> 4 == 4 else ETH_P_IPV6)
        if tag is not None:
            kind = struct.pack("!HH", ETH_P_8021Q, tag) + kind
        self.sock.send(offload + self.server_mac + self.mac + kind + ip)

    def receive_frame(self, deadline):
        """The next TCP segment of the server, or None."""
        while (left := deadline - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                data, address = self.sock.recvfrom(1 << 17)
            except socket.timeout:
                return None
            kind, = struct.unpack_from("!H", data, 22)
            if address[2] == PACKET_OUTGOING or kind not in (ETH_P_IP, ETH_P_IPV6):
                continue
            ip = data[24:]
            if ip[9 if kind == ETH_P_IP else 6] == socket.IPPROTO_TCP:
                return Segment(ip, not data[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM)
        return None


def pack_segment(addresses, ports, seq, ack, flags, window=65535, options=None, payload=b"",
                 ip_options=b"", extension=b"", check=None, urgent=0):
    """A whole IP packet; `addresses` are packed, `check` a checksum to add."""
    tcp = tcp_header(ports, seq, ack, flags, window, pack_options(options or {}),
                     urgent) + payload
    total = 0xFFFF ^ internet_sum(pseudo_header(*addresses, len(tcp)) + tcp)
    total = (total + check) % 0xFFFF if check else total
    tcp = tcp[:16] + struct.pack("!H", total) + tcp[18:]
    return ip_header(*addresses, len(tcp), ip_options, extension) + tcp


def fragments(packet, first, number):
    """The packet in two IP fragments, the first with `first` bytes, a multiple of 8;
    `number` is in both."""
    if packet[0] >> 4 == 4:
        head, body = packet[:20], packet[20:]
        for at, data in ((0, body[:first]), (first, body[first:])):
            part = head[:2] + struct.pack("!HHHBBH", 20 + len(data), number,
                                          at // 8 | (0 if at else 0x2000), *head[8:10], 0)
            part += head[12:]
            yield part[:10] + struct.pack("!H", 0xFFFF ^ internet_sum(part)) + part[12:] + data
    else:
        head, body = packet[:40], packet[40:]
        for at, data in ((0, body[:first]), (first, body[first:])):
            yield (head[:4] + struct.pack("!HBB", 8 + len(data), socket.IPPROTO_FRAGMENT, head[7])
                   + head[8:] + struct.pack("!BBHI", head[6], 0, at | (not at), number) + data)


class Peer:
    """One end of one TCP connection, whose every segment the test decides."""

    ISN = 0xFFFFFFF0  # sequence numbers wrap within the first bytes

    def __init__(self, wire, source, destination, isn=ISN, timestamps=True):
        """`source` and `destination` are (address, port)."""
        self.wire = wire
        self.source, self.destination = source, destination
        self.addresses = tuple(ipaddress.ip_address(end[0]).packed
                               for end in (source, destination))
        self.ports = source[1], destination[1]
        self.isn = isn
        self.seq = isn   # of the next byte
        self.ack = 0     # what was received
        self.syn_ack = None
        self.timestamps = timestamps
        self.tsval, self.tsecr = 1000, 0
        self.n_fragmented = 0

    def _options(self):
        return {TIMESTAMPS: (self.tsval, self.tsecr)} if self.timestamps else {}

    def send(self, flags=ACK, payload=b"", seq=None, ack=None, options=None, tag=None, **more):
        """Any segment; nothing is remembered of it."""
        options = self._options() if options is None else options
        self.wire.send_frame(pack_segment(
            self.addresses, self.ports, self.seq if seq is None else seq,
            self.ack if ack is None else ack, flags, options=options, payload=payload, **more),
            tag=tag)

    def send_fragments(self, first, payload, flags):
        """In two, the first with that many bytes of TCP."""
        packet = pack_segment(self.addresses, self.ports, self.seq, self.ack, flags,
                              options=self._options(), payload=payload)
        self.n_fragmented += 1
        for part in fragments(packet, first, self.n_fragmented):
            self.wire.send_frame(part)

    def send_gso(self, payload, gso_size, flags=ACK | PSH):
        """One packet of many segments, as a device with TSO gets it."""
        packet = bytearray(pack_segment(self.addresses, self.ports, self.seq, self.ack, flags,
                                        options=self._options(), payload=payload))
        size = len(self.addresses[0])
        at = 20 if size == 4 else 40
        pseudo = internet_sum(pseudo_header(*self.addresses, len(packet) - at))
        packet[at + 16:at + 18] = struct.pack("!H", pseudo)
        head = at + (packet[at + 12] >> 4) * 4
        kind = VIRTIO_NET_HDR_GSO_TCPV4 if size == 4 else VIRTIO_NET_HDR_GSO_TCPV6
        self.wire.send_frame(bytes(packet), struct.pack(
            "=BBHHHH", VIRTIO_NET_HDR_F_NEEDS_CSUM, kind, 14 + head, gso_size, 14 + at, 16))
        self.seq = (self.seq + len(payload)) % MODULO

    def receive(self, timeout=2.0):
        """The next segment of this connection, or None."""
        deadline = time.monotonic() + timeout
        while segment := self.wire.receive_frame(deadline):
            if (segment.destination_port, segment.source_port) == self.ports and (
                    segment.destination, segment.source) == (
                        self.source[0], self.destination[0]):
                return segment
        return None

    def expect(self, flags, what, timeout=2.0):
        """The next segment, which must have these flags (PSH aside)."""
        segment = self.receive(timeout * PATIENCE)
        if segment is None:
            raise AssertionError(f"{what}: nothing, not {flag_names(flags)}")
        if segment.flags & ~PSH != flags & ~PSH:
            raise AssertionError(f"{what}: {segment}, not {flag_names(flags)}")
        return segment

    def expect_nothing(self, what, duration=0.1):
        segment = self.receive(duration)
        if segment is not None:
            raise AssertionError(f"{what}: answered by {segment}")

    def send_syn(self, flags=SYN, options=None):
        if options is None:
            options = {MSS: 1460, SACK_PERMITTED: True, WSCALE: 7, **self._options()}
        self.send(flags, seq=self.isn, ack=0, options=options)

    def take_syn_ack(self, segment):
        """What it means for the segments to come."""
        if segment.ack != (self.isn + 1) % MODULO:
            raise AssertionError(f"SYN-ACK for another ISN: {segment}")
        self.syn_ack = segment
        self.seq, self.ack = segment.ack, (segment.seq + 1) % MODULO
        self.timestamps = TIMESTAMPS in segment.options
        if self.timestamps:
            self.tsecr = segment.options[TIMESTAMPS][0]
            self.tsval += 1

    def handshake(self):
        """SYN, SYN-ACK, ACK."""
        self.send_syn()
        self.take_syn_ack(self.expect(SYN | ACK, "answer to a SYN"))
        self.send(ACK)
        return self

    def data(self, payload, flags=ACK | PSH):
        """The next bytes of the stream, in one segment."""
        self.send(flags, payload)
        self.seq = (self.seq + len(payload) + bool(flags & FIN)) % MODULO

    def read(self, size, what="the answer"):
        """Receives and acknowledges until `size` bytes came in order."""
        stream = b""
        while len(stream) < size:
            segment = self.receive()
            if segment is None:
                raise AssertionError(f"{what}: {len(stream)} of {size} bytes: {stream[:99]!r}")
            if segment.flags & RST:
                raise AssertionError(f"{what}: reset after {stream[:99]!r}")
            if segment.payload and segment.seq == self.ack:
                stream += segment.payload
                self.ack = (self.ack + len(segment.payload)) % MODULO
                self.send(ACK)
        return stream

    def reset(self):
        self.send(RST | ACK)


class Tunnel:
    """A TUN device in each of two namespaces, joined by a thread: packets
    without an Ethernet header, as of WireGuard or IPIP."""

    TUNSETIFF, IFF_TUN_NO_PI = 0x400454CA, 0x1001

    def __init__(self, env, namespaces, name="tunnel"):
        self.fds = []
        for namespace in namespaces:
            with namespace.entered():
                fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
                self.fds.append(fd)
                fcntl.ioctl(fd, self.TUNSETIFF, struct.pack("16sH22x", name.encode(),
                                                            self.IFF_TUN_NO_PI))
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._carry, daemon=True)
        self.thread.start()
        env.at_end(self.destroy)

    def _carry(self):
        while not self.stopped.is_set():
            for fd in select.select(self.fds, [], [], 0.1)[0]:
                packet = os.read(fd, 65536)
                try:
                    os.write(self.fds[fd == self.fds[0]], packet)
                except OSError:
                    pass  # the other end is not up yet

    def destroy(self):
        self.stopped.set()
        self.thread.join()
        for fd in self.fds:
            os.close(fd)
