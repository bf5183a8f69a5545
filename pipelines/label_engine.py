"""Shards of candidates through decoding, views and every reward, in order: what all labelling is made of."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from pipelines.label_scoring import RowScore, Scorer
from pipelines.label_stages import Piece, prefetched


@dataclass(slots=True)
class ScoredShard:
    """A whole shard.

    Args:
        items: its candidates.
        errors: per candidate why nobody can score it, or None; its pixels were looked at.
        columns: by column the scores of all candidates.
    """

    number: int
    items: list[Any] = field(default_factory=list)
    errors: list[str | None] = field(default_factory=list)
    columns: dict[str, list[RowScore]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """How far labelling is.

    Args:
        piece: what was just done.
        scored: candidates of it that went through a reward.
        failed: of these, and in any column.
        shard: the shard that it ended.
    """

    piece: Piece
    scored: int
    failed: int
    shard: ScoredShard | None


def scored(
    pieces: Iterator[Piece], scorers: Sequence[Scorer], *, workers: int, strict: bool = False
) -> Generator[Told, None, None]:
    """Scores pieces; the last of a shard brings the whole shard.

    Args:
        strict: the first bad row raises.
    Raises:
        ValueError: a bad row where that is fatal, or a reward that never works.
    """
    by_column = {scorer.column: scorer for scorer in scorers}
    views = {column: scorer.reward.view for column, scorer in by_column.items()}
    shard: ScoredShard | None = None
    with closing(prefetched(pieces, views, workers)) as ready:
        for piece, looked in ready:
            if shard is None or shard.number != piece.shard:
                shard = ScoredShard(piece.shard, columns={column: [] for column in piece.columns})
            errors = [seen.error for seen in looked]
            shard.items += [_light(item) for item in piece.items]
            shard.errors += errors
            rows = {column: by_column[column].score(piece.items, looked) for column in sorted(piece.columns)}
            for column, scores in rows.items():
                shard.columns[column] += scores
            if strict:
                _refuse(piece, errors, rows)
            failed = sum(any(scores[row].score is None for scores in rows.values()) for row in range(len(errors)))
            yield Told(piece, len(errors) if rows else 0, failed, shard if piece.last and piece.items else None)


def _light(item: Any) -> Any:
    """The candidate without its image's bytes, as a shard of them would fill the memory."""
    without = getattr(item, "without_image", None)
    return without() if without is not None else item


def _refuse(piece: Piece, errors: Sequence[str | None], rows: Mapping[str, Sequence[RowScore]]) -> None:
    for row, item in enumerate(piece.items):
        if errors[row] is not None:
            raise ValueError(f"{item.place}: {errors[row]}")
        for column, scores in rows.items():
            if scores[row].score is None:
                raise ValueError(f"{item.place}: {column}: {scores[row].error}")
