# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a start, a reload or a command refuses or complains of, when what it is
given is wrong: options, configurations, pins, sockets, and another's answers."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading

from lib import bpf, fault, header, inline, maps, stream
from lib.inline import INLINE, PAYLOAD
from lib.poll import check, equal, wait_for
from lib.realpeer import GLOBAL, listener
from lib.requirement import BPF, BPFTOOL, needs, program
from lib.topology import CLIENTS, LB, LB_FRONT, SERVER

SETPRIV = program("setpriv")
ADDRESS = (SERVER, 1883)
SOURCE = (CLIENTS[0], 40001)
HEADER = header.v2(SOURCE, (LB_FRONT, 1883))
RELAY = listener("echo", listen=f"{SERVER}:1883", handler="127.0.0.1:9000",
                 client_address="getpeername")


def run(env, daemon, program, *arguments, stdout=subprocess.PIPE):
    return subprocess.run([env.binary(program), *arguments], env=daemon.variables, text=True,
                          errors="surrogateescape", stdin=subprocess.DEVNULL, stdout=stdout,
                          stderr=subprocess.PIPE, timeout=20, check=False)


@needs()
def test_options(env):
    """Help and version are answers; an option in the wrong place is none.

    Fails if any of the cases of main() in realpeerctl.c or realpeerd.c goes.
    """
    daemon = env.daemon(RELAY)
    for program, word in (("realpeerctl", "VERB"), ("realpeerd", "--config")):
        for option in ("-h", "--help"):
            result = run(env, daemon, program, option)
            equal((result.returncode, result.stderr), (0, ""), f"{program} {option}")
            check(word in result.stdout, f"{program} {option}: {result.stdout}")
        result = run(env, daemon, program, "--version")
        equal((result.returncode, result.stdout.split(" ")[0]), (0, program), "--version")
    for arguments, reason in (
            (["attach", "1883", "--trusted"], "no CIDR after"),
            (["status", "--trusted", "10.0.0.0/8"], "no --trusted for"),
            (["attach", "many"], "no port"),
            (["attach", "1883", "--trusted", "10.0.0.0/8,nobody"], "no CIDR: 'nobody'")):
        result = run(env, daemon, "realpeerctl", *arguments)
        equal((result.returncode, result.stdout), (2, ""), f"{arguments}")
        check(reason in result.stderr, f"{arguments}: {result.stderr}")


@needs(BPF)
def test_name_of_any_bytes(env):
    """A configuration may have a name that is no UTF-8, which JSON must be.

    Fails without view_text(): check and status say "out of memory", and reload
    gets no answer.
    """
    daemon = env.daemon(RELAY)
    directory = os.path.dirname(daemon.config_path)
    odd = os.path.join(os.fsencode(directory), b"odd\xff.conf")
    os.rename(daemon.config_path, odd)
    daemon.config_path = os.fsdecode(odd)
    daemon.start()
    equal(daemon.ctl_json("status")["config"], f"{directory}/odd\\xff.conf", "the file's name")
    with open(odd, "ab") as file:
        file.write(b"colour = blue\n")
    said = daemon.ctl("reload", status=1)
    check("\\xff.conf:" in said and "colour" in said, f"not clear: {said}")
    answer = run(env, daemon, "realpeerctl", "check", daemon.config_path, "--json")
    told = json.loads(answer.stdout)
    equal((answer.returncode, told["file"], told["valid"]),
          (1, f"{directory}/odd\\xff.conf", False), "check")
    check("colour" in told["errors"][0], f"not told: {told}")


@needs(BPF)
def test_large_output(env):
    """More than a buffer that cannot be written: the reason is told.

    Fails with the reason of a lack of memory in print_json(), realpeerctl.c.
    """
    daemon = env.realpeerd("".join(
        listener(f"l{port}", listen=f"{SERVER}:{port}", handler="127.0.0.1:9000")
        for port in range(2000, 2020)))
    bad = env.write("bad.conf", "[global]\n" + "".join(f"colour{n} = blue\n" for n in range(200)))
    for arguments in (["status"], ["stats"], ["check", bad]):
        with open("/dev/full", "w", encoding="ascii") as full:
            result = run(env, daemon, "realpeerctl", *arguments, "--json", stdout=full)
        equal(result.returncode, 1, f"exit status of {arguments}")
        check("No space left" in result.stderr and "memory" not in result.stderr,
              f"{arguments}: {result.stderr[-200:]}")


