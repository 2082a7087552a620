# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Every kind of connection there is, at a modest rate, in cycles that end with
only the long-lived ones open. What should succeed must, and the rest must not."""

import contextlib
import os
import socket

from lib import header, inline, load, stream
from lib.poll import check, wait_for
from lib.realpeer import listener
from lib.topology import CLIENTS, LB_FRONT, SERVER, SERVER_SIDE

RATE = 12  # connections/s of each kind of load
HELD = 50  # of each of the HOLDING
REOPENED = 5  # cycles after which long-lived connections are replaced
TIMEOUT = 2.0  # header_timeout

BACKEND = ("127.0.0.1", 9000)
WHO = ("--check", "--clients", "203.0.113.0/24")

RELAYED = {"handler": "127.0.0.1:9000", "client_address": "getpeername"}
INLINE = {"delivery": "inline"}
LISTENERS = {
    "off": (1881, {**RELAYED, "offload": "off"}),
    "peek": (1882, {**RELAYED, "offload": "peek"}),
    "accept": (1883, RELAYED),
    "optional": (1884, {**RELAYED, "proxy_protocol": "enabled"}),
    "quiet": (1885, {**RELAYED, "client_address": "none"}),
    "inline": (1890, INLINE),
    "elsewhere": (1891, {**INLINE, "handler": 1990}),
    "inline-optional": (1892, {**INLINE, "proxy_protocol": "enabled"}),
}
SERVERS = (1890, 1990, 1892)
HOLDING = ("off", "accept", "inline", "elsewhere")
# Of those that come, one after the other.
HEADERS = (("-H", "v1"), ("-H", "v2"), ("-H", "v2-crc32c"), ("-H", "v2", "--apart"),
           ("-H", "v2-crc32c", "--pieces", 3, "--pause", 5))
RUBBISH = ("payload", "broken")


def config(extra=""):
    text = (f"[global]\ntrusted = 10.77.0.0/24\nheader_timeout = {TIMEOUT:g}s\n"
            "log_level = warning\n")
    for name, (port, settings) in LISTENERS.items():
        text += listener(name, listen=f"0.0.0.0:{port}", **settings)
    return text + extra


# A reload that adds two listeners, and the one that takes them away again.
EXTRA = (listener("more", listen="0.0.0.0:1895", **RELAYED)
         + listener("more-inline", listen="0.0.0.0:1896", **INLINE))


class Traffic:
    def __init__(self, env):
        self.env = env
        self.connections = 0
        self.wrong = []
        load.Backend(env, env.server, BACKEND)
        for port in SERVERS:
            load.Backend(env, env.server, ("0.0.0.0", port), f"backend{port}")
        self.daemon = env.realpeerd(config())
        self.held = []
        self._hold()

    def _hold(self):
        self.held = [load.Held(self.env, self.env.lb, (SERVER, LISTENERS[name][0]), HELD, *WHO)
                     for name in HOLDING]

    def _expect(self, what, said, **wanted):
        have = {key: said[key] for key in wanted}
        if have != wanted:
            self.wrong.append(f"{what}: {said}")
        self.connections += said["connections"]

    def _let_go(self):
        for name, held in zip(HOLDING, self.held):
            self._expect(f"held, {name}", held.result(), failed=0, wrong_peer=0)
            self._forget(held)
        self.held = []

    def _forget(self, going):
        """Many processes in a long time: neither they nor their logs stay."""
        self.env.processes.all.remove(going.process)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(going.process.log_path)

    def _load(self, mode, name, *options, namespace=None, server=SERVER):
        return load.Load(self.env, namespace or self.env.lb, mode, (server, LISTENERS[name][0]),
                         *options)

    def _good(self, number, count):
        """One load for each listener; which header changes from cycle to cycle."""
        paced = ("-c", count, "--rate", RATE, "-f", 32)
        for position, name in enumerate(LISTENERS):
            options = HEADERS[(number + position) % len(HEADERS)]
            who = WHO if name != "quiet" else ()
            yield f"{name} {options}", self._load("connect", name, *paced, *options, *who)
        for name in ("optional", "inline-optional"):
            yield f"{name}, plain", self._load("connect", name, *paced, "-H", "none")
        for name in ("off", "inline"):
            yield f"{name}, requests", self._load("request", name, "-c", 8, "-r", 2000)
        for mode in ("up", "down"):
            yield f"accept, {mode}", self._load(mode, "accept", "-c", 2, "-B", 16 << 20)

    def _bad(self, number, count):
        paced = ("-c", count, "--rate", RATE, "-f", 32)
        for position, name in enumerate(("off", "peek", "accept", "inline", "elsewhere")):
            kind = RUBBISH[(number + position) % len(RUBBISH)]
            yield f"{name}, {kind}", self._load("refuse", name, *paced, "--rubbish", kind)
        yield "off, silent", self._load("refuse", "off", *paced, "--rubbish", "silent")
        for name in ("off", "inline"):
            yield f"{name}, untrusted", self._load(
                "refuse", name, *paced, "--rubbish", "header", namespace=self.env.stranger,
                server=SERVER_SIDE)

    def _half(self, number):
        """Half a header, where it is not handed on as it is; nothing; half a
        connection."""
        head = header.v2((CLIENTS[number % 10], 4000), (LB_FRONT, 1883))
        for name, (port, _) in LISTENERS.items():
            if "optional" not in name:
                self.env.lb.connect((SERVER, port)).close()
                with self.env.lb.connect((SERVER, port)) as sock:
                    sock.sendall(head[:20])
                sock = self.env.lb.connect((SERVER, port))
                sock.sendall(head[:14])
                stream.close_with_reset(sock)
                self.connections += 3
            with self.env.lb.connect((SERVER, port)) as sock:
                sock.sendall(head + b"ECHO\nhello")
                sock.shutdown(socket.SHUT_WR)
                if stream.ended_by(sock) != ("eof", b"hello"):
                    self.wrong.append(f"half closed, port {port}")
            self.connections += 1

    def _reconfigure(self, number):
        self.daemon.configure(config(EXTRA if number % 2 == 0 else ""))
        self.daemon.ctl("reload")
        self.daemon.ctl("attach", "1897", "--trusted", "10.77.0.0/24")
        self.daemon.ctl("detach", "1897")

    def cycle(self, number, seconds):
        count = max(1, int(RATE * seconds * 0.8))
        good = list(self._good(number, count))
        bad = list(self._bad(number, count))
        self._half(number)
        self._reconfigure(number)
        for what, going in good:
            self._expect(what, going.result(120), failed=0, wrong_peer=0)
            self._forget(going)
        for what, going in bad:
            said = going.result(120)
            self._expect(what, said, answered=0, failed=0)
            self._forget(going)
        if number % REOPENED == REOPENED - 1:
            self._let_go()
            self._hold()
        self._settle()

    def _settle(self):
        """Only the long-lived ones are left, and nobody waits for a header."""
        want = HELD * len(HOLDING)
        found = 0

        def quiet():
            nonlocal found
            found = len(self.daemon.connections())
            return found == want
        with contextlib.suppress(AssertionError):
            wait_for(quiet, "", TIMEOUT + 10)
        if found != want:
            self.wrong.append(f"{found} connections are listed, {want} are open")

    def end(self):
        """After the last connection nothing of any is left."""
        self._let_go()
        found = []
        for name in ("connections", "tlvs", "pending", "handshakes", "outgoing", "announced"):
            try:
                wait_for(lambda: self._is_empty(name), f"the map {name} to be empty", 10)
            except AssertionError as error:
                found.append(str(error))
        active = {one["name"]: one["active"] for one in self.daemon.ctl_json("status")["listeners"]}
        if any(active.values()):
            found.append(f"active connections: {active}")
        check(self.daemon.process.alive(), "the daemon ended")
        return found

    def _is_empty(self, name):
        return inline.map_size(self.daemon, name) == 0
