"""Checkpoints: safetensors and JSON in a folder with a manifest, written whole, verified before use, rotated."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from mmpo.files import replace_folder
from mmpo.training.folders import PREFIX, list_checkpoints

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on.

    Args:
        step: optimiser steps done.
        tensors: per file stem ("weights", "optimizer", "ema", "random") named tensors.
        state: JSON values: the optimiser's scalars, guard, scaler, hashes of recipe and data.
    """

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any] = field(default_factory=dict)


def save_checkpoint(run: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Writes `checkpoint-NNNNNN` under the run's folder and removes the oldest beyond `keep`."""
    folder = run / f"{PREFIX}{checkpoint.step:06d}"
    with replace_folder(folder) as partial:
        for stem, tensors in checkpoint.tensors.items():
            cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            save_file(cpu, partial / f"{stem}.safetensors")
        text = json.dumps({"step": checkpoint.step, **checkpoint.state}, sort_keys=True)
        (partial / "state.json").write_text(text)
        files = {
            file.name: {"size": file.stat().st_size, "sha256": _sha256(file)} for file in sorted(partial.iterdir())
        }
        (partial / MANIFEST).write_text(json.dumps(files, indent=2, sort_keys=True))
    for old in list_checkpoints(run)[:-keep]:
        if old != folder:  # a damaged one with a higher number may be there
            shutil.rmtree(old)
    return folder


def load_checkpoint(folder: Path) -> Checkpoint:
    """Reads a checkpoint after checking every file against its manifest.

    Raises:
        ValueError: names the file that is missing, cut or altered.
    """
    manifest = folder / MANIFEST
    try:
        files = json.loads(manifest.read_text())
    except FileNotFoundError:
        raise ValueError(f"{folder}: {MANIFEST} is missing; the checkpoint is incomplete") from None
    except ValueError:
        raise ValueError(f"{manifest}: not valid JSON; the checkpoint is damaged") from None
    for name, expected in files.items():
        file = folder / name
        if not file.is_file():
            raise ValueError(f"{file}: missing; the checkpoint is incomplete")
        size = file.stat().st_size
        if size != expected["size"]:
            raise ValueError(f"{file}: {size} bytes, expected {expected['size']}; the checkpoint was cut")
        if _sha256(file) != expected["sha256"]:
            raise ValueError(f"{file}: its hash is not the manifest's; the checkpoint is damaged")
    state = json.loads((folder / "state.json").read_text())
    tensors = {Path(name).stem: load_file(folder / name) for name in files if name.endswith(".safetensors")}
    return Checkpoint(step=state.pop("step"), tensors=tensors, state=state)


def load_latest(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, and why each newer one was refused."""
    refused: list[str] = []
    for folder in reversed(list_checkpoints(run)):
        try:
            return load_checkpoint(folder), refused
        except ValueError as error:
            refused.append(str(error))
    return None, refused


def _sha256(file: Path) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
