"""Numbers behind a chart: ticks and their labels, running means, thinning."""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, float]
LIMIT = 400
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def finite(points: Sequence[Point]) -> list[Point]:
    """The points whose y is a finite number."""
    return [(x, y) for x, y in points if math.isfinite(y)]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers in [low, high]: multiples of 1, 2, 2.5 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((factor * power for factor in (1, 2, 2.5, 5, 10)), key=lambda size: abs(math.log(size / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def multiplier(values: Sequence[float]) -> int:
    """The power of ten to take out of an axis's labels: 0 for numbers that read well as they are."""
    largest = max((abs(value) for value in values), default=0.0)
    if largest == 0 or 0.01 <= largest < 10_000:
        return 0
    return math.floor(math.log10(largest) + 1e-9)


def raised(power: int) -> str:
    """An integer in superscript digits."""
    return str(power).translate(_RAISED)


def label(value: float, step: float) -> str:
    """A tick's number with as many decimals as the step between ticks needs."""
    decimals = 0
    while decimals < 6 and abs(round(step, decimals) - step) > 1e-6 * step:
        decimals += 1
    shown = f"{value:.{decimals}f}"
    if float(shown) == 0:
        shown = shown.removeprefix("-")
    return shown.replace("-", "−")


def running_mean(points: Sequence[Point], window: int) -> list[Point]:
    """Each y replaced by the mean of the finite y of the `window` points around it; a gap stays a gap."""
    half = window // 2
    totals, counts = [0.0], [0]
    for _, y in points:
        good = math.isfinite(y)
        totals.append(totals[-1] + (y if good else 0.0))
        counts.append(counts[-1] + good)
    smooth = []
    for index, (x, y) in enumerate(points):
        start, end = max(0, index - half), min(len(points), index + half + 1)
        mean = (totals[end] - totals[start]) / max(1, counts[end] - counts[start])
        smooth.append((x, mean if math.isfinite(y) else math.nan))
    return smooth


def thin(points: Sequence[Point], limit: int = LIMIT) -> list[Point]:
    """At most `limit` points: the first, the last, and of each stretch between them its lowest and its highest.

    Spikes survive. A stretch without a finite y keeps one gap.
    """
    if len(points) <= limit:
        return list(points)
    inner = points[1:-1]
    stretches = max(1, (limit - 2) // 2)
    kept = [points[0]]
    for number in range(stretches):
        part = inner[number * len(inner) // stretches : (number + 1) * len(inner) // stretches]
        good = finite(part)
        extremes = {min(good, key=lambda p: p[1]), max(good, key=lambda p: p[1])} if good else {part[0]}
        kept += sorted(extremes)
    return [*kept, points[-1]]


def spread(count: int, limit: int) -> list[int]:
    """At most `limit` of the positions 0 .. count − 1, evenly spaced, with the first and the last."""
    if count <= limit:
        return list(range(count))
    return sorted({round(number * (count - 1) / (limit - 1)) for number in range(limit)})
