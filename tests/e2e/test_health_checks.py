# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Health checks of load balancers are ordinary: the handler answers them, and
they never leave a line of level warning or error in the log."""

from lib import balancer, header, stream
from lib.poll import equal, wait_for
from lib.requirement import BPF, HAPROXY, needs
from lib.topology import LB, SERVER

ADDRESS = (SERVER, 1883)


def no_complaints(daemon):
    equal(daemon.log_complaints(), [], "complaints in the log")


def haproxy_check(env, options):
    handler = env.handler()
    daemon = env.relay()
    process = balancer.haproxy(env, f"""
listen tcp
    bind 203.0.113.1:1883
    server s1 {SERVER}:1883 check inter 100ms rise 1 fall 1 {options}
""", [1883])
    # HAProxy resets right behind the header: that may be the first that is seen
    def checked():
        counts = daemon.stats("echo")
        return counts["header_v1"] + counts["header_v2"] + counts["closed_early"]
    wait_for(lambda: checked() >= 10, "10 health checks", 10)
    equal({accepted.peer[0] for accepted in handler.accepted} - {LB}, set(),
          "whom the handler sees besides the balancer itself")
    equal(process.lines("is DOWN|DOWN,|Health check .* failed"), [], "HAProxy's complaints")
    no_complaints(daemon)
    return daemon


@needs(BPF, HAPROXY)
def test_haproxy_send_proxy_v2(env):
    daemon = haproxy_check(env, "send-proxy-v2")
    equal(daemon.stat("echo", "malformed"), 0, "malformed")

    def all_local():  # one may come while they are read
        counts = daemon.stats("echo")
        return counts["local"] == counts["header_v2"]
    wait_for(all_local, "as many LOCAL headers as headers")


@needs(BPF, HAPROXY)
def test_haproxy_check_send_proxy(env):
    haproxy_check(env, "send-proxy check-send-proxy")


@needs(BPF)
def test_aws_capture(env):
    """The captured header: LOCAL, no addresses, TLVs with CRC32C."""
    handler = env.handler()
    daemon = env.relay()
    for number in range(1, 4):
        with env.lb.connect(ADDRESS) as sock:
            stream.exchange(sock, header.AWS_HEALTH_CHECK + b"GET /", b"GET /")
            equal(handler.wait(number).peer, sock.getsockname(),
                  "whom the handler sees: the real endpoint")
            entry = daemon.wait_connections(1)[0]
            equal((entry["command"], entry["client"], entry["version"]),
                  ("local", LB, 2), "the record")
        daemon.wait_connections(0)
    daemon.wait_stat("echo", "local", 3)
    no_complaints(daemon)


@needs(BPF)
def test_aws_capture_and_close(env):
    """NLB sends the header and closes, without a byte of payload."""
    handler = env.handler()
    daemon = env.relay()
    for number in range(1, 6):
        with env.lb.connect(ADDRESS) as sock:
            sock.sendall(header.AWS_HEALTH_CHECK)
        daemon.wait_stat("echo", "local", number)
    daemon.wait_connections(0)
    equal([accepted.data for accepted in handler.accepted if accepted.data], [],
          "bytes at the handler")
    no_complaints(daemon)


@needs(BPF)
def test_connect_and_close(env):
    """No byte at all: closed, or reset, at once."""
    daemon = env.relay()
    for number in range(1, 11):
        sock = env.lb.connect(ADDRESS)
        if number % 2:
            stream.close_with_reset(sock)
        else:
            sock.close()
    daemon.wait_connections(0)
    with env.lb.connect(ADDRESS) as sock:
        sock.sendall(b"PROXY TCP4 ")
    daemon.wait_stat("echo", "connections", 0)
    no_complaints(daemon)
    equal(daemon.stat("echo", "malformed") + daemon.stat("echo", "not_header"), 0,
          "counted as rubbish")
