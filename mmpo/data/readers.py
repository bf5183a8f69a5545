"""Other people's preference rows as groups: a table of formats, each a small pure function."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmpo.data.rows import group_from_row
from mmpo.data.shards import columns_of, read_rows
from mmpo.records import Candidate, Group, Prompt, bytes_hash, content_id


@dataclass
class ReadReport:
    """What reading left out, and why.

    Args:
        counts: "rows", "pairs", "ties" and one entry per kind of bad row.
        bad: the first messages, each naming file and row.
    """

    counts: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def add_bad(self, message: str) -> None:
        """Counts a bad row and keeps the first twenty messages."""
        self.counts["bad"] += 1
        if len(self.bad) < 20:
            self.bad.append(message)


@dataclass(frozen=True)
class Format:
    """One layout of columns.

    Args:
        name: as recipes name it.
        columns: needed for this format; the first match in the table wins.
        read: row, its source -> a pair, or None for a tie. A ValueError names what is wrong with the row.
    """

    name: str
    columns: tuple[str, ...]
    read: Callable[[Mapping[str, Any], str], Group | None]


def image_bytes(value: Any, column: str) -> bytes:
    """Bytes of an image column: raw binary, or the `{bytes, path}` of `datasets.Image`.

    Raises:
        ValueError: null, or a path without bytes.
    """
    if isinstance(value, Mapping):
        value = value.get("bytes")
    if isinstance(value, bytes | bytearray) and value:
        return bytes(value)
    raise ValueError(f"column '{column}' holds no image bytes")


def _prompt(row: Mapping[str, Any], column: str) -> str:
    text = row.get(column)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"column '{column}' is empty")
    return text


def _read_pairs(row: Mapping[str, Any], source: str) -> Group:
    text = _prompt(row, "prompt")
    images = [image_bytes(row[column], column) for column in ("chosen", "rejected")]
    return group_from_row(row, images, source=source, group_id=content_id("pair", text, *map(bytes_hash, images)))


def _read_pick_a_pic(row: Mapping[str, Any], source: str) -> Group | None:
    label = row["label_0"]
    if label not in (0, 0.5, 1):
        raise ValueError(f"column 'label_0' is {label!r}; expected 0, 0.5 or 1")
    if row.get("has_label") is False:
        raise ValueError("column 'has_label' is false: nobody compared these two images")
    if row.get("label_1") is not None and row["label_1"] != 1 - label:
        raise ValueError(
            f"columns 'label_0' and 'label_1' are {label!r} and {row['label_1']!r}; they contradict each other"
        )
    if label == 0.5:
        return None
    text = _prompt(row, "caption")
    first, second = (image_bytes(row[column], column) for column in ("jpg_0", "jpg_1"))
    chosen, rejected = (first, second) if label == 1 else (second, first)
    models = (row.get("model_0"), row.get("model_1"))
    made = [{"model": model} for model in (models if label == 1 else models[::-1])]
    return Group(
        id=content_id("pick_a_pic", row.get("ranking_id"), text, bytes_hash(chosen), bytes_hash(rejected)),
        prompt=Prompt(text, split=row.get("split") or ""),
        candidates=[Candidate(chosen, made[0]), Candidate(rejected, made[1])],
        source=source,
    )


def _read_ranked(row: Mapping[str, Any], source: str) -> Group | None:
    text = _prompt(row, "prompt")
    images = [image_bytes(value, "images") for value in row["images"] or []]
    rank = row["rank"] or []
    if len(images) < 2 or len(rank) != len(images):
        raise ValueError(f"columns 'images' and 'rank' hold {len(images)} and {len(rank)} values; expected equal, 2 up")
    if any(not isinstance(value, int | float) or not math.isfinite(value) for value in rank):
        raise ValueError(f"column 'rank' is {rank!r}; expected a finite number per image, 1 is best")
    best, worst = rank.index(min(rank)), rank.index(max(rank))
    if rank[best] == rank[worst]:
        return None
    pair = [images[best], images[worst]]
    return Group(
        id=content_id("ranked", row.get("id"), text, *map(bytes_hash, pair)),
        prompt=Prompt(text, row.get("key") or "", row.get("split") or ""),
        candidates=[Candidate(image) for image in pair],
        source=source,
    )


FORMATS = {
    fmt.name: fmt
    for fmt in (
        Format("pairs", ("prompt", "chosen", "rejected"), _read_pairs),
        Format("pick_a_pic", ("caption", "jpg_0", "jpg_1", "label_0"), _read_pick_a_pic),
        Format("ranked", ("prompt", "images", "rank"), _read_ranked),
    )
}


def detect(columns: list[str], where: str, name: str = "auto") -> Format:
    """The format of these columns, or the named one if its columns are there.

    Raises:
        ValueError: lists the columns that were found and what each format needs.
    """
    candidates = [FORMATS[name]] if name != "auto" else list(FORMATS.values())
    for candidate in candidates:
        if set(candidate.columns) <= set(columns):
            return candidate
    needs = "; ".join(f"{c.name} needs {', '.join(c.columns)}" for c in candidates)
    missing = ""
    if len(candidates) == 1:
        missing = f" missing: {', '.join(c for c in candidates[0].columns if c not in columns)};"
    raise ValueError(f"{where}:{missing} found the columns {', '.join(columns) or 'none'}; {needs}")


def read_pairs(
    path: str,
    *,
    format: str = "auto",
    split: str | None = None,
    limit: int | None = None,
    on_bad_row: str = "skip",
    report: ReadReport | None = None,
) -> Iterator[Group]:
    """Pairs, chosen first, from a folder of parquet shards, a parquet file, or a data set on the hub.

    Args:
        path: where the rows are; ranked rows give their best and worst candidate.
        format: a key of `FORMATS`, or "auto" by columns.
        split: of a hub data set.
        limit: stop after so many pairs.
        on_bad_row: "skip" counts a bad row in `report`; "error" raises.
        report: is filled while reading.
    Raises:
        ValueError: nothing to read, unknown columns, or a bad row where that is fatal.
    """
    report = report if report is not None else ReadReport()
    if is_local(path):
        columns, rows = columns_of(Path(path)), read_rows(Path(path))
    else:
        columns, rows = _hub_rows(path, split or "train")
    fmt = detect(columns, path, format)
    for source, row in rows:
        if limit is not None and report.counts["pairs"] >= limit:
            return
        report.counts["rows"] += 1
        try:
            _check_columns(fmt, row)
            group = fmt.read(row, source)
        except ValueError as error:
            if on_bad_row == "error":
                raise ValueError(f"{source}: {error}") from None
            report.add_bad(f"{source}: {error}")
            continue
        if group is None:
            report.counts["ties"] += 1
            continue
        report.counts["pairs"] += 1
        yield group


def is_local(path: str) -> bool:
    """Whether `data.path` means a place on this machine, or else a data set on the hub."""
    return Path(path).exists() or Path(path).is_absolute() or path.startswith(".")


def _check_columns(fmt: Format, row: Mapping[str, Any]) -> None:
    """A later shard may lack a column that the first one has."""
    missing = [column for column in fmt.columns if column not in row]
    if missing:
        raise ValueError(f"column '{missing[0]}' is missing; found {', '.join(row)}")


def _hub_rows(path: str, split: str) -> tuple[list[str], Iterator[tuple[str, dict[str, Any]]]]:
    from datasets import Image, load_dataset

    try:
        data = load_dataset(path, split=split, streaming=True)
    except Exception as error:
        raise ValueError(
            f"data.path {path}: no such file or folder, and the hub gave no data set of that name "
            f"({type(error).__name__})"
        ) from None
    features = data.features or {}
    for column, feature in features.items():
        if isinstance(feature, Image):
            data = data.cast_column(column, Image(decode=False))
    columns = list(features) or list(next(iter(data)))
    return columns, ((f"{path} ({split}), row {number}", row) for number, row in enumerate(data))
