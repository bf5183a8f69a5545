"""What a run's folder holds, read once for the report and the model card; a run in any state can be read."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from mmpo.recipe import Recipe
from mmpo.recipe_files import load_recipe, load_training
from mmpo.training.folders import list_checkpoints
from mmpo.training.metrics import read_metrics
from mmpo.vlm_recipe import VlmRecipe
from pipelines.report_numbers import Point

# Their writers import torch and diffusers, which a report does not need; tests hold these names to theirs.
RECIPE, SUMMARY, RESULT, GRID = "recipe.yaml", "train.json", "evaluation.json", "evaluation.png"
LORA, PIPELINE = "pytorch_lora_weights.safetensors", "pipeline"
ADAPTER, MODEL, ANSWERS = "adapter", "model", "answers.json"
SAMPLES, ABOUT = "samples", "previews.json"
R = TypeVar("R", bound=Recipe | VlmRecipe)


@dataclass(frozen=True)
class RunData(Generic[R]):
    """One run, of images (`RunFiles`) or of answers (`VlmRun`).

    Args:
        folder: where it is.
        recipe: as resolved when it began.
        recipe_text: the same as written, YAML.
        lines: of metrics.jsonl, in order of the step.
        summary: train.json, or None while the run is unfinished.
        evaluation: evaluation.json, or None.
        previews: samples/previews.json, or None.
        strips: (step, file) of the previews, in order; those of steps beyond the run's own are of an earlier one.
        checkpoint: newest checkpoint, or None.
        faults: files that are there and cannot be read, a sentence each.
    """

    folder: Path
    recipe: R
    recipe_text: str
    lines: list[dict[str, Any]]
    summary: dict[str, Any] | None
    evaluation: dict[str, Any] | None
    previews: dict[str, Any] | None
    strips: list[tuple[int, Path]]
    checkpoint: Path | None
    faults: list[str]

    @property
    def stopped(self) -> str | None:
        """The guard's sentence, where it stopped the run."""
        return self.summary.get("stopped") if self.summary else None

    @property
    def steps(self) -> int:
        """Optimiser steps done, as far as files say."""
        if self.summary:
            return int(self.summary["steps"])
        return max((int(line["step"]) for line in self.lines), default=0)

    @property
    def weights(self) -> Path | None:
        """The trained weights, or None where there are none yet: the LoRA's file or folder, or the model's folder."""
        names = (ADAPTER, MODEL) if isinstance(self.recipe, VlmRecipe) else (LORA, PIPELINE)
        place = self.folder / names[self.recipe.model.lora is None]
        return place if place.exists() else None

    @property
    def grid(self) -> Path | None:
        """The sheet of the evaluation's samples, or None."""
        file = self.folder / GRID
        return file if self.evaluation is not None and file.is_file() else None

    def series(self, name: str) -> list[Point]:
        """(step, value) of one metric; what is not a number is NaN."""
        return [(float(line["step"]), _number(line[name])) for line in self.lines if name in line]

    def prompts(self) -> list[str]:
        """Prompts that samples of this run exist for."""
        grid = (self.evaluation or {}).get("grid") or {}
        return [str(prompt) for prompt in [*grid.get("prompts", []), *(self.previews or {}).get("prompts", [])]]


RunFiles = RunData[Recipe]
VlmRun = RunData[VlmRecipe]


def read_run(folder: Path) -> RunFiles:
    """Reads a run's folder.

    Raises:
        ValueError: it is no run's folder, or one of answers; says what to do.
    """
    check_run(folder)
    return _read(folder, load_recipe(str(folder / RECIPE)))


def read_vlm_run(folder: Path) -> VlmRun | None:
    """Reads the folder of a vision-language model's run; None where it is a run of images.

    Raises:
        ValueError: it is no run's folder; says what to do.
    """
    check_run(folder)
    recipe = load_training(str(folder / RECIPE))
    return _read(folder, recipe) if isinstance(recipe, VlmRecipe) else None


def check_run(folder: Path) -> None:
    """Refuses what is no run's folder.

    Raises:
        ValueError: says what to do.
    """
    if not (folder / RECIPE).is_file():
        what = "no such folder" if not folder.is_dir() else f"not a run's folder ({RECIPE} is missing)"
        raise ValueError(f"{folder}: {what}; give the output folder of `mmpo train` or `mmpo demo`")


def _read(folder: Path, recipe: R) -> RunData[R]:
    faults: list[str] = []
    lines = [line for line in read_metrics(folder) if isinstance(line, dict) and "step" in line]
    checkpoints = list_checkpoints(folder)
    summary = _json(folder / SUMMARY, faults)
    return RunData(
        folder=folder,
        recipe=recipe,
        recipe_text=(folder / RECIPE).read_text(encoding="utf-8"),
        lines=sorted(lines, key=lambda line: line["step"]),
        summary=summary,
        evaluation=_json(folder / RESULT, faults),
        previews=_json(folder / SAMPLES / ABOUT, faults),
        strips=_strips(folder / SAMPLES, _last_step(summary, lines, recipe.train.log_every)),
        checkpoint=checkpoints[-1] if checkpoints else None,
        faults=faults,
    )


def _json(file: Path, faults: list[str]) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        faults.append(f"{file.name} is not valid JSON ({error})")
        return None
    if not isinstance(value, dict):
        faults.append(f"{file.name} does not hold an object")
        return None
    return value


def _last_step(summary: dict[str, Any] | None, lines: list[dict[str, Any]], log_every: int) -> int:
    """The last step that the run can have done; an unfinished one may be some steps past its last line."""
    if summary is not None and isinstance(summary.get("steps"), int):
        return summary["steps"]
    return max((int(line["step"]) for line in lines), default=0) + log_every - 1


def _strips(folder: Path, last: int) -> list[tuple[int, Path]]:
    found = []
    for file in folder.glob("step-*.png"):
        digits = file.stem.removeprefix("step-")
        if digits.isdigit() and int(digits) <= last:
            found.append((int(digits), file))
    return sorted(found)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
