# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Segments by the hundred thousand, many of them wrong, at an inline listener:
flags, numbers, options, lengths, fragments, extension headers, checksums, and
streams whose header is damaged, in pieces, or none.

tests/throw makes them from a seed and is the server too: it knows of each
byte whether it may see it, and of each stream its client. REALPEER_FUZZ_SEED
repeats a run, REALPEER_FUZZ_PACKETS says how long it is.
"""

import collections
import json
import os
import re
import threading
import time

from lib import handshakes, header, inline, packets
from lib.inline import INLINE
from lib.poll import check, equal, wait_for
from lib.requirement import BPF, BPFTOOL, needs
from lib.topology import CLIENTS, CLIENTS6, LB_FRONT, LB_FRONT6, SERVER, SERVER6

PACKETS = int(os.environ.get("REALPEER_FUZZ_PACKETS", 400000))
SEED = int(os.environ.get("REALPEER_FUZZ_SEED") or int.from_bytes(os.urandom(4), "big"))
SHOWN = os.environ.get("REALPEER_FUZZ_FLOW", "").split()
PACKET_IGNORE_OUTGOING = 23
MAPS = ("connections", "tlvs", "orphans", "pending", "awaiting", "outgoing", "announced")
SYN_RECEIVED = 0  # enum rp_stage
MET = ("header_v1", "header_v2", "local", "closed_early", "untrusted", "not_header", "malformed",
       "too_long", "timeout", "bad_source")
# Addresses of nobody; those with 77 are trusted, those with 88 are not.
PEERS = [f"10.{net}.0.{100 + n}" for net in (77, 88) for n in range(8)]
PEERS6 = [f"fd{net}::10{n}" for net in (77, 88) for n in range(8)]
ALARM = re.compile(r"WARNING:|BUG:|Oops|general protection|refcount_t|soft lockup|"
                   r"rcu.*stall|KASAN|UBSAN|kernel panic|hung_task|blocked for more than")


class KernelLog:
    """What the kernel says from now on; where it may not be read, its taint."""

    def __init__(self):
        self.taint = self._taint()
        try:
            self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
            os.lseek(self.fd, 0, os.SEEK_END)
        except OSError as error:
            print(f"no log of the kernel: {error}")
            self.fd = None

    @staticmethod
    def _taint():
        with open("/proc/sys/kernel/tainted", encoding="ascii") as file:
            return int(file.read())

    def _lines(self):
        while self.fd is not None:
            try:
                yield os.read(self.fd, 8192).decode(errors="replace")
            except BlockingIOError:
                return
            except BrokenPipeError:
                pass  # overwritten before we came

    def check(self):
        equal([line for line in self._lines() if ALARM.search(line)], [], "alarms of the kernel")
        equal(self._taint(), self.taint, "taint of the kernel")


class GoodClient:
    """Connects again and again, through the load balancer's own stack."""

    KINDS = (((SERVER, 1883), header.v2((CLIENTS[0], 40001), (LB_FRONT, 1883)),
              f"[::ffff:{CLIENTS[0]}]:40001\n"),
             ((SERVER6, 1883), header.v1((CLIENTS6[0], 40002), (LB_FRONT6, 1883)),
              f"[{CLIENTS6[0]}]:40002\n"))

    def __init__(self, env):
        self.env = env
        self.served = 0
        self.error = None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def once(self, kind):
        address, head, shown = self.KINDS[kind]
        begin = time.monotonic()
        try:
            with self.env.lb.connect(address, timeout=10.0) as sock:
                sock.sendall(head + b"good client one")
                want, have = shown.encode() + b"good client one", b""
                while len(have) < len(want):
                    data = sock.recv(4096)
                    check(data, f"the good client got an end after {have!r}")
                    have += data
                equal(have, want, "what the good client got")
            self.served += 1
        except (ConnectionResetError, BrokenPipeError):
            if time.monotonic() - begin < 1:  # header_timeout: else it was no good client
                raise

    def _run(self):
        kind = 0
        while not self.stopped.wait(0.05):
            try:
                self.once(kind)
            except (AssertionError, OSError) as error:
                self.error = f"connection {self.served + 1}: {error!r}"
                return
            kind = not kind

    def stop(self):
        self.stopped.set()
        self.thread.join()
        check(self.error is None, f"the good client, {self.error}")


