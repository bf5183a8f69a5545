"""What a ranked list is scored by, for losses of lists. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mmpo.data.aggregate import duels, table
from mmpo.records import Group


def list_scores(group: Group, by: str = "rank") -> tuple[float, ...]:
    """K numbers for losses of lists, higher is better.

    Args:
        by: "rank" spreads the ranks over [0, 1], the best 1; "wins" is the share of rewards and opponents that a
            candidate beats, in [0, 1] too (RankDPO's); "scores" takes the numbers of the group's one reward.
    Raises:
        ValueError: there are no such scores.
    """
    if by == "scores":
        values = next(iter(group.scores.values()), None) if len(group.scores) == 1 else None
        if values is None or not all(value is not None and math.isfinite(value) for value in values):
            found = len(group.scores)
            raise ValueError(
                f"{group.source}: data.list_scores: scores needs those of one reward, found {found}; use rank"
            )
        return tuple(float(value) for value in values if value is not None)
    if by == "wins":
        if not group.scores:
            raise ValueError(f"{group.source}: data.list_scores: wins needs scores of at least one reward; use rank")
        return _win_rates(list(group.scores.values()), len(group.candidates))
    rank = list(group.rank) if group.rank is not None else list(range(1, len(group.candidates) + 1))
    low, high = min(rank), max(rank)
    return tuple((high - value) / (high - low) if high > low else 0.0 for value in rank)


def _win_rates(rewards: Sequence[Sequence[float | None]], count: int) -> tuple[float, ...]:
    """Wins of each candidate / (rewards · (K − 1)); a missing score neither wins nor loses, and a tie is no win.

    The same number as `mmpo.losses.list_weights.win_rates`, before torch is there; a test holds the two together.
    """
    wins = duels(table(rewards)) == 1
    return tuple((wins.sum((1, 2)) / (len(rewards) * (count - 1))).tolist())
