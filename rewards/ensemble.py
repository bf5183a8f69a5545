"""Several rewards as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpo.data.corpus_statistics import Statistics, read_statistics
from mmpo.data.ranking import Rule, values
from mmpo.records import bytes_hash
from mmpo.suggest import one_of
from rewards.ensemble_members import Member, Several, load_members
from rewards.scores import Candidate, Response, Scores, View
from rewards.staged import score_by_views

RULES = {
    "zscore": "zscore",
    "win_rate": "win_rate",
    "borda": "win_rate",
    "bradley_terry": "bradley_terry",
    "pareto": "pareto",
}
"""What a user may call a rule, and the rule of `mmpo.data.ranking`."""


class Ensemble:
    """Members' scores as one number, theirs kept as parts "MEMBER" and "MEMBER/PART".

    "zscore" is the weighted mean of (score − mean) / std with saved statistics of a corpus. The other rules compare the
    candidates of one prompt within a call of `score`, so they have no stages: to label, label with the members and let
    `mmpo data pair` compare. A row is scored by the members that could score it (a note names the others).

    Args:
        members: two or more: a name, {name, options, as} (`as` names it where two are alike), or a reward.
        rule: a key of `RULES`.
        weights: one a member; default: alike. Not for "pareto".
        statistics: for "zscore", the file of `mmpo data pair --write-statistics`.
        batch_size: rows at once; default: the smallest of the members'.
    Raises:
        ValueError: what does not go together.
    """

    name = "ensemble"

    def __init__(
        self,
        members: Sequence[Any] = (),
        rule: str = "zscore",
        weights: Sequence[float] | None = None,
        statistics: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        if rule not in RULES:
            raise ValueError(f"ensemble: rule: {one_of(rule, RULES)}")
        self._said, self._members = rule, load_members(members)
        self.batch_size = batch_size or min(member.reward.batch_size for member in self._members)
        names = [member.name for member in self._members]
        if weights is not None and (len(weights) != len(names) or not _are_weights(weights)):
            raise ValueError(f"ensemble: weights: expected {len(names)} numbers above 0, one a member, got {weights}")
        if weights is not None and rule == "pareto":
            raise ValueError("ensemble: weights: the rule pareto takes none; leave them out, or use win_rate")
        if (rule == "zscore") != (statistics is not None):
            raise ValueError(
                "ensemble: statistics: zscore needs a file of each member's mean and std, which `mmpo data pair DATASET"
                " --labels DIR --dry-run --write-statistics FILE` makes; the other rules take none"
            )
        known: Sequence[Statistics] = read_statistics(Path(statistics), names) if statistics is not None else ()
        self._rule = Rule(RULES[rule], tuple(names), tuple(weights or ()), tuple(known))

    @property
    def identity(self) -> Mapping[str, str]:
        """What scores depend on: the rule, and each member's own identity."""
        rule = self._rule
        said = {
            "rule": rule.by,
            "weights": str(rule.weights),
            "statistics": str([known[:2] for known in rule.statistics]),
        }
        for member in self._members:
            own = dict(getattr(member.reward, "identity", None) or {"name": member.reward.name})
            said |= {f"{member.name}/{key}": str(value) for key, value in own.items()}
        return said

    @property
    def view(self) -> View:
        """All members' views, equal ones once.

        Raises:
            ValueError: the rule needs all candidates of a prompt at once.
        """
        self._check_rows_alone()
        return Several(tuple(dict.fromkeys(member.reward.view for member in self._members)))

    def score(self, candidates: Sequence[Candidate], prompts: Sequence[str]) -> Scores:
        """See `rewards.scores.Reward.score`; but for "zscore" values compare the rows of one prompt in this call."""
        if self._rule.by == "zscore":
            return score_by_views(self, candidates, prompts)
        found = [member.reward.score(candidates, prompts) for member in self._members]
        places: dict[tuple[str, str], list[int]] = {}
        for place, (candidate, prompt) in enumerate(zip(candidates, prompts, strict=True)):
            about = bytes_hash(candidate.image.tobytes()) if isinstance(candidate, Response) else ""
            places.setdefault((prompt, about), []).append(place)
        return self._joined(found, list(places.values()))

    def score_views(self, views: Sequence[Any], prompts: Sequence[str], responses: Sequence[str | None]) -> Scores:
        """See `rewards.scores.Staged.score_views`."""
        self._check_rows_alone()
        distinct = list(dict.fromkeys(member.reward.view for member in self._members))
        found = []
        for member in self._members:
            at = distinct.index(member.reward.view)
            found.append(member.reward.score_views([view[at] for view in views], prompts, responses))
        return self._joined(found, [[place] for place in range(len(prompts))])

    def _check_rows_alone(self) -> None:
        if self._rule.by != "zscore":
            names = " ".join(f"--reward {member.name}" for member in self._members)
            raise ValueError(
                f"ensemble: the rule {self._said} compares all candidates of a prompt, and rows are scored one by one "
                f"here; label with its members ({names}), then `mmpo data pair DATASET --labels DIR --by "
                f"{self._rule.by}` compares them; or use the rule zscore"
            )

    def _joined(self, found: Sequence[Scores], groups: Sequence[Sequence[int]]) -> Scores:
        """The members' scores as one, groups of rows at a time."""
        table = np.stack([scores.values for scores in found], axis=-1).astype(np.float64)
        total = np.full(len(table), np.nan)
        for size in {len(group) for group in groups}:
            places = np.array([group for group in groups if len(group) == size], dtype=np.int64)
            total[places] = values(table[places], self._rule)
        pairs = list(zip(self._members, found, strict=True))
        return Scores(
            total.astype(np.float32),
            [_error(pairs, row) if np.isnan(total[row]) else None for row in range(len(total))],
            _parts(pairs),
            [None if np.isnan(total[row]) else _note(pairs, row) for row in range(len(total))],
        )


def _parts(pairs: Sequence[tuple[Member, Scores]]) -> dict[str, NDArray[np.float32]]:
    parts = {}
    for member, scores in pairs:
        parts[member.name] = scores.values
        parts |= {f"{member.name}/{name}": part for name, part in scores.parts.items()}
    return parts


def _error(pairs: Sequence[tuple[Member, Scores]], row: int) -> str:
    said = [f"{member.name}: {scores.errors[row]}" for member, scores in pairs if scores.errors[row]]
    return "; ".join(said) or "no reward scored another candidate of the prompt beside it"


def _note(pairs: Sequence[tuple[Member, Scores]], row: int) -> str | None:
    said = []
    for member, scores in pairs:
        if scores.errors[row]:
            said.append(f"without {member.name}: {scores.errors[row]}")
        elif scores.notes and scores.notes[row]:
            said.append(f"{member.name}: {scores.notes[row]}")
    return "; ".join(said) or None


def _are_weights(weights: Sequence[Any]) -> bool:
    return all(isinstance(x, int | float) and not isinstance(x, bool) and 0 < x < float("inf") for x in weights)
