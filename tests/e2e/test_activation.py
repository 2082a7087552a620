# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a service manager does and expects: sockets passed in, READY=1, the
watchdog. By hand, since a container has no systemd."""

import contextlib
import os
import re
import signal
import socket
import time

from lib import header, stream
from lib.poll import check, equal, wait_for
from lib.realpeer import listener
from lib.requirement import BPF, needs, program
from lib.topology import CLIENTS, LB_FRONT, SERVER, SERVER6

SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
LISTENER = listener("echo", listen=f"{SERVER}:1883, [{SERVER6}]:1883", handler="127.0.0.1:9000",
                    client_address="getpeername")


def works(env, handler):
    count = len(handler.accepted) + 1
    with env.lb.connect((SERVER, 1883)) as sock:
        stream.exchange(sock, HEADER + b"hello", b"hello")
        equal(handler.wait(count).peer, SOURCE, "client")


class Notify:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, env):
        self.path = env.path("notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)
        env.at_end(self.socket.close)
        self.received = []

    def wait(self, assignment, count=1, timeout=10.0):
        def come():
            try:
                while True:
                    self.received += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.received.count(assignment) >= count
        wait_for(come, lambda: f"{count} times {assignment}, have {self.received}", timeout)


def start(env, variables, prefix=(), pass_fds=()):
    """Starts the daemon without waiting for anything."""
    daemon = env.daemon(LISTENER, prefix=prefix)
    daemon.process = env.start("realpeerd", daemon.argv(), dict(daemon.variables, **variables),
                               pass_fds)
    return daemon


@needs(BPF)
def test_ready_means_armed(env):
    """A connection right after READY=1 succeeds, time after time."""
    handler = env.handler()
    for _ in range(5):
        daemon = env.daemon(LISTENER).start()
        works(env, handler)
        equal(daemon.stop(), 0, "exit status")


@needs(BPF)
def test_states_are_told(env):
    handler = env.handler()
    notify = Notify(env)
    daemon = start(env, {"NOTIFY_SOCKET": notify.path})
    notify.wait("READY=1")
    works(env, handler)
    daemon.process.kill(signal.SIGHUP)
    notify.wait("RELOADING=1")
    notify.wait("READY=1", 2)
    works(env, handler)
    daemon.process.kill(signal.SIGTERM)
    notify.wait("STOPPING=1")
    equal(daemon.process.wait(), 0, "exit status")


@needs(BPF)
def test_watchdog(env):
    """WATCHDOG=1 comes in good time: twice in each interval."""
    notify = Notify(env)
    start(env, {"NOTIFY_SOCKET": notify.path, "WATCHDOG_USEC": "2000000"})
    notify.wait("READY=1")
    gaps = []
    for count in range(1, 5):
        begin = time.monotonic()
        notify.wait("WATCHDOG=1", count)
        gaps.append(time.monotonic() - begin)
    check(min(gaps[1:]) < 1.9, f"seconds between them: {gaps}")


@needs(BPF)
def test_no_watchdog(env):
    notify = Notify(env)
    handler = env.handler()
    start(env, {"NOTIFY_SOCKET": notify.path})
    notify.wait("READY=1")
    works(env, handler)
    check("WATCHDOG=1" not in notify.received, "a keep-alive that nobody asked for")


BY_HAND = ["sh", "-c", 'eval "exec 3<&$1 4<&$2"; shift 2; export LISTEN_PID=$$; exec "$@"', "sh"]


@needs(BPF)
def test_sockets_passed(env):
    """Connections made before the start are served, on that very socket."""
    handler = env.handler()
    sockets = [env.server.listen((SERVER, 1883)), env.server.listen((SERVER6, 1883))]
    early = env.lb.connect((SERVER, 1883))
    early.sendall(HEADER + b"hello")
    notify = Notify(env)
    fds = [sock.fileno() for sock in sockets]
    inodes = {os.readlink(f"/proc/self/fd/{fd}") for fd in fds}
    daemon = start(env, {"NOTIFY_SOCKET": notify.path, "LISTEN_FDS": "2"},
                   [*BY_HAND, *map(str, fds)], fds)
    for sock in sockets:
        sock.close()
    notify.wait("READY=1")
    equal(stream.receive_exactly(early, 5), b"hello", "echo")
    early.close()
    equal(inodes - set(daemon.process.descriptors()), set(), "sockets it doesn't use")
    works(env, handler)


def watched(process):
    """The inodes of what its epolls watch."""
    directory = f"/proc/{process.pid}/fdinfo"
    found = set()
    for name in os.listdir(directory):
        with contextlib.suppress(FileNotFoundError), \
                open(f"{directory}/{name}", encoding="ascii") as file:
            found |= {int(inode, 16) for inode in re.findall(r"^tfd:.* ino:([0-9a-f]+)",
                                                             file.read(), re.MULTILINE)}
    return found


@needs(BPF)
def test_socket_of_a_removed_listener(env):
    """systemd still has the socket: what happens there is nothing to us. Fails
    without loop_unwatch() in acceptor_leave()."""
    handler = env.handler()
    sockets = [env.server.listen((SERVER, 1883)), env.server.listen((SERVER6, 1883))]
    notify = Notify(env)
    fds = [sock.fileno() for sock in sockets]
    daemon = start(env, {"NOTIFY_SOCKET": notify.path, "LISTEN_FDS": "2"},
                   [*BY_HAND, *map(str, fds)], fds)
    notify.wait("READY=1")
    works(env, handler)
    inodes = {os.fstat(fd).st_ino for fd in fds}
    equal(inodes - watched(daemon.process), set(), "sockets that nobody watches")
    daemon.reload(LISTENER.replace("1883", "1885"))
    equal(inodes & watched(daemon.process), set(), "sockets that are watched still")
    for sock in sockets:
        for _ in range(3):
            env.lb.connect(sock.getsockname()[:2]).close()
    count = len(handler.accepted) + 1
    with env.lb.connect((SERVER, 1885)) as sock:
        stream.exchange(sock, HEADER + b"hello", b"hello")
    equal(handler.wait(count).peer, SOURCE, "client")
    for sock in sockets:
        sock.close()


@needs(BPF)
def test_sockets_of_another_process(env):
    """LISTEN_PID of somebody else: the variables are not for this daemon."""
    handler = env.handler()
    notify = Notify(env)
    daemon = start(env, {"NOTIFY_SOCKET": notify.path, "LISTEN_FDS": "2", "LISTEN_PID": "1"})
    notify.wait("READY=1")
    works(env, handler)
    equal(daemon.log_complaints(), [], "complaints in the log")


@needs(BPF, program("systemd-socket-activate"))
def test_systemd_socket_activate(env):
    """systemd's own tool: the first connection starts the daemon."""
    handler = env.handler()
    daemon = env.daemon(LISTENER, prefix=[
        "systemd-socket-activate", "-l", f"{SERVER}:1883", "-l", f"[{SERVER6}]:1883",
        "-E", "REALPEER_BPFFS", "-E", "REALPEER_RUN"])
    daemon.process = env.start("realpeerd", daemon.argv(), daemon.variables)
    daemon.process.wait_log("Listening on .*1883")
    with env.lb.connect((SERVER, 1883)) as sock:
        daemon.process.wait_log("msg=started", 15)
        stream.exchange(sock, HEADER + b"hello", b"hello")
        equal(handler.wait(1).peer, SOURCE, "client")
    daemon.wait_stat("echo", "connections", 1)
