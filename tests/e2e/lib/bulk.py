# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Much data through a socket, and its hash. A few bytes of Python for each
megabyte: hashing and copying are done in C, with the interpreter unlocked."""

import hashlib
import random
import socket
import threading
import time

BLOCK = 1 << 20


class Pattern:
    """`size` bytes that do not repeat where blocks, pipes or pages do."""

    def __init__(self, size, seed):
        self.size = size
        # a prime length: the same byte never comes at the same offset of a page
        self._block = random.Random(seed).randbytes(1048583)

    def blocks(self):
        left = self.size
        while left:
            block = self._block if left >= len(self._block) else self._block[:left]
            left -= len(block)
            yield block

    def digest(self):
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.hexdigest()


class Transfer(threading.Thread):
    """A thread that sends or receives; its mistake is raised by finish()."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work = work
        self.result = None
        self.error = None
        self.done = 0  # bytes so far
        self.start()

    def run(self):
        try:
            self.result = self.work(self)
        except BaseException as error:
            self.error = error

    def finish(self, timeout):
        self.join(timeout)
        if self.error:
            raise self.error
        if self.is_alive():
            raise AssertionError(f"transfer not over after {timeout} s, at byte {self.done}")
        return self.result


def send(sock, pattern, half_close=True):
    """Sends everything, then (as the caller likes) the end of the stream."""
    def work(transfer):
        for block in pattern.blocks():
            sock.sendall(block)
            transfer.done += len(block)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
    return Transfer(work)


def receive(sock, size=None, pace=None):
    """Hashes what comes, up to `size` bytes or the end; the result is the hash.

    `pace` is called with the number of bytes so far before each read and
    returns how many to read at most: it may also sleep.
    """
    def work(transfer):
        digest = hashlib.sha256()
        buffer = bytearray(BLOCK)
        view = memoryview(buffer)
        while size is None or transfer.done < size:
            most = pace(transfer.done) if pace else BLOCK
            if size is not None:
                most = min(most, size - transfer.done)
            count = sock.recv_into(view[:most])
            if not count:
                break
            digest.update(view[:count])
            transfer.done += count
        return digest.hexdigest()
    return Transfer(work)


def slow(_done):
    """A reader of about 20 MB/s, in odd pieces."""
    time.sleep(0.002)
    return 40961


class Stall:
    """A reader that stops once, after `after` bytes, until resume()."""

    def __init__(self, after):
        self.after = after
        self.reached = threading.Event()
        self._resumed = threading.Event()

    def __call__(self, done):
        if done >= self.after and not self._resumed.is_set():
            self.reached.set()
            self._resumed.wait(60)
        return min(BLOCK, self.after - done) if done < self.after else BLOCK

    def resume(self):
        self._resumed.set()
