"""Rewards that fail: the message names the reward and the prompt, and nothing passes in silence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sampling_parts import SPO, STEP_WISE, rollout_tree
from torch import Tensor

import rewards
from mmpo.recipe_files import validate
from mmpo.training.metrics import read_metrics
from pipelines.rollout_scores import Failures, RewardFault, score_images, score_predictions
from pipelines.train import train
from rewards.scores import Scores

PROMPTS = ["a cat", "a cat", "a dog", "a dog"]
BAD = "a red dog"


class Odd:
    """Scores 1, 2, 3, ... and does something wrong with the prompts that have a dog."""

    name = "odd"

    def __init__(self, wrong: Callable[[np.ndarray, list[int]], Any], word: str = "dog") -> None:
        self._wrong, self._word, self.asked = wrong, word, []  # type: ignore[var-annotated]

    def score(self, candidates: Sequence[Any], prompts: Sequence[str]) -> Any:
        self.asked.append(list(prompts))
        values = np.arange(1.0, len(prompts) + 1, dtype=np.float32)
        dogs = [row for row, prompt in enumerate(prompts) if self._word in prompt]
        return self._wrong(values, dogs) if dogs else Scores(values, [None] * len(prompts))


def gives_nan(values: np.ndarray, dogs: list[int]) -> Any:
    values[dogs[:1]] = np.nan
    return Scores(values, ["no dog found" if row in dogs[:1] else None for row in range(len(values))])


def raises(values: np.ndarray, dogs: list[int]) -> Any:
    raise RuntimeError("the judge is out")


WRONG: dict[str, tuple[Callable[[np.ndarray, list[int]], Any], str]] = {
    "nan": (gives_nan, r"prompt 'a dog': no dog found"),
    "infinite": (lambda values, dogs: values / np.float32(1e-45), r"prompt '.*': its score is inf"),
    "raises": (raises, r"prompt 'a dog': raised RuntimeError: the judge is out"),
    "too few": (lambda values, dogs: values[1:], r"prompt 'a dog': gave scores of shape \[1\] for 2 candidates"),
    "too many": (lambda values, dogs: [*values, 1.0], r"prompt 'a dog': gave scores of shape \[3\] for 2"),
    "nothing": (lambda values, dogs: None, r"prompt 'a dog': gave scores of shape \[\] for 2"),
    "words": (lambda values, dogs: ["good"] * len(values), r"prompt 'a dog': raised ValueError: could not convert"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:divide:RuntimeWarning")
def test_a_failure_names_the_reward_and_the_prompt(name: str) -> None:
    """Fatal: an error that says what to set. Skipped: NaN for that prompt's candidates, the others' scores stay."""
    wrong, message = WRONG[name]
    with pytest.raises(RewardFault, match=rf"reward odd: {message}.*on_bad_reward: skip"):
        score_images(Odd(wrong), [None] * 4, PROMPTS, Failures(fatal=True))
    failures = Failures(fatal=False)
    values = score_images(Odd(wrong), [None] * 4, PROMPTS, failures)
    assert values.dtype == np.float32
    if name != "infinite":
        assert values[:2].tolist() == [1.0, 2.0]
    assert not np.isfinite(values[2:]).all()
    assert not np.isinf(values).any()
    assert failures.messages
    assert all(text.startswith("reward odd: prompt 'a ") for text in failures.messages)


def test_what_fails_only_for_several_prompts_at_once_is_not_trusted() -> None:
    """Alone each scores, together they do not: all are left out, and both ways are named."""
    reward = Odd(lambda values, dogs: values[1:] if len(values) > 2 else values)
    failures = Failures(fatal=False)
    assert np.isnan(score_images(reward, [None] * 4, PROMPTS, failures)).all()
    assert failures.messages == [
        "reward odd: prompt 'a cat' and 1 more prompts at once: gave scores of shape [3] for 4 candidates; expected "
        "one each"
    ]


def test_a_reward_that_works_is_asked_once() -> None:
    """And what it keeps of its own scores is not written into."""
    reward = Odd(raises, word="horse")
    failures = Failures(fatal=True)
    assert score_images(reward, [None] * 4, PROMPTS, failures).tolist() == [1.0, 2.0, 3.0, 4.0]
    assert len(reward.asked) == 1
    kept = np.array([1.0, np.inf], np.float32)
    found = score_images(Odd(lambda values, dogs: kept), [None] * 2, ["dog", "dog"], Failures(fatal=False))
    assert np.isnan(found[1])
    assert np.isinf(kept[1])


class Aware:
    """A step-aware reward."""

    name = "aware"

    def __init__(self) -> None:
        self.given: list[tuple[Tensor, list[str], list[float]]] = []

    def score_pixels(self, pixels: Tensor, prompts: Sequence[str], timesteps: Sequence[float]) -> Tensor:
        self.given.append((pixels, list(prompts), list(timesteps)))
        if "a dog" in prompts:
            raise ValueError("timesteps: too late")
        return pixels.flatten(1).mean(1).double()


def test_predictions_go_to_a_step_aware_reward_as_pixels_with_their_timestep() -> None:
    """Others see pictures; a failure names the prompt alike."""
    pixels = torch.rand(4, 3, 8, 8)
    reward, failures = Aware(), Failures(fatal=False)
    values = score_predictions(reward, pixels, PROMPTS, 501.0, None, failures)
    assert values[:2] == pytest.approx(pixels[:2].flatten(1).mean(1).tolist())
    assert np.isnan(values[2:]).all()
    assert failures.messages == ["reward aware: prompt 'a dog': raised ValueError: timesteps: too late"]
    assert torch.equal(reward.given[0][0], pixels)
    assert reward.given[0][2] == [501.0] * 4

    class Processor:
        def postprocess(self, given: Tensor, output_type: str) -> list[str]:
            assert output_type == "pil"
            return [f"picture {row}" for row in range(len(given))]

    seen: list[Any] = []

    class Plain:
        name = "plain"

        def score(self, candidates: Sequence[Any], prompts: Sequence[str]) -> list[float]:
            seen.extend(candidates)
            return [0.5] * len(prompts)

    assert score_predictions(Plain(), pixels, PROMPTS, 1.0, Processor(), failures).tolist() == [0.5] * 4
    assert seen == [f"picture {row}" for row in range(4)]


# ---- in a run ----


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Puts a reward in the place of the recipe's."""

    def put(reward: Any) -> None:
        monkeypatch.setattr(rewards, "load", lambda name, **options: reward)

    return put


