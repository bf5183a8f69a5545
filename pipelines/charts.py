"""Line charts as SVG text: pure functions, no library, no script. Colours are variables of the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipelines.page import text
from pipelines.report_numbers import Point, finite, label, multiplier, raised, thin, ticks

WIDTH, HEIGHT = 400.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 20.0, 34.0
STRIPS = 80  # places with a tooltip


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        name: for the legend and the tooltips.
        points: (x, y) in order of x; a y that is not finite is a gap.
        color: 1, 2 or 3, a colour of the style.
        band: (x, low, high), drawn as a shade behind the line.
        raw: the noisy points behind a smoothed line, drawn faint.
    """

    name: str
    points: Sequence[Point]
    color: int = 1
    band: Sequence[tuple[float, float, float]] = ()
    raw: Sequence[Point] = ()


@dataclass(frozen=True)
class Axis:
    """What the vertical axis shows.

    Args:
        low, high: fixed limits; None is chosen from the data.
        level: a dashed line to compare with, such as .5 for a coin.
        level_name: what stands at it.
        log: decades instead of even steps, where every value is above 0.
    """

    low: float | None = None
    high: float | None = None
    level: float | None = None
    level_name: str = ""
    log: bool = False


@dataclass(frozen=True)
class _Frame:
    """Limits in the data's units, and the way from them to the drawing."""

    left: float
    right: float
    bottom: float
    top: float
    log: bool

    def x(self, value: float) -> float:
        return LEFT + (value - self.left) / (self.right - self.left) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high, at = (math.log10(v) if self.log else v for v in (self.bottom, self.top, value))
        share = min(1.5, max(-0.5, (at - low) / (high - low)))
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def chart(
    title: str, lines: Sequence[Line], *, axis: Axis | None = None, note: str = "", mark: Point | None = None
) -> str:
    """A `<figure>` with a line chart, or "" where no line has a finite point.

    Args:
        title: what is shown, with its unit.
        lines: one to three.
        note: a sentence below the title.
        mark: (step, 0) of a vertical line, such as the step whose weights were kept.
    """
    axis = axis or Axis()
    drawn = [line for line in lines if finite(line.points)]
    if not drawn:
        return ""
    frame = _frame(drawn, axis)
    parts = [_grid(frame), _level(frame, axis), *(_shade(frame, line) for line in drawn)]
    parts += [_path(frame, line.raw, line.color, "raw") for line in drawn if line.raw]
    parts += [_path(frame, line.points, line.color, "line") for line in drawn]
    parts += [_dots(frame, line) for line in drawn if len(line.points) <= 40]
    if mark is not None and frame.left <= mark[0] <= frame.right:
        at = frame.x(mark[0])
        parts.append(
            f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}">'
            f"<title>weights kept: step {mark[0]:g}</title></line>"
        )
    parts.append(_strips(frame, drawn))
    names = [] if len(drawn) == 1 and drawn[0].name == title else drawn
    legend = "".join(f'<span class="key c{line.color}">{text(line.name)}</span>' for line in names)
    below = f'<span class="soft">{text(note)}</span>' if note else ""
    return (
        f'<figure class="chart"><figcaption><b>{text(title)}</b>{legend}{below}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{text(_summary(title, drawn))}">'
        f"{''.join(parts)}</svg></figure>"
    )


def interval_bar(low: float, middle: float, high: float, *, level: float = 0.5) -> str:
    """A small bar from 0 to 1 with an interval, its middle and a line to compare with, for a table's cell."""
    if not all(math.isfinite(value) for value in (low, middle, high)):
        return ""
    left, at, right, compare = (2 + 96 * min(1.0, max(0.0, value)) for value in (low, middle, high, level))
    return (
        '<svg class="bar" viewBox="0 0 100 16" width="100" height="16" role="img" '
        f'aria-label="{middle:.2f}, between {low:.2f} and {high:.2f}">'
        '<line class="grid" x1="2" x2="98" y1="8" y2="8"/>'
        f'<line class="level" x1="{compare:.1f}" x2="{compare:.1f}" y1="1" y2="15"/>'
        f'<line class="line c1" x1="{left:.1f}" x2="{right:.1f}" y1="8" y2="8"/>'
        f'<circle class="dot c1" cx="{at:.1f}" cy="8" r="3.5"/></svg>'
    )