def throw(env, wire, address):
    """The process; its log ends with "thrown" when all are on their way."""
    wire.sock.setsockopt(packets.SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    # A short queue, which is full now and then.
    listening = env.server.listen(address, backlog=64)
    macs = [":".join(f"{byte:02x}" for byte in mac) for mac in (wire.server_mac, wire.mac)]
    fds = (wire.sock.fileno(), listening.fileno())
    process = env.start("throw", [env.binary("tests/throw/throw"), str(SEED), str(PACKETS), "0",
                                  *map(str, fds), *macs, *SHOWN], pass_fds=fds)
    listening.close()
    return process


def nearly_empty(running, may_keep):
    """What is remembered of streams that are over: `may_keep` entries of those
    LRU maps in which a place is only lost when it is needed.

    Nothing waits for what was peeked at and never became a connection, nor for
    a SYN that was left to the stack; the SYNs that TC answered are forgotten
    by header_timeout.
    """
    have = {}

    def forgotten():
        with handshakes.Handshakes(running) as table:
            stages = collections.Counter(table.stages())
        have.update({name: inline.map_size(running, name) for name in MAPS},
                    answered=stages.pop(SYN_RECEIVED, 0), left=stages.total())
        return all(size <= may_keep.get(name, 0) for name, size in have.items())
    wait_for(forgotten, lambda: f"the maps to be empty, they have {have}", 20)
    return have


def fuzz(env, running, address, met, may_keep):
    """`running` serves on port 1883, with `address` as that of its server."""
    print(f"REALPEER_FUZZ_SEED={SEED} REALPEER_FUZZ_PACKETS={PACKETS}")
    kernel = KernelLog()
    for network in ("10.88.0.0/24", "fd88::/64"):
        env.server.run("ip", "route", "add", network, "dev", "back")
    thrown = throw(env, packets.Wire(env, PEERS + PEERS6), address)
    begin = time.monotonic()
    good = GoodClient(env)
    thrown.wait_log("^thrown$", timeout=240)
    seconds = time.monotonic() - begin
    good.stop()
    during = good.served
    kept = nearly_empty(running, may_keep)
    for kind in (0, 1):
        good.once(kind)
    status = thrown.stop()
    said = json.loads(thrown.log().splitlines()[-1])
    stats = running.stats("echo")
    print(f"{seconds:.1f} s, {during} good connections meanwhile, {said}, {stats}, {kept}")
    equal((status, said["wrong"]), (0, 0), "exit status, and what the server saw wrong")
    kernel.check()
    # It was worth it: each fate was met, and many streams came all the way.
    for key in met:
        check(stats[key] > 0, f"nothing was counted as {key}: {stats}")
    equal(said["good"], good.served, "good connections at the server")
    check(said["checked"] > PACKETS // 50, f"few streams reached the server: {said}")


@needs(INLINE, BPFTOOL)
def test_inline(env):
    """Fails when rp_is_intact() always agrees, rp_lookup() lets SYNs pass,
    rp_on_syn() trusts everybody, rp_on_first_data() takes any source,
    rp_on_early() any ACK number, or rp_strip() is one byte off; without
    SO_OOBINLINE in listen.c; and, for the maps, without on_overdue()."""
    running = inline.daemon(env, header_timeout="1s")
    fuzz(env, running, ("::", 1883), MET + ("handed_over",), {"left": PACKETS // 400})


@needs(INLINE, BPFTOOL)
def test_relay(env):
    """The kernel takes the header off, the daemon relays."""
    running = env.relay(handler="[::1]:9000", header_timeout="1s", offload="accept")
    fuzz(env, running, ("::1", 9000), MET + ("handed_over",), {"left": PACKETS // 400})


@needs(BPF, BPFTOOL)
def test_peek(env):
    """The kernel looks, the daemon decides."""
    running = env.relay(handler="[::1]:9000", header_timeout="1s", offload="peek")
    fuzz(env, running, ("::1", 9000), MET + ("peeked", "peek_undecided"),
         {"pending": PACKETS // 40})


for _test in (test_inline, test_relay, test_peek):
    _test.limit = 300
