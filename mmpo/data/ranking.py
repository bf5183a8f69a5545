"""From the scores of rewards to one value a candidate: the rules by name, checked, for many groups at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmpo.data import aggregate
from mmpo.data.corpus_statistics import Statistics
from mmpo.suggest import one_of

Array = NDArray[np.float64]

DIGITS = 9
WIN_SCALES: Mapping[str, float] = {"pickscore": 1.0, "hpsv2": 100.0, "hpsv2.1": 100.0, "imagereward": 1.033}
"""What makes a reward's differences log-odds: the temperature that PickScore and HPSv2 were trained with, and a figure
of ImageReward's. Any other reward's scale must be given."""


@dataclass(frozen=True)
class Rule:
    """How scores become one value.

    Args:
        by: a key of `RULES`.
        rewards: R names, in the order of the scores' last axis.
        weights: [R], or () for equal ones.
        statistics: of each reward over the corpus, for "zscore".
        scales: [R] for "expected_win".
    """

    by: str
    rewards: tuple[str, ...]
    weights: tuple[float, ...] = ()
    statistics: tuple[Statistics, ...] = ()
    scales: tuple[float, ...] = ()

    @property
    def shares(self) -> tuple[float, ...] | None:
        """The weights, or None for equal ones."""
        return self.weights or None


def _single(scores: Array, rule: Rule) -> Array:
    return np.where(np.isfinite(scores[..., 0]), scores[..., 0], np.nan)


def _zscore(scores: Array, rule: Rule) -> Array:
    mean, std = [known.mean for known in rule.statistics], [known.std for known in rule.statistics]
    return aggregate.zmean(scores, mean, std, rule.shares)


def _pareto(scores: Array, rule: Rule) -> Array:
    layers = aggregate.pareto_layers(scores)
    return np.where(layers < 0, np.nan, -layers.astype(np.float64))


RULES: dict[str, Callable[[Array, Rule], Array]] = {
    "win_rate": lambda scores, rule: aggregate.win_rate(scores, rule.shares),
    "score": _single,
    "zscore": _zscore,
    "bradley_terry": lambda scores, rule: aggregate.bradley_terry(scores, rule.shares),
    "expected_win": lambda scores, rule: aggregate.expected_win(scores, rule.scales, rule.shares),
    "pareto": _pareto,
}
"""By name: [..., K, R] scores to [..., K] values, higher is better, NaN where nothing can be said."""


def check_rule(by: str, rewards: int, *, weighted: bool = False) -> None:
    """Refuses what cannot be computed.

    Raises:
        ValueError: an unknown rule, or one that needs another number of rewards, or takes no weights.
    """
    if by not in RULES:
        raise ValueError(f"--by: {one_of(by, RULES)}")
    if by == "score" and rewards != 1:
        raise ValueError(f"--by score ranks by one reward, and there are {rewards}; name one, or use --by win_rate")
    if by == "pareto" and rewards < 2:
        raise ValueError("--by pareto weighs rewards against each other and there is one; use --by score")
    if weighted and by in ("score", "pareto"):
        raise ValueError(f"--by {by} takes no weights; leave them out, or use win_rate, zscore or bradley_terry")


def values(scores: Array, rule: Rule) -> Array:
    """[..., K] values of [..., K, R] scores; derived ones are rounded, so that what is equal is a tie."""
    found = RULES[rule.by](scores, rule)
    return found if rule.by == "score" else np.round(found, DIGITS)
