"""Parquet files of pairs as other people's tools write them, and what our reader makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tiny import picture

from mmpo.data.readers import ReadReport, read_pairs
from mmpo.records import Group

A, B, C = picture(1), picture(2), picture(3)
PAIR = {"prompt": "a red cat", "chosen": A, "rejected": B}
RANKED = {"prompt": "a red cat", "images": [A, B, C], "rank": [2, 3, 1]}
PICK_A_PIC = {
    "are_different": True,
    "best_image_uid": "uid-0",
    "caption": "a red cat",
    "created_at": datetime(2023, 1, 2, 3, 4, 5, 678901),
    "has_label": True,
    "image_0_uid": "uid-0",
    "image_0_url": "https://example.org/0.jpg",
    "image_1_uid": "uid-1",
    "image_1_url": "https://example.org/1.jpg",
    "jpg_0": A,
    "jpg_1": B,
    "label_0": 1.0,
    "label_1": 0.0,
    "model_0": "model zero",
    "model_1": "model one",
    "ranking_id": 7,
    "user_id": 3,
    "num_example_per_prompt": 4,
    "__index_level_0__": 11,
}
PICK_A_PIC_SCHEMA = pa.schema(
    [
        ("are_different", pa.bool_()),
        ("best_image_uid", pa.string()),
        ("caption", pa.string()),
        ("created_at", pa.timestamp("ns")),
        ("has_label", pa.bool_()),
        ("image_0_uid", pa.string()),
        ("image_0_url", pa.string()),
        ("image_1_uid", pa.string()),
        ("image_1_url", pa.string()),
        ("jpg_0", pa.binary()),
        ("jpg_1", pa.binary()),
        ("label_0", pa.float64()),
        ("label_1", pa.float64()),
        ("model_0", pa.string()),
        ("model_1", pa.string()),
        ("ranking_id", pa.int64()),
        ("user_id", pa.int64()),
        ("num_example_per_prompt", pa.int64()),
        ("__index_level_0__", pa.int64()),
    ]
)

NAN = float("nan")


def write(folder: Path, rows: Sequence[dict[str, Any]], name: str = "a", schema: pa.Schema | None = None) -> Path:
    """A parquet file of rows, by pyarrow alone, as other people's tools write it."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), folder / f"{name}.parquet")
    return folder


def read(path: Path, **options: Any) -> tuple[list[Group], ReadReport]:
    """All pairs at a path, and what was left out."""
    report = ReadReport()
    return list(read_pairs(str(path), report=report, **options)), report


def contents(groups: Sequence[Group]) -> list[list[bytes]]:
    """The images' bytes, best first."""
    return [[candidate.image for candidate in group.candidates] for group in groups]
