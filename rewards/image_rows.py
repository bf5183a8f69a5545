"""Rows of a reward: which can be scored, what to say of those that cannot, and scores in their places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rewards.scores import Scores
from rewards.table import REWARD_TABLE

Scored = tuple[NDArray[np.float32], Sequence[str | None]]
"""Values of some rows, and per row None or a note."""


def refused_answers(name: str, responses: Sequence[str | None]) -> list[str | None]:
    """Per row None, or why a reward that scores images cannot score an answer.

    Args:
        name: of the reward.
        responses: per row None, or the answer.
    """
    takers = ", ".join(other for other, entry in REWARD_TABLE.items() if "response" in entry.takes)
    said = f"{name} scores images, not answers; rewards that take answers: {takers}"
    return [None if response is None else said for response in responses]


def empty_texts(texts: Sequence[str]) -> list[str | None]:
    """Per row None, or that there is no text to compare the image with."""
    return [None if text.strip() else "the text is empty; nothing to compare the image with" for text in texts]


def row_faults(name: str, prompts: Sequence[str], responses: Sequence[str | None]) -> list[str | None]:
    """Per row None, or why a reward of images and prompts cannot score it: an answer, or a prompt without text."""
    refused = refused_answers(name, responses)
    return [one or other for one, other in zip(refused, empty_texts(prompts), strict=True)]


def cut_note(tokens: int, limit: int) -> str | None:
    """What to say of a text longer than the model reads."""
    return f"text of {tokens} tokens, cut to the {limit} that the model reads" if tokens > limit else None


def finite_or_failed(values: ArrayLike, errors: Sequence[str | None]) -> tuple[NDArray[np.float32], list[str | None]]:
    """[N] float32 values, NaN where one is not finite, and the errors, each such row with one."""
    found = np.asarray(values, np.float32)
    fine = np.isfinite(found)
    said = [
        None if good else error or f"the model's score is {value}; in float16 try bfloat16 or float32"
        for value, good, error in zip(found, fine, errors, strict=True)
    ]
    return np.where(fine, found, np.float32(np.nan)), said


def score_rows(faults: Sequence[str | None], run: Callable[[list[int]], Scored]) -> Scores:
    """Scores of the rows without a fault; a value that is not finite is a failed row, too.

    Args:
        faults: per row None or why it cannot be scored.
        run: scores the rows of these numbers in one batch.
    """
    rows = [row for row, fault in enumerate(faults) if fault is None]
    values = np.full(len(faults), np.nan, np.float32)
    notes: list[str | None] = [None] * len(faults)
    if rows:
        values[rows], said = run(rows)
        for row, note in zip(rows, said, strict=True):
            notes[row] = note if np.isfinite(values[row]) else None
    values, errors = finite_or_failed(values, faults)
    return Scores(values, errors, notes=notes)


def distinct(views: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The different objects among views, and each row's number in them: an image that stands in several rows once."""
    numbers: dict[int, int] = {}
    found: list[Any] = []
    for view in views:
        if id(view) not in numbers:
            numbers[id(view)] = len(found)
            found.append(view)
    return found, [numbers[id(view)] for view in views]
