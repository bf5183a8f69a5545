"""Charts: ticks and thinning by hand, and SVG that parses and shows what went in."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from pipelines.charts import HEIGHT, WIDTH, Axis, Line, chart, interval_bar
from pipelines.report_numbers import label, multiplier, running_mean, spread, thin, ticks

NAN = math.nan


def parsed(source: str) -> ElementTree.Element:
    """The figure as a tree; fails on anything that is not well-formed."""
    return ElementTree.fromstring(source)


def of_class(figure: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """Elements that carry a class."""
    return [element for element in figure.iter() if name in element.get("class", "").split()]


def coordinates(path: ElementTree.Element) -> list[tuple[float, float]]:
    """The points of a path."""
    pairs = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.get("d", ""))
    return [(float(x), float(y)) for x, y in pairs]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 200, [0, 50, 100, 150, 200]),
        (0.48, 0.93, [0.5, 0.6, 0.7, 0.8, 0.9]),
        (-3, 7, [-2, 0, 2, 4, 6]),
        (0, 1.1e-5, [0, 2e-6, 4e-6, 6e-6, 8e-6, 1e-5]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_numbers_inside(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


@pytest.mark.parametrize(
    ("value", "step", "expected"),
    [
        (0.5, 0.1, "0.5"),
        (1, 0.25, "1.00"),
        (20, 10, "20"),
        (-2.5, 2.5, "−2.5"),
        (-0.0, 0.2, "0.0"),
        (3e-4, 1e-4, "0.0003"),
    ],
)
def test_labels_have_the_decimals_that_the_step_needs(value: float, step: float, expected: str) -> None:
    assert label(value, step) == expected


@pytest.mark.parametrize(
    ("values", "expected"), [([0, 0.5], 0), ([0, 5e-4], -4), ([0, -2e-3], -3), ([1, 9999], 0), ([0, 2e5], 5), ([0], 0)]
)
def test_a_power_of_ten_is_taken_out_where_labels_would_be_long(values: list[float], expected: int) -> None:
    assert multiplier(values) == expected


def test_a_running_mean_leaves_gaps_and_does_not_count_them() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, NAN), (3.0, 6.0), (4.0, 10.0)]
    means = [y for _, y in running_mean(points, 3)]
    assert means[:2] == [1.5, 1.5]
    assert math.isnan(means[2])
    assert means[3:] == [8.0, 8.0]


def test_thinning_keeps_ends_and_spikes() -> None:
    points = [(float(x), 1.0) for x in range(5000)]
    points[1234], points[4321] = (1234.0, 99.0), (4321.0, -99.0)
    kept = thin(points, 400)
    assert len(kept) <= 400
    assert {points[0], points[-1], points[1234], points[4321]} <= set(kept)
    assert kept == sorted(kept)
    assert thin(points[:50], 400) == points[:50]


def test_thinning_keeps_a_gap_as_a_gap() -> None:
    points = [(float(x), NAN if 400 <= x < 600 else 1.0) for x in range(1000)]
    kept = thin(points, 100)
    assert [x for x, y in kept if math.isnan(y)]
    assert all(not 400 <= x < 600 for x, y in kept if not math.isnan(y))


def test_a_spread_has_both_ends() -> None:
    assert spread(3, 8) == [0, 1, 2]
    assert spread(11, 6) == [0, 2, 4, 6, 8, 10]
    assert spread(100, 8)[0] == 0
    assert spread(100, 8)[-1] == 99
    assert len(spread(100, 8)) == 8


def test_a_chart_draws_its_points_where_they_belong() -> None:
    figure = parsed(chart("Title", [Line("a", [(0, 0.0), (50, 1.0), (100, 0.5)])], axis=Axis(low=0.0, high=1.0)))
    (path,) = of_class(figure, "line")
    (left, bottom), (middle, top), (right, half) = coordinates(path)
    assert left < middle < right < WIDTH
    assert middle == pytest.approx((left + right) / 2, abs=0.1)
    assert 0 < top < half < bottom < HEIGHT
    assert half == pytest.approx((top + bottom) / 2, abs=0.1)
    shown = [element.text for element in figure.iter("text")]
    assert {"0.0", "0.2", "1.0", "0", "100", "step"} <= set(shown)


def test_not_a_number_is_a_gap_and_nothing_is_no_chart() -> None:
    figure = parsed(chart("Title", [Line("a", [(0, 1.0), (1, NAN), (2, 2.0), (3, math.inf)])]))
    (path,) = of_class(figure, "line")
    assert path.get("d", "").count("M") == 2
    assert len(coordinates(path)) == 2
    assert chart("Title", [Line("a", [(0, NAN)])]) == ""
    assert chart("Title", []) == ""


@pytest.mark.parametrize("value", [0.0, 1e-9, -3e7, 0.5])
def test_a_flat_line_and_a_single_point_can_be_drawn(value: float) -> None:
    for points in ([(3.0, value)], [(0.0, value), (9.0, value)]):
        figure = parsed(chart("Title", [Line("a", points)]))
        assert len(of_class(figure, "dot")) == len(points)
        assert all(0 < float(dot.get("cy", "nan")) < HEIGHT for dot in of_class(figure, "dot"))


def test_a_wide_range_gets_decades_on_request() -> None:
    points = [(float(x), 10.0**x) for x in range(5)]
    heights = [
        y for _, y in coordinates(of_class(parsed(chart("t", [Line("a", points)], axis=Axis(log=True))), "line")[0])
    ]
    gaps = [a - b for a, b in pairwise(heights)]
    assert max(gaps) - min(gaps) < 0.3
    assert "1000" in chart("t", [Line("a", points)], axis=Axis(log=True))


def test_text_in_a_chart_is_escaped_and_tooltips_are_there() -> None:
    figure = parsed(chart('<b>"x"</b>', [Line("<i>", [(0, 1.0), (1, 2.0)])]))
    assert not list(figure.iter("i"))
    titles = [element.text or "" for element in figure.iter("title")]
    assert "step 1\n<i>: 2" in titles


def test_thousands_of_points_stay_small() -> None:
    points = [(float(x), math.sin(x)) for x in range(20_000)]
    assert len(chart("t", [Line("a", points, raw=points)])) < 40_000


def test_bands_and_levels_are_drawn() -> None:
    line = Line("a", [(0, 0.5), (1, 0.7)], band=[(0, 0.4, 0.6), (1, 0.6, 0.8)])
    figure = parsed(chart("t", [line], axis=Axis(level=0.5, level_name="a coin"), mark=(1, 0)))
    assert len(of_class(figure, "shade")) == len(of_class(figure, "level")) == len(of_class(figure, "mark")) == 1
    assert "a coin" in [element.text for element in figure.iter("text")]


def test_an_interval_bar_puts_its_middle_between_its_ends() -> None:
    bar = parsed(interval_bar(0.2, 0.5, 0.9))
    (line,), (dot,) = of_class(bar, "line"), of_class(bar, "dot")
    assert float(line.get("x1", "")) < float(dot.get("cx", "")) < float(line.get("x2", ""))
    assert interval_bar(NAN, 0.5, 0.9) == ""
