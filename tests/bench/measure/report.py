# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""From the values to a Markdown table and charts. Measures nothing."""

import os
import shutil
import statistics
import subprocess

from . import chart
from .tasks import METRICS

BUSY = 10  # percent; above it others take turns with what is measured

FILES = ("bench.md", "bench.svg", "bench.png", "growth.svg", "growth.png")


class Target:
    """`key` of `system` beside that of `base`, round by round."""

    def __init__(self, text, system, key, base, limit, least=False):
        self.text = text
        self.system = system
        self.key = key
        self.base = base  # None: the value itself
        self.limit = limit
        self.least = least  # the limit is the least that will do


TARGETS = [
    Target("inline, connections/s, of direct", "inline", "v2_rate", "direct", 0.98, True),
    Target("inline, one at a time p50, of direct", "inline", "one_p50", "direct", 1.05),
    Target("inline, requests/s, of direct", "inline", "request_rate", "direct", 0.98, True),
    Target("inline, bulk up, of direct", "inline", "up_rate", "direct", 0.98, True),
    Target("inline, bulk down, of direct", "inline", "down_rate", "direct", 0.98, True),
    Target("inline, all CPU for a connection, of direct", "inline", "v2_total", "direct",
           1 / 0.98),
    Target("inline, all CPU for a request, of direct", "inline", "request_total", "direct",
           1 / 0.98),
    Target("inline, daemon CPU for 10,000 connections, s", "inline", "v2_proxy", None, 0.001),
    Target("inline, daemon memory of a connection, B", "inline", "idle_user", None, 1),
    Target("inline, memory of maps for a connection, B", "inline", "idle_maps", None, 512),
]

for _relay in ("relay-accept", "relay-peek", "relay-off", "relay-none"):
    _title = _relay.replace("-", ", ")
    TARGETS += [
        Target(f"{_title}: CPU for a connection, of HAProxy's", _relay, "v2_proxy",
               "haproxy", 0.70),
        Target(f"{_title}: CPU for a request, of HAProxy's", _relay, "request_proxy",
               "haproxy", 0.75),
        Target(f"{_title}: CPU for a GB up, of HAProxy's with splice", _relay, "up_proxy",
               "haproxy-splice", 0.90),
        Target(f"{_title}: CPU for a GB down, of HAProxy's with splice", _relay,
               "down_proxy", "haproxy-splice", 0.90),
        Target(f"{_title}: memory of an idle connection, of HAProxy's", _relay, "idle_user",
               "haproxy", 0.125),
        Target(f"{_title}: kernel memory of an idle connection, of HAProxy's", _relay,
               "idle_kernel", "haproxy", 1.0),
    ]

for _kind in ("payload", "broken", "untrusted"):
    TARGETS.append(Target(f"inline: CPU to refuse {_kind}, of HAProxy's", "inline",
                          f"{_kind}_proxy", "haproxy", 0.10))


def _spread(values):
    """Half of what lies between the extremes, in percent of the median."""
    middle = statistics.median(values)
    return 50 * (max(values) - min(values)) / middle if middle else 0


def _cell(metric, by_round):
    if not by_round:
        return ""
    values = list(by_round.values())
    text = metric.text(statistics.median(values))
    return f"{text} ±{_spread(values):.0f} %" if any(values) else text


def _table(values, systems):
    systems = [system for system in systems if system.name in values]
    lines = ["| | " + " | ".join(system.title for system in systems) + " |",
             "|---|" + "---:|" * len(systems)]
    for metric in METRICS:
        cells = [_cell(metric, values[system.name].get(metric.key))
                 for system in systems]
        title = f"{metric.title}, {metric.unit}" if metric.unit else metric.title
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def ratio(values, target):
    """The median over the rounds, or None where one of both is missing."""
    have = values.get(target.system, {}).get(target.key, {})
    if target.base is None:
        return statistics.median(have.values()) if have else None
    base = values.get(target.base, {}).get(target.key, {})
    pairs = [have[number] / base[number] for number in have if base.get(number)]
    return statistics.median(pairs) if pairs else None


