"""Recipes of `mmpo train-reward`: what holds where they are silent, and errors that say where and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import command_line
import pytest
import tiny
from command_line import Main, assert_refused

from mmpo.recipe_files import dump, load_as, load_recipe, parse_yaml, shipped_recipes, validate_as
from mmpo.reward_recipe import RewardRecipe

main = command_line.main
LEAST = ["model.path=laion/some-clip", "data.path=pairs", "output=runs/x"]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A folder that passes for a CLIP until its weights are read."""
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text(json.dumps({"model_type": "clip"}))
    return tmp_path / "clip"


@pytest.mark.parametrize("name", sorted(shipped_recipes(RewardRecipe)))
def test_shipped_recipes_are_valid_and_come_back_from_their_dump(name: str) -> None:
    recipe = load_as(RewardRecipe, name)
    assert validate_as(RewardRecipe, parse_yaml(dump(recipe), name)) == recipe
    assert name not in shipped_recipes()


def test_each_objective_has_its_published_settings() -> None:
    found = {
        name: load_as(RewardRecipe, None, [*LEAST, f"objective={name}", "optim.eight_bit=true"]).optim
        for name in ("pickscore", "hps", "image_reward")
    }
    said = {n: (o.lr, o.weight_decay, o.warmup_steps, o.schedule, o.betas, o.eps) for n, o in found.items()}
    assert said == {
        "pickscore": (3e-6, 0.3, 500, "linear", (0.9, 0.999), 1e-8),
        "hps": (3.3e-6, 0.35, 500, "cosine", (0.9, 0.98), 1e-6),
        "image_reward": (1e-5, 0.0, 0, "cosine", (0.9, 0.999), 1e-8),
    }
    assert all(optim.eight_bit for optim in found.values())
    constant = load_as(RewardRecipe, None, [*LEAST, "optim.schedule=constant"]).optim
    assert (constant.warmup_steps, constant.lr) == (0, 3e-6)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["train.stpes=5"], ["train.stpes: unknown key", "did you mean 'steps'?"]),
        (["held_out_pairs=3"], ["held_out_pairs: unknown key", "'evaluation.held_out_pairs'"]),
        (["objective=hpsv2"], ["objective", "'pickscore'", "'hpsv2'"]),
        (["train.micro_batch_size=3"], ["train.micro_batch_size: 3 does not divide train.batch_size 128"]),
        (["data.make={prompts: shapes/tune, reward: shapes}"], ["data", "set data.make_from"]),
        (["optim.schedule=constant", "optim.warmup_steps=5"], ["optim.warmup_steps", "constant_with_warmup"]),
        (["model.last_blocks.images=3"], ["model.last_blocks.images: unknown key", "did you mean 'image'?"]),
    ],
    ids=["key", "key elsewhere", "objective", "micro", "make", "warm-up", "blocks"],
)
def test_wrong_recipes(main: Main, changes: list[str], parts: list[str]) -> None:
    assert_refused(main("train-reward", *LEAST, *changes), *parts)


def test_recipes_of_the_other_kind_are_told_apart(main: Main, tmp_path: Path) -> None:
    assert_refused(main("train-reward", "sd15_diffusion_dpo"), "a recipe of `mmpo train`")
    assert_refused(main("train", "pick_score"), "a recipe of `mmpo train-reward`")
    assert_refused(main("train-reward", "pick_scores"), "did you mean 'pick_score'?")
    assert_refused(main("train-reward"), "give a recipe, or at least model.path")
    with pytest.raises(ValueError, match="a recipe of `mmpo train-reward`"):
        load_recipe("pick_score")


def test_what_is_not_there(main: Main, clip: Path, tmp_path: Path) -> None:
    pairs = tiny.make_pairs(tmp_path / "pairs", 2)
    least = [f"data.path={pairs}", f"output={tmp_path / 'run'}"]
    assert_refused(main("train-reward", f"model.path={tmp_path / 'absent'}", *least), "absent: no such folder")
    assert_refused(main("train-reward", f"model.path={pairs}", *least), "no config.json", "shard-00000.parquet")
    (clip / "config.json").write_text(json.dumps({"model_type": "siglip"}))
    assert_refused(main("train-reward", f"model.path={clip}", *least), "a model of type 'siglip'")
    (clip / "config.json").write_text(json.dumps({"model_type": "clip"}))
    least = [f"model.path={clip}", f"output={tmp_path / 'run'}"]
    assert_refused(main("train-reward", *least, f"data.path={tmp_path / 'none'}"), "none: no such file")
    further = f"evaluation.data.path={tmp_path / 'none'}"
    assert_refused(main("train-reward", *least, f"data.path={pairs}", further), "none: no such file")
    assert_refused(main("train-reward", *least, f"data.path={pairs}", "--resume"), "--resume: no checkpoint")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "train.json").write_text("{}")
    assert_refused(main("train-reward", *least, f"data.path={pairs}"), "holds a finished run")


def test_a_dry_run_says_what_would_be_done(main: Main, clip: Path, tmp_path: Path) -> None:
    pairs = tiny.make_pairs(tmp_path / "pairs", 2)
    blocks = "model.last_blocks={text: 3, image: 5}"
    result = main("train-reward", f"model.path={clip}", f"data.path={pairs}", "output=runs/x", blocks, "--dry-run")
    assert result.code == 0, result.err
    for part in (
        "the last 3 text and 5 image blocks",
        "format pairs",
        "2 rows",
        "4000 of 128 pairs",
        "nothing was run",
    ):
        assert part in result.out
