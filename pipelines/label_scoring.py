"""The second stage of labelling: a reward on a batch; a row that breaks it is found, one that never works stops."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.label_stages import Looked, Scorable, said
from rewards.scores import Scores, Staged

PATIENCE = 128
"""Rows, none of which a reward could score, after which it is taken to be broken."""


@dataclass(frozen=True, slots=True)
class RowScore:
    """One reward's score of one row; a null has its error."""

    score: float | None
    error: str | None = None
    note: str | None = None
    parts: Mapping[str, float | None] = field(default_factory=dict)


class Scorer:
    """One reward with what it went through so far.

    Args:
        column: what its scores are called.
        reward: in two stages.
        batch_size: rows at once in place of its own wish.
    """

    def __init__(self, column: str, reward: Staged, batch_size: int | None = None) -> None:
        self.column, self.reward = column, reward
        self.batch_size = batch_size or reward.batch_size
        self._worked, self._failed, self._raised = False, 0, 0

    def score(self, items: Sequence[Scorable], looked: Sequence[Looked]) -> list[RowScore]:
        """Scores of a piece.

        Raises:
            ValueError: the reward failed on every row so far, or raised on the last `PATIENCE` ones.
        """
        view = self.reward.view
        found: list[RowScore | None] = [_unseen(seen, view) for seen in looked]
        rows = [row for row, score in enumerate(found) if score is None]
        start = 0
        while start < len(rows):
            chunk = rows[start : start + self.batch_size]
            scores = self._rows([items[row] for row in chunk], [looked[row].views[view] for row in chunk])
            if scores is None:
                continue  # out of memory: the same rows in smaller batches
            for row, score in zip(chunk, scores, strict=True):
                found[row] = score
            start += len(chunk)
        return [score for score in found if score is not None]

    def _rows(self, items: Sequence[Scorable], views: Sequence[Any]) -> list[RowScore] | None:
        """Scores of one batch; None where it must be made smaller."""
        try:
            scores = self.reward.score_views(views, [item.prompt for item in items], [item.response for item in items])
        except Exception as error:
            if _out_of_memory(error) and self.batch_size > 1:
                self.batch_size = max(1, min(len(items), self.batch_size) // 2)
                return None
            if len(items) == 1:
                failed = RowScore(None, said(error))
                self._tell(items[0], failed, raised=True)
                return [failed]
            middle = len(items) // 2
            halves = [self._surely(items[part], views[part]) for part in (slice(middle), slice(middle, None))]
            return [score for half in halves for score in half]
        rows = _rows_of(scores, len(items), self.reward.name)
        for item, row in zip(items, rows, strict=True):
            self._tell(item, row, raised=False)
        return rows

    def _surely(self, items: Sequence[Scorable], views: Sequence[Any]) -> list[RowScore]:
        rows, start = [], 0
        while start < len(items):
            stop = start + min(self.batch_size, len(items))
            scores = self._rows(items[start:stop], views[start:stop])
            if scores is not None:
                rows += scores
                start = stop
        return rows

    def _tell(self, item: Scorable, row: RowScore, *, raised: bool) -> None:
        if row.score is not None:
            self._worked, self._failed, self._raised = True, 0, 0
            return
        self._failed += 1
        self._raised = self._raised + 1 if raised else 0
        if self._raised >= PATIENCE or (not self._worked and self._failed >= PATIENCE):
            what = "none of the first" if not self._worked else "none of the last"
            raise ValueError(
                f"reward {self.column}: could score {what} {self._failed} rows, so it is stopped; the last, "
                f"{item.place}: {row.error}"
            )


def _unseen(looked: Looked, view: Any) -> RowScore | None:
    """The null of a row whose image nobody, or this reward, could look at."""
    error = looked.error or looked.faults.get(view)
    return None if error is None else RowScore(None, error)


def _rows_of(scores: Scores, count: int, name: str) -> list[RowScore]:
    if len(scores.values) != count or len(scores.errors) != count:
        raise AssertionError(f"reward {name} gave {len(scores.values)} scores for {count} rows")
    notes = scores.notes or [None] * count
    rows = []
    for row, (value, error) in enumerate(zip(scores.values, scores.errors, strict=True)):
        number = float(value)
        parts = {part: _finite(values[row]) for part, values in scores.parts.items()}
        if error is None and not math.isfinite(number):
            error = f"the reward gave {number} and no reason"
        rows.append(RowScore(None if error is not None else number, error, notes[row], parts))
    return rows


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _out_of_memory(error: Exception) -> bool:
    return type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error).lower()
