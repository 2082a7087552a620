# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Real load balancers in the namespace lb, with configurations of their own."""

from .poll import wait_for

HAPROXY_HEAD = """\
global
    maxconn 4000
    log stdout format raw local0
defaults
    mode tcp
    log global
    option tcplog
    timeout connect 3s
    timeout client 30s
    timeout server 30s
"""

NGINX_HEAD = """\
daemon off;
user root;
worker_processes 1;
pid {directory}/{name}.pid;
error_log stderr notice;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events {{ worker_connections 1024; }}
"""


def _wait_listening(process, namespace, ports):
    """Until the kernel has a listening socket on each port."""
    def listening():
        if not process.alive():
            raise AssertionError(f"{process.name} ended")
        have = namespace.run("ss", "-Hltn").stdout
        return all(f":{port} " in have for port in ports)
    wait_for(listening, f"{process.name} to listen on {ports}", 10)


def haproxy(env, sections, ports, name="haproxy"):
    """`sections` are frontends and backends; returns the process."""
    path = env.write(f"{name}.cfg", HAPROXY_HEAD + sections)
    process = env.start(name, env.lb.command("haproxy", "-db", "-f", path))
    _wait_listening(process, env.lb, ports)
    return process


def nginx(env, stream, ports, name="nginx", namespace=None, http=""):
    """`stream` and `http` are the contents of these blocks."""
    head = NGINX_HEAD.format(directory=env.directory, name=name)
    blocks = (f"stream {{\n{stream}\n}}\n" if stream else "") + (
        f"http {{\n{http}\n}}\n" if http else "")
    path = env.write(f"{name}.conf", head + blocks)
    namespace = namespace or env.lb
    process = env.start(name, namespace.command(
        "nginx", "-e", "stderr", "-p", env.directory, "-c", path))
    _wait_listening(process, namespace, ports)
    return process
