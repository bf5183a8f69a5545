"""Results as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def evaluation_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """A table of measures: base, tuned, difference with its 95 % interval, win rate."""
    measures = result["measures"]
    first = next(iter(measures.values()))
    sampling = result["sampling"]
    yield (
        f"{first['prompts']} prompts ({result['prompts']}) x {result['samples_per_prompt']} samples, "
        f"{sampling['steps']} steps, guidance {sampling['guidance']:g}"
    )
    yield f"{'measure':<18} {'base':>7} {'tuned':>7} {'difference':>11}  {'95 % interval':<18} win rate"
    for name, row in measures.items():
        interval = f"[{row['low']:+.3f}, {row['high']:+.3f}]"
        yield (
            f"{name:<18} {row['base']:>7.3f} {row['tuned']:>7.3f} {row['difference']:>+11.3f}  {interval:<18} "
            f"{row['win_rate']:.3f}"
        )