def _frame(lines: Sequence[Line], axis: Axis) -> _Frame:
    points = [point for line in lines for point in finite([*line.points, *line.raw])]
    xs = [x for x, _ in points]
    ys = [y for _, y in points] + [v for line in lines for _, low, high in line.band for v in (low, high)]
    ys = [y for y in ys if math.isfinite(y)]
    left, right = min(xs), max(xs)
    if left == right:
        left, right = left - 0.5, right + 0.5
    log = axis.log and min(ys) > 0 and max(ys) > 30 * min(ys)
    if log:
        return _Frame(left, right, min(ys) / 1.2, max(ys) * 1.2, True)
    with_level = [*ys, *([axis.level] if axis.level is not None else [])]
    low, high = min(with_level), max(with_level)
    pad = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    bottom = low - pad if axis.low is None else axis.low
    top = high + pad if axis.high is None else axis.high
    return _Frame(left, right, bottom, max(top, bottom + 1e-12), False)


def _grid(frame: _Frame) -> str:
    """Grid lines and the numbers at both axes."""
    rows = _decades(frame) if frame.log else ticks(frame.bottom, frame.top, 5)
    power = multiplier(rows)
    step = rows[1] - rows[0] if len(rows) > 1 else 1.0
    parts = []
    for value in rows:
        at = frame.y(value)
        shown = f"{value:g}" if frame.log else label(value / 10**power, step / 10**power)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{shown}</text>')
    if power and not frame.log:
        parts.append(f'<text x="{LEFT - 6}" y="{TOP - 9}" text-anchor="end">×10{raised(power)}</text>')
    columns = ticks(frame.left, frame.right, 5)
    whole = [value for value in columns if value == round(value)] or columns
    thousands = whole[-1] >= 10_000
    for value in whole:
        at, bottom = frame.x(value), HEIGHT - BOTTOM
        shown = f"{value / 1000:g}k" if thousands and value else f"{value:g}"
        parts.append(f'<line class="tick" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{shown}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">step</text>')
    return "".join(parts)


def _decades(frame: _Frame) -> list[float]:
    powers = range(math.floor(math.log10(frame.bottom)), math.ceil(math.log10(frame.top)) + 1)
    few = len(powers) <= 3
    values = [digit * 10.0**power for power in powers for digit in ((1, 2, 5) if few else (1,))]
    inside = [value for value in values if frame.bottom <= value <= frame.top]
    return inside[:: 1 + len(inside) // 7]


def _level(frame: _Frame, axis: Axis) -> str:
    if axis.level is None:
        return ""
    at = frame.y(axis.level)
    name = (
        f'<text class="axis" x="{WIDTH - RIGHT - 2}" y="{at - 4:.1f}" text-anchor="end">{text(axis.level_name)}</text>'
    )
    return f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>{name}'


def _shade(frame: _Frame, line: Line) -> str:
    whole = [row for row in line.band if all(math.isfinite(value) for value in row)]
    if len(whole) < 2:
        return ""
    upper = [f"{frame.x(x):.1f},{frame.y(high):.1f}" for x, _, high in whole]
    lower = [f"{frame.x(x):.1f},{frame.y(low):.1f}" for x, low, _ in reversed(whole)]
    return f'<polygon class="shade c{line.color}" points="{" ".join([*upper, *lower])}"/>'


def _path(frame: _Frame, points: Sequence[Point], color: int, kind: str) -> str:
    commands, pen = [], "M"
    for x, y in thin(points):
        if not math.isfinite(y) or (frame.log and y <= 0):
            pen = "M"
            continue
        commands.append(f"{pen}{frame.x(x):.1f} {frame.y(y):.1f}")
        pen = "L"
    return f'<path class="{kind} c{color}" d="{"".join(commands)}"/>'


def _dots(frame: _Frame, line: Line) -> str:
    return "".join(
        f'<circle class="dot c{line.color}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="2.4"/>'
        for x, y in finite(line.points)
    )


def _strips(frame: _Frame, lines: Sequence[Line]) -> str:
    """Invisible columns that show the values at a step when the pointer rests on them."""
    steps = sorted({x for line in lines for x, _ in finite(line.points)})
    steps = steps[:: max(1, math.ceil(len(steps) / STRIPS))]
    known = [dict(finite(line.points)) for line in lines]
    edges = [frame.x(frame.left), *((frame.x(a) + frame.x(b)) / 2 for a, b in pairwise(steps))]
    edges.append(frame.x(frame.right))
    parts = []
    for number, step in enumerate(steps):
        rows = [f"{line.name}: {values[step]:.4g}" for line, values in zip(lines, known, strict=True) if step in values]
        title = text("\n".join([f"step {step:g}", *rows]))
        parts.append(
            f'<rect class="hit" x="{edges[number]:.1f}" y="{TOP}" width="{edges[number + 1] - edges[number]:.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}"><title>{title}</title></rect>'
        )
    return "".join(parts)


def _summary(title: str, lines: Sequence[Line]) -> str:
    last = [f"{line.name} {finite(line.points)[-1][1]:.4g} at step {finite(line.points)[-1][0]:g}" for line in lines]
    return f"{title}: {', '.join(last)}"
