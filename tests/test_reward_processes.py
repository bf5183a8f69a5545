"""A reward trained by two processes is the one that a single process trains."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import command_line
import numpy as np
import tiny
import torch
from safetensors.torch import load_file
from tiny_reward import make_clip, reward_tree

from mmpo.data.rows import pair_row, pair_schema
from mmpo.data.shards import write_shard
from mmpo.recipe_files import validate_as
from mmpo.records import Group, Prompt, content_id
from mmpo.reward_recipe import RewardRecipe
from mmpo.training.metrics import read_metrics
from pipelines.train_reward import train_reward

HERE = Path(__file__).parent


def test_two_processes_are_one(tmp_path: Path) -> None:
    """Ten float64 steps within 1e-9, held-out figures and evaluation alike.

    Prompts have one to eight pairs: weights that each process normalised by itself would differ by far more.
    """
    groups = [
        Group(content_id(n), Prompt("a cat" if n < 8 else f"a cat {n // 2}"), group.candidates)
        for n, group in enumerate(tiny.make_groups(24))
    ]
    data = tmp_path / "pairs"
    write_shard(data, 0, [pair_row(group) for group in groups], pair_schema())
    clip = make_clip(tmp_path / "clip", layers=1)
    changes = {"train__precision": "fp64", "train__steps": 10, "evaluation__held_out_pairs": 4}
    trees = {
        name: reward_tree(clip, data, tmp_path / name, **changes, optim__lr=1e-3, evaluation__every=5)
        for name in ("one", "two")
    }
    train_reward(validate_as(RewardRecipe, trees["one"]))
    file = tmp_path / "two.json"
    file.write_text(json.dumps(trees["two"]))  # JSON is YAML
    done = subprocess.run(
        [sys.executable, str(HERE / "two_rewards.py"), str(file), "29753"],
        env={**command_line.environment(), "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HERE.parent}:{HERE}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on 2 x cpu" in done.stdout
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in trees)
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-9
    assert any(not torch.equal(one[name], value) for name, value in load_file(clip / "model.safetensors").items())
    lines = [read_metrics(tmp_path / name) for name in trees]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]]
    for name in ("loss", "accuracy", "held_out/accuracy"):
        np.testing.assert_allclose(*([line[name] for line in side if name in line] for side in lines), atol=1e-9)
    found = [json.loads((tmp_path / name / "evaluation.json").read_text()) for name in trees]
    assert found[0]["measures"] == found[1]["measures"]
