"""Which rows are trained on and which are held out: by prompt, paraphrases together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol, TypeVar

from mmpo.records import Prompt

MOST_HELD_OUT = 0.2


class HasPrompt(Protocol):
    """A row of the training data."""

    @property
    def id(self) -> str:
        """Of the row, among all rows."""
        ...

    @property
    def prompt(self) -> Prompt:
        """What its images were made for."""
        ...


Row = TypeVar("Row", bound=HasPrompt)


def hold_out(rows: Sequence[Row], pairs: int) -> tuple[list[Row], list[Row]]:
    """(train, held out). No prompt, and no paraphrase of one, is on both sides.

    Args:
        rows: with their `split`. Rows of a tune or validation side are held out (of any but train, test or none);
            where there are none, whole prompts are, in an order set by a hash of the prompt. A test side is not
            touched: the guard and every choice by eye go by what is held out.
        pairs: hold out about so many, at most a fifth of all.
    """
    elsewhere = {row.prompt.cluster for row in rows if row.prompt.split not in ("", "train")}
    tune = [r for r in rows if r.prompt.split not in ("", "train") and not r.prompt.split.startswith("test")]
    rows = [r for r in rows if r.prompt.split in ("", "train") and r.prompt.cluster not in elsewhere]
    if pairs == 0:
        return list(rows), []
    if tune:
        return list(rows), sorted(tune, key=lambda row: _order(row.id))[:pairs]
    budget = min(pairs, int(len(rows) * MOST_HELD_OUT))
    clusters: dict[str, list[Row]] = {}
    for row in rows:
        clusters.setdefault(row.prompt.cluster, []).append(row)
    held: list[Row] = []
    for key in sorted(clusters, key=_order):
        if len(held) + len(clusters[key]) <= budget:
            held.extend(clusters[key])
    chosen = {row.id for row in held}
    return [row for row in rows if row.id not in chosen], held


def _order(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
