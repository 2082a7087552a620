# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""An unmodified Mosquitto behind real load balancers logs the real clients:
address and port, over MQTT, WebSocket and TLS, with IPv4 and IPv6."""

import ssl

from lib import balancer, mqtt
from lib.certificate import Authority
from lib.poll import check, equal
from lib.realpeer import listener
from lib.requirement import (BPF, HAPROXY, MOSQUITTO, MOSQUITTO_CLIENTS, NGINX,
                             OPENSSL, needs)
from lib.topology import (CLIENTS, CLIENTS6, LB, LB_FRONT, LB_FRONT6, SERVER,
                          SERVER6)

SERVERS = f"{SERVER}:1883, [{SERVER6}]:1883"

# One broker socket of each family: a v6 client can be shown on the v6 one.
BROKER = ["listener 2883 127.0.0.1", "listener 2883 ::1"]
LISTENERS = (
    listener("mqtt", listen=f"{SERVER}:1883", handler="127.0.0.1:2883",
             client_address="getpeername")
    + listener("mqtt6", listen=f"[{SERVER6}]:1883", handler="[::1]:2883",
               client_address="getpeername"))


def haproxy_mqtt(env, send):
    """203.0.113.1 goes to the server's IPv4 address, the IPv6 one likewise."""
    balancer.haproxy(env, f"""
listen mqtt
    bind {LB_FRONT}:1883
    server broker {SERVER}:1883 {send}
listen mqtt6
    bind [{LB_FRONT6}]:1883
    server broker [{SERVER6}]:1883 {send}
""", [1883])


def expect_clients(env, broker, port=1883):
    """Three clients of each family; the log must name each socket exactly."""
    sockets = []
    for front, sources in ((LB_FRONT, CLIENTS), (LB_FRONT6, CLIENTS6)):
        for source in sources[:3]:
            sock = env.client.connect((front, port), source)
            sockets.append(sock)
            name = f"client{len(sockets)}"
            mqtt.connect(sock, name)
            address, source_port = sock.getsockname()[:2]
            equal(address, source, "the test's own source")
            equal(broker.peer_of(name), f"{address}:{source_port}",
                  f"what Mosquitto logged of {name}")
            mqtt.ping(sock)
    for sock in sockets:
        sock.close()


@needs(BPF, HAPROXY, MOSQUITTO)
def test_haproxy_v1(env):
    broker = mqtt.Mosquitto(env, BROKER)
    env.realpeerd(LISTENERS)
    haproxy_mqtt(env, "send-proxy")
    expect_clients(env, broker)


@needs(BPF, HAPROXY, MOSQUITTO)
def test_haproxy_v2(env):
    broker = mqtt.Mosquitto(env, BROKER)
    env.realpeerd(LISTENERS)
    haproxy_mqtt(env, "send-proxy-v2")
    expect_clients(env, broker)


@needs(BPF, HAPROXY, MOSQUITTO)
def test_haproxy_v2_enabled(env):
    broker = mqtt.Mosquitto(env, BROKER)
    env.realpeerd(LISTENERS, variables={"REALPEER_PROXY_PROTOCOL": "enabled"})
    haproxy_mqtt(env, "send-proxy-v2 proxy-v2-options crc32c")
    expect_clients(env, broker)


@needs(BPF, HAPROXY, MOSQUITTO)
def test_without_realpeer(env):
    """The other tests prove something: alone, Mosquitto sees the balancer."""
    broker = mqtt.Mosquitto(env, [f"listener 1883 {SERVER}"])
    balancer.haproxy(env, f"""
listen mqtt
    bind {LB_FRONT}:1883
    server broker {SERVER}:1883
""", [1883])
    with env.client.connect((LB_FRONT, 1883), CLIENTS[0]) as sock:
        mqtt.connect(sock, "client")
        check(broker.peer_of("client").startswith(f"{LB}:"), "not the balancer's address")


@needs(BPF, NGINX, MOSQUITTO)
def test_nginx_v1(env):
    broker = mqtt.Mosquitto(env, BROKER)
    env.realpeerd(LISTENERS)
    balancer.nginx(env, f"""
    server {{
        listen {LB_FRONT}:1883;
        proxy_pass {SERVER}:1883;
        proxy_protocol on;
    }}
    server {{
        listen [{LB_FRONT6}]:1883;
        proxy_pass [{SERVER6}]:1883;
        proxy_protocol on;
    }}""", [1883])
    expect_clients(env, broker)


