# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""realpeerctl attach and detach when the daemon cannot do it."""

from lib import header, inline, stream
from lib.inline import INLINE, PAYLOAD
from lib.poll import equal
from lib.requirement import BPFTOOL, needs
from lib.topology import CLIENTS, LB, LB_FRONT, SERVER

ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))


def works(env, server):
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        equal(server.accepted[-1].peer, SOURCE, "client")


@needs(INLINE, BPFTOOL)
def test_detach_that_fails(env):
    """The port stays attached, and can be detached later. Fails without
    attached_put_back(); found by tests/fuzz/control.c."""
    server = inline.Server.start(env)
    running = env.realpeerd("")
    running.ctl("attach", "1883", "--trusted", f"{LB}/32")
    works(env, server)
    running.configure("[oops]\n")
    running.ctl("detach", "1883", status=1)
    works(env, server)
    running.configure("")
    running.ctl("detach", "1883")
    equal(running.ctl_json("status")["listeners"], [], "listeners in the status")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, PAYLOAD)
