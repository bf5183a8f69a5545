"""Labels to ranked groups with their pairs, shard by shard, and what is counted on the way. Reads no image."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmpo.data.aggregate import agreement, duels, pareto_layers
from mmpo.data.corpus_statistics import Corpus, Statistics
from mmpo.data.labels import LabelRow, read_joined
from mmpo.data.pair_choice import Choice, Ranked, choose
from mmpo.data.pairing import Pair
from mmpo.data.ranking import Rule, values

Array = NDArray[np.float64]


@dataclass
class Votes:
    """How often two rewards agree on which of two candidates of a prompt is better.

    Args:
        rewards: R names.
        agree, decided: [R, R] counts of pairs of candidates that neither of the two calls a tie.
    """

    rewards: Sequence[str]
    agree: Array = field(init=False)
    decided: Array = field(init=False)

    def __post_init__(self) -> None:
        self.agree = np.zeros((len(self.rewards),) * 2)
        self.decided = np.zeros_like(self.agree)

    def add(self, scores: Array) -> None:
        """Takes [G, K, R] scores."""
        first, second = np.triu_indices(scores.shape[1], 1)
        signs = np.nan_to_num(2 * duels(scores)[:, first, second] - 1).reshape(-1, len(self.rewards))
        decided = np.abs(signs).T @ np.abs(signs)
        self.decided += decided
        self.agree += (decided + signs.T @ signs) / 2

    def summary(self) -> dict[str, float]:
        """{"one and other": share}, of the couples of rewards that decided any pair."""
        couples = itertools.combinations(range(len(self.rewards)), 2)
        return {
            f"{self.rewards[a]} and {self.rewards[b]}": float(self.agree[a, b] / self.decided[a, b])
            for a, b in couples
            if self.decided[a, b]
        }


@dataclass
class Tally:
    """What the ranking counted.

    Args:
        counts: "candidates", "unscored", "groups", "one candidate", "without a pair", and those of `choose`.
        votes: of the rewards.
    """

    votes: Votes
    counts: Counter[str] = field(default_factory=Counter)


def corpus_of(labels: Path, rewards: Sequence[str]) -> dict[str, Statistics]:
    """Mean and deviation of each reward over all rows: one pass over the scores."""
    corpus = Corpus(rewards)
    for rows in read_joined(labels, rewards):
        corpus.add(_scores(rows, rewards))
    return corpus.result()


def ranked_groups(
    shards: Iterable[list[LabelRow]], rule: Rule, tally: Tally, *, layers: bool = False
) -> Iterator[tuple[list[LabelRow], Ranked]]:
    """Groups in the labels' order, each with its candidates' values; those of a shard are computed together.

    Args:
        tally: is filled; "groups" and "candidates" with what was read, "unscored" with candidates without a value.
        layers: also the Pareto layers.
    """
    for rows in shards:
        groups = [list(members) for _, members in itertools.groupby(rows, key=lambda row: row.group)]
        done: dict[int, Ranked] = {}
        for size in {len(group) for group in groups}:
            places = [place for place, group in enumerate(groups) if len(group) == size]
            scores = np.stack([_scores(groups[place], rule.rewards) for place in places])
            tally.votes.add(scores)
            found, shares = values(scores, rule), agreement(scores, rule.shares)
            stacked = pareto_layers(scores).tolist() if layers else [()] * len(places)
            for at, place in enumerate(places):
                done[place] = _ranked(groups[place], found[at], shares[at], stacked[at])
        tally.counts["groups"] += len(groups)
        tally.counts["candidates"] += len(rows)
        for place, group in enumerate(groups):
            tally.counts["unscored"] += sum(value is None for value in done[place].values)
            tally.counts["one candidate"] += len(group) == 1
            yield group, done[place]


def chosen_pairs(
    groups: Iterable[tuple[list[LabelRow], Ranked]], choice: Choice, tally: Tally
) -> Iterator[tuple[list[LabelRow], Ranked, list[Pair]]]:
    """Every group with its pairs, which may be none; counted in `tally`."""
    for group, ranked in groups:
        pairs, counts = choose(ranked, choice)
        tally.counts.update(counts)
        tally.counts["without a pair"] += not pairs and len(group) > 1
        yield group, ranked, pairs


def _scores(rows: Sequence[LabelRow], rewards: Sequence[str]) -> Array:
    """[N, R], NaN where a reward failed."""
    return np.array([[np.nan if (x := row.scores[name]) is None else x for name in rewards] for row in rows])


def _ranked(group: Sequence[LabelRow], found: Array, shares: Array, layers: Sequence[int]) -> Ranked:
    return Ranked(
        id=group[0].group,
        values=[None if value != value else value for value in found.tolist()],
        scores={name: [row.scores[name] for row in group] for name in group[0].scores},
        agreement=shares.tolist(),
        contents=[row.image_hash if row.response is None else " ".join(row.response.split()) for row in group],
        layers=layers,
    )
