"""Validation while training: a gamed reward sets off its alarms, and a run that is watched is the one that is not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import rewards
from mmpo.data.image_statistics import saturation
from mmpo.models.checkpoint import read_config
from mmpo.models.saving import LORA_FILE
from mmpo.recipe import Recipe
from mmpo.recipe_files import validate
from mmpo.training.metrics import read_metrics
from pipelines.checks import check_recipe
from pipelines.dry_run import describe
from pipelines.evaluation import load_policy
from pipelines.generate import sample
from pipelines.report import write_report
from pipelines.train import train
from pipelines.validation import validation_jobs, validation_note
from rewards.scores import Scores

WORDS = ("red", "blue", "cat", "dog", "moon", "on")


class Vivid:
    """A reward that saturation alone pleases."""

    name = "vivid"

    def score(self, candidates: Sequence[Image.Image], prompts: Sequence[str]) -> Scores:
        """Mean HSV saturation."""
        values = np.asarray([saturation(np.asarray(image)) for image in candidates], np.float32)
        return Scores(values, [None] * len(values))


class Muted:
    """What the other one ruins; every score fails where the option says so."""

    name = "muted"

    def __init__(self, fails: bool = False) -> None:
        self._fails = fails

    def score(self, candidates: Sequence[Image.Image], prompts: Sequence[str]) -> Scores:
        """One minus the mean HSV saturation."""
        if self._fails:
            raise ValueError("no such luck")
        return Scores(1 - Vivid().score(candidates, prompts).values, [None] * len(prompts))


@pytest.fixture(autouse=True)
def _rewards_of_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = rewards.names()
    here = {"vivid": f"{__name__}:Vivid", "muted": f"{__name__}:Muted"}
    monkeypatch.setattr(rewards, "names", lambda: {**ours, **here})


@pytest.fixture(scope="module")
def prompts_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    file.write_text("\n".join(f"a {first} {second}" for first in WORDS for second in WORDS[:2]))
    return file


def recipe(sd_folder: Path, prompts: Path, output: Path, **changes: Any) -> Recipe:
    """D3PO on saturation, with alarms that a few steps set off."""
    tree: dict[str, Any] = {
        "model": {"path": str(sd_folder), "lora": {"rank": 4, "targets": "attention_convolutions"}},
        "rollout": {
            "prompts": str(prompts),
            "prompts_per_round": 12,
            "candidates": 8,
            "sampling": {"steps": 3, "guidance": 1.0, "batch_size": 96},
            "rewards": ["vivid"],
        },
        "method": {"loss": "d3po", "beta": 1.0},
        "optim": {"lr": 2e-2, "schedule": "constant"},
        "train": {"steps": 6, "batch_size": 36, "precision": "fp32", "checkpoint_every": 4},
        "evaluation": {
            "every": 2,
            "previews": {"count": 0},
            "sampling": {"steps": 3, "guidance": 1.0, "batch_size": 24},
            "validation": {
                "prompts": str(prompts),
                "limit": 12,
                "rewards": ["muted"],
                "alarms": {"saturation_rise": 0.004, "reward_fall": 0.0, "evaluations": 2},
            },
        },
        "output": str(output),
    }
    for name, value in changes.items():
        section, key = name.split("__")
        tree[section][key] = value
    return validate(tree)


def small(recipe: Recipe) -> dict[str, Any]:
    """The same on few own samples, for what does not depend on how training goes."""
    tree = recipe.model_dump(mode="json")
    tree["rollout"] |= {"prompts_per_round": 2, "candidates": 2}
    tree["train"]["batch_size"] = 6
    return tree


@pytest.fixture(scope="module")
def gamed(tmp_path_factory: pytest.TempPathFactory, sd_folder: Path, prompts_file: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        ours = rewards.names()
        here = {"vivid": f"{__name__}:Vivid", "muted": f"{__name__}:Muted"}
        patch.setattr(rewards, "names", lambda: {**ours, **here})
        return train(recipe(sd_folder, prompts_file, tmp_path_factory.mktemp("gamed") / "run"))


def test_a_gamed_reward_sets_off_its_alarms(gamed: Path) -> None:
    said = json.loads((gamed / "train.json").read_text())["warnings"]
    (colour,) = [line for line in said if "mean saturation rose from" in line]
    assert "raise method.beta, stop earlier, or add a reward that sees it to rollout.rewards" in colour
    (other,) = [line for line in said if "reward muted, which is not trained on, fell from" in line]
    assert "while the trained vivid rose from" in other
    assert "add that reward to rollout.rewards" in other


def test_metrics_hold_the_scores_and_their_changes(gamed: Path) -> None:
    lines = [line for line in read_metrics(gamed) if "images/saturation" in line]
    assert [line["step"] for line in lines] == [0, 2, 4, 6]
    first, last = lines[0], lines[-1]
    assert "validation/muted_change" not in first
    assert last["validation/muted_change"] == pytest.approx(last["validation/muted"] - first["validation/muted"])
    assert last["validation/muted_change_low"] < last["validation/muted_change"] < last["validation/muted_change_high"]
    assert last["validation/vivid"] == pytest.approx(last["images/saturation"], abs=1e-6)
    assert last["validation/vivid"] + last["validation/muted"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("step", "tuned"), [(0, False), (6, True)])
def test_what_is_scored_is_what_the_weights_sample(gamed: Path, sd_folder: Path, step: int, tuned: bool) -> None:
    """A second path: the whole pipeline with its text encoders, from the saved LoRA."""
    from mmpo.recipe_files import load_recipe

    saved = load_recipe(str(gamed))
    pipeline = load_policy(read_config(str(sd_folder)), saved, gamed if tuned else None)
    images = sample(pipeline, validation_jobs(saved), saved.evaluation.sampling, saved.evaluation.seed)
    expected = np.mean([saturation(np.asarray(image)) for _, image in images])
    (line,) = [line for line in read_metrics(gamed) if line["step"] == step and "images/saturation" in line]
    assert line["images/saturation"] == pytest.approx(expected, abs=2e-3)


def test_the_report_draws_and_lists_them(gamed: Path) -> None:
    page = write_report(gamed).read_text()
    for title in ("Validation: muted", "Change of vivid, same samples", "Groups and ties of a round", "Diversity"):
        assert title in page
    assert "mean saturation rose from" in page
    assert "own samples for" in page
    card = (gamed / "README.md").read_text()
    assert "trained on its own samples, compared by vivid," in card
    assert str(gamed.parent) not in card


def test_stop_goes_back_to_the_last_calm_weights(sd_folder: Path, prompts_file: Path, tmp_path: Path) -> None:
    """At step 2 the sign is there and not spoken of yet, so the weights to go back to are those of step 0."""
    tree = recipe(sd_folder, prompts_file, tmp_path / "run").model_dump(mode="json")
    tree["evaluation"]["guard"] = {"action": "stop"}
    folder = train(validate(tree))
    told = json.loads((folder / "train.json").read_text())
    assert told["steps"] == 4
    assert "were restored" in told["stopped"]
    looks = {line["step"]: line["images/saturation"] for line in read_metrics(folder) if "images/saturation" in line}
    assert looks[told["weights_step"]] - looks[0] < 0.004
    assert told["weights_step"] == 0


def test_a_watched_run_resumed_is_the_run_that_nobody_watched(
    gamed: Path, sd_folder: Path, prompts_file: Path, tmp_path: Path
) -> None:
    """Same weights to the bit; and the looks before the interruption count for the alarms after it."""
    part = recipe(sd_folder, prompts_file, tmp_path / "part", train__steps=4)
    train(part)
    resumed = train(recipe(sd_folder, prompts_file, tmp_path / "part"), resume=True)
    blind = train(recipe(sd_folder, prompts_file, tmp_path / "blind", evaluation__validation=None))
    weights = [(folder / LORA_FILE).read_bytes() for folder in (gamed, resumed, blind)]
    assert tensors(weights[0]) == tensors(weights[1]) == tensors(weights[2])
    looks = [json.loads((folder / "validation.json").read_text())["looks"] for folder in (gamed, resumed)]
    assert looks[0] == looks[1]


def tensors(data: bytes) -> dict[str, bytes]:
    from safetensors.torch import load

    return {name: tensor.contiguous().view(torch.uint8).numpy().tobytes() for name, tensor in load(data).items()}


def test_a_failing_reward_is_named_and_ends_nothing(
    sd_folder: Path, prompts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = small(recipe(sd_folder, prompts_file, tmp_path / "run", train__steps=2))
    tree["evaluation"]["validation"] |= {"rewards": [{"name": "muted", "fails": True}], "limit": 3}
    folder = train(validate(tree))
    out = capsys.readouterr().out
    assert "reward muted: prompt 'a red red'" in out
    assert "3 prompts, alarms need 10" in out
    assert not any("validation/muted" in line for line in read_metrics(folder))


def test_sampling_that_fails_ends_the_validation_alone(
    sd_folder: Path,
    prompts_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from pipelines import validation

    monkeypatch.setattr(validation, "thumbnail", lambda pixels: 1 / 0)
    folder = train(validate(small(recipe(sd_folder, prompts_file, tmp_path / "run", train__steps=2))))
    assert capsys.readouterr().out.count("the validation of step 0 failed (RuntimeError: ZeroDivisionError") == 1
    assert (folder / "train.json").is_file()


def test_the_recipe_is_checked_and_described(sd_folder: Path, prompts_file: Path, tmp_path: Path) -> None:
    good = recipe(sd_folder, prompts_file, tmp_path / "run")
    lines = "\n".join(describe(good))
    assert "24 samples every 2 steps, scored by muted, vivid (trained on)" in lines
    assert "12 a round x 8 candidates (whole trajectories), 3 steps, guidance 1" in lines
    assert "96 images scored, 204 samples through the denoiser" in lines  # 12 prompts x (1 + 2 x 8)
    assert "36 groups, at most 288 samples through the policy, and 288 through the reference" in lines
    assert validation_note(good) is None
    tree = good.model_dump(mode="json")
    tree["evaluation"]["validation"]["rewards"] = []
    assert "names no reward besides those trained on" in (validation_note(validate(tree)) or "")
    for change, message in (({"rewards": ["mutd"]}, "did you mean 'muted'"), ({"prompts": "no.txt"}, "no file")):
        tree["evaluation"]["validation"] |= change
        with pytest.raises(ValueError, match=message):
            check_recipe(validate(tree))
        tree["evaluation"]["validation"] |= {"rewards": []}