@contextlib.contextmanager
def answering(daemon, line):
    """Somebody else is at the control socket, and says always the same."""
    path = os.path.join(daemon.run_directory, "control")
    os.makedirs(daemon.run_directory, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(8)

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listening.accept()
                    with sock:
                        stream.receive_until(sock, b"\n")
                        sock.sendall(line)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            os.unlink(path)


@needs(INLINE)
def test_another_answers(env):
    """Nonsense is an error; a record with something missing is shown as it is; a
    refusal is not hidden by what the pins tell.

    Fails without the default of reason(), without "?" in identity(), without
    the look at EREMOTEIO in connections(), and without failed() in stats(),
    realpeerctl.c.
    """
    inline.Server.start(env)
    daemon = inline.daemon(env)
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        daemon.stop(signal.SIGKILL)
        with answering(daemon, b"nonsense\n"):
            said = daemon.ctl("status", status=1)
            check("Bad message" in said, f"not clear: {said}")
        with answering(daemon, b'{"ok":true,"result":[{"client":"192.0.2.9"},{},{}]}\n'):
            equal([entry.get("client") for entry in daemon.ctl_json("connections")],
                  [SOURCE[0], "192.0.2.9"], "clients")
        with answering(daemon, b'{"ok":false,"error":"too many to count"}\n'):
            for verb in ("connections", "stats"):
                said = daemon.ctl(verb, status=1)
                check("too many to count" in said, f"not clear: {said}")
        with answering(daemon, b""):
            said = daemon.ctl("status", status=1)
            check("closed the connection" in said, f"not clear: {said}")


@needs(BPF)
def test_changes_are_told(env):
    """A reload that changes what is global, and one that cannot change the number
    of threads; a listener that trusts nobody, and one whose handler cannot be told.

    Fails without the lines of log_changes() and log_listener(), daemon_setup.c, and
    of setup_warning(), setup.c.
    """
    daemon = env.realpeerd(RELAY)
    daemon.reload(GLOBAL.replace("drain_timeout = 2s", "drain_timeout = 3s\nthreads = 7") + RELAY)
    check(daemon.process.lines("reload global=.*drain_timeout"), "no change is told")
    check(daemon.process.lines("^warning: .*threads.*next start"), "no warning of threads")
    daemon.reload(RELAY.replace("127.0.0.1:9000", "192.0.2.1:9000"), done="reload msg=done")
    daemon.process.wait_log("^warning: listener=echo .*none of this host's")
    alone = re.sub("trusted = .*\n", "", GLOBAL)
    for untrusted, words in (("reset", "every connection is reset"),
                             ("direct", "no header is ever looked for")):
        daemon.reload(alone + RELAY + f"untrusted = {untrusted}\n", done="reload msg=done")
        wait_for(lambda words=words: daemon.process.lines(f"^warning: listener=echo .*{words}"),
                 f"a warning with {words}")


@needs(BPF)
def test_place_of_pins_too_long(env):
    """REALPEER_BPFFS is longer than a path may be: no programs, and it is said.

    Fails without the length in prepare(), datapath.c, and if the reason stands
    behind the name, which takes all the room.
    """
    handler = env.handler()
    daemon = env.daemon(listener("echo", listen=f"{SERVER}:1883", handler="127.0.0.1:9000"),
                        bpffs="/sys/fs/bpf/" + "a/" * 3000).start()
    equal(daemon.status_of("echo")["offload"], "off", "offload")
    check(daemon.process.lines("BPF programs cannot be set up: File name too long"), "no reason")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)
        equal(handler.wait(1).data, PAYLOAD, "bytes at the handler")


