"""Odd rows through `mmpo train`: each is trained on as it should be, or left out by name and count, or fatal."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import command_line
import pytest
from command_line import Main, Result, assert_refused
from vlm_rows import png
from vlm_runs import recipe_of, rows_at

from mmpo.recipe_files import dump

main = command_line.main

GOOD = {"prompt": "Which?", "images": ["red.png"], "rejected_images": ["blue.png"], "chosen": "Red", "rejected": "Blue"}
BOTH, ONE = 2 * math.log(2), math.log(2)


def trained(main: Main, tmp_path: Path, row: dict[str, Any], *changes: str) -> tuple[Result, Path]:
    """(what `mmpo train` said of one good row and this one, the run)."""
    data = rows_at(tmp_path / "rows", 1, more=[row])
    (tmp_path / "rows" / "broken.png").write_bytes(png("red")[:60])
    given = ["method.loss=rdpo", "train.steps=1", "train.batch_size=2", "train.micro_batch_size=1", *changes]
    file = tmp_path / "recipe.yaml"
    file.write_text(dump(recipe_of("llava", data, tmp_path / "run", *given)))
    return main("train", file), tmp_path / "run"


def first_step(run: Path) -> dict[str, Any]:
    return next(line for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "loss" in line)


@pytest.mark.parametrize(
    ("change", "loss"),
    [
        ({"images": ["red.png", "green.png"], "rejected_images": ["blue.png", "black.png"]}, (BOTH + BOTH) / 2),
        ({"images": [], "rejected_images": None}, (BOTH + ONE) / 2),
        ({"rejected_images": None}, (BOTH + ONE) / 2),
        ({"rejected": "Red"}, (BOTH + ONE) / 2),
        ({"chosen": "Red " * 40}, (BOTH + BOTH) / 2),
    ],
    ids=["two images", "no image", "an image on the chosen side only", "images alone differ", "an answer that is cut"],
)
@pytest.mark.parametrize("cached", [False, True], ids=["live", "cached"])
def test_it_is_trained_on(main: Main, tmp_path: Path, change: dict[str, Any], loss: float, cached: bool) -> None:
    """At the start each term that a row has is ln 2, and 0 where it has not."""
    row = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    more = ["data.max_answer_tokens=20", f"method.cache_reference={int(cached)}"]
    result, run = trained(main, tmp_path, row, *more)
    assert result.code == 0, result
    step = first_step(run)
    assert step["loss"] == pytest.approx(loss, abs=1e-12)
    assert step["grad_norm"] > 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"images": ["broken.png"]}, "image 1: the image is corrupt"),
        ({"images": ["missing.png"]}, "missing.png"),
        ({"chosen": ""}, "chosen"),
        ({"rejected": "  "}, "rejected"),
        ({"chosen": "Red " * 60}, "max_length is 120"),
        ({"rejected_images": ["blue.png", "black.png"]}, "rejected_images"),
    ],
    ids=["broken image", "missing image", "empty chosen", "blank rejected", "longer than the limit", "unequal images"],
)
def test_it_is_left_out_by_name_or_fatal(main: Main, tmp_path: Path, change: dict[str, Any], named: str) -> None:
    changes = ["data.max_length=120", "train.batch_size=1"]
    result, run = trained(main, tmp_path / "skipped", {**GOOD, **change}, *changes)
    assert result.code == 0, result
    assert "1 training pairs, 0 held out" in result.out
    (line,) = (line for line in result.out.splitlines() if line.startswith("left out: "))
    assert named in line
    assert "rows.jsonl" in line
    assert first_step(run)["loss"] == pytest.approx(BOTH, abs=1e-12)
    result, run = trained(main, tmp_path / "fatal", {**GOOD, **change}, *changes, "data.on_bad_row=error")
    assert_refused(result, named, "rows.jsonl")
    assert not (run / "metrics.jsonl").exists()
