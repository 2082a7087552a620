# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A protocol handler in Python: an ordinary TCP server that knows no PROXY
protocol and writes down what it sees of each connection."""

import contextlib
import socket
import threading

from .poll import wait_for

TIMEOUT = 30.0


class Accepted:
    """One accepted connection, as the handler saw it."""

    def __init__(self, sock, from_accept):
        self.sock = sock
        self.from_accept = from_accept[:2] if from_accept else from_accept
        peer = sock.getpeername()
        self.peer = peer[:2] if isinstance(peer, tuple) else peer
        self.data = b""
        self.ended = None  # "eof", "reset" or another error's name

    def receive(self):
        """The next bytes; None at the end of the stream."""
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            self.ended = "reset"
            return None
        except OSError as error:
            self.ended = type(error).__name__
            return None
        if not data:
            self.ended = "eof"
            return None
        self.data += data
        return data


def echo(accepted):
    """Sends back what comes, and the end when it comes."""
    while (data := accepted.receive()) is not None:
        accepted.sock.sendall(data)


def greet(accepted):
    """Speaks first, as NATS, SMTP and MySQL do."""
    accepted.sock.sendall(b"INFO hello\r\n")
    echo(accepted)


class Handler:
    """Listens on one socket; each connection has a thread with `behaviour`."""

    def __init__(self, listening, behaviour=echo):
        self.listening = listening
        self.behaviour = behaviour
        self.accepted = []
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @classmethod
    def on(cls, namespace, address, behaviour=echo):
        return cls(namespace.listen(address), behaviour)

    @classmethod
    def on_unix(cls, path, behaviour=echo):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        sock.listen(64)
        return cls(sock, behaviour)

    def _serve(self):
        while not self._stopped:
            try:
                sock, address = self.listening.accept()
            except OSError:
                return
            sock.settimeout(TIMEOUT)
            try:
                accepted = Accepted(sock, address)
            except OSError:  # reset before getpeername()
                sock.close()
                continue
            self.accepted.append(accepted)
            threading.Thread(target=self._run, args=(accepted,),
                             daemon=True).start()

    def _run(self, accepted):
        with contextlib.suppress(OSError), accepted.sock:
            self.behaviour(accepted)

    def wait(self, count, timeout=5.0):
        """Waits for `count` connections in all; returns the last of them."""
        wait_for(lambda: len(self.accepted) >= count,
                 lambda: f"{count} connections at the handler, "
                         f"which has {len(self.accepted)}", timeout)
        return self.accepted[count - 1]

    def destroy(self):
        self._stopped = True
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        for accepted in self.accepted:
            with contextlib.suppress(OSError):
                accepted.sock.shutdown(socket.SHUT_RDWR)