@needs(BPF)
def test_sockets_of_nobody(env):
    """LISTEN_FDS that is no number. Fails without the error of activation_take()."""
    daemon = env.daemon(RELAY, prefix=[
        "sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=many exec "$@"', "sh"])
    said = daemon.fails_to_start()
    check("cannot take the sockets of systemd" in said, f"not clear: {said}")


@needs(BPF)
def test_no_room_beside_what_is_pinned(env):
    """A daemon was killed, and another is to trust so many others that the maps
    cannot have both. Fails without the error of datapath_configure() in
    start_server(), realpeerd.c.
    """
    def many(net):
        return "".join(
            listener(f"on{net}-{port}", listen=f"{SERVER}:{port}", handler="127.0.0.1:9000",
                     trusted=", ".join(f"{net}.{n >> 8}.{n & 255}.0/24" for n in range(4096)))
            for port in range(2000, 2009))

    daemon = env.realpeerd(many(20))
    daemon.stop(signal.SIGKILL)
    daemon.configure(many(30))
    said = daemon.fails_to_start()
    check("the maps cannot be filled" in said and "No space left" in said, f"not clear: {said}")


@needs(BPF, BPFTOOL)
def test_pins_of_another_form(env):
    """Maps in the place of ours that are not as ours are: left alone, and it is
    said what to do. First the one that tells the version, then another.

    Fails without value_size in read_old_settings(), which is asked before anything
    is loaded, and without is_other_map(), datapath_maps.c: the daemon then does
    without the programs, while others go on.
    """
    for name, loads in (("settings", False), ("ports", True)):
        daemon = env.daemon(RELAY, name=name).start()
        daemon.stop(signal.SIGKILL)
        path = daemon.map_path(name)
        os.unlink(path)
        env.server.run("bpftool", "map", "create", path, "type", "array", "key", "4",
                       "value", "4", "entries", "1", "name", name)
        said = daemon.fails_to_start()
        check("another ABI version" in said and daemon.bpffs in said, f"not clear: {said}")
        equal(bpf.bpftool("map", "show", "pinned", path)["bytes_value"], 4, "size of a value")
        equal("cannot load" in said, loads, "whether it tried to load")


@needs(BPF, BPFTOOL)
def test_no_room_for_a_record(env):
    """The TLVs of a record that cannot be stored are not either.

    Fails without forget_tlvs() in datapath_record(), datapath.c.
    """
    env.handler()
    daemon = env.realpeerd(listener("off", listen=f"{SERVER}:1883", handler="127.0.0.1:9000",
                                    offload="off"))
    with maps.Map(daemon.map_path("connections")) as connections:
        connections.freeze()
    with env.lb.connect(ADDRESS) as sock:
        tlvs = header.tlv(2, b"example.org")
        stream.exchange(sock, header.v2(SOURCE, (LB_FRONT, 1883), tlvs) + PAYLOAD, PAYLOAD)
        equal(inline.map_size(daemon, "tlvs"), 0, "entries of `tlvs`")


@needs(INLINE)
def test_many_silent_clients(env):
    """More at once than are probed in one turn: the server sees all of them.

    Fails if on_overdue() forgets those above PROBES_MAX.
    """
    server = inline.Server.start(env, behaviour=lambda accepted: accepted.receive(), first=b"")
    inline.daemon(env, proxy_protocol="enabled", header_timeout="1s")
    clients = [env.lb.connect(ADDRESS) for _ in range(600)]
    wait_for(lambda: len(server.accepted) == 600,
             lambda: f"600 connections, not {len(server.accepted)}", 20)
    for sock in clients:
        sock.close()


@needs(INLINE)
def test_probe_cannot_be_sent(env):
    """There is no way back to a silent client: it is said, the client is asked
    again, and the server sees it once there is a way.

    Fails without warn_no_probe() in on_overdue(), datapath_handshakes.c.
    """
    server = inline.Server.start(env, behaviour=lambda accepted: accepted.receive(), first=b"")
    daemon = inline.daemon(env, proxy_protocol="enabled", header_timeout="1s")
    with fault.paused(daemon):
        sock = env.lb.connect(ADDRESS)
        env.server.run("ip", "route", "add", "unreachable", f"{LB}/32")
    with sock:
        daemon.process.wait_log("^warning: .*cannot probe a silent client.*No route to host")
        env.server.run("ip", "route", "delete", "unreachable", f"{LB}/32")
        server.wait(1)


@needs(BPF, SETPRIV)
def test_no_right_to_mount_where_told(env):
    """REALPEER_BPFFS is in no bpffs, and there is no CAP_SYS_ADMIN to mount one.

    Fails without the error of the last mount() in make_directory(), datapath.c.
    """
    env.handler()
    os.chmod(env.directory, 0o777)
    daemon = env.daemon(
        listener("echo", listen=f"{SERVER}:1883", handler="127.0.0.1:9000"),
        bpffs=env.path("pins"),
        prefix=["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]).start()
    check(daemon.process.lines("no place for pins.*not permitted"), "no reason")
    with env.lb.connect(ADDRESS) as sock:
        stream.exchange(sock, HEADER + PAYLOAD, PAYLOAD)


@needs(INLINE)
def test_server_of_another_cgroup(env):
    """The daemon sees but a part of the cgroups, and the server is not in it.

    Fails without datapath_covers() in setup_target_warning(), setup.c.
    """
    root = bpf.mounted("cgroup2")
    below = f"{root}/{env.prefix}"
    os.mkdir(below)
    env.at_end(lambda: os.rmdir(below))
    inline.Server.start(env)
    prefix = fault.in_mounts(f"mount --bind {below} {root}")
    daemon = env.daemon(listener("echo", listen=f"{SERVER}:1883", delivery="inline"),
                        prefix=prefix).start()
    check(daemon.process.lines("listener=echo .*cgroup is not below ours"), "not told")
    daemon.stop()


@needs(INLINE, BPFTOOL)
def test_removed_listener_is_forgotten(env):
    """Its clients are served for a while; then the maps know it no more. Fails
    without datapath_prune() in prune(), datapath_upkeep.c."""
    daemon = env.realpeerd(RELAY + listener("more", listen=f"{SERVER}:1884", delivery="inline"))
    daemon.reload(RELAY)

    def names():
        return [record["name"] for record in bpf.map_values(daemon.map_path("listeners"))]
    equal(sorted(names()), ["echo", "more"], "listeners at first")
    wait_for(lambda: names() == ["echo"], lambda: f"one entry of `listeners`, not {names()}", 20)
