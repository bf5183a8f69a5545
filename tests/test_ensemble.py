"""Several rewards as one: against the members' own scores, in one stage and in two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import picture

import rewards
from mmpo.data import aggregate
from mmpo.data.corpus_statistics import Statistics, write_statistics
from mmpo.data.images import decode
from rewards.ensemble import Ensemble
from rewards.scores import Candidate, Response, Scores
from rewards.staged import score_by_views

NAN = float("nan")
PICTURES = [decode(picture(k)) for k in range(6)]
PROMPTS = ["a cat", "a dog", "a cat", "a cat", "a dog", "a hat"]


@dataclass(frozen=True)
class Mean:
    """A view that counts its calls."""

    channel: int
    calls: list[int] = field(default_factory=list, compare=False)

    def __call__(self, image: Image.Image) -> float:
        """The mean of a channel."""
        self.calls.append(1)
        return float(np.asarray(image)[..., self.channel].mean())


class Channel:
    """The mean of a channel; a prompt may fail, another gets a note."""

    batch_size = 4

    def __init__(self, name: str, channel: int, fails: Sequence[str] = (), sign: float = 1) -> None:
        self.name, self.view, self._fails, self._sign = name, Mean(channel), fails, sign
        self.identity = {"weights": f"hash of {name}"}

    def score(self, candidates: Sequence[Candidate], prompts: Sequence[str]) -> Scores:
        """By stages."""
        return score_by_views(self, candidates, prompts)

    def score_views(self, views: Sequence[Any], prompts: Sequence[str], responses: Sequence[str | None]) -> Scores:
        """The views, as they are."""
        failed = [prompt in self._fails for prompt in prompts]
        numbers = [NAN if bad else self._sign * view for view, bad in zip(views, failed, strict=True)]
        array = np.array(numbers, dtype=np.float32)
        notes = ["cut" if prompt == "a dog" else None for prompt in prompts]
        return Scores(array, ["no" if bad else None for bad in failed], {"half": array / 2}, notes)


def statistics(folder: Path) -> str:
    write_statistics(folder / "s.json", {"red": Statistics(100, 10), "blue": Statistics(90, 30)})
    return str(folder / "s.json")


def table(members: Sequence[Channel]) -> np.ndarray:
    return np.stack([member.score(PICTURES, PROMPTS).values for member in members], axis=-1)


def test_z_scores_are_those_of_the_members(tmp_path: Path) -> None:
    members = [Channel("red", 0), Channel("blue", 2, sign=-1)]
    own = table(members)
    ensemble = Ensemble(members, weights=[3, 1], statistics=statistics(tmp_path))
    scores = ensemble.score(PICTURES, PROMPTS)
    expected = (3 * (own[:, 0] - 100) / 10 + (own[:, 1] - 90) / 30) / 4
    assert scores.values == pytest.approx(expected, rel=1e-5)
    assert scores.values.dtype == np.float32
    assert list(scores.parts) == ["red", "red/half", "blue", "blue/half"]
    assert np.array_equal(scores.parts["blue"], own[:, 1].astype(np.float32))
    assert scores.notes[:2] == [None, "red: cut; blue: cut"]
    views = [ensemble.view(image) for image in PICTURES]
    again = ensemble.score_views(views, PROMPTS, [None] * 6)
    assert np.array_equal(again.values, scores.values)


def test_a_batch_is_no_larger_than_any_member_likes(tmp_path: Path) -> None:
    """A vision-language model asks for fewer rows than a CLIP, for memory."""
    small, large = Channel("red", 0), Channel("blue", 2)
    small.batch_size = 2
    assert Ensemble([small, large], statistics=statistics(tmp_path)).batch_size == 2
    assert Ensemble([small, large], statistics=statistics(tmp_path), batch_size=3).batch_size == 3


def test_equal_views_are_computed_once(tmp_path: Path) -> None:
    members = [Channel("red", 0), Channel("blue", 0)]
    ensemble = Ensemble(members, statistics=statistics(tmp_path))
    ensemble.score(PICTURES, PROMPTS)
    assert len(members[0].view.calls) + len(members[1].view.calls) == len(PICTURES)
    assert ensemble.view == ensemble.view
    assert hash(ensemble.view) == hash(Ensemble(members, statistics=statistics(tmp_path)).view)


@pytest.mark.parametrize("rule", ["win_rate", "borda", "bradley_terry", "pareto"])
def test_other_rules_compare_the_rows_of_a_prompt(rule: str) -> None:
    members = [Channel("red", 0), Channel("green", 1), Channel("blue", 2, sign=-1)]
    own = table(members)
    scores = Ensemble(members, rule).score(PICTURES, PROMPTS)
    naive = {
        "bradley_terry": aggregate.bradley_terry,
        "pareto": lambda s: -aggregate.pareto_layers(s).astype(float),
    }.get(rule, aggregate.win_rate)
    for prompt in set(PROMPTS):
        rows = [k for k, other in enumerate(PROMPTS) if other == prompt]
        assert scores.values[rows] == pytest.approx(naive(own[rows]), abs=1e-6)
    order = [3, 5, 1, 0, 4, 2]
    shuffled = Ensemble(members, rule).score([PICTURES[k] for k in order], [PROMPTS[k] for k in order])
    assert shuffled.values == pytest.approx(scores.values[order], abs=1e-6)


def test_answers_are_compared_with_those_to_the_same_image() -> None:
    answers = [Response("a cat", PICTURES[0]), Response("a dog", PICTURES[0]), Response("a cat", PICTURES[1])]
    members = [Channel("red", 0), Channel("blue", 2)]
    values = Ensemble(members, "win_rate").score(answers, ["what is it?"] * 3).values
    assert values.tolist() == [0.5, 0.5, 0.5], "equal for the first image, alone for the second"


def test_rules_that_compare_refuse_to_score_rows_alone() -> None:
    ensemble = Ensemble([Channel("red", 0), Channel("blue", 2)], "borda")
    for use in (lambda: ensemble.view, lambda: ensemble.score_views([(1.0,)], ["a"], [None])):
        with pytest.raises(ValueError, match=r"rule borda .*--reward red --reward blue.*--by win_rate"):
            use()


def test_a_member_that_fails_is_named(tmp_path: Path) -> None:
    members = [Channel("red", 0, fails=["a cat"]), Channel("blue", 2, fails=["a cat", "a hat"])]
    own = table(members)
    scores = Ensemble(members, statistics=statistics(tmp_path)).score(PICTURES, PROMPTS)
    assert np.isnan(scores.values).tolist() == [prompt == "a cat" for prompt in PROMPTS]
    assert scores.errors[0] == "red: no; blue: no"
    assert scores.values[5] == pytest.approx((own[5, 0] - 100) / 10, rel=1e-5)
    assert scores.errors[5] is None
    assert scores.notes[5] == "without blue: no"
    assert scores.notes[0] is None


def test_identity_is_that_of_rule_and_members(tmp_path: Path) -> None:
    said = Ensemble([Channel("red", 0), Channel("blue", 2)], statistics=statistics(tmp_path)).identity
    assert said["rule"] == "zscore"
    assert said["red/weights"] == "hash of red"
    assert "(100.0, 10.0)" in said["statistics"]


def test_by_name_with_members_of_the_table(tmp_path: Path) -> None:
    members = ["random", {"name": "random", "options": {"seed": 1}, "as": "other"}]
    ensemble: Any = rewards.load("ensemble", members=members, rule="win_rate")
    scores = ensemble.score(PICTURES, PROMPTS)
    assert np.array_equal(scores.parts["other"], rewards.load("random", seed=1).score(PICTURES, PROMPTS).values)
    assert scores.values[5] == 0.5
    write_statistics(tmp_path / "s.json", {"random": Statistics(0.5, 0.3), "other": Statistics(0.5, 0.3)})
    by_rows = rewards.load("ensemble", members=members, statistics=str(tmp_path / "s.json"))
    mean = (scores.parts["random"] + scores.parts["other"]) / 2
    assert by_rows.score(PICTURES, PROMPTS).values == pytest.approx((mean - 0.5) / 0.3, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "members: expected two or more"),
        ({"members": "random"}, "members: expected two or more"),
        ({"members": ["random"]}, "members: expected two or more"),
        ({"members": ["random", "random"]}, "two are called 'random'"),
        ({"members": ["random", "randum"]}, "unknown name 'randum'; did you mean 'random'"),
        ({"members": ["random", {"option": {}}]}, "unknown name 'option'; did you mean 'options'"),
        ({"members": ["random", "shapes"]}, "statistics: zscore needs a file .*--write-statistics"),
        ({"members": ["random", "shapes"], "rule": "bordo"}, "rule: unknown name 'bordo'; did you mean 'borda'"),
        ({"members": ["random", "shapes"], "rule": "borda", "weights": [1]}, "weights: expected 2 numbers"),
        ({"members": ["random", "shapes"], "rule": "borda", "weights": [1, 0]}, "weights: expected 2 numbers"),
        ({"members": ["random", "shapes"], "rule": "pareto", "weights": [1, 1]}, "pareto takes none"),
        ({"members": ["random", "shapes"], "rule": "borda", "statistics": "x"}, "the other rules take none"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rewards.load("ensemble", **options)


def test_statistics_must_have_every_member(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing of 'green'; it has blue, red"):
        Ensemble([Channel("red", 0), Channel("green", 2)], statistics=statistics(tmp_path))
