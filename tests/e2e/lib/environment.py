# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a test function is given: namespaces, a directory, and short cuts that
register what they start, so that all of it ends with the test."""

import os

from . import build, realpeer, requirement
from .handler import Handler, echo
from .process import Processes
from .topology import SERVER, SERVER6, Topology

class Environment:
    def __init__(self, prefix, directory):
        self.prefix = prefix        # of namespaces, pins: unique
        self.directory = directory  # removed by the runner
        self.processes = Processes(directory)
        self.topology = Topology(prefix)
        self.client = self.topology.client
        self.lb = self.topology.lb
        self.server = self.topology.server
        self.stranger = self.topology.stranger
        self.daemons = []
        self._cleanups = []

    def __enter__(self):
        self.topology.create()
        return self

    def __exit__(self, kind, error, traceback):
        try:
            if kind is None:
                for daemon in self.daemons:
                    daemon.verify()
        except AssertionError:
            self._dump()
            raise
        finally:
            if kind is not None and not issubclass(kind, requirement.Skip):
                self._dump()
            self._destroy()

    def _dump(self):
        """What there is to know of a failure."""
        for daemon in self.daemons:
            if isinstance(daemon, realpeer.Realpeer):
                daemon.dump()
        self.processes.dump()

    def _destroy(self):
        for cleanup in reversed(self._cleanups):
            cleanup()
        self.processes.destroy()
        self.topology.destroy()
        for path in realpeer.pins_left(self.prefix):
            realpeer.remove_pins(path)

    def at_end(self, cleanup):
        self._cleanups.append(cleanup)

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        path = self.path(name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def binary(self, name):
        return build.binary(name)

    def start(self, name, argv, variables=None, pass_fds=()):
        return self.processes.start(name, argv, variables, pass_fds)

    def handler(self, address=("127.0.0.1", 9000), behaviour=echo, namespace=None):
        """A Python handler, in the server's namespace unless told otherwise."""
        handler = Handler.on(namespace or self.server, address, behaviour)
        self.at_end(handler.destroy)
        return handler

    def unix_handler(self, path, behaviour=echo):
        handler = Handler.on_unix(path, behaviour)
        self.at_end(handler.destroy)
        return handler

    def daemon(self, config, **arguments):
        """A realpeerd that isn't started yet."""
        daemon = realpeer.Realpeer(self, config, **arguments)
        self.daemons.append(daemon)
        return daemon

    def realpeerd(self, config, **arguments):
        """A realpeerd that is ready."""
        return self.daemon(config, **arguments).start()

    def relay(self, name="echo", listen=f"{SERVER}:1883, [{SERVER6}]:1883",
              handler="127.0.0.1:9000", client_address="getpeername", **settings):
        """The commonest daemon: one relay listener on port 1883."""
        return self.realpeerd(realpeer.listener(
            name, listen=listen, handler=handler, client_address=client_address,
            **settings))
