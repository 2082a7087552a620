# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The measurements: each takes a place where a system runs and returns
{metric: value}. What a metric means and how it is written is in METRICS."""

import math
import os
import resource
import time

from . import usage

GOOD_RATE = 250  # connections/s of the good client during a flood


class Metric:
    def __init__(self, key, title, unit, form="{:,.0f}", scale=1, more=False):
        self.key = key
        self.title = title
        self.unit = unit
        self.form = form
        self.scale = scale  # from SI units to those of the table
        self.more = more    # is better

    def text(self, value):
        return self.form.format(value * self.scale)


US = 1e6
KIB = 1 / 1024

METRICS = [
    Metric("v2_rate", "connections, v2, 64 in flight", "1/s", more=True),
    Metric("v2_p50", "of these, p50", "us", scale=US),
    Metric("v2_p99", "p99", "us", scale=US),
    Metric("v2_p999", "p99.9", "us", scale=US),
    Metric("v2_proxy", "proxy CPU for 10,000 connections", "s", "{:.3f}"),
    Metric("v2_total", "all CPU for 10,000 connections", "s", "{:.3f}"),
    Metric("v1_rate", "connections, v1, 64 in flight", "1/s", more=True),
    Metric("v1_proxy", "proxy CPU for 10,000 connections, v1", "s", "{:.3f}"),
    Metric("one_p50", "one connection at a time, p50", "us", "{:.1f}", US),
    Metric("one_p99", "p99", "us", "{:.1f}", US),
    Metric("one_p999", "p99.9", "us", "{:.1f}", US),
    Metric("request_rate", "requests of 64 B, 16 connections", "1/s", more=True),
    Metric("request_p50", "of these, p50", "us", "{:.1f}", US),
    Metric("request_p99", "p99", "us", "{:.1f}", US),
    Metric("request_proxy", "proxy CPU for a request", "us", "{:.2f}", US),
    Metric("request_total", "all CPU for a request", "us", "{:.2f}", US),
    Metric("up_rate", "bulk up", "MB/s", scale=1e-6, more=True),
    Metric("up_proxy", "proxy CPU for a GB up", "s", "{:.3f}"),
    Metric("up_total", "all CPU for a GB up", "s", "{:.3f}"),
    Metric("down_rate", "bulk down", "MB/s", scale=1e-6, more=True),
    Metric("down_proxy", "proxy CPU for a GB down", "s", "{:.3f}"),
    Metric("down_total", "all CPU for a GB down", "s", "{:.3f}"),
    Metric("idle_user", "idle connection, memory of the proxy", "B"),
    Metric("idle_kernel", "idle connection, memory of the kernel, ends included", "KiB",
           "{:.1f}", KIB),
    Metric("idle_maps", "of that in maps of realpeer", "B"),
    Metric("payload_proxy", "refusing 100,000 without a header, proxy CPU", "s", "{:.3f}"),
    Metric("payload_total", "refusing 100,000 without a header, all CPU", "s", "{:.2f}"),
    Metric("broken_proxy", "refusing 100,000 broken headers, proxy CPU", "s", "{:.3f}"),
    Metric("broken_total", "refusing 100,000 broken headers, all CPU", "s", "{:.2f}"),
    Metric("untrusted_proxy", "refusing 100,000 untrusted, proxy CPU", "s", "{:.3f}"),
    Metric("untrusted_total", "refusing 100,000 untrusted, all CPU", "s", "{:.2f}"),
    Metric("refuse_wakeups", "wake-ups of proxy and server for 100,000 refused", ""),
    Metric("flood_p50", "a good client during a flood, p50", "us", scale=US),
    Metric("flood_p99", "p99", "us", scale=US),
]


class Sizes:
    """How much of each is done."""

    def __init__(self, factor):
        self.connections = int(10000 * factor)
        self.connections_v1 = int(5000 * factor)
        self.one = int(2000 * factor)
        self.requests = int(60000 * factor)
        self.bytes = int(250_000_000 * factor)  # of each of BULK connections
        self.idle = 10000 if factor == 1 else 3000
        self.rubbish = int(10000 * factor)


BULK = 4
DESCRIPTORS_SPARE = 500
EVENLY = 0.9  # of its descriptors, as processes that share a port get no equal parts


def descriptor_limit():
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _descriptors():
    return descriptor_limit() - DESCRIPTORS_SPARE


def processes_for(connections):
    """How many it takes at one end of so many connections."""
    return math.ceil(connections / (EVENLY * _descriptors()))


def most_held(system, wanted, backends=1):
    """As many connections as there are descriptors for: a proxy is one process
    and needs two for each."""
    if system.proxies:
        return min(wanted, _descriptors() // 2)
    return min(wanted, int(_descriptors() * (EVENLY if backends > 1 else 1)) * backends)


def connections(place, system, sizes):
    target = system.target(place)
    with usage.Meter(place) as meter:
        load = place.load("connect", "-c", sizes.connections, *system.header_arguments(), target)
    units = sizes.connections / 10000
    found = _latencies("v2", load, "p999")
    found.update(v2_rate=load["per_second"], v2_proxy=meter.proxy / units,
                 v2_total=meter.total(load) / units)
    with usage.Meter(place) as meter:
        load = place.load("connect", "-c", sizes.connections_v1,
                          *system.header_arguments("v1"), target)
    found.update(v1_rate=load["per_second"],
                 v1_proxy=meter.proxy * 10000 / sizes.connections_v1)
    return found


def one_at_a_time(place, system, sizes):
    load = place.load("connect", "-f", 1, "-c", sizes.one, *system.header_arguments(),
                      system.target(place))
    return _latencies("one", load, "p999")


def requests(place, system, sizes):
    with usage.Meter(place) as meter:
        load = place.load("request", "-r", sizes.requests, *system.header_arguments(),
                          system.target(place))
    found = _latencies("request", load)
    found.update(request_rate=load["per_second"], request_proxy=meter.proxy / sizes.requests,
                 request_total=meter.total(load) / sizes.requests)
    return found


def bulk(place, system, sizes):
    found = {}
    gigabytes = BULK * sizes.bytes / 1e9
    for way in ("up", "down"):
        with usage.Meter(place) as meter:
            load = place.load(way, "-c", BULK, "-B", sizes.bytes, *system.header_arguments(),
                              system.target(place))
        found[f"{way}_rate"] = load["bytes"] / load["seconds"]
        found[f"{way}_proxy"] = meter.proxy / gigabytes
        found[f"{way}_total"] = meter.total(load) / gigabytes
    return found


class Held:
    """`count` idle connections; `with Held(...)` they are there."""

    def __init__(self, place, system, count):
        self.loads = []
        processes = processes_for(count)
        for number in range(processes):
            part = count * (number + 1) // processes - count * number // processes
            self.loads.append((part, place.load_beside(
                "idle", "-c", part, "--timeout", 30, "--source", place.path.held_source(number),
                *system.header_arguments(), system.target(place))))

    def __enter__(self):
        for part, load in self.loads:
            line = load.stdout.readline()
            if line != f'{{"ready":{part}}}\n':
                load.wait(timeout=60)
                raise AssertionError(f"{part} idle connections: {line}{load.stdout.read()}")
        return self

    def __exit__(self, kind, *_):
        for _, load in self.loads:
            said, _ = load.communicate(timeout=120)
            if kind is None and load.returncode:
                raise AssertionError(f"idle connections: {said}")


def idle(place, system, sizes):
    """Both ends of a connection are on this machine; direct has them too."""
    # memory that came with the first connections is there already
    user = usage.user_memory(place.proxy.pid) if place.proxy else 0
    kernel = usage.kernel_memory()
    maps = usage.map_memory(place.pins)
    count = most_held(system, sizes.idle)
    with Held(place, system, count):
        time.sleep(0.3)  # per-CPU counts of the kernel get settled
        if place.proxy:
            user = usage.user_memory(place.proxy.pid) - user
        kernel = usage.kernel_memory() - kernel
        maps = usage.map_memory(place.pins) - maps
    found = {"idle_user": user / count, "idle_kernel": kernel / count}
    return {**found, "idle_maps": maps / count} if os.path.exists(place.pins) else found


RUBBISH = {
    "payload": ["--rubbish", "payload"],
    "broken": ["--rubbish", "broken"],
    "untrusted": ["--rubbish", "header"],
}


def refusing(place, system, sizes):
    if not system.header:
        return {}
    found = {"refuse_wakeups": 0}
    units = sizes.rubbish / 100000
    for kind, arguments in RUBBISH.items():
        if kind == "untrusted":
            arguments = [*arguments, "--source", place.path.untrusted]
        with usage.Meter(place) as meter:
            load = place.load("refuse", *arguments, "-c", sizes.rubbish, system.target(place))
        if load["refused"] != sizes.rubbish:
            raise AssertionError(f"{system.name} did not refuse all {kind}: {load}")
        found[f"{kind}_proxy"] = meter.proxy / units
        found[f"{kind}_total"] = meter.total(load) / units
        found["refuse_wakeups"] += ((meter.proxy_wakeups + meter.backend_wakeups)
                                    / units / len(RUBBISH))
    found.update(_flooded(place, system, sizes))
    return found


def _flooded(place, system, sizes):
    """A good client while another sends nothing but rubbish."""
    flood = place.load_beside("refuse", *RUBBISH["payload"], "-c", 1 << 24, system.target(place))
    try:
        load = place.load("connect", "-c", sizes.rubbish // 40, "--rate", GOOD_RATE,
                          *system.header_arguments(), system.target(place))
    finally:
        flood.kill()
        flood.communicate()
    return _latencies("flood", load)


def _latencies(prefix, load, *more):
    return {f"{prefix}_{rank}": load["latency_us"][rank] / US
            for rank in ("p50", "p99", *more)}


def warm_up(place, system):
    """What is done for the first time costs more, and so does a start; so does
    looking whether the server saw the right clients, which nobody measured need do."""
    place.settle()
    for kind in ("v2", "v2-crc32c", "v1"):
        place.load("connect", "-c", 300, *system.header_arguments(kind),
                   *system.check_arguments(), system.target(place))


def all_of(place, system, sizes, distance):
    """Every measurement, and that no header got through to the server."""
    found = {}
    warm_up(place, system)
    for task in (connections, one_at_a_time, requests, bulk, idle, refusing):
        # memory is the same anywhere, but not a second time
        if system.proxies and task is not idle:
            found.update(distance.measured(lambda task=task: task(place, system, sizes)))
        else:
            found.update(task(place, system, sizes))
    _check_backends(place)
    return found


def _check_backends(place):
    for said in place.stop_backends():
        if said["unexpected"]:
            raise AssertionError(f"the server got what was not meant for it: {said}")


def growth(place, system, held, count, distance):
    """CPU seconds of a connection, of all and of the proxy, while `held`
    others are idle."""
    def measure():
        with usage.Meter(place) as meter:
            load = place.load("connect", "-c", count, *system.header_arguments(),
                              system.target(place))
        return {"total": meter.total(load) / count, "proxy": meter.proxy / count}

    warm_up(place, system)
    with Held(place, system, held):
        found = distance.measured(measure) if system.proxies else measure()
    _check_backends(place)
    return found
