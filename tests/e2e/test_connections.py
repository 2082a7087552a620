# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The record of a connection: in realpeerctl, in the pinned map, and gone when
the connection is."""

import os
import time

from lib import crowd, header, stream
from lib.poll import check, equal, wait_for
from lib.requirement import BPF, BPFTOOL, needs
from lib.topology import (CLIENTS, CLIENTS6, LB, LB_FRONT, LB_FRONT6, SERVER,
                          SERVER6)

SOURCE = (CLIENTS[0], 40001)
DESTINATION = (LB_FRONT, 1883)
KEYS = {"cookie", "listener", "client", "client_port", "proxy", "proxy_port",
        "destination", "destination_port", "family", "version", "command",
        "delivery", "offload", "since", "tlvs"}


def open_connection(env, head, server=SERVER):
    sock = env.lb.connect((server, 1883))
    stream.exchange(sock, head + b"hello", b"hello")
    return sock


@needs(BPF)
def test_json(env):
    """Every key and value of a v2 connection with TLVs."""
    env.handler()
    daemon = env.relay()
    tlvs = (header.CRC_TLV + header.tlv(header.TLV_AUTHORITY, b"broker.test")
            + header.tlv(header.TLV_UNIQUE_ID, b"id-7")
            + header.tlv(header.TLV_AWS, b"\x01vpce-08d2bf15fac5001c9")
            + header.ssl_tlv(7, 0, header.tlv(header.TLV_SSL_CN, b"device-7")))
    with open_connection(env, header.v2(SOURCE, DESTINATION, tlvs)) as sock:
        entry = daemon.wait_connections(1)[0]
        equal(set(entry), KEYS, "keys")
        want = {
            "listener": "echo", "client": SOURCE[0], "client_port": SOURCE[1],
            "proxy": LB, "proxy_port": sock.getsockname()[1],
            "destination": DESTINATION[0], "destination_port": DESTINATION[1],
            "version": 2, "delivery": "relay"}
        equal({key: entry[key] for key in want}, want, "values")
        equal((entry["command"], entry["family"]), ("proxy", "ipv4"), "command and family")
        check(entry["offload"] in ("off", "peek", "accept"), f"offload {entry['offload']}")
        check(isinstance(entry["cookie"], int) and entry["cookie"] > 0, f"cookie {entry['cookie']}")
        want = {"authority": "broker.test", "unique_id": "id-7",
                "aws_vpce_id": "vpce-08d2bf15fac5001c9", "ssl_cn": "device-7"}
        equal({key: entry["tlvs"].get(key) for key in want}, want, "tlvs")
        check(SOURCE[0] in daemon.ctl("connections"), "the table does not name the client")


@needs(BPF)
def test_json_ipv6_and_v1(env):
    env.handler(("::1", 9000))
    daemon = env.relay(handler="[::1]:9000")
    source, destination = (CLIENTS6[0], 40002), (LB_FRONT6, 1883)
    with open_connection(env, header.v1(source, destination), SERVER6) as sock:
        entry = daemon.wait_connections(1)[0]
        want = {"client": source[0], "client_port": source[1],
                "proxy": sock.getsockname()[0], "destination": destination[0],
                "destination_port": destination[1], "family": "ipv6", "version": 1}
        equal({key: entry[key] for key in want}, want, "values")


@needs(BPF)
def test_peek_is_used(env):
    """offload = peek: the kernel reads the header, and it is said."""
    env.handler()
    daemon = env.relay(offload="peek")
    with open_connection(env, header.v2(SOURCE, DESTINATION)):
        entry = daemon.wait_connections(1)[0]
        equal(entry["offload"], "peek", "offload")
        equal(daemon.stat("echo", "peeked"), 1, "peeked")
        equal(daemon.stat("echo", "peek_mismatch"), 0, "peek_mismatch")


@needs(BPF)
def test_off_is_used(env):
    """offload = off as root still shows the client to the handler."""
    handler = env.handler()
    daemon = env.relay(offload="off")
    with open_connection(env, header.v2(SOURCE, DESTINATION)):
        entry = daemon.wait_connections(1)[0]
        equal(entry["offload"], "off", "offload")
        equal((handler.wait(1).peer, handler.accepted[0].from_accept),
              (SOURCE, SOURCE), "getpeername() and accept() of the handler")


@needs(BPF)
def test_stats(env):
    """Counters are by listener; text and JSON agree."""
    env.handler()
    daemon = env.relay(proxy_protocol="enabled")
    for head in (header.v1(SOURCE, DESTINATION), header.v2(SOURCE, DESTINATION),
                 header.v2_local(), b""):
        open_connection(env, head).close()
    daemon.wait_connections(0)
    for key, value in {"connections": 4, "header_v1": 1, "header_v2": 2, "local": 1,
                       "direct": 1, "bytes_up": 20, "bytes_down": 20,
                       "malformed": 0, "timeout": 0, "handler_failed": 0}.items():
        daemon.wait_stat("echo", key, value)
    check("header_v1" in daemon.ctl("stats"), "the text does not name header_v1")


@needs(BPF)
def test_status(env):
    daemon = env.relay(offload="peek")
    status = daemon.ctl_json("status")
    equal((status["running"], status["pid"]), (True, daemon.process.pid), "the daemon")
    entry = status["listeners"][0]
    equal((entry["name"], entry["delivery"], entry["mode"], entry["offload"]),
          ("echo", "relay", "required", "peek"), "the listener")
    check("echo" in daemon.ctl("status"), "the text does not name the listener")


@needs(BPF, BPFTOOL)
def test_map_dump(env):
    """bpftool names every field; the record is the one realpeerctl shows."""
    env.handler()
    daemon = env.relay()
    with open_connection(env, header.v2(SOURCE, DESTINATION)) as sock:
        entry = daemon.wait_connections(1)[0]
        records = daemon.records()
        equal(len(records), 1, "records")
        record = records[0]
        fields = {"since", "client", "proxy", "destination", "client_port", "proxy_port",
                  "destination_port", "version", "command", "delivery", "offload",
                  "listener", "listener_name", "tlvs"}
        equal(fields - set(record), set(), "fields without a name")
        equal((record["client_port"], record["proxy_port"], record["destination_port"]),
              (SOURCE[1], sock.getsockname()[1], DESTINATION[1]), "ports")
        equal(bytes(int(str(byte), 0) for byte in record["client"]),
              bytes(10) + b"\xff\xff" + bytes(map(int, SOURCE[0].split("."))), "client")
        plain = env.server.run("bpftool", "map", "dump", "pinned",
                               daemon.map_path("connections")).stdout
        check('"client_port": 40001' in plain, f"not named: {plain}")
        check(str(entry["cookie"]) in plain, "the cookie is not the key")
    daemon.wait_connections(0)
    wait_for(lambda: not daemon.records(), "the record to disappear")


@needs(BPF, BPFTOOL)
def test_records_vanish(env):
    """However a connection ends, its record goes."""
    handler = env.handler()
    daemon = env.relay()
    for number, end in enumerate(("client closes", "client resets", "handler closes")):
        sock = open_connection(env, header.v2(SOURCE, DESTINATION))
        daemon.wait_connections(1)
        accepted = handler.wait(number + 1)
        if end == "client closes":
            sock.close()
        elif end == "client resets":
            stream.close_with_reset(sock)
        else:
            accepted.sock.shutdown(2)
            equal(stream.ended_by(sock)[1], b"", "what follows")
            sock.close()
        wait_for(lambda: not daemon.records(), f"the record to go when {end}")
    daemon.wait_connections(0)


@needs(BPF, BPFTOOL)
def test_many(env):
    """100,000 connections, then no record, no descriptor, no wrong client."""
    total = int(os.environ.get("REALPEER_E2E_CONNECTIONS", "100000"))
    daemon = env.relay()
    idle = len(daemon.process.descriptors())
    env.lb.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
    env.server.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
    servers = crowd.start_servers(env, ("127.0.0.1", 9000), 1)
    begin = time.monotonic()
    crowd.churn(env, (SERVER, 1883), total, workers=2)
    print(f"{total} connections in {time.monotonic() - begin:.1f} s")
    equal(crowd.stop_servers(servers), total, "connections with the right client")
    daemon.wait_stat("echo", "connections", total)
    wait_for(lambda: not daemon.records(), "the map to be empty")
    daemon.wait_connections(0)
    wait_for(lambda: len(daemon.process.descriptors()) <= idle + 2,
             lambda: f"descriptors: {idle} before, {len(daemon.process.descriptors())} now")


test_many.limit = 180
