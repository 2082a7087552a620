# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""realpeerctl attach and detach beside what the configuration says, and when the
daemon cannot do it."""

import signal

from lib import header, inline, stream
from lib.inline import INLINE, PAYLOAD
from lib.poll import check, equal
from lib.realpeer import GLOBAL, listener
from lib.requirement import BPFTOOL, needs
from lib.topology import CLIENTS, LB, LB_FRONT, SERVER, TRUSTED

ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
OTHER = listener("other", listen=f"{SERVER}:1884", delivery="inline", trusted="192.0.2.0/24")
MQTT = listener("mqtt", listen="[::]:1883", delivery="inline", trusted=f"{LB}/32")


def works(env, server, address=ADDRESS):
    count = len(server.accepted) + 1
    with env.lb.connect(address) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        equal(server.wait(count).peer, SOURCE, "client")


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


@needs(INLINE)
def test_after_a_crash(env):
    """What was attached is so again. Fails without restore_attached(), realpeerd.c,
    and without its daemon_load()."""
    server = inline.Server.start(env)
    running = env.realpeerd(OTHER)
    running.ctl("attach", "1883", "--trusted", f"{LB}/32")
    running.stop(signal.SIGKILL)
    running.start()
    equal(names(running), ["other", "port-1883"], "listeners")
    works(env, server)
    running.ctl("detach", "1883")


@needs(INLINE)
def test_whom_global_trusts(env):
    """Without --trusted that is whom [global] trusts now, not whom it did at the
    attach; a reload and a crash make no difference.

    Fails if restore_port(), datapath_maps.c, takes the prefixes of any port.
    """
    server = inline.Server.start(env)
    others = GLOBAL.replace(TRUSTED, "192.0.2.0/24")
    running = env.realpeerd("")
    running.ctl("attach", "1883")
    works(env, server)
    running.configure(others)
    running.stop(signal.SIGKILL)
    running.start()
    stream.refused(env.lb, ADDRESS, HEADER + PAYLOAD)
    running.reload(GLOBAL)
    works(env, server)
    running.reload(others)
    stream.refused(env.lb, ADDRESS, HEADER + PAYLOAD)


@needs(INLINE)
def test_beside_less_offload(env):
    """What relayed listeners are to have says nothing of a port that is attached.
    Fails without OFFLOAD_WANTED_AUTO in make_listener(), attach.c."""
    server = inline.Server.start(env)
    for offload in ("off", "peek"):
        running = env.realpeerd(f"[global]\noffload = {offload}\n", name=offload)
        running.ctl("attach", "1883", "--trusted", f"{LB}/32")
        works(env, server)
        running.stop()


@needs(INLINE)
def test_configured_by_a_reload(env):
    """The files have the port from then on, and no connection is lost over it.
    Fails without drop_rivalled() in switch_setup(), daemon_setup.c: detach finds it.
    """
    server = inline.Server.start(env)
    patient = GLOBAL.replace("header_timeout = 3s", "header_timeout = 60s")
    running = env.realpeerd(patient + OTHER)
    running.ctl("attach", "1883", "--trusted", f"{LB}/32")
    with env.lb.connect(ADDRESS) as held, env.lb.connect(ADDRESS) as early:
        stream.exchange(held, HEADER + PAYLOAD, PAYLOAD)
        running.configure(patient + OTHER + MQTT)
        running.reload()
        rivalled(running)
        stream.exchange(held, b"still here")
        stream.exchange(early, HEADER + PAYLOAD, PAYLOAD)
        equal(server.accepted[-1].peer, SOURCE, "client of the one between")
    works(env, server)
    check("not attached" in running.ctl("detach", "1883", status=1), "not clear")
    said = running.ctl("attach", "1883", "--trusted", f"{LB}/32", status=1)
    check("realpeerd.conf:11: port 1883 cannot be attached: listener 'mqtt' has it" in said,
          f"not clear: {said}")
    equal(names(running), ["mqtt", "other"], "listeners")
    works(env, server)


@needs(INLINE)
def test_configured_on_one_address(env):
    """The others stay attached: no header reaches the server there either.
    Fails if attached_rival(), attach.c, takes any address."""
    server = inline.Server.start(env, ("0.0.0.0", 1883))
    running = env.realpeerd(OTHER)
    running.ctl("attach", "1883", "--trusted", f"{LB}/32")
    env.server.run("ip", "address", "add", "10.77.0.200/32", "dev", "back")
    running.reload(OTHER + MQTT.replace("[::]", SERVER))
    for _ in range(2):
        equal(names(running), ["mqtt", "other", "port-1883"], "listeners")
        works(env, server)
        works(env, server, ("10.77.0.200", 1883))
        equal(running.stat("mqtt", "connections"), running.stat("port-1883", "connections"),
              "connections of either")
        running.stop(signal.SIGKILL)
        running.start()


@needs(INLINE)
def test_configured_by_a_start(env):
    """As after `realpeerctl attach`, an edited file, and a restart or a crash.
    Fails without attached_rival() in attached_extend(), attach.c."""
    server = inline.Server.start(env)
    running = env.realpeerd(OTHER)
    running.ctl("attach", "1883", "--trusted", f"{LB}/32")
    running.stop(signal.SIGKILL)
    running.configure(OTHER + MQTT)
    running.start()
    rivalled(running)
    works(env, server)


@needs(INLINE)
def test_name_in_the_files(env):
    """A name has one number, under which one listener is: no settings, and nobody's
    trust, of the other's. Fails without the name in attached_rival(), attach.c."""
    server = inline.Server.start(env, ("0.0.0.0", 1883))
    same = listener("port-1883", listen=f"{SERVER}:1884", handler=1883, delivery="inline",
                    trusted="192.0.2.0/24")
    other = (SERVER, 1884)
    running = env.realpeerd(same)
    said = running.ctl("attach", "1883", "--trusted", f"{LB}/32", status=1)
    check("port 1883 cannot be attached: listener 'port-1883' has its name" in said,
          f"not clear: {said}")
    stream.refused(env.lb, other, HEADER + PAYLOAD)
    for change in (running.reload, lambda: (running.stop(signal.SIGKILL), running.start())):
        running.reload(OTHER)
        running.ctl("attach", "1883", "--trusted", f"{LB}/32")
        works(env, server)
        running.configure(GLOBAL + same)
        change()
        running.process.wait_log("port 1883 is not attached: listener 'port-1883' has its name, ")
        equal(names(running), ["port-1883"], "listeners")
        stream.refused(env.lb, other, HEADER + PAYLOAD)
        check("not attached" in running.ctl("detach", "1883", status=1), "not clear")


def names(running):
    return sorted(entry["name"] for entry in running.ctl_json("status")["listeners"])


def rivalled(running):
    running.process.wait_log("port 1883 is not attached: listener 'mqtt' has it, ")
    equal(names(running), ["mqtt", "other"], "listeners")
