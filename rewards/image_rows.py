"""Rows of rewards that score images for prompts: which can be scored, and their scores in their places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewards.answers import refused_answers
from rewards.scores import Scores

Scored = tuple[NDArray[np.float32], Sequence[str | None]]
"""Values of some rows, and per row None or a note."""


def row_faults(name: str, prompts: Sequence[str], responses: Sequence[str | None]) -> list[str | None]:
    """Per row None, or why a reward of images and prompts cannot score it: an answer, or a prompt without text."""
    empty = "the prompt is empty; nothing to compare the image with"
    refused = refused_answers(name, responses)
    return [fault or (None if prompt.strip() else empty) for prompt, fault in zip(prompts, refused, strict=True)]


def score_rows(faults: Sequence[str | None], run: Callable[[list[int]], Scored]) -> Scores:
    """Scores of the rows without a fault; a value that is not finite is a failed row, too.

    Args:
        faults: per row None or why it cannot be scored.
        run: scores the rows of these numbers in one batch.
    """
    rows = [row for row, fault in enumerate(faults) if fault is None]
    values = np.full(len(faults), np.nan, np.float32)
    errors: list[str | None] = list(faults)
    notes: list[str | None] = [None] * len(faults)
    if rows:
        values[rows], said = run(rows)
        for row, note in zip(rows, said, strict=True):
            if np.isfinite(values[row]):
                notes[row] = note
            else:
                errors[row] = f"the model's score is {values[row]}"
                values[row] = np.nan
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
