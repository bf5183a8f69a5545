"""`mmpo train-reward` on predictions of noised images: a step-aware model, and a CLIP that is not told the timestep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPModel

import rewards
from mmpo.models.checkpoint import read_config
from mmpo.models.loading import load_pipeline
from mmpo.recipe_files import load_as
from mmpo.reward_recipe import RewardRecipe
from pipelines.train_reward import train_reward
from rewards.noised_pairs import NoisedPairs
from rewards.pair_model import PairBatch
from rewards.pixel_views import shortest_side_crop
from rewards.predicted_images import PredictedImages
from rewards.step_aware import StepAware
from rewards.step_aware_files import FILE
from rewards.step_aware_pairs import StepAwarePairs
from rewards.views import normalised


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP of 16-pixel images with the tokenizer of the tiny checkpoints."""
    place = tmp_path_factory.mktemp("clip")
    tokenizer = tiny.make_tokenizer(place / "tokenizer")
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**tiny.clip_config(tokenizer).to_dict(), **tower}
    torch.manual_seed(0)
    config = CLIPConfig(projection_dim=16, text_config=text, vision_config={**tower, "image_size": 16, "patch_size": 8})
    CLIPModel(config).save_pretrained(place / "clip")
    tokenizer.save_pretrained(place / "clip")
    return place / "clip"


@pytest.fixture
def tree(clip_folder: Path, sd_folder: Path, pairs_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """A recipe of four steps."""
    return {
        "model.path": clip_folder,
        "model.kind": "step_aware",
        "data.path": pairs_folder,
        "data.cache": tmp_path / "cache",
        "noise.model": sd_folder,
        "noise.evaluate_at": [0, 951],
        "optim": "{lr: 0.01, schedule: constant, warmup_steps: 0, weight_decay: 0}",
        "train": "{steps: 4, batch_size: 4, precision: fp32, checkpoint_every: 2, report_to: []}",
        "evaluation": "{every: 2, held_out_pairs: 4}",
        "output": tmp_path / "run",
    }


def run(tree: dict[str, Any], *, resume: bool = False, **changes: Any) -> Path:
    """Trains by the recipe with these changes, `__` standing for a dot."""
    merged = {**tree, **{name.replace("__", "."): value for name, value in changes.items()}}
    recipe = load_as(RewardRecipe, None, [f"{name}={value}" for name, value in merged.items()])
    return train_reward(recipe, resume=resume)


def test_what_is_trained_is_a_reward_and_a_resume_ends_in_the_same_weights(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    whole = run(tree, output=tmp_path / "whole")
    reward = rewards.load("step_aware", weights=str(whole))
    assert isinstance(reward, StepAware)
    pixels = 2 * torch.rand(2, 3, 16, 16) - 1
    early, late = (reward.score_pixels(pixels, ["a red cat", "a dog"], [t, t]) for t in (0, 951))
    assert (early - late).abs().min() > 1e-4  # the timestep came to matter
    run(tree, output=tmp_path / "parts", train__steps=2)
    parts = run(tree, output=tmp_path / "parts", resume=True)
    kept = [load_file(folder / "checkpoint-000004" / "weights.safetensors") for folder in (whole, parts)]
    assert kept[0].keys() == kept[1].keys()
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])
    again = StepAwarePairs(str(whole))  # goes on from step-aware weights
    state = load_file(whole / FILE)
    assert torch.equal(again.model.last.weight, state["vision_model.adaLN_modulation.1.weight"])
    assert again.tokenizer("a cat").input_ids == reward.clip.tokenizer("a cat").input_ids


def test_the_model_sees_the_predictions_and_their_timesteps(clip_folder: Path, sd_folder: Path) -> None:
    config = read_config(str(sd_folder))
    pipeline = load_pipeline(config, dtype=torch.float32)
    predicted = PredictedImages(pipeline, config, guidance=5.0, resolution=20)
    inner = StepAwarePairs(str(clip_folder))
    pairs = NoisedPairs(inner, 16, predicted, band=(100, 900), timesteps=(0, 951), identity={"noise model": "x"})
    views = torch.randint(0, 256, (3, 2, 3, 20, 20), dtype=torch.uint8)
    batch = PairBatch(["x", "y", "z"], [0, 4, 1], ["a red cat", "a dog", "a red cat"], views)
    given = pairs.inputs(batch, torch.device("cpu"))
    draw = predicted.draw(batch.ids, batch.visits, 2, band=(100, 900))
    assert torch.equal(given["timesteps"], draw.timesteps)
    seen = shortest_side_crop(predicted(views, batch.prompts, draw).flatten(0, 1), 16)
    assert torch.equal(given["pixels"].flatten(0, 1), normalised(seen))
    assert given["text_of"].tolist() == [0, 1, 0]
    held = pairs.inputs(replace(batch, timestep=951), torch.device("cpu"))
    assert held["timesteps"].tolist() == [951] * 3
    assert pairs.module(**held).shape == (3, 2)
    assert (pairs.view.size, pairs.timesteps) == (20, (0, 951))
    assert pairs.identity.items() >= {**inner.identity, "noise model": "x"}.items()


def test_a_clip_that_is_not_told_the_timestep_trains_on_the_same_predictions(
    tree: dict[str, Any], tmp_path: Path, clip_folder: Path
) -> None:
    folder = run(tree, model__kind="clip", output=tmp_path / "plain")
    image = [tiny_image(0), tiny_image(1)]
    before, after = (
        rewards.load("pickscore", weights=str(place)).score(image, ["a cat"] * 2).values
        for place in (clip_folder, folder)
    )
    assert np.abs(after - before).min() > 1e-4


def tiny_image(seed: int) -> Any:
    """A picture."""
    from mmpo.data.images import decode

    return decode(tiny.picture(seed))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": "null"}, "model.kind: step_aware learns from predictions"),
        ({"noise__timesteps": [500, 500]}, "noise.timesteps: expected the first below the second"),
        ({"noise__timesteps": [0, 1001]}, "noise: timestep 1000 is beyond .*, whose last is 999"),
        ({"noise__evaluate_at": [0, 1000]}, "noise: timestep 1000 is beyond"),
        ({"noise__resolution": 18}, "noise.resolution: 18 is not a multiple of 4"),
        ({"noise__modle": "x"}, "model"),
    ],
)
def test_what_a_recipe_cannot_mean(tree: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    if "noise" in changes:
        tree = {name: value for name, value in tree.items() if not name.startswith("noise.")}
    with pytest.raises(ValueError, match=message):
        run(tree, **changes)
