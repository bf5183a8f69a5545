"""Scores beside images: one label shard per sample shard; images are never rewritten."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from mmpo.data.images import decode
from mmpo.data.shards import parquet_files, read_rows, shard_file, write_shard
from rewards.scores import Reward

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("image_hash", pa.string()),
        ("reward", pa.string()),
        ("score", pa.float32()),
        ("error", pa.string()),
    ]
)


def label(samples: Path, reward: Reward, folder: Path, progress: Callable[[int], None] = lambda done: None) -> int:
    """Scores every sample; label shards that are there are kept.

    Returns:
        How many rows failed; their score is null and their error is in the row.
    """
    failed = 0
    for number, file in enumerate(parquet_files(samples)):
        done = shard_file(folder, number)
        if not done.is_file():
            rows = [row for _, row in read_rows(file)]
            scores = reward.score([decode(row["image"]["bytes"]) for row in rows], [row["prompt"] for row in rows])
            write_shard(
                folder,
                number,
                [
                    {
                        "id": row["id"],
                        "image_hash": row["image_hash"],
                        "reward": reward.name,
                        "score": None if math.isnan(value) else float(value),
                        "error": error,
                    }
                    for row, value, error in zip(rows, scores.values, scores.errors, strict=True)
                ],
                SCHEMA,
            )
        written = [row for _, row in read_rows(done)]
        failed += sum(row["score"] is None for row in written)
        progress(len(written))
    return failed
