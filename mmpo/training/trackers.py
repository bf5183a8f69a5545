"""Experiment trackers beside metrics.jsonl: TensorBoard, and Weights & Biases as an extra."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mmpo.files import write_json


class Tracker(Protocol):
    """Takes numbers and pictures of a run."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers after `step` finished steps."""
        ...

    def image(self, step: int, name: str, pixels: NDArray[np.uint8], caption: str) -> None:
        """A picture [H, W, 3]."""
        ...

    def close(self, *, failed: bool = False) -> None:
        """Writes what is left."""
        ...


class TensorBoard:
    """Event files in RUN/tensorboard.

    Args:
        folder: of the run.
        start: steps done before; later ones of a killed run are hidden.
    """

    def __init__(self, folder: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One curve a name."""
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def image(self, step: int, name: str, pixels: NDArray[np.uint8], caption: str) -> None:
        """The picture; TensorBoard has no place for a caption."""
        self._board.add_image(name, pixels, step, dataformats="HWC")

    def close(self, *, failed: bool = False) -> None:
        """Flushes the event file."""
        self._board.close()


class WeightsAndBiases:
    """A run at Weights & Biases; a resumed training goes on in the same run.

    Project, entity and mode come from the usual environment variables (WANDB_PROJECT, WANDB_MODE=offline, ...); the
    project is "mmpo" where none is set.

    Args:
        folder: of the run; its name is the run's, and wandb.json keeps the run's id.
        start: steps done before.
        config: shown beside the run.
        wandb: the package, for tests.
    """

    def __init__(self, folder: Path, start: int, config: Mapping[str, Any], wandb: Any = None) -> None:
        wandb = wandb or import_module("wandb")
        self._wandb = wandb
        note = folder / "wandb.json"
        known = json.loads(note.read_text())["id"] if start and note.is_file() else None
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "mmpo"),
                name=folder.name,
                dir=str(folder),
                id=known,
                resume="allow" if known else None,
                reinit="create_new",  # another run that is open in this process is somebody else's
                config=dict(config),
            )
        except Exception as error:
            if not type(error).__module__.startswith("wandb"):
                raise
            raise ValueError(f"train.report_to: Weights & Biases refuses to begin a run: {error}") from None
        write_json(note, {"id": self._run.id})

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One curve a name."""
        self._run.log(dict(values), step=step)

    def image(self, step: int, name: str, pixels: NDArray[np.uint8], caption: str) -> None:
        """The picture with its caption."""
        self._run.log({name: self._wandb.Image(pixels, caption=caption)}, step=step)

    def close(self, *, failed: bool = False) -> None:
        """Ends the run there, as failed where an error ended the training."""
        self._run.finish(exit_code=int(failed))


def open_trackers(names: Sequence[str], folder: Path, start: int, config: Mapping[str, Any]) -> list[Tracker]:
    """The trackers that the recipe's `train.report_to` names."""
    trackers: list[Tracker] = []
    if "tensorboard" in names:
        trackers.append(TensorBoard(folder, start))
    if "wandb" in names:
        trackers.append(WeightsAndBiases(folder, start, config))
    return trackers


def check_trackers(names: Sequence[str]) -> None:
    """Refuses a tracker whose package is not installed, before anything long starts.

    Raises:
        ValueError: names the package and how to get it, or how to log in.
    """
    for name in names:
        if find_spec(name) is None:
            raise ValueError(f"train.report_to: the package {name} is not installed; pip install 'mmpo[{name}]'")
    if "wandb" in names and os.environ.get("WANDB_MODE", "online") == "online" and not _wandb_key():
        raise ValueError(
            "train.report_to: not logged in at Weights & Biases; run `wandb login`, set WANDB_API_KEY, or keep it on "
            "this machine with WANDB_MODE=offline"
        )


def _wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc
    from urllib.parse import urlparse

    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
