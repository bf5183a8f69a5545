"""Scores beside sample shards, one label shard for each; images are never rewritten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmpo.data.shards import parquet_files, read_rows, shard_file, write_shard
from pipelines.label_engine import ScoredShard, scored
from pipelines.label_scoring import Scorer
from pipelines.label_stages import Piece
from rewards.scores import Reward
from rewards.staged import staged

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("image_hash", pa.string()),
        ("reward", pa.string()),
        ("score", pa.float32()),
        ("error", pa.string()),
    ]
)
WORKERS = 2


@dataclass(frozen=True, slots=True)
class _Sample:
    id: str
    image: bytes
    image_hash: str
    prompt: str
    place: str
    response: str | None = None
    error: str | None = None


def label(samples: Path, reward: Reward, folder: Path, progress: Callable[[int], None] = lambda done: None) -> int:
    """Scores every sample; label shards that are there are kept.

    Returns:
        How many rows failed; their score is null and their error is in the row.
    """
    scorer = Scorer(reward.name, staged(reward))
    with closing(scored(_pieces(samples, folder, scorer), [scorer], workers=WORKERS)) as results:
        for told in results:
            if told.shard is not None:
                write_shard(folder, told.shard.number, _rows(told.shard, reward.name), SCHEMA)
            if told.piece.last:
                progress(told.piece.count)
    count = len(parquet_files(samples))
    shards = (shard_file(folder, number) for number in range(count))
    return sum(row["score"] is None for file in shards for _, row in read_rows(file, ["score"]))


def _pieces(samples: Path, folder: Path, scorer: Scorer) -> Iterator[Piece]:
    wanted = frozenset([scorer.column])
    for number, file in enumerate(parquet_files(samples)):
        if shard_file(folder, number).is_file():
            yield Piece(number, frozenset(), [], last=True, count=sum(1 for _ in read_rows(file, ["id"])))
            continue
        found = [_sample(place, row) for place, row in read_rows(file)]
        for start in range(0, len(found), scorer.batch_size):
            items = found[start : start + scorer.batch_size]
            yield Piece(number, wanted, items, last=start + len(items) == len(found), count=len(found))


def _sample(place: str, row: dict[str, Any]) -> _Sample:
    return _Sample(row["id"], row["image"]["bytes"], row["image_hash"], row["prompt"], place)


def _rows(shard: ScoredShard, reward: str) -> list[dict[str, Any]]:
    scores = shard.columns[reward]
    return [
        {"id": item.id, "image_hash": item.image_hash, "reward": reward, "score": row.score, "error": row.error}
        for item, row in zip(shard.items, scores, strict=True)
    ]
