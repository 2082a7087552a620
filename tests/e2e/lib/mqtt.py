# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""MQTT 3.1.1 as far as a client needs it to be seen by a broker, over a plain
socket, TLS or WebSocket; and the Mosquitto broker itself."""

import base64
import os
import struct

from .stream import receive_exactly, receive_until

CONNACK_ACCEPTED = b"\x20\x02\x00\x00"
PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"


def connect_packet(client_id):
    name = client_id.encode()
    body = (b"\0\4MQTT\4\2" + struct.pack("!H", 60)
            + struct.pack("!H", len(name)) + name)
    return b"\x10" + bytes([len(body)]) + body


def connect(sock, client_id):
    """The CONNECT and its CONNACK on a connected socket."""
    sock.sendall(connect_packet(client_id))
    answer = receive_exactly(sock, 4)
    if answer != CONNACK_ACCEPTED:
        raise AssertionError(f"CONNACK {answer!r}")


def ping(sock):
    sock.sendall(PINGREQ)
    if receive_exactly(sock, 2) != PINGRESP:
        raise AssertionError("no PINGRESP")


def websocket_upgrade(sock, host):
    """RFC 6455 section 4.1, with the subprotocol of MQTT."""
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall((f"GET /mqtt HTTP/1.1\r\nHost: {host}\r\n"
                  "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                  f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Protocol: mqtt\r\n\r\n").encode())
    answer = receive_until(sock, b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 101"):
        raise AssertionError(f"no upgrade: {answer!r}")


def websocket_connect(sock, client_id):
    """CONNECT in one masked binary frame, RFC 6455 section 5.2."""
    packet = connect_packet(client_id)
    mask = os.urandom(4)
    sock.sendall(bytes([0x82, 0x80 | len(packet)]) + mask
                 + bytes(b ^ mask[i % 4] for i, b in enumerate(packet)))
    answer = b""
    while len(answer) < 4:  # the broker may use a frame for each byte
        flags, length = receive_exactly(sock, 2)
        if flags & 0x0F != 2:
            raise AssertionError(f"not a binary frame: {flags:#x}")
        answer += receive_exactly(sock, length)
    if answer != CONNACK_ACCEPTED:
        raise AssertionError(f"CONNACK {answer!r}")


class Mosquitto:
    """An unmodified broker. `listeners` are lines of its configuration."""

    def __init__(self, env, listeners, namespace=None):
        path = env.write("mosquitto.conf", "\n".join([
            "user root", "allow_anonymous true", "log_dest stderr",
            "log_type all", "connection_messages true", *listeners]) + "\n")
        namespace = namespace or env.server
        self.process = env.start("mosquitto", namespace.command(
            "mosquitto", "-c", path))
        self.process.wait_log(r"mosquitto version .* running")

    def peer_of(self, client_id):
        """What the broker's own log says of a client: "address:port"."""
        line = self.process.wait_log(rf"New client connected from \S+ as {client_id} ")
        return line.split(" from ")[1].split(" as ")[0]
