# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The systems that are compared: how each is configured and started. One
worker each, defaults elsewhere, and the same duty: headers from the path's
trusted addresses only."""

import os
import resource
import shutil

from lib import bpf

from .place import BACKEND_PORT, MANY_PORTS, PROXY_PORT

NGINX_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


def most_connections():
    """Two descriptors each, and some to spare."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (limit - 200) // 2


class System:
    """One column of the table."""

    port = PROXY_PORT
    header = True
    proxies = True  # holds two sockets of its own for each connection
    shows_client = False  # the backend's accept() tells the client's address

    def __init__(self, name, title):
        self.name = name
        self.title = title

    def missing(self):
        """Why it can't be measured here, or None."""
        return None

    def start(self, place):
        """Returns its process, ready to serve; None if it needs none."""
        raise NotImplementedError

    def target(self, place):
        return f"{place.path.server_address}:{self.port}"

    def header_arguments(self, kind="v2"):
        return ["-H", kind if self.header else "none"]

    def check_arguments(self):
        return ["--check"] if self.shows_client else []


class Direct(System):
    port = BACKEND_PORT
    header = False
    proxies = False

    def start(self, place):
        return None


class Empty(Direct):
    """Direct, with programs that do nothing at realpeer's hooks."""

    def missing(self):
        if bpf.kernel_release() < (6, 6):
            return "no tcx"
        return None if shutil.which("bpftool") else "no bpftool"

    def start(self, place):
        programs = f"{place.pins}-empty"
        bpf.bpftool("prog", "loadall", place.tool("empty.bpf.o"), programs)
        try:
            place.attach(f"{programs}/empty_ingress", bpf.TCX_INGRESS)
            place.attach(f"{programs}/empty_sockops", bpf.CGROUP_SOCK_OPS)
            place.attach(f"{programs}/empty_getpeername4", bpf.CGROUP_INET4_GETPEERNAME)
        finally:
            shutil.rmtree(programs)


class Bystander(Direct):
    """Direct connections on a host where realpeer serves others."""

    def start(self, place):
        address = place.path.server_address
        return place.start_realpeerd(f"""\
[global]
proxy_protocol = required
header_timeout = {place.header_timeout}
trusted = {place.path.trusted}
[listener bench]
listen = {address}:{PROXY_PORT}
delivery = inline
handler = {BACKEND_PORT}
""")


class Realpeer(System):
    """`listeners` and `prefixes` make the configuration longer than it need
    be, for the charts of growth."""

    def __init__(self, name, title, delivery, offload, client_address="getpeername",
                 listeners=1, prefixes=1):
        super().__init__(name, title)
        self.delivery = delivery
        self.offload = offload
        self.client_address = client_address
        self.listeners = listeners
        self.prefixes = prefixes
        self.shows_client = client_address == "getpeername"
        if delivery == "inline":
            self.port = BACKEND_PORT
            self.proxies = False

    def grown(self, listeners=1, prefixes=1):
        return Realpeer(self.name, self.title, self.delivery, self.offload,
                        self.client_address, listeners, prefixes)

    def _section(self, name, address, port):
        lines = [f"[listener {name}]", f"listen = {address}:{port}",
                 f"delivery = {self.delivery}", f"offload = {self.offload}"]
        if self.delivery == "relay":
            lines += [f"handler = {address}:{BACKEND_PORT}",
                      f"client_address = {self.client_address}"]
        return lines

    def start(self, place):
        address = place.path.server_address
        others = [f"100.{n // 256}.{n % 256}.0/24" for n in range(self.prefixes - 1)]
        lines = ["[global]", "proxy_protocol = required",
                 f"header_timeout = {place.header_timeout}",
                 f"trusted = {', '.join(others + [place.path.trusted])}"]
        for n in range(self.listeners - 1):
            lines += self._section(f"other{n}", address, MANY_PORTS[0] + n)
        lines += self._section("bench", address, self.port)
        return place.start_realpeerd("\n".join(lines) + "\n")


class Haproxy(System):
    def __init__(self, name, title, options=""):
        super().__init__(name, title)
        self.options = options

    def missing(self):
        return None if shutil.which("haproxy") else "no haproxy"

    def start(self, place):
        path = place.write("haproxy.cfg", f"""\
global
    nbthread 1
    maxconn {most_connections()}
    maxpipes 64
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
{self.options}
listen bench
    bind {place.path.server_address}:{PROXY_PORT} accept-proxy backlog 4096
    tcp-request connection reject if !{{ src {place.path.trusted} }}
    server backend {place.path.server_address}:{BACKEND_PORT}
""")
        process = place.start(self.name, place.cores.proxy, ["haproxy", "-db", "-f", path])
        place.wait_listening(process, PROXY_PORT)
        return process


class Nginx(System):
    def missing(self):
        if not shutil.which("nginx"):
            return "no nginx"
        return None if os.path.exists(NGINX_MODULE) else "no stream module of nginx"

    def start(self, place):
        path = place.write("nginx.conf", f"""\
load_module {NGINX_MODULE};
daemon off;
master_process off;
worker_processes 1;
pid {place.directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections {2 * most_connections()}; }}
stream {{
    server {{
        listen {place.path.server_address}:{PROXY_PORT} proxy_protocol backlog=4096;
        allow {place.path.trusted};
        deny all;
        proxy_pass {place.path.server_address}:{BACKEND_PORT};
        proxy_half_close on;
    }}
}}
""")
        process = place.start(self.name, place.cores.proxy, [
            "nginx", "-e", "stderr", "-p", place.directory, "-c", path])
        place.wait_listening(process, PROXY_PORT)
        return process


SYSTEMS = [
    Direct("direct", "direct, no PROXY"),
    Empty("empty", "direct, empty hooks"),
    Bystander("bystander", "direct, beside realpeer"),
    Realpeer("inline", "realpeer inline", "inline", "accept"),
    Realpeer("relay-accept", "realpeer relay, accept", "relay", "accept"),
    Realpeer("relay-peek", "realpeer relay, peek", "relay", "peek"),
    Realpeer("relay-off", "realpeer relay, off", "relay", "off"),
    Realpeer("relay-none", "realpeer relay, off, none", "relay", "off", "none"),
    Haproxy("haproxy", "HAProxy"),
    Haproxy("haproxy-splice", "HAProxy, splice",
            "    option splice-request\n    option splice-response"),
    Nginx("nginx", "NGINX stream"),
]
