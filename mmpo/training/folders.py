"""What is in a run's folder, found without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PREFIX = "checkpoint-"
FINISHED = ("train.json", "pytorch_lora_weights.safetensors", "pipeline")


def list_checkpoints(run: Path) -> list[Path]:
    """The run's checkpoint folders, oldest first."""
    found = [folder for folder in run.glob(f"{PREFIX}*") if folder.name.removeprefix(PREFIX).isdigit()]
    return sorted(found, key=lambda folder: int(folder.name.removeprefix(PREFIX)))


def read_summary(folder: Path) -> dict[str, Any]:
    """train.json of a finished run; empty where there is none.

    Raises:
        ValueError: it is damaged.
    """
    file = folder / "train.json"
    try:
        held = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise ValueError(
            f"{file}: not valid JSON ({error}); delete it, then `mmpo train --resume` writes it anew"
        ) from None
    if not isinstance(held, dict):
        raise ValueError(f"{file}: holds no JSON object; delete it, then `mmpo train --resume` writes it anew")
    return held


LEFTOVERS = (
    "samples/step-[0-9]*.png",
    "samples/previews.json",
    "tensorboard/events.out.tfevents.*",
    "held_out_reference.safetensors",
    "validation.json",
    "last_good.safetensors",
    "best.safetensors",
    "base_scores.safetensors",
    "wandb.json",
)


def clear_leftovers(folder: Path) -> None:
    """Removes what a run that was killed before its first checkpoint left: no report mixes it with a new one.

    Files of our own names alone; whatever else a user keeps there stays.
    """
    for pattern in LEFTOVERS:
        for file in folder.glob(pattern):
            file.unlink()


def check_output(folder: Path, *, resume: bool) -> None:
    """Refuses to mix two runs in one folder, or to go on with a run that is not there.

    Raises:
        ValueError: says which, and what to do.
    """
    there = list_checkpoints(folder) if folder.is_dir() else []
    if there and not resume:
        raise ValueError(
            f"output {folder}: holds a run already ({there[-1].name}); add --resume to go on with it, or choose "
            "another folder with output=FOLDER"
        )
    if resume and read_summary(folder).get("stopped"):
        raise ValueError(f"--resume: the guard stopped the run in {folder}; change its recipe and use another folder")
    finished = [name for name in FINISHED if (folder / name).exists()]
    if finished and not there:
        raise ValueError(
            f"output {folder}: holds a finished run ({finished[0]}); choose another folder with output=FOLDER"
        )
    if resume and not there:
        raise ValueError(f"--resume: no checkpoint in {folder}; start without --resume")
