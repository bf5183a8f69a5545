"""The folder of labels: whose it is, what in it is done, and what may not be mixed. Imports no torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpo.data.labels import (
    column_folder,
    mark_labels,
    read_marker,
    read_reward,
    rows_folder,
)
from mmpo.data.shards import read_rows, shard_file
from mmpo.data.source_paths import is_here, local_path
from mmpo.files import drop_partials, write_json
from pipelines.label_spec import RewardSpec

DATASET = "dataset.json"
PLACES = ("weights", "revision")
"""Options that say where weights are, and not what they are."""


def check_folder(folder: Path, dataset: Mapping[str, Any], specs: Sequence[RewardSpec], *, redo: bool) -> None:
    """Refuses a folder that cannot be written, or holds other labels than these.

    Args:
        dataset: what is labelled, and how it is read.
        redo: the columns of `specs` may be of other rewards, since they are made anew.
    Raises:
        ValueError: names what is there, and what to do.
    """
    path = str(dataset["path"])
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output {folder}: is a file; give a folder")
    here, place = folder.resolve(), local_path(path).resolve()
    if is_here(path) and (here == place or place in here.parents or here in place.parents):
        raise ValueError(f"--output {folder}: lies inside {path} or around it; give a folder beside it")
    known = _read_dataset(folder)
    if known is None and folder.is_dir() and any(not item.name.startswith(".") for item in folder.iterdir()):
        raise ValueError(f"--output {folder}: holds something that is not labels; give a new folder")
    if known is not None and known != dataset:
        differ = sorted(name for name in {*known, *dataset} if known.get(name) != dataset.get(name))
        shown = ", ".join(f"{name} {known.get(name)!r}, not {dataset.get(name)!r}" for name in differ)
        raise ValueError(f"--output {folder}: holds the labels of other data ({shown}); give another folder")
    for spec in () if redo else specs:
        was = _begun(folder, spec.column)
        if was is not None:
            places = PLACES if was.get("identity") else ()  # then the identity says whether the weights are the same
            before, now = ({k: v for k, v in o.items() if k not in places} for o in (was["options"], spec.telling))
            _refuse_other(folder, spec, {**was, "options": before}, {"name": spec.name, "options": now})


def prepare_folder(folder: Path, dataset: Mapping[str, Any], specs: Sequence[RewardSpec], *, redo: bool) -> None:
    """Begins or goes on; with `redo` the columns of `specs` are taken away first."""
    if _read_dataset(folder) is None:
        write_json(folder / DATASET, dict(dataset))
    if redo:
        drop_columns(folder, [spec.column for spec in specs])
    drop_partials(folder)


def drop_columns(folder: Path, columns: Iterable[str]) -> None:
    """Takes columns away, from the marker first."""
    marker = read_marker(folder)
    for column in columns:
        if marker is not None and marker["columns"].pop(column, None) is not None:
            mark_labels(folder, marker)
        if column_folder(folder, column).exists():
            shutil.rmtree(column_folder(folder, column))


def check_identity(folder: Path, spec: RewardSpec, identity: Mapping[str, str]) -> None:
    """Refuses to go on with a column that other weights began.

    Raises:
        ValueError: names what differs.
    """
    was = _begun(folder, spec.column)
    if was is not None:
        _refuse_other(folder, spec, was, {"identity": dict(identity)})


def has_rows(folder: Path, shard: int) -> bool:
    """Whether a shard of rows is there."""
    return shard_file(rows_folder(folder), shard).is_file()


def has_scores(folder: Path, column: str, shard: int) -> bool:
    """Whether a shard of scores is there."""
    return shard_file(column_folder(folder, column), shard).is_file()


def check_keys(folder: Path, shard: int, keys: Sequence[str]) -> None:
    """Refuses data that are no longer those of a shard that is there.

    Raises:
        ValueError: they changed.
    """
    file = shard_file(rows_folder(folder), shard)
    if [row["key"] for _, row in read_rows(file, ["key"])] != list(keys):
        raise ValueError(f"{file}: holds other candidates than the data now do, so the data changed; {_CHANGED}")


def check_count(folder: Path, shards: int) -> None:
    """Refuses data of which there were more.

    Raises:
        ValueError: there are shards beyond the last.
    """
    numbers = (int(file.stem.rpartition("-")[2]) for file in rows_folder(folder).glob("shard-*.parquet"))
    if shards and max(numbers, default=0) >= shards:
        raise ValueError(f"{folder}: holds more candidates than the data now do; {_CHANGED}")


_CHANGED = "label it into another folder (--output)"


def _read_dataset(folder: Path) -> dict[str, Any] | None:
    import json

    file = folder / DATASET
    return json.loads(file.read_text()) if file.is_file() else None


def _begun(folder: Path, column: str) -> dict[str, Any] | None:
    """What a column's scores are of; None where it has none yet, so that a mistaken call binds nobody."""
    return read_reward(folder, column) if any(column_folder(folder, column).glob("shard-*.parquet")) else None


def _refuse_other(folder: Path, spec: RewardSpec, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name, value in now.items():
        if was.get(name) != value:
            raise ValueError(
                f"--output {folder}: its column '{spec.column}' was scored otherwise: {name} {was.get(name)}, "
                f"now {value}; give --reward {spec.name},as=NAME for a second column, or --redo to score this one again"
            )