@pytest.mark.parametrize("kind", ["trajectories", "step_wise"])
def test_skipped_prompts_are_counted_and_named(
    kind: str,
    loads: Callable[[Any], None],
    sd_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The round trains on the other prompts; the terminal names reward and prompt, the metrics count."""
    loads(Odd(raises, word=BAD))
    tree = rollout_tree(sd_folder, tmp_path / "run", train__steps=1)
    tree["rollout"] |= {"prompts_per_round": 6, "on_bad_reward": "skip", **(STEP_WISE if kind == "step_wise" else {})}
    tree["method"] = SPO if kind == "step_wise" else tree["method"]
    first = read_metrics(train(validate(tree)))[0]
    said = capsys.readouterr().out
    assert "warning: left out: reward odd: prompt 'a red dog': raised RuntimeError: the judge is out" in said
    if kind == "step_wise":  # two steps of each prompt are compared
        assert first["rollout/comparisons without scores"] == 2
        assert first["rollout/within the threshold"] == 0
        assert first["rollout/groups"] == 5 * 2
    else:
        assert first["rollout/prompts without scores"] == 1
        assert first["rollout/groups"] == 5 * 3
    assert math.isfinite(first["rollout/odd"])


@pytest.mark.parametrize("kind", ["trajectories", "step_wise"])
def test_a_failure_ends_the_run_where_the_recipe_does_not_skip(
    kind: str, loads: Callable[[Any], None], sd_folder: Path, tmp_path: Path
) -> None:
    loads(Odd(gives_nan, word=BAD))
    tree = rollout_tree(sd_folder, tmp_path / "run")
    tree["rollout"] |= {"prompts_per_round": 6, **(STEP_WISE if kind == "step_wise" else {})}
    tree["method"] = SPO if kind == "step_wise" else tree["method"]
    with pytest.raises(ValueError, match=r"reward odd: prompt 'a red dog': no dog found; rollout.on_bad_reward: skip"):
        train(validate(tree))
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_a_reward_that_always_fails_ends_the_run_with_its_reason(
    loads: Callable[[Any], None], sd_folder: Path, tmp_path: Path
) -> None:
    """Skipping all is no training: after five empty rounds the error has the last round's words."""
    loads(Odd(raises, word="a"))
    tree = rollout_tree(sd_folder, tmp_path / "run")
    tree["rollout"] |= {"prompts_per_round": 1, "on_bad_reward": "skip"}
    with pytest.raises(ValueError, match=r"(?s)5 rounds in a row.*reward odd: prompt.*the judge is out"):
        train(validate(tree))