def _targets(values):
    lines = ["| target | limit | measured | |", "|---|---:|---:|---|"]
    for target in TARGETS:
        have = ratio(values, target)
        if have is None:
            continue
        have = round(have, 3)  # judged as it is shown
        good = have >= target.limit if target.least else have <= target.limit
        sign = ">=" if target.least else "<="
        lines.append(f"| {target.text} | {sign} {target.limit:.3g} | {have:.3f} | "
                     f"{'met' if good else 'missed'} |")
    return lines


def _distance(result):
    if not result["taken"]:
        return ""
    return (f" A cache line went from core to core and back in {result['least']:.0f} ns at "
            f"least, {result['median']:.0f} mostly and {result['most']:.0f} at most, by where "
            "the CPUs were just then, and a proxy's CPU for the same work goes up and down with "
            f"it; {result['taken'] - result['far']} of {result['taken']} measurements of proxies "
            "were made when it was near the least.")


def _noise(result):
    busy = [100 * sample["busy"] for sample in result["noise"]]
    steal = [100 * sample["steal"] for sample in result["noise"]]
    text = (f"Noise of the machine: while nothing was measured, others used "
            f"{statistics.median(busy):.0f} % of its CPUs (at most {max(busy):.0f} %), "
            f"{statistics.median(steal):.1f} % were stolen")
    direct = next(iter(result["values"].values())).get("direct", {}).get("v2_total", {})
    if len(direct) > 1:
        text += (f"; the CPU of a direct connection, which should be the same in every "
                 f"round, spread by ±{_spread(list(direct.values())):.0f} %")
    text += "." + _distance(result["distance"])
    if statistics.median(busy) > BUSY:
        text += (" **Too much for rates and latencies, which depend on when others ran; "
                 "CPU seconds and memory still compare.**")
    return text


def _markdown(result, systems):
    cores = result["cores"]
    lines = [
        "# Benchmark", "",
        f"Medians of {result['rounds']} alternating rounds; ± is half of what lies between "
        f"the extremes. {result['when']}, Linux {result['kernel']}, {result['cpu']}, "
        f"{result['cpus']} CPUs. One worker of each system on core {cores['proxy']}; load and "
        f"server share core {cores['load']}. \"All CPU\" is load, server, proxy and softirq "
        "threads together, so work that is done inside the kernel on somebody else's behalf "
        "is in it. The relays show the client (`client_address = getpeername`) but for "
        f"\"none\", which is what HAProxy and NGINX do here. Took {result['minutes']:.0f} "
        "minutes.", "",
        _noise(result), ""]
    for path, values in result["values"].items():
        lines += [f"## Over {path}", "", result["paths"].get(path, ""), "",
                  *_table(values, systems), "", f"### Targets, over {path}", "",
                  "Medians of the rounds' ratios.", "", *_targets(values), ""]
    lines += ["## Charts", "", f"Over {next(iter(result['values']))}.", "",
              "![Systems side by side](bench.svg)", ""]
    if result["growth"]:
        lines += [" ".join(chart.growth_note(result, systems)), "",
                  "![How cost grows](growth.svg)", ""]
    for failure in result["failures"]:
        lines += [f"FAILED: {failure.splitlines()[0]}", ""]
    return "\n".join(lines)


def _write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def write(result, systems, directory):
    """bench.md, and charts as SVG; as PNG too where there is rsvg-convert."""
    _write(directory, "bench.md", _markdown(result, systems))
    charts = [_write(directory, "bench.svg", chart.bars(result, systems))]
    if result["growth"]:
        charts.append(_write(directory, "growth.svg", chart.growth(result, systems)))
    if shutil.which("rsvg-convert"):
        for path in charts:
            subprocess.run(["rsvg-convert", "-z", "2", "-o", path[:-3] + "png", path],
                           check=True, timeout=60)


def copy(directory, to):
    os.makedirs(to, exist_ok=True)
    for name in FILES:
        path = os.path.join(directory, name)
        if os.path.exists(path):
            shutil.copy(path, to)
