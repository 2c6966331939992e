"""Writes the results of `mutations` as a table in Markdown and as a plot in SVG."""

from collections.abc import Iterator
from html import escape
from math import log10

from bench.mutations import Costs, Report

WIDTH, HEIGHT = 860, 480
LEFT, RIGHT, TOP, BOTTOM = 70, 230, 40, 50
COLOURS = ("#c0392b", "#e67e22", "#2471a3", "#1e8449", "#7d3c98", "#566573", "#b7950b", "#117a65")


def table(report: Report) -> str:
    """Return all figures. The servers are sorted by their cost."""
    widths = list(next(iter(report.costs.values())))
    heading = [
        "server",
        *(f"µs at {width}" for width in widths),
        *(f"p50 ms at {width}" for width in widths),
        *(f"p99 ms at {width}" for width in widths),
        "MB",
    ]
    rows = [
        [
            name,
            *(f"{costs[width].cpu:,.0f}" for width in widths),
            *(f"{costs[width].p50:.2f}" for width in widths),
            *(f"{costs[width].p99:.1f}" for width in widths),
            f"{report.memory[name]:.0f}",
        ]
        for name, costs in sorted(report.costs.items(), key=lambda item: item[1][widths[-1]].cpu)
    ]
    stages = [
        [stage, f"{microseconds:.0f}"]
        for stage, microseconds in sorted(report.stages.items(), key=lambda item: -item[1])
    ]
    return "\n".join(
        [
            "CPU of the server for one mutation, and the time until the client has its response,",
            "by the requests in flight:",
            "",
            *_rows(heading, rows),
            "",
            f"Where the CPU of a Sonarly mutation goes, at {report.sampled_at} in flight:",
            "",
            *_rows(["stage", "µs"], stages),
            "",
        ]
    )


def _rows(heading: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield "|" + "---|" * len(heading)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def plot(costs: Costs) -> str:
    """Return a line for each server: its CPU, logarithmic, by the requests in flight."""
    widths = list(next(iter(costs.values())))
    cpus = [cost.cpu for of_server in costs.values() for cost in of_server.values()]
    least, most = log10(min(cpus)) - 0.05, log10(max(cpus)) + 0.05

    def x(place: int) -> float:
        return LEFT + place * (WIDTH - LEFT - RIGHT) / max(1, len(widths) - 1)

    def y(cpu: float) -> float:
        return HEIGHT - BOTTOM - (log10(cpu) - least) / (most - least) * (HEIGHT - TOP - BOTTOM)

    def elements() -> Iterator[str]:
        yield _text(LEFT, TOP - 18, "CPU of the server for one mutation, in microseconds")
        yield _text(LEFT, HEIGHT - 8, "requests in flight")
        for power in range(int(least), int(most) + 1):
            for cpu in (10**power, 2 * 10**power, 5 * 10**power):
                if least <= log10(cpu) <= most:
                    line = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(cpu):.1f}" y2="{y(cpu):.1f}"'
                    yield f'<line {line} stroke="#ddd"/>'
                    yield _text(LEFT - 8, y(cpu) + 4, f"{cpu:,}", anchor="end")
        for place, width in enumerate(widths):
            yield _text(x(place), HEIGHT - BOTTOM + 20, str(width), anchor="middle")
        below = TOP - 14.0
        by_cost = sorted(costs.items(), key=lambda item: -item[1][widths[-1]].cpu)
        for number, (name, of_server) in enumerate(by_cost):
            colour = COLOURS[number % len(COLOURS)]
            points = [(x(place), y(of_server[width].cpu)) for place, width in enumerate(widths)]
            path = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
            weight = 3 if name.startswith("this gateway") else 1.5
            stroke = f'fill="none" stroke="{colour}" stroke-width="{weight}"'
            yield f'<polyline points="{path}" {stroke}/>'
            # Names of equal servers stand below each other, not on each other.
            below = max(below + 14, points[-1][1] + 4)
            label = f"{name} {of_server[widths[-1]].cpu:,.0f}"
            yield _text(WIDTH - RIGHT + 8, below, label, colour=colour)

    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    font = 'font-family="sans-serif" font-size="12"'
    background = '<rect width="100%" height="100%" fill="white"/>'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>', background, *elements()]
    return "\n".join([*lines, "</svg>\n"])


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#333") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}>{escape(text)}</text>"
