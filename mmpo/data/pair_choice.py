"""Which pairs of a ranked group are kept, and of those that are not, why: pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from numpy import float32  # what scores are kept in: 0.7 is 0.69999999 there

from mmpo.data.pairing import Pair, best_worst, gap, layer_pairs, random_pairs, scored, spread, unequal_pairs
from mmpo.suggest import one_of

SELECTIONS = ("best_worst", "all", "random", "layers")
DROPPED = ("ties", "not compared", "margin", "floor", "agreement", "same image", "limit")
"""Why a pair is not kept; `proposed` is what is kept and these together."""
ROUNDING = 1e-9
"""Of 0.6 and of 3 votes in 5, one may be larger by rounding."""


@dataclass(frozen=True)
class Choice:
    """Which pairs are made.

    Args:
        select: one of `SELECTIONS`: the best against the worst; all; random ones of all (a control); each candidate
            of the top Pareto layer against each of the bottom one.
        margin: the chosen one's value must be higher by more than this.
        agreement: at least this weighted share of the rewards must prefer the chosen one, a tie counting half.
        floors: the chosen one's score of these rewards must be at least this; an unscored one fails.
        limit: so many pairs a group, the largest differences first, each candidate used once before any is used twice.
        seed: of random pairs.
    """

    select: str = "best_worst"
    margin: float = 0.0
    agreement: float = 0.0
    floors: Mapping[str, float] = field(default_factory=dict)
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.select not in SELECTIONS:
            raise ValueError(f"--select: {one_of(self.select, SELECTIONS)}")
        if not 0 <= self.margin < float("inf"):
            raise ValueError(f"--margin: expected a number of at least 0, got {self.margin:g}")
        if not 0 <= self.agreement <= 1:
            raise ValueError(f"--agreement: expected a share from 0 to 1, got {self.agreement:g}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"--max-pairs: expected at least 1, got {self.limit}")


@dataclass(frozen=True)
class Ranked:
    """A group that was ranked.

    Args:
        id: of the group.
        values: [K], higher is better; None: nothing can be said.
        scores: {reward: [K]}.
        agreement: [K][K] share of rewards by which the row's candidate beats the column's; NaN where none compares.
        contents: [K] what each candidate is (the image's hash, or the answer): equal ones are no pair.
        layers: [K] Pareto layers, where the selection needs them.
    """

    id: str
    values: Sequence[float | None]
    scores: Mapping[str, Sequence[float | None]]
    agreement: Sequence[Sequence[float]]
    contents: Sequence[str]
    layers: Sequence[int] = ()


def choose(group: Ranked, choice: Choice) -> tuple[list[Pair], Counter[str]]:
    """The pairs, and counts: "proposed", "kept", and each of `DROPPED`; proposed = kept + all of these."""
    counts: Counter[str] = Counter()
    left, counts["ties"] = _proposals(group, choice.select)
    counts["proposed"] = len(left) + counts["ties"]
    for reason, passes in _filters(group, choice):
        kept = [pair for pair in left if passes(pair)]
        counts[reason] += len(left) - len(kept)
        left = kept
    picked = _limited(left, group, choice)
    counts["limit"] = len(left) - len(picked)
    counts["kept"] = len(picked)
    return picked, counts


def _proposals(group: Ranked, select: str) -> tuple[list[Pair], int]:
    """Pairs of unequal value, the better one first, and how many there would be but for ties."""
    known = scored(group.values)
    if len(known) < 2:
        return [], 0
    if select == "best_worst":
        pairs = best_worst(group.values)
        return pairs, 1 - len(pairs)
    if select == "layers":
        pairs = layer_pairs(group.layers, group.values)
        sizes = Counter(group.layers[i] for i in known if group.layers[i] >= 0)
        full = sizes[0] * sizes[max(sizes)] if max(sizes, default=0) > 0 else 0
        return pairs, full - len(pairs)
    pairs = unequal_pairs(group.values)
    return pairs, len(known) * (len(known) - 1) // 2 - len(pairs)


def _filters(group: Ranked, choice: Choice) -> list[tuple[str, Callable[[Pair], bool]]]:
    def above_floors(pair: Pair) -> bool:
        values = [(group.scores[name][pair[0]], float32(least)) for name, least in choice.floors.items()]
        return all(value is not None and value >= least for value, least in values)

    wanted: list[tuple[str, Callable[[Pair], bool]]] = [
        ("not compared", lambda pair: not math.isnan(group.agreement[pair[0]][pair[1]]))
    ]
    if choice.margin > 0:
        wanted.append(("margin", lambda pair: gap(group.values, pair) > choice.margin * (1 + ROUNDING)))
    if choice.floors:
        wanted.append(("floor", above_floors))
    if choice.agreement > 0:
        wanted.append(("agreement", lambda pair: group.agreement[pair[0]][pair[1]] >= choice.agreement - ROUNDING))
    return [*wanted, ("same image", lambda pair: group.contents[pair[0]] != group.contents[pair[1]])]


def _limited(pairs: Sequence[Pair], group: Ranked, choice: Choice) -> list[Pair]:
    if choice.select == "random":
        return random_pairs(pairs, seed=choice.seed, group=group.id, limit=choice.limit or 1)
    if choice.limit is None:  # `spread` would only order them, in a time that grows with the cube of the candidates
        return sorted(pairs, key=lambda pair: (-gap(group.values, pair), pair))
    return spread(pairs, group.values, choice.limit)
