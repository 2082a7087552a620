# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""nftables and conntrack on the server, as README.md describes them: with
offload accept they see a connection from its first data segment on."""

import subprocess

from lib import header, inline, stream
from lib.inline import INLINE, PAYLOAD
from lib.poll import check, equal
from lib.requirement import needs, program
from lib.topology import CLIENTS, LB, LB_FRONT, SERVER

NFT = program("nft")
CLIENT = (CLIENTS[0], 40001)
HEADER = header.v2(CLIENT, (LB_FRONT, 1883))
FROM_LB = f"ip saddr {LB} tcp dport 1883"


def set_rules(env, *rules):
    """A firewall that lets in what the rules accept, and what belongs to it."""
    text = "\n".join(("ct state invalid drop", "ct state established,related accept", *rules))
    subprocess.run(env.server.command("nft", "-f", "-"), check=True, text=True, timeout=20,
                   input=f"""
flush ruleset
table inet filter {{
    chain input {{
        type filter hook input priority filter; policy drop;
        {text}
    }}
}}
""")


def gets_through(env, timeout=5):
    with env.lb.connect((SERVER, 1883)) as sock:
        sock.settimeout(timeout)
        try:
            stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
            stream.exchange(sock, b"and more", b"and more")
        except TimeoutError:
            return False
    return True


@needs(INLINE, NFT)
def test_rule_without_flags(env):
    """The rule of README.md, with conntrack's state and without it."""
    server = inline.Server.start(env)
    inline.daemon(env)
    for count, rule in enumerate((f"{FROM_LB} accept", f"{FROM_LB} ct state new accept"), 1):
        set_rules(env, rule)
        check(gets_through(env), f"no connection with the rule {rule}")
        equal(server.wait(count).from_accept, CLIENT, "client")


@needs(INLINE, NFT)
def test_other_rules_keep_it_out(env):
    """A rule for SYNs never matches; and no rule at all lets nobody in."""
    server = inline.Server.start(env)
    inline.daemon(env)
    for rules in ([f"{FROM_LB} tcp flags & (syn | ack) == syn accept"], []):
        set_rules(env, *rules)
        check(not gets_through(env, 2), f"a connection in spite of the rules {rules}")
    equal(len(server.accepted), 0, "accepted connections")
