"""A finished small run of a vision-language model, and copies of it to change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vlm_runs import recipe_of, rows_at

from pipelines.train_vlm import train_vlm

ODD = {"prompt": "<script>alert(1)</script> | a*b", "images": ["red.png"], "chosen": "<b>Red</b>", "rejected": "No"}
Finished = Callable[[str], Path]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run in float64 by its kind, "lora" or "full", with two held-out rows of ten."""
    root, made = tmp_path_factory.mktemp("vlm-finished"), {}

    def run(kind: str) -> Path:
        if kind not in made:
            data = rows_at(root / "rows", 9, more=[ODD])
            changes = ["method.loss=rdpo", "optim.lr=1e-2", "evaluation.held_out_pairs=2", "evaluation.every=2"]
            recipe = recipe_of("llava", data, root / kind, *changes, lora=kind == "lora")
            made[kind] = train_vlm(recipe)
        return made[kind]

    return run


def copy_of(run: Path, folder: Path) -> Path:
    """A copy of a run."""
    return shutil.copytree(run, folder)


def held(file: Path) -> Any:
    """What a JSON file holds."""
    return json.loads(file.read_text())
