# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Unmodified servers that own their ports, behind HAProxy and NGINX: each sees
the real client in its own log or command, and the daemon holds no socket."""

import json
import os
import re
import struct

from lib import balancer, inline, mqtt, stream
from lib.inline import INLINE, PAYLOAD
from lib.poll import check, equal, wait_for
from lib.requirement import (BPFTOOL, HAPROXY, MOSQUITTO, NGINX, needs, program)
from lib.topology import (CLIENTS, CLIENTS6, LB_FRONT, LB_FRONT6, SERVER, SERVER6)

NATS = program("nats-server")
REDIS = program("redis-server")
RABBITMQ = program("rabbitmq-server")

FRONTS = {11001: "HAProxy, version 1", 11002: "HAProxy, version 2",
          11003: "HAProxy, version 2 with CRC32C", 11004: "NGINX, version 1"}
SEND = {11001: "send-proxy", 11002: "send-proxy-v2",
        11003: "send-proxy-v2 proxy-v2-options crc32c,unique-id"}


def balancers(env, port):
    """Each of FRONTS, on both families, leads to the server's `port`."""
    balancer.haproxy(env, "".join(f"""
listen {name}-{front}
    bind {bind}:{front}
    server s {server}:{port} {send}
""" for front, send in SEND.items() for name, bind, server in (
        ("ipv4", LB_FRONT, SERVER), ("ipv6", f"[{LB_FRONT6}]", f"[{SERVER6}]"))), list(SEND))
    balancer.nginx(env, "".join(f"""
    server {{
        listen {bind}:11004;
        proxy_pass {server}:{port};
        proxy_protocol on;
    }}""" for bind, server in ((LB_FRONT, SERVER), (f"[{LB_FRONT6}]", f"[{SERVER6}]"))), [11004])


def each_client(env, running, port, seen_by_server, families=(4, 6)):
    """A client of each balancer and family; all stay connected.

    seen_by_server(sock, number) speaks the protocol on a client's socket and
    returns whom the server takes it for, as (address, port).
    """
    balancers(env, port)
    sockets = []
    for front, what in FRONTS.items():
        for family in families:
            address, clients = ((LB_FRONT, CLIENTS) if family == 4 else (LB_FRONT6, CLIENTS6))
            sock = env.client.connect((address, front), clients[len(sockets)])
            sockets.append(sock)
            seen = seen_by_server(sock, len(sockets))
            equal(seen, sock.getsockname()[:2], f"client behind {what}, IPv{family}")
    entries = running.wait_connections(len(sockets))
    equal({(entry["delivery"], entry["offload"]) for entry in entries}, {("inline", "accept")},
          "delivery and offload")
    equal({(entry["client"], entry["client_port"]) for entry in entries},
          {sock.getsockname()[:2] for sock in sockets}, "clients of the records")
    inline.holds_no_connection(running, port)
    for sock in sockets:
        sock.close()
    running.wait_connections(0)
    inline.nothing_left(running)
    equal(running.log_complaints(), [], "complaints in the log")


def wildcard(env, port):
    return inline.daemon(env, f"0.0.0.0:{port}, [::]:{port}")


def split(text):
    """"1.2.3.4:5", "[::1]:5" and "::1:5" as (address, port)."""
    address, _, port = text.rpartition(":")
    address = address.strip("[]")
    return address.removeprefix("::ffff:"), int(port)


@needs(INLINE, BPFTOOL, HAPROXY, NGINX, MOSQUITTO)
def test_mosquitto(env):
    broker = mqtt.Mosquitto(env, ["listener 1883 0.0.0.0", "listener 1883 ::"])

    def speak(sock, number):
        mqtt.connect(sock, f"client{number}")
        mqtt.ping(sock)
        return split(broker.peer_of(f"client{number}"))
    each_client(env, wildcard(env, 1883), 1883, speak)


@needs(INLINE, BPFTOOL, HAPROXY, NGINX, MOSQUITTO)
def test_mosquitto_dual_stack(env):
    """One socket for both families: IPv4 clients are v4-mapped on it."""
    broker = mqtt.Mosquitto(env, ["listener 1883"])

    def speak(sock, number):
        mqtt.connect(sock, f"client{number}")
        return split(broker.peer_of(f"client{number}"))
    each_client(env, inline.daemon(env, "[::]:1883"), 1883, speak)


