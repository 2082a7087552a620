# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The namespaces of a test and the links between them.

  ┌─────────────────────┐   ┌──────────────────┐   ┌─────────────────────┐
  │ client              │   │ lb               │   │ server              │
  │                     │   │ HAProxy, NGINX   │   │ realpeerd, handlers │
  │ 203.0.113.10 to .19 │   │ 203.0.113.1      │   │                     │
  │ 2001:db8:cafe::10   │   │ 2001:db8:cafe::1 │   │                     │
  │       to ::19       │   │                  │   │                     │
  │               front ├───┤ front            │   │                     │
  └─────────────────────┘   │                  │   │                     │
                            │       10.77.0.1  │   │ 10.77.0.2           │
                            │       fd77::1    │   │ fd77::2             │
                            │             back ├───┤ back                │
  ┌─────────────────────┐   └──────────────────┘   │                     │
  │ stranger            │                          │                     │
  │ 10.66.0.1           │                          │ 10.66.0.2           │
  │ fd66::1        side ├──────────────────────────┤ side                │
  └─────────────────────┘                          └─────────────────────┘

lb is the trusted proxy: 10.77.0.0/24, fd77::/64. stranger is no proxy at
all. There are no routes beyond the links: a client reaches the server only
through lb, and nothing leaves the machine. Names begin with a prefix that
has the test's process id, so tests can run side by side.
"""

import glob
import os
import signal
import subprocess

from .netns import RUN_NETNS, Namespace

CLIENTS = [f"203.0.113.{n}" for n in range(10, 20)]
CLIENTS6 = [f"2001:db8:cafe::{n}" for n in range(10, 20)]
LB_FRONT = "203.0.113.1"
LB_FRONT6 = "2001:db8:cafe::1"
LB = "10.77.0.1"
LB6 = "fd77::1"
SERVER = "10.77.0.2"
SERVER6 = "fd77::2"
STRANGER = "10.66.0.1"
STRANGER6 = "fd66::1"
SERVER_SIDE = "10.66.0.2"
SERVER_SIDE6 = "fd66::2"
TRUSTED = "10.77.0.0/24, fd77::/64"

# link: (namespace, addresses) twice; both ends have the link's name
LINKS = {
    "front": (("client", CLIENTS, CLIENTS6), ("lb", [LB_FRONT], [LB_FRONT6])),
    "back": (("lb", [LB], [LB6]), ("server", [SERVER], [SERVER6])),
    "side": (("stranger", [STRANGER], [STRANGER6]),
             ("server", [SERVER_SIDE], [SERVER_SIDE6])),
}


def _ip(commands, namespace=None):
    argv = ["ip"] + (["-netns", namespace] if namespace else []) + ["-batch", "-"]
    subprocess.run(argv, input="\n".join(commands) + "\n", text=True,
                   check=True, timeout=30)


class Topology:
    def __init__(self, prefix):
        self.client = Namespace(f"{prefix}-client")
        self.lb = Namespace(f"{prefix}-lb")
        self.server = Namespace(f"{prefix}-server")
        self.stranger = Namespace(f"{prefix}-stranger")
        self.all = (self.client, self.lb, self.server, self.stranger)

    def create(self):
        _ip([f"netns add {ns.name}" for ns in self.all])
        _ip([f"link add {link} netns {getattr(self, a[0]).name} type veth "
             f"peer name {link} netns {getattr(self, b[0]).name}"
             for link, (a, b) in LINKS.items()])
        for ns in self.all:
            _ip(["link set lo up"], ns.name)
        for link, ends in LINKS.items():
            for name, addresses, addresses6 in ends:
                _ip([f"address add {a}/24 dev {link}" for a in addresses]
                    + [f"address add {a}/64 dev {link} nodad" for a in addresses6]
                    + [f"link set {link} up"], getattr(self, name).name)

    def destroy(self):
        sweep_namespaces([ns.name for ns in self.all])


def namespaces_of(prefix):
    """Names of what a test that was killed has left."""
    return [os.path.basename(path)
            for path in glob.glob(f"{RUN_NETNS}/{glob.escape(prefix)}-*")]


def sweep_namespaces(names):
    """Kills what still runs in the namespaces and takes them away."""
    for name in names:
        if not os.path.exists(f"{RUN_NETNS}/{name}"):
            continue
        for pid in Namespace(name).pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        subprocess.run(["ip", "netns", "delete", name], check=False,
                       stderr=subprocess.DEVNULL, timeout=30)
