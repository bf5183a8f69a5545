"""Ranking and pairing of scored candidates: pure functions on lists of numbers."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Sequence

Pair = tuple[int, int]
"""(chosen, rejected) by index."""


def ranks(scores: Sequence[float | None]) -> list[int]:
    """Rank per candidate, 1 is best; equal scores share a rank, unscored candidates come last."""
    keyed = [-math.inf if score is None or math.isnan(score) else score for score in scores]
    return [1 + sum(other > own for other in keyed) for own in keyed]


def best_worst(scores: Sequence[float | None], *, margin: float = 0.0) -> list[Pair]:
    """[(best, worst)] by index, or [] where they differ by no more than `margin`."""
    valid = scored(scores)
    if not valid:
        return []
    best = max(valid, key=lambda i: (_of(scores, i), -i))
    worst = min(valid, key=lambda i: (_of(scores, i), i))
    return [(best, worst)] if _of(scores, best) - _of(scores, worst) > margin else []


def all_pairs(scores: Sequence[float | None], *, margin: float = 0.0, limit: int | None = None) -> list[Pair]:
    """(chosen, rejected) index pairs whose scores differ by more than `margin`.

    Args:
        scores: K numbers, higher is better; None (could not be scored) is in no pair.
        margin: ties and near-ties up to this difference are dropped.
        limit: keep so many, as `spread` does.
    """
    return spread(unequal_pairs(scores, margin=margin), scores, limit)


def unequal_pairs(scores: Sequence[float | None], *, margin: float = 0.0) -> list[Pair]:
    """The pairs of `all_pairs`, in the order of the candidates."""
    ordered = [ahead(scores, pair) for pair in itertools.combinations(scored(scores), 2)]
    return [pair for pair in ordered if gap(scores, pair) > margin]


def random_pairs(pairs: Sequence[Pair], *, seed: int, group: str, limit: int = 1) -> list[Pair]:
    """So many of the pairs, drawn without replacement: the control for a choice of pairs.

    Args:
        seed, group: with the set of pairs they decide the draw; neither other groups nor any order do.
    """
    return random.Random(f"{seed}:{group}").sample(sorted(pairs), min(limit, len(pairs)))


def layer_pairs(
    layers: Sequence[int], scores: Sequence[float | None], *, margin: float = 0.0, limit: int | None = None
) -> list[Pair]:
    """Each candidate of the top layer against each of the bottom one; [] where there is one layer.

    Args:
        layers: K layers as of `aggregate.pareto_layers`, 0 the top, below 0 unknown: in no pair.
        scores: K numbers that a pair must not contradict: chosen higher than rejected by more than `margin`.
        limit: keep so many, as `spread` does.
    References:
        Lee et al., Calibrated Multi-Preference Optimization for Aligning Diffusion Models, arXiv 2502.02588.
    """
    bottom = max(layers, default=0)
    known = [i for i in scored(scores) if layers[i] >= 0]
    pairs = [(a, b) for a in known for b in known if layers[a] == 0 and layers[b] == bottom > 0]
    return spread([pair for pair in pairs if gap(scores, pair) > margin], scores, limit)


def spread(pairs: Sequence[Pair], scores: Sequence[float | None], limit: int | None = None) -> list[Pair]:
    """The pairs, the largest differences first, but each candidate used once before any is used twice.

    Args:
        limit: the first so many.
    """
    ordered = sorted(pairs, key=lambda pair: (-gap(scores, pair), pair))
    uses = dict.fromkeys(itertools.chain.from_iterable(ordered), 0)
    waiting = [(0, place) for place in range(len(ordered))]  # a heap; uses only grow, so old entries come too early
    picked: list[Pair] = []
    while waiting and (limit is None or len(picked) < limit):
        before, place = heapq.heappop(waiting)
        used = max(uses[index] for index in ordered[place])
        if used > before:
            heapq.heappush(waiting, (used, place))
            continue
        picked.append(ordered[place])
        for index in ordered[place]:
            uses[index] += 1
    return picked


def scored(scores: Sequence[float | None]) -> list[int]:
    """Indices of the candidates that have a score."""
    return [i for i, score in enumerate(scores) if score is not None and not math.isnan(score)]


def gap(scores: Sequence[float | None], pair: Pair) -> float:
    """By how much the first of two scored candidates is ahead."""
    return _of(scores, pair[0]) - _of(scores, pair[1])


def ahead(scores: Sequence[float | None], pair: Pair) -> Pair:
    """The same two, the better one first."""
    return pair if gap(scores, pair) >= 0 else (pair[1], pair[0])


def _of(scores: Sequence[float | None], index: int) -> float:
    value = scores[index]
    assert value is not None
    return float(value)
