"""A reward trained by two processes is the one that a single process trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import forks
import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from tiny_reward import make_clip, reward_tree

from mmpo.data.rows import list_row, list_schema, pair_row, pair_schema
from mmpo.data.shards import write_shard
from mmpo.recipe_files import validate_as
from mmpo.records import Group, Prompt, content_id
from mmpo.reward_recipe import RewardRecipe
from mmpo.training.metrics import read_metrics
from pipelines.train_reward import train_reward


def write_pairs(data: Path) -> dict[str, Any]:
    """Prompts of one to eight pairs: weights that each process normalised by itself would differ by far more."""
    groups = [
        Group(content_id(n), Prompt("a cat" if n < 8 else f"a cat {n // 2}"), group.candidates)
        for n, group in enumerate(tiny.make_groups(24))
    ]
    write_shard(data, 0, [pair_row(group) for group in groups], pair_schema())
    return {}


def write_lists(data: Path) -> dict[str, Any]:
    """Lists of two to five images, of which a visit sees three; two share a prompt."""
    pool = [candidate for group in tiny.make_groups(20) for candidate in group.candidates]
    groups = [
        Group(
            content_id(n),
            Prompt(f"a cat {max(n, 1)}"),
            pool[4 * n : 4 * n + 2 + n % 4],
            rank=[1, 1, 3, 4, 5][-2 - n % 4 :],
        )
        for n in range(10)
    ]
    write_shard(data, 0, [list_row(group) for group in groups], list_schema())
    return {"data__lists": True, "data__list_size": 3, "train__steps": 5}


KINDS = {"pairs": write_pairs, "lists": write_lists}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs NAME/one and NAME/two: of one process, and of two."""
    place = tmp_path_factory.mktemp("processes")
    clip = make_clip(place / "clip", layers=1)
    for kind, write in KINDS.items():
        changes = {"train__precision": "fp64", "train__steps": 10, "evaluation__held_out_pairs": 4}
        changes |= {"optim__lr": 1e-3, "evaluation__every": 5, **write(place / kind / "data")}
        trees = {
            name: reward_tree(clip, place / kind / "data", place / kind / name, **changes) for name in ("one", "two")
        }
        train_reward(validate_as(RewardRecipe, trees["one"]))
        done = forks.ranks(2, train_reward, validate_as(RewardRecipe, trees["two"]))
        assert done.code == 0, done
        assert done.out.count("on 2 x cpu") == 1
    return place


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_are_one(place: Path, kind: str) -> None:
    """Ten float64 steps, five on lists, within 1e-9, held-out figures and evaluation alike."""
    runs = [place / kind / name for name in ("one", "two")]
    one, two = (load_file(run / "model.safetensors") for run in runs)
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-9
    before = load_file(place / "clip" / "model.safetensors")
    assert any(not torch.equal(one[name], value) for name, value in before.items())
    lines = [read_metrics(run) for run in runs]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]]
    for name in ("loss", "accuracy", "held_out/accuracy"):
        np.testing.assert_allclose(*([line[name] for line in side if name in line] for side in lines), atol=1e-9)
    found = [json.loads((run / "evaluation.json").read_text()) for run in runs]
    assert found[0]["measures"] == found[1]["measures"]