@needs(INLINE, BPFTOOL, HAPROXY, NGINX)
def test_nginx(env):
    balancer.nginx(env, "", [8080], name="server", namespace=env.server, http="""
    log_format real '$remote_addr $remote_port "$request"';
    access_log /dev/stdout real;
    server {
        listen 0.0.0.0:8080;
        listen [::]:8080;
        location / { return 200 "hello\\n"; }
    }""")
    server = env.processes.all[-1]

    def speak(sock, number):
        sock.sendall(f"GET /client{number} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        check(stream.receive_until(sock, b"\r\n\r\nhello\n").startswith(b"HTTP/1.1 200"), "200")
        line = server.wait_log(f'"GET /client{number} ')
        address, port = line.split()[:2]
        return address, int(port)
    each_client(env, wildcard(env, 8080), 8080, speak)


@needs(INLINE, BPFTOOL, HAPROXY, NGINX)
def test_threads(env):
    """A blocking server with a thread for each connection."""
    server = inline.Server.start(env, ("::", 1883))

    def speak(sock, number):
        stream.exchange(sock, PAYLOAD)
        accepted = server.wait(number)
        equal(accepted.peer, accepted.from_accept, "getpeername() and accept()")
        return accepted.peer[0].removeprefix("::ffff:"), accepted.peer[1]
    each_client(env, wildcard(env, 1883), 1883, speak)


@needs(INLINE, BPFTOOL, HAPROXY, NGINX, NATS)
def test_nats(env):
    """It speaks first, so it needs a balancer that sends its header at once."""
    server = env.start("nats-server", env.server.command(
        "nats-server", "-a", "::", "-p", "4222", "-m", "8222", "-D"))
    server.wait_log("Server is ready", 10)

    def clients():
        with env.server.connect(("127.0.0.1", 8222)) as sock:
            sock.sendall(b"GET /connz HTTP/1.0\r\n\r\n")
            body = stream.ended_by(sock)[1].split(b"\r\n\r\n", 1)[1]
        return {entry["name"]: (entry["ip"], entry["port"])
                for entry in json.loads(body)["connections"]}

    def speak(sock, number):
        check(stream.receive_until(sock, b"\r\n").startswith(b"INFO {"), "INFO")
        name = f"client{number}"
        sock.sendall(f'CONNECT {{"verbose":false,"name":"{name}"}}\r\nPING\r\n'.encode())
        equal(stream.receive_until(sock, b"\r\n"), b"PONG\r\n", "answer to PING")
        seen = clients()[name]
        server.wait_log(rf"{re.escape(seen[0])}\]?:{seen[1]} - cid:\d+ - Client connection created")
        return seen
    each_client(env, wildcard(env, 4222), 4222, speak)


@needs(INLINE, BPFTOOL, HAPROXY, NGINX, REDIS)
def test_redis(env):
    server = env.start("redis-server", env.server.command(
        "redis-server", "--port", "6379", "--bind", "0.0.0.0", "::", "--protected-mode", "no",
        "--save", "", "--dir", env.directory))
    server.wait_log("Ready to accept connections", 10)

    def speak(sock, number):
        name = f"client{number}".encode()
        stream.exchange(sock, b"CLIENT SETNAME " + name + b"\r\n", b"+OK\r\n")
        sock.sendall(b"CLIENT LIST\r\n")
        size = int(stream.receive_until(sock, b"\r\n")[1:])
        lines = stream.receive_exactly(sock, size + 2).decode().splitlines()
        fields = [dict(field.split("=", 1) for field in line.split()) for line in lines if line]
        return split(next(f["addr"] for f in fields if f["name"] == name.decode()))
    each_client(env, wildcard(env, 6379), 6379, speak)


class RabbitMQ:
    """One node of its own, with STOMP. As root, without the wrapper's su."""

    PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"

    def __init__(self, env):
        self.env = env
        self.directory = env.path("rabbitmq")
        os.mkdir(self.directory)
        env.write("rabbitmq/plugins", "[rabbitmq_stomp].\n")
        env.write("rabbitmq/rabbitmq.conf", "\n".join([
            "listeners.tcp.1 = :::5672", "stomp.listeners.tcp.1 = :::61613",
            "loopback_users = none", "log.console = true", "log.console.level = info"]) + "\n")
        self.variables = dict(
            os.environ, HOME=self.directory, RABBITMQ_NODENAME="realpeer@localhost",
            RABBITMQ_MNESIA_BASE=f"{self.directory}/mnesia",
            RABBITMQ_LOG_BASE=f"{self.directory}/log", RABBITMQ_LOGS="-",
            RABBITMQ_ENABLED_PLUGINS_FILE=f"{self.directory}/plugins",
            RABBITMQ_CONFIG_FILE=f"{self.directory}/rabbitmq.conf",
            RABBITMQ_PID_FILE=f"{self.directory}/pid", ERL_EPMD_ADDRESS="127.0.0.1",
            # one scheduler, and idle ones that sleep: two cores are few
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 1:1 +sbwt none")
        env.start("epmd", env.server.command("epmd"), self.variables)
        self.process = env.start("rabbitmq", env.server.command(self.PROGRAM), self.variables)
        self.process.wait_log("Server startup complete", 60)

    def logged(self, number):
        """Whom the log says the connection of that number comes from."""
        def lines():
            return self.process.lines(r"accepting (AMQP|STOMP) connection")
        wait_for(lambda: len(lines()) >= number, f"line {number} of an accepted connection")
        return split(re.search(r"\((\S+) -> ", lines()[number - 1]).group(1))

    def listed(self):
        """What `rabbitmqctl list_connections` says."""
        text = self.env.server.run(
            "/usr/lib/rabbitmq/bin/rabbitmqctl", "-q", "list_connections", "peer_host",
            "peer_port", env=self.variables, timeout=40).stdout
        rows = [line.split() for line in text.splitlines()[1:]]
        return {(host.removeprefix("::ffff:"), int(port)) for host, port in rows}


def amqp_method(sock, class_, method, body):
    """A method frame on channel 0, AMQP 0-9-1 section 4.2.3."""
    payload = struct.pack("!HH", class_, method) + body
    sock.sendall(struct.pack("!BHI", 1, 0, len(payload)) + payload + b"\xce")


def amqp_expect(sock, class_, method):
    kind, _, size = struct.unpack("!BHI", stream.receive_exactly(sock, 7))
    payload = stream.receive_exactly(sock, size + 1)
    equal((kind, *struct.unpack_from("!HH", payload)), (1, class_, method), "AMQP frame")
    return payload[4:-1]


def amqp_connect(sock):
    sock.settimeout(10)
    sock.sendall(b"AMQP\0\0\x09\x01")
    amqp_expect(sock, 10, 10)  # start
    answer = b"\0guest\0guest"
    amqp_method(sock, 10, 11, bytes(4) + b"\5PLAIN" + struct.pack("!I", len(answer)) + answer
                + b"\5en_US")
    tune = amqp_expect(sock, 10, 30)
    amqp_method(sock, 10, 31, tune)
    amqp_method(sock, 10, 40, b"\1/\0\0")
    amqp_expect(sock, 10, 41)  # open-ok


@needs(INLINE, BPFTOOL, HAPROXY, NGINX, RABBITMQ)
def test_rabbitmq(env):
    """AMQP and STOMP on one node; starting it takes most of the time."""
    server = RabbitMQ(env)
    listed = set()

    def amqp(sock, number):
        amqp_connect(sock)
        listed.add(sock.getsockname()[:2])
        if number == 2 * len(FRONTS):
            equal(server.listed(), listed, "rabbitmqctl list_connections")
        return server.logged(number)

    def stomp(sock, number):
        sock.settimeout(10)
        sock.sendall(b"CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n\0")
        check(stream.receive_until(sock, b"\0").startswith(b"CONNECTED"), "CONNECTED")
        return server.logged(2 * len(FRONTS) + number)

    running = wildcard(env, 5672)
    each_client(env, running, 5672, amqp)
    equal(running.stop(), 0, "exit status")
    for process in env.processes.all:
        if process.name in ("haproxy", "nginx"):
            process.stop()
    each_client(env, wildcard(env, 61613), 61613, stomp)


test_rabbitmq.limit = 120


@needs(INLINE, BPFTOOL, HAPROXY)
def test_control_without_realpeer(env):
    """The tests above prove something: alone, the server gets the header."""
    listening = env.server.listen((SERVER, 1883))
    env.at_end(listening.close)
    balancers(env, 1883)
    with env.client.connect((LB_FRONT, 11001)) as sock:
        sock.sendall(PAYLOAD)
        accepted, peer = listening.accept()
        with accepted:
            accepted.settimeout(5)
            check(peer[0] not in CLIENTS, f"peer {peer}")
            equal(stream.receive_exactly(accepted, 5), b"PROXY", "first bytes")
