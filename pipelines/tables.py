"""Results as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Measures = Mapping[str, Mapping[str, Any]]
WIDTH = 18


def evaluation_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """A table of measures: base, tuned, difference with its 95 % interval, win rate; below it the same by category."""
    measures = result["measures"]
    first = next(iter(measures.values()))
    sampling = result["sampling"]
    yield (
        f"{first['prompts']} prompts ({result['prompts']}) x {result['samples_per_prompt']} samples, "
        f"{sampling['steps']} steps, guidance {sampling['guidance']:g}"
    )
    yield from measure_lines(measures)
    yield from category_lines(result.get("categories", {}))


def answer_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The same of a vision-language model's answers, whose measures have no win rate; what only describes is marked."""
    held_out, weights = result["held_out"], result["weights"]
    asked = [f"the test of hallucination {result['questions']}"] if result["questions"] else []
    asked += [f"{held_out['pairs']:,} held-out rows of {held_out['data']}"] if held_out else []
    yield f"{' and '.join(asked)}; greedy answers; intervals over scenes and questions"
    width = max(map(len, result["measures"]))
    yield f"{'measure':<{width}} {'base':>8} {'tuned':>8} {'difference':>11}  {'95 % interval':<20} better"
    for name, row in result["measures"].items():
        better = {True: "higher", False: "lower", None: "–"}[row["higher_is_better"]]
        shown = [f"{row[key]:{sign}.3f}" for key, sign in (("base", ""), ("tuned", ""), ("difference", "+"))]
        interval = "–" if row["low"] is None else f"[{row['low']:+.3f}, {row['high']:+.3f}]"
        yield f"{name:<{width}} {shown[0]:>8} {shown[1]:>8} {shown[2]:>11}  {interval:<20} {better}"
    if weights["base in training"] not in (None, weights["base"]):
        yield "note: the base's weights are not those that training began from"


def measure_lines(measures: Measures, title: str = "measure") -> Iterator[str]:
    """A head, and a line for each measure."""
    width = max(WIDTH, *map(len, [title, *measures]))
    yield f"{title:<{width}} {'base':>7} {'tuned':>7} {'difference':>11}  {'95 % interval':<18} win rate"
    for name, row in measures.items():
        interval = "one prompt" if row["low"] is None else f"[{row['low']:+.3f}, {row['high']:+.3f}]"
        yield (
            f"{name:<{width}} {row['base']:>7.3f} {row['tuned']:>7.3f} {row['difference']:>+11.3f}  {interval:<18} "
            f"{row['win_rate']:.3f}"
        )


def category_lines(categories: Mapping[str, Mapping[str, Measures]]) -> Iterator[str]:
    """For each way to sort prompts and each measure that is no part of another, a table with a line a category."""
    for way, parts in categories.items():
        for measure in dict.fromkeys(name for table in parts.values() for name in table if "/" not in name):
            rows = {
                f"{category} ({table[measure]['prompts']})": table[measure]
                for category, table in parts.items()
                if measure in table
            }
            yield ""
            yield from measure_lines(rows, f"{measure} by {way} (prompts)")
