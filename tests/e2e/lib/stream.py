# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the tests do again and again with a connected socket."""

import socket
import struct
import time


def receive_exactly(sock, size):
    data = b""
    while len(data) < size:
        more = sock.recv(min(size - len(data), 1 << 20))
        if not more:
            raise AssertionError(
                f"end of the stream after {len(data)} of {size} bytes: {data[:200]!r}")
        data += more
    return data


def receive_until(sock, end):
    data = b""
    while not data.endswith(end):
        more = sock.recv(1)
        if not more:
            raise AssertionError(f"end of the stream before {end!r}: {data!r}")
        data += more
    return data


def exchange(sock, data, want=None):
    """Sends `data`; the answer must be `want` (by default an echo)."""
    want = data if want is None else want
    sock.sendall(data)
    have = receive_exactly(sock, len(want))
    if have != want:
        raise AssertionError(f"have {have!r}, want {want!r}")


def send_pieces(sock, pieces, pause=0.003):
    """Each piece in a segment of its own; the pause is part of the input."""
    for number, piece in enumerate(pieces):
        if number:
            time.sleep(pause)
        sock.sendall(piece)


def ended_by(sock, timeout=5.0):
    """How the peer ended it, and the bytes before: ("reset" or "eof", bytes)."""
    sock.settimeout(timeout)
    data = b""
    try:
        while more := sock.recv(65536):
            data += more
    except (ConnectionResetError, BrokenPipeError):
        return "reset", data
    except socket.timeout:
        raise AssertionError(
            f"still open after {timeout} s, after {data[:200]!r}") from None
    return "eof", data


def refused(namespace, address, data, source=None, timeout=5.0):
    """Sends `data` on a new connection, which must be reset; returns seconds.

    That the SYN itself is refused will do as well: the kernel part does so.
    """
    begin = time.monotonic()
    try:
        with namespace.connect(address, source) as sock:
            sock.sendall(data)
            how, have = ended_by(sock, timeout)
    except (ConnectionResetError, ConnectionRefusedError, BrokenPipeError):
        return time.monotonic() - begin
    if (how, have) != ("reset", b""):
        raise AssertionError(f"not reset but {how}, after {have!r}, for {data[:80]!r}")
    return time.monotonic() - begin


def close_with_reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
