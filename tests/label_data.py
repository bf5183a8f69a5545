"""Data sets to label, and rewards that count or fail."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_clips import make_clip

from mmpo.data.candidates import open_candidates
from mmpo.data.images import encode
from mmpo.data.labels import column_folder, rows_folder
from mmpo.data.shards import read_rows
from mmpo.shapes.grammar import captions
from mmpo.shapes.prompts import scenes
from mmpo.shapes.render import render
from pipelines.label_folder import check_folder, prepare_folder
from pipelines.label_run import LabelJob, run_labels
from pipelines.label_spec import parse_specs
from rewards.scores import Scores


def make_shapes(folder: Path, prompts: int = 8, each: int = 3) -> Path:
    """A table of rendered pictures, `each` of a prompt; all but the first of a prompt are spoilt."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, scene in enumerate(scenes("train")[:prompts]):
        for k in range(each):
            name = f"{number}-{k}.png"
            (folder / name).write_bytes(encode(render(scene, k, defect="missing" if k else None)))
            lines.append(json.dumps({"image": name, "prompt": captions(scene)[0]}))
    (folder / "data.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "data.jsonl"


def label_data(
    data: Path, folder: Path, *rewards_: str, loaded: dict[str, Any] | None = None, redo: bool = False, **job: Any
) -> dict[str, Any] | None:
    """Labels as the command does, in this process.

    Args:
        loaded: rewards by name in place of those of the table, which gives no names to check them against.
    """
    opened = open_candidates(str(data))
    specs = parse_specs(rewards_, opened.kind)
    dataset = {"path": str(data), "kind": opened.kind}
    check_folder(folder, dataset, specs, redo=redo)
    prepare_folder(folder, dataset, specs, redo=redo)
    options = {"shard_rows": 8, **job}
    if loaded is None:
        return run_labels(LabelJob(opened, specs, folder, dataset, **options))
    return run_labels(LabelJob(opened, specs, folder, dataset, **options), lambda name, **_: loaded[name])


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """All rows of a folder of labels."""
    return [row for _, row in read_rows(rows_folder(folder))]


def scores_of(folder: Path, column: str) -> list[dict[str, Any]]:
    """All rows of a column of scores."""
    return [row for _, row in read_rows(column_folder(folder, column))]


def everything(folder: Path) -> dict[str, Any]:
    """Each file of labels by its name, without the pace of the last call: to compare two folders."""
    found: dict[str, Any] = {}
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        name = str(file.relative_to(folder))
        found[name] = [row for _, row in read_rows(file)] if file.suffix == ".parquet" else json.loads(file.read_text())
    found.get("labels.json", {}).pop("last_call", None)
    return found


def jpeg(side: int = 64) -> bytes:
    """A JPEG of noise."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


class Counting:
    """The mean of the red pixels; counts rows, and fails as it is told to.

    Args:
        broken: prompts on which the whole batch raises.
        most: more rows than these are out of memory.
    """

    name = "random"
    batch_size = 4

    def __init__(self, broken: Sequence[str] = (), most: int = 1000, identity: str = "1") -> None:
        self.rows, self.sizes = 0, list[int]()
        self.views = 0
        self._broken, self._most = set(broken), most
        self.identity = {"weights": identity}
        self.view = Mean(self)

    def score(self, candidates: Sequence[Image.Image], prompts: Sequence[str]) -> Scores:
        """Not called by the engine."""
        raise AssertionError

    def score_views(self, views: Sequence[float], prompts: Sequence[str], responses: Sequence[str | None]) -> Scores:
        """The views themselves."""
        self.sizes.append(len(views))
        if len(views) > self._most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")
        if self._broken & set(prompts):
            raise KeyError("no such word")
        self.rows += len(views)
        return Scores(np.asarray(views, np.float32), [None] * len(views), {"mean": np.asarray(views, np.float32)})


class Mean:
    """A view that counts its calls; those of one reward are equal."""

    def __init__(self, reward: Counting) -> None:
        self._reward = reward

    def __call__(self, image: Image.Image) -> float:
        self._reward.views += 1
        return float(np.asarray(image)[..., 0].mean())

    def __hash__(self) -> int:
        return hash(type(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mean)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `make_clip`."""
    return make_clip(tmp_path_factory.mktemp("clip"))
