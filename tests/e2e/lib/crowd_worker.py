#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One process of a crowd of connections; crowd.py starts it in a namespace.

  serve ADDRESS PORT        a handler for the other two: each connection says
                            whom it should come from, the handler answers "y"
                            or "n". Prints the number of "y" when it ends.
  churn ADDRESS PORT COUNT SEED
                            COUNT connections one after the other; a third is
                            closed by the client, a third by the handler, a
                            third is reset. Ends with 1 if one goes wrong.
  hold ADDRESS PORT COUNT SEED
                            COUNT connections, kept until SIGTERM; prints
                            "ready" when all are answered.

What a connection says: "ADDRESS PORT WAY\\n", WAY being client, handler or reset.
"""

import os
import select
import signal
import socket
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from lib.header import v1, v2  # noqa: E402

WAYS = ("client", "handler", "reset")


class Ended(BaseException):
    pass


def end(_number, _frame):
    raise Ended


def answer(sock, peer):
    """Answers what came; True if the connection is to be kept for its end."""
    try:
        data = sock.recv(256)
    except ConnectionResetError:
        data = b""
    if not data:
        return None
    address, port, way = data.decode().split()
    right = (address, int(port)) == peer[:2]
    sock.send(b"y" if right else b"n")
    if not right:
        print(f"wrong client {peer}, not {address}:{port}", file=sys.stderr)
    return right, way


def serve(address, port):
    listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind((address, port))
    listening.listen(4096)
    poll = select.epoll()
    poll.register(listening, select.EPOLLIN)
    print("ready", flush=True)
    open_ = {}
    count = 0
    try:
        while True:
            for fd, _ in poll.poll():
                if fd == listening.fileno():
                    sock, peer = listening.accept()
                    open_[sock.fileno()] = sock, peer
                    poll.register(sock, select.EPOLLIN)
                    continue
                sock, peer = open_[fd]
                result = answer(sock, peer)
                if result and result[0]:
                    count += 1
                if result is None or result[1] == "handler":
                    poll.unregister(fd)
                    del open_[fd]
                    sock.close()
    except Ended:
        print(f"right {count}", flush=True)


def connect(address, port, source, way, version):
    sock = socket.create_connection((address, port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(version(source, ("203.0.113.1", port))
                 + f"{source[0]} {source[1]} {way}\n".encode())
    if sock.recv(1) != b"y":
        raise AssertionError(f"{source}: wrong client, or no answer")
    return sock


def churn(address, port, count, seed):
    for number in range(count):
        way = WAYS[number % 3]
        source = (f"203.0.113.{number % 200 + 20}", number // 200 % 60000 + 1 + seed)
        sock = connect(address, port, source, way, (v1, v2)[number % 2])
        if way == "handler" and sock.recv(1) != b"":
            raise AssertionError(f"{source}: no end of the stream")
        if way == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


def hold(address, port, count, seed):
    held = [connect(address, port, (f"203.0.113.{seed + 20}", number + 1), "client", v2)
            for number in range(count)]
    print(f"ready {len(held)}", flush=True)
    try:
        while True:
            signal.pause()
    except Ended:
        pass


def main():
    signal.signal(signal.SIGTERM, end)
    function = {"serve": serve, "churn": churn, "hold": hold}[sys.argv[1]]
    function(sys.argv[2], *map(int, sys.argv[3:]))


if __name__ == "__main__":
    main()
