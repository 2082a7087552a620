# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""PROXY protocol headers: built for sending, taken apart when received.

Written from proxy-protocol.txt, independently of the parser under test.
"""

import ipaddress
import socket
import struct

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0, 1
UNSPEC, INET, INET6, UNIX = 0, 1, 2, 3
STREAM, DGRAM = 1, 2
TLV_ALPN, TLV_AUTHORITY, TLV_CRC32C = 0x01, 0x02, 0x03
TLV_NOOP, TLV_UNIQUE_ID, TLV_SSL = 0x04, 0x05, 0x20
TLV_SSL_CN = 0x22
TLV_AWS = 0xEA
CRC_TLV = struct.pack("!BHI", TLV_CRC32C, 4, 0)

# An AWS Network Load Balancer's health check as captured with tcpdump by
# tsuna: kubernetes/kubernetes issue 57250, 2019-03-21. LOCAL, family INET,
# 84 bytes of TLVs (CRC32C, NOOP) and no addresses.
AWS_HEALTH_CHECK = SIGNATURE + bytes.fromhex(
    "20110054" "030004bce5951f" "04004a") + bytes(74)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def ssl_tlv(client, verify, *tlvs):
    return tlv(TLV_SSL, struct.pack("!BI", client, verify) + b"".join(tlvs))


def v1(source, destination):
    """source and destination are (address, port)."""
    family = "TCP6" if ":" in source[0] else "TCP4"
    return (f"PROXY {family} {source[0]} {destination[0]} "
            f"{source[1]} {destination[1]}\r\n").encode()


def v2_raw(command=PROXY, family=INET, transport=STREAM, block=b"", tlvs=b"",
           length=None, version=2):
    """Any fields, right or wrong; a CRC_TLV in `tlvs` is filled in."""
    have = len(block) + len(tlvs)
    data = SIGNATURE + struct.pack(
        "!BBH", version << 4 | command, family << 4 | transport,
        have if length is None else length) + block + tlvs
    at = data.find(CRC_TLV, 16 + len(block))
    if at < 0:
        return data
    return data[:at + 3] + struct.pack("!I", crc32c(data)) + data[at + 7:]


def block_of(source, destination):
    return (ipaddress.ip_address(source[0]).packed
            + ipaddress.ip_address(destination[0]).packed
            + struct.pack("!HH", source[1], destination[1]))


def v2(source, destination, tlvs=b""):
    return v2_raw(PROXY, INET6 if ":" in source[0] else INET, STREAM,
                  block_of(source, destination), tlvs)


def v2_local():
    return v2_raw(LOCAL, UNSPEC, 0)


class Parsed:
    """A header at the beginning of `data`; `rest` is what follows it."""

    def __init__(self, data):
        self.tlvs = {}
        if data.startswith(SIGNATURE):
            self._v2(data)
        else:
            self._v1(data)

    def _v1(self, data):
        line, end, self.rest = data.partition(b"\r\n")
        if not end or len(line) + 2 > 107:
            raise AssertionError(f"no header: {data[:120]!r}")
        word, family, source, destination, port, to_port = line.decode("ascii").split(" ")
        if word != "PROXY" or family not in ("TCP4", "TCP6"):
            raise AssertionError(f"no header: {line!r}")
        self.version, self.command = 1, PROXY
        self.source = (source, int(port))
        self.destination = (destination, int(to_port))

    def _v2(self, data):
        version_command, self.family, length = struct.unpack_from("!BBH", data, 12)
        self.version, self.command = version_command >> 4, version_command & 15
        if len(data) < 16 + length:
            raise AssertionError(f"header cut off: {data!r}")
        header, self.rest = data[:16 + length], data[16 + length:]
        size = {INET << 4 | STREAM: 4, INET6 << 4 | STREAM: 16}.get(self.family, 0)
        at = 16
        if size and self.command == PROXY:
            kind = socket.AF_INET if size == 4 else socket.AF_INET6
            ports = struct.unpack_from("!HH", header, 16 + 2 * size)
            self.source = (socket.inet_ntop(kind, header[16:16 + size]), ports[0])
            self.destination = (
                socket.inet_ntop(kind, header[16 + size:16 + 2 * size]), ports[1])
            at += 2 * size + 4
        while at < len(header):
            kind, size = struct.unpack_from("!BH", header, at)
            value = header[at + 3:at + 3 + size]
            if len(value) < size:
                raise AssertionError(f"TLV beyond the header: {header!r}")
            if kind == TLV_CRC32C:
                blank = header[:at + 3] + bytes(4) + header[at + 7:]
                if struct.pack("!I", crc32c(blank)) != value:
                    raise AssertionError(f"wrong CRC32C: {header!r}")
            self.tlvs[kind] = value
            at += 3 + size
