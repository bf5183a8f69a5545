"""Small runs of vision-language models: rows on disk, a recipe over a tiny random model, its run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlm_rows import folder_of, png

from mmpo.recipe_files import load_as
from mmpo.vlm_recipe import VlmRecipe

COLOURS = ("red", "blue", "green", "yellow", "black", "white", "orange", "purple")


def rows_at(
    folder: Path, count: int = 8, *, rejected_images: bool = True, more: list[dict[str, Any]] | None = None
) -> Path:
    """A JSONL of rows of one image each, and its images."""
    folder.mkdir(parents=True, exist_ok=True)
    for colour in COLOURS:
        (folder / f"{colour}.png").write_bytes(png(colour, (28, 28)))
    lines = []
    for number in range(count):
        colour, other = COLOURS[number % 8], COLOURS[(number + 3) % 8]
        row: dict[str, Any] = {
            "prompt": f"What colour is number {number}?",
            "images": [f"{colour}.png"],
            "chosen": f"It is {colour}.",
            "rejected": f"A {other} one",
        }
        if rejected_images:
            row["rejected_images"] = [f"{other}.png"]
        lines.append(row)
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*lines, *(more or [])]))
    return file


def recipe_of(model: str, data: Path, output: Path, *changes: str, lora: bool = True) -> VlmRecipe:
    """A recipe of float64 over a tiny random model, four steps of four rows."""
    given = [f"model.path={folder_of(model)}", f"data.path={data}", f"output={output}", "method.adapter=autoregressive"]
    given += ["train.precision=fp64", "train.batch_size=4", "train.steps=4", "train.report_to=[]", "optim.lr=1e-3"]
    given += ["evaluation.held_out_pairs=0", *(["model.lora.rank=4"] if lora else [])]
    return load_as(VlmRecipe, None, [*given, *changes])
