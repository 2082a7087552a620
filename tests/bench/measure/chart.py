# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Charts as plain SVG text. Knows what is drawn, not what it means."""

import math
import statistics
from xml.sax.saxutils import escape

from .tasks import METRICS

PANELS = ["v2_rate", "v2_total", "v2_proxy", "one_p50", "request_rate", "request_proxy",
          "up_proxy", "down_proxy", "idle_user", "payload_total"]

COLOURS = {"direct": "#7f8c8d", "empty": "#c5cccc", "bystander": "#aab4b5",
           "inline": "#0b7a3e", "relay": "#58a618",
           "haproxy": "#2f6fb5", "nginx": "#8e5ea2"}
INK = "#222222"
PALE = "#dddddd"

WIDTH = 940
MARGIN = 16
LABELS = 210
ROW = 17


def _colour(name):
    return next(colour for start, colour in COLOURS.items() if name.startswith(start))


class Drawing:
    def __init__(self):
        self.parts = []

    def text(self, x, y, text, size=11, anchor="start", weight="normal"):
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
            f'font-weight="{weight}" fill="{INK}">{escape(text)}</text>')

    def box(self, x, y, width, height, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                          f'height="{height:.1f}" fill="{colour}"/>')

    def line(self, points, colour, width=1, dashes=""):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" '
                          f'stroke-width="{width}" stroke-dasharray="{dashes}"/>')

    def dot(self, x, y, colour):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')

    def finish(self, width, height):
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:.0f}" '
                f'viewBox="0 0 {width} {height:.0f}" '
                'font-family="DejaVu Sans, Helvetica, Arial, sans-serif">')
        white = f'<rect width="{width}" height="{height:.0f}" fill="#ffffff"/>'
        return "\n".join([head, white, *self.parts, "</svg>", ""])


def _panel(drawing, metric, medians, x, y, width):
    """One metric, a bar for each system; returns the height."""
    better = "more is better" if metric.more else "less is better"
    unit = f"{metric.unit}; " if metric.unit else ""
    drawing.text(x, y + 12, metric.title, 12, weight="bold")
    drawing.text(x, y + 26, f"{unit}{better}", 10)
    top = y + 34
    longest = max(medians.values()) or 1
    room = width - LABELS - 60
    for row, (system, value) in enumerate(medians.items()):
        at = top + row * ROW
        length = max(room * value / longest, 1)
        drawing.text(x + LABELS - 6, at + 12, system.title, 10, "end")
        drawing.box(x + LABELS, at + 2, length, ROW - 5, _colour(system.name))
        drawing.text(x + LABELS + length + 4, at + 12, metric.text(value), 10)
    return 34 + len(medians) * ROW + 14


def bars(result, systems):
    drawing = Drawing()
    values = next(iter(result["values"].values()))
    metrics = {metric.key: metric for metric in METRICS}
    width = (WIDTH - 3 * MARGIN) / 2
    bottom = [MARGIN, MARGIN]
    for index, key in enumerate(PANELS):
        medians = {}
        for system in systems:
            by_round = values[system.name].get(key)
            # a system without a proxy has no bar where it would be nothing
            if by_round and not (system.name == "direct" and not any(by_round.values())):
                medians[system] = statistics.median(by_round.values())
        if not medians:
            continue
        side = index % 2
        x = MARGIN + side * (width + MARGIN)
        bottom[side] += _panel(drawing, metrics[key], medians, x, bottom[side], width)
        if side:
            bottom = [max(bottom)] * 2
    return drawing.finish(WIDTH, max(bottom) + MARGIN)


HELD_CHART = "connections held"
GROWTH_HEIGHT = 190
LABEL_ROOM = 36
LINE = 14


class _Axes:
    """Logarithmic to the right, linear upwards."""

    def __init__(self, drawing, x, y, width, points, highest):
        self.drawing = drawing
        self.left, self.right = x + 40, x + width - 10
        self.top, self.bottom = y + 40, y + GROWTH_HEIGHT
        self.first, self.last = math.log10(min(points)), math.log10(max(points))
        self.highest = highest

    def x(self, point):
        share = (math.log10(point) - self.first) / (self.last - self.first)
        return self.left + share * (self.right - self.left)

    def y(self, value):
        return self.bottom - value / self.highest * (self.bottom - self.top)

    def draw(self, points):
        for part in range(5):
            value = self.highest * part / 4
            self.drawing.line([(self.left, self.y(value)), (self.right, self.y(value))], PALE)
            self.drawing.text(self.left - 4, self.y(value) + 4, f"{value:.0f}", 10, "end")
        last = math.inf
        for point in reversed(points):
            if last - self.x(point) >= LABEL_ROOM:
                last = self.x(point)
                self.drawing.text(last, self.bottom + LINE, f"{point:,}", 10, "middle")


def _lines(drawing, title, lines, x, y, width):
    points = sorted({point for line in lines.values() for point in line})
    if len(points) < 2:
        return
    medians = {name: {kind: {point: 1e6 * statistics.median(v[kind] for v in line[point])
                             for point in sorted(line)} for kind in ("total", "proxy")}
               for name, line in lines.items()}
    highest = max(value for kinds in medians.values() for value in kinds["total"].values())
    axes = _Axes(drawing, x, y, width, points, math.ceil(highest / 40) * 40)
    drawing.text(x, y + 12, title, 12, weight="bold")
    axes.draw(points)
    for name, kinds in medians.items():
        for kind, dashes in (("total", ""), ("proxy", "4 3")):
            if not any(kinds[kind].values()):
                continue
            at = [(axes.x(point), axes.y(value)) for point, value in kinds[kind].items()]
            drawing.line(at, _colour(name), 2, dashes)
            for dot in at:
                drawing.dot(*dot, _colour(name))


def growth_note(result, systems):
    """Lines: what is held at most, and by whom, where descriptors end before."""
    lines = result["growth"].get(HELD_CHART, {})
    most = max((max(line) for line in lines.values()), default=0)
    ended = {system.title: max(lines[system.name]) for system in systems
             if system.name in lines and max(lines[system.name]) < most}
    note = [f"Up to {most:,} connections are held while others are measured."]
    if ended:
        held = "; ".join(f"{title} at {count:,}" for title, count in ended.items())
        note.append(f"A proxy is one process, which may have {result['descriptors']:,} "
                    f"descriptors here and needs two for each, so these end before: {held}.")
    return note


def growth(result, systems):
    """CPU of a connection: all of it, and (dashed) the proxy's."""
    drawing = Drawing()
    charts = result["growth"]
    drawing.text(MARGIN, MARGIN + 8, "CPU of a connection, us: of all, and dashed, of the proxy",
                 12)
    at = MARGIN
    for system in systems:
        if any(system.name in lines for lines in charts.values()):
            drawing.box(at, MARGIN + 18, 10, 10, _colour(system.name))
            drawing.text(at + 14, MARGIN + 27, system.title, 10)
            at += 30 + 6 * len(system.title)
    width = (WIDTH - 2 * MARGIN) / len(charts)
    for index, (title, lines) in enumerate(charts.items()):
        _lines(drawing, f"against {title}", lines, MARGIN + index * width, 54, width)
    bottom = 54 + GROWTH_HEIGHT + 24
    for line in growth_note(result, systems):
        bottom += LINE
        drawing.text(MARGIN, bottom, line, 10)
    return drawing.finish(WIDTH, bottom + LINE)
