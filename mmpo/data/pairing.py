"""Ranking and pairing of scored candidates: pure functions on lists of numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence


def ranks(scores: Sequence[float | None]) -> list[int]:
    """Rank per candidate, 1 is best; equal scores share a rank, unscored candidates come last."""
    keyed = [-math.inf if score is None or math.isnan(score) else score for score in scores]
    return [1 + sum(other > own for other in keyed) for own in keyed]


def best_worst(scores: Sequence[float | None], *, margin: float = 0.0) -> list[tuple[int, int]]:
    """[(best, worst)] by index, or [] where they differ by no more than `margin`."""
    return all_pairs(scores, margin=margin)[:1]


def all_pairs(
    scores: Sequence[float | None], *, margin: float = 0.0, limit: int | None = None
) -> list[tuple[int, int]]:
    """(chosen, rejected) index pairs whose scores differ by more than `margin`.

    Args:
        scores: K numbers, higher is better; None (could not be scored) is in no pair.
        margin: ties and near-ties up to this difference are dropped.
        limit: keep so many: the largest differences first, each candidate used once before any is used twice.
    """
    valid = [i for i, score in enumerate(scores) if score is not None and not math.isnan(score)]
    gaps = {
        (a, b): float(scores[a]) - float(scores[b])  # type: ignore[arg-type]
        for a, b in itertools.permutations(valid, 2)
    }
    left = sorted((pair for pair, gap in gaps.items() if gap > margin), key=lambda pair: (-gaps[pair], pair))
    picked: list[tuple[int, int]] = []
    uses = dict.fromkeys(valid, 0)
    while left and (limit is None or len(picked) < limit):
        best = min(range(len(left)), key=lambda i: (max(uses[left[i][0]], uses[left[i][1]]), i))
        pair = left.pop(best)
        picked.append(pair)
        for index in pair:
            uses[index] += 1
    return picked
