"""Sample grids while training: same prompts and noise at every step, and a run that does not notice them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmpo.models.checkpoint import read_config
from mmpo.recipe import Recipe
from mmpo.recipe_files import validate
from mmpo.records import Prompt
from pipelines.build import build_accelerator, build_run
from pipelines.evaluation import load_policy
from pipelines.generate import Job, sample
from pipelines.previews import preview_texts
from pipelines.train import train


def recipe_with(sd_folder: Path, pairs_folder: Path, output: Path, previews: dict[str, Any], **changes: Any) -> Recipe:
    tree = tiny.recipe_tree(sd_folder, pairs_folder, output, **changes)
    tree["evaluation"] |= {"previews": previews, "sampling": {"steps": 3, "guidance": 2.0}}
    return validate(tree)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, sd_folder: Path, pairs_folder: Path) -> Path:
    """A finished run with two previews every third step."""
    folder = tmp_path_factory.mktemp("previews") / "run"
    previews = {"count": 2, "prompts": ["a red cat", "a <b>blue</b> dog"]}
    return train(recipe_with(sd_folder, pairs_folder, folder, previews, optim__lr=1e-2))


def strip(run: Path, step: int) -> np.ndarray:
    return np.asarray(Image.open(run / "samples" / f"step-{step:06d}.png"))


def test_strips_are_written_from_the_first_step_to_the_last(run_folder: Path) -> None:
    names = sorted(file.name for file in (run_folder / "samples").iterdir())
    assert names == ["previews.json", "step-000000.png", "step-000003.png", "step-000006.png"]
    about = json.loads((run_folder / "samples" / "previews.json").read_text())
    assert about["prompts"] == ["a red cat", "a <b>blue</b> dog"]
    assert about["cell"] == [16, 16]
    assert strip(run_folder, 0).shape == (16, 32, 3)
    assert not np.array_equal(strip(run_folder, 0), strip(run_folder, 6))


@pytest.mark.parametrize(("step", "tuned"), [(0, False), (6, True)])
def test_a_preview_is_what_eval_samples(run_folder: Path, sd_folder: Path, step: int, tuned: bool) -> None:
    """A second path: the whole pipeline with its text encoders, from the saved LoRA file."""
    from mmpo.recipe_files import load_recipe

    recipe = load_recipe(str(run_folder))
    pipeline = load_policy(read_config(str(sd_folder)), recipe, run_folder if tuned else None)
    jobs = [Job(Prompt(text), 0) for text in ("a red cat", "a <b>blue</b> dog")]
    images = [image for _, image in sample(pipeline, jobs, recipe.evaluation.sampling, recipe.evaluation.seed)]
    expected = np.concatenate([np.asarray(image) for image in images], axis=1)
    assert np.abs(strip(run_folder, step).astype(int) - expected.astype(int)).max() <= 1


def test_tensorboard_has_them(run_folder: Path) -> None:
    events = EventAccumulator(str(run_folder / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Images("previews")] == [0, 3, 6]


def test_training_does_not_notice_them(sd_folder: Path, pairs_folder: Path, tmp_path: Path) -> None:
    """Dropout draws from the global generator; sampling in between must leave it as it was."""
    weights = []
    for name, count in (("with", 1), ("without", 0)):
        recipe = recipe_with(sd_folder, pairs_folder, tmp_path / name, {"count": count, "every": 1})
        tree = recipe.model_dump(mode="json")
        tree["model"]["lora"]["dropout"] = 0.3
        run, _ = build_run(
            validate(tree), read_config(str(sd_folder)), build_accelerator(recipe), tmp_path / name, lambda text: None
        )
        from mmpo.training.loop import Trainer

        Trainer(run).train()
        weights.append({key: p.detach().clone() for key, p in run.parameters().items()})
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_full_fine_tune_with_a_moving_average_has_them_too(
    sd_folder: Path, pairs_folder: Path, tmp_path: Path
) -> None:
    recipe = recipe_with(
        sd_folder, pairs_folder, tmp_path / "run", {"count": 1}, train__ema=0.5, train__precision="bf16"
    )
    tree = recipe.model_dump(mode="json")
    tree["model"]["lora"] = None
    train(validate(tree))
    assert len(list((tmp_path / "run" / "samples").glob("step-*.png"))) == 3


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), OSError(28, "No space left")], ids=str)
def test_a_failing_preview_ends_the_previews_and_not_the_run(
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    sd_folder: Path,
    pairs_folder: Path,
    tmp_path: Path,
) -> None:
    from pipelines import policy_images

    calls = []

    def fail(*arguments: Any) -> None:
        calls.append(1)
        raise error

    monkeypatch.setattr(policy_images, "decode_latents", fail)
    folder = train(recipe_with(sd_folder, pairs_folder, tmp_path / "run", {"count": 1}))
    assert (folder / "train.json").is_file()
    assert len(calls) == 1
    assert "evaluation.previews.count" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("previews", "expected"),
    [
        ({}, ["h1", "h2", "t1", "t2"]),
        ({"count": 3}, ["h1", "h2", "t1"]),
        ({"count": 0}, []),
        ({"prompts": ["x", "y"], "count": 1}, ["x"]),
    ],
)
def test_which_prompts(previews: dict[str, Any], expected: list[str], tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path, tmp_path, tmp_path, previews)
    assert preview_texts(recipe, ["h1", "h2", "h1"], ["t1", "h1", "t2"]) == expected


def test_prompts_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("one\n\ntwo\nthree\n")
    recipe = recipe_with(tmp_path, tmp_path, tmp_path, {"prompts": str(tmp_path / "prompts.txt"), "count": 2})
    assert preview_texts(recipe, ["h"], []) == ["one", "two"]