@needs(BPF, HAPROXY, NGINX, MOSQUITTO)
def test_chain_nginx_haproxy(env):
    """NGINX tells HAProxy in v1, HAProxy tells realpeerd in v2."""
    broker = mqtt.Mosquitto(env, BROKER)
    env.realpeerd(LISTENERS)
    balancer.haproxy(env, f"""
listen mqtt
    bind 127.0.0.1:3883 accept-proxy
    server broker {SERVER}:1883 send-proxy-v2
listen mqtt6
    bind [::1]:3883 accept-proxy
    server broker [{SERVER6}]:1883 send-proxy-v2
""", [3883])
    balancer.nginx(env, f"""
    server {{
        listen {LB_FRONT}:1883;
        proxy_pass 127.0.0.1:3883;
        proxy_protocol on;
    }}
    server {{
        listen [{LB_FRONT6}]:1883;
        proxy_pass [::1]:3883;
        proxy_protocol on;
    }}""", [1883])
    expect_clients(env, broker)


@needs(BPF, HAPROXY, MOSQUITTO)
def test_websocket(env):
    broker = mqtt.Mosquitto(env, [*BROKER, "listener 9001 127.0.0.1", "protocol websockets",
                                  "listener 9002 ::1", "protocol websockets"])
    env.realpeerd(
        listener("ws", listen=f"{SERVER}:80", handler="127.0.0.1:9001",
                 client_address="getpeername")
        + listener("ws6", listen=f"[{SERVER6}]:80", handler="[::1]:9002",
                   client_address="getpeername"))
    balancer.haproxy(env, f"""
listen ws
    bind {LB_FRONT}:80
    server broker {SERVER}:80 send-proxy-v2
listen ws6
    bind [{LB_FRONT6}]:80
    server broker [{SERVER6}]:80 send-proxy
""", [80])
    for name, front, source in (("ws4", LB_FRONT, CLIENTS[4]),
                                ("ws6", LB_FRONT6, CLIENTS6[4])):
        with env.client.connect((front, 80), source) as sock:
            mqtt.websocket_upgrade(sock, "broker.test")
            mqtt.websocket_connect(sock, name)
            # its WebSocket library listens on a dual-stack socket
            equal(broker.peer_of(name).removeprefix("::ffff:"),
                  f"{source}:{sock.getsockname()[1]}",
                  "what Mosquitto logged of a WebSocket client")


def tls_broker(env):
    """MQTT over TLS that ends in the broker: the header precedes ClientHello."""
    authority = Authority(env.directory)
    key, certificate, _ = authority.issue(
        "broker", "broker.test", f"DNS:broker.test,IP:{LB_FRONT},IP:{LB_FRONT6}")
    lines = []
    for address in ("127.0.0.1", "::1"):
        lines += [f"listener 8884 {address}", f"cafile {authority.ca}",
                  f"certfile {certificate}", f"keyfile {key}"]
    broker = mqtt.Mosquitto(env, lines)
    env.realpeerd(
        listener("mqtts", listen=f"{SERVER}:8883", handler="127.0.0.1:8884",
                 client_address="getpeername")
        + listener("mqtts6", listen=f"[{SERVER6}]:8883", handler="[::1]:8884",
                   client_address="getpeername"))
    balancer.haproxy(env, f"""
listen mqtts
    bind {LB_FRONT}:8883
    server broker {SERVER}:8883 send-proxy-v2
listen mqtts6
    bind [{LB_FRONT6}]:8883
    server broker [{SERVER6}]:8883 send-proxy-v2
""", [8883])
    return broker, authority


@needs(BPF, HAPROXY, MOSQUITTO, OPENSSL)
def test_tls(env):
    broker, authority = tls_broker(env)
    context = ssl.create_default_context(cafile=authority.ca)
    for name, front, source in (("tls4", LB_FRONT, CLIENTS[5]),
                                ("tls6", LB_FRONT6, CLIENTS6[5])):
        with env.client.connect((front, 8883), source) as plain:
            port = plain.getsockname()[1]
            with context.wrap_socket(plain, server_hostname="broker.test") as sock:
                mqtt.connect(sock, name)
                equal(broker.peer_of(name), f"{source}:{port}",
                      "what Mosquitto logged of a TLS client")


@needs(BPF, HAPROXY, MOSQUITTO, MOSQUITTO_CLIENTS, OPENSSL)
def test_tls_real_client(env):
    """mosquitto_sub and mosquitto_pub themselves, through everything."""
    broker, authority = tls_broker(env)
    common = ["-h", LB_FRONT, "-p", "8883", "--cafile", authority.ca, "-t", "greeting", "-q", "1"]
    subscriber = env.start("mosquitto_sub", env.client.command(
        "mosquitto_sub", "-A", CLIENTS[6], "-i", "subscriber", "-C", "1", "-W", "20", *common))
    broker.process.wait_log(r"Sending SUBACK to subscriber")
    env.client.run("mosquitto_pub", "-A", CLIENTS[7], "-i", "publisher", "-m", "hello", *common)
    equal(subscriber.wait(), 0, "exit status of mosquitto_sub")
    equal(subscriber.log(), "hello\n", "what mosquitto_sub printed")
    for name, source in (("subscriber", CLIENTS[6]), ("publisher", CLIENTS[7])):
        equal(broker.peer_of(name).rsplit(":", 1)[0], source,
              f"address of {name} in Mosquitto's log")


@needs(BPF, HAPROXY, MOSQUITTO, OPENSSL)
def test_haproxy_v2_ssl_tlvs(env):
    """HAProxy ends TLS and tells of it in TLVs, CRC32C included."""
    broker = mqtt.Mosquitto(env, BROKER)
    daemon = env.realpeerd(LISTENERS)
    authority = Authority(env.directory)
    pem = authority.issue("front", "broker.test")[2]
    key, certificate, _ = authority.issue("device", "device-7")
    options = "ssl,cert-cn,crc32c,unique-id,authority"
    balancer.haproxy(env, f"""
frontend mqtts
    bind {LB_FRONT}:8883 ssl crt {pem} ca-file {authority.ca} verify required alpn mqtt
    unique-id-format id-%ci-%cp
    default_backend brokers
backend brokers
    server broker {SERVER}:1883 send-proxy-v2-ssl-cn proxy-v2-options {options}
""", [8883])
    context = ssl.create_default_context(cafile=authority.ca)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["mqtt"])
    with env.client.connect((LB_FRONT, 8883), CLIENTS[8]) as plain:
        port = plain.getsockname()[1]
        with context.wrap_socket(plain, server_hostname="broker.test") as sock:
            mqtt.connect(sock, "device")
            equal(broker.peer_of("device"), f"{CLIENTS[8]}:{port}",
                  "what Mosquitto logged")
            tlvs = daemon.wait_connections(1)[0]["tlvs"]
            equal(tlvs["authority"], "broker.test", "authority")
            equal(tlvs["unique_id"], f"id-{CLIENTS[8]}-{port}", "unique_id")
            equal(tlvs["ssl_cn"], "device-7", "ssl_cn")


@needs(BPF, HAPROXY, MOSQUITTO)
def test_v4_client_on_v6_handler(env):
    """A dual-stack handler sees an IPv4 client as v4-mapped, as usual."""
    broker = mqtt.Mosquitto(env, ["listener 2883 ::1"])
    env.realpeerd(listener("mqtt", listen=SERVERS, handler="[::1]:2883",
                           client_address="getpeername"))
    haproxy_mqtt(env, "send-proxy-v2")
    with env.client.connect((LB_FRONT, 1883), CLIENTS[1]) as sock:
        mqtt.connect(sock, "mapped")
        equal(broker.peer_of("mapped"), f"::ffff:{CLIENTS[1]}:{sock.getsockname()[1]}",
              "what Mosquitto logged")


@needs(BPF, HAPROXY, MOSQUITTO)
def test_v6_client_on_v4_handler(env):
    """An AF_INET socket cannot show a v6 client: it works, and it is said."""
    broker = mqtt.Mosquitto(env, ["listener 2883 127.0.0.1"])
    daemon = env.realpeerd(listener("mqtt", listen=SERVERS, handler="127.0.0.1:2883",
                                    client_address="getpeername"))
    haproxy_mqtt(env, "send-proxy-v2")
    with env.client.connect((LB_FRONT6, 1883), CLIENTS6[1]) as sock:
        mqtt.connect(sock, "six")
        check(not broker.peer_of("six").startswith("::"), "no IPv4 address")
        entry = daemon.wait_connections(1)[0]
        equal((entry["client"], entry["client_port"]), sock.getsockname()[:2],
              "the record's client")
        daemon.wait_stat("mqtt", "family_mismatch", 1)
