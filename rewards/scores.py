"""What a reward takes and returns, and what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Response:
    """A text answer to a question about an image; the question is the row's prompt.

    Args:
        text: what was answered.
        image: what was asked about.
    """

    text: str
    image: Image.Image


Candidate = Image.Image | Response
"""An image made for the row's prompt, or a text answer to the row's prompt and an image."""


@dataclass(frozen=True)
class Scores:
    """Scores of N candidates, higher is better.

    Args:
        values: [N] float32; NaN where a row failed, never 0.
        errors: per row None, or why it failed.
        parts: per name [N]: what the score is made of.
        notes: per row None, or what to know of a row that was scored, such as a prompt that was cut; () means none.
    """

    values: NDArray[np.float32]
    errors: Sequence[str | None]
    parts: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    notes: Sequence[str | None] = ()


class Reward(Protocol):
    """A model or function that scores candidates.

    It may have `identity`, a mapping of texts: what its scores depend on (weights, dtype, view, options), so that
    labels of two models are not mixed.
    """

    @property
    def name(self) -> str:
        """Its name in the table, and of its column."""
        ...

    def score(self, candidates: Sequence[Candidate], prompts: Sequence[str]) -> Scores:
        """Scores of N candidates, each for its own prompt."""
        ...


@dataclass(frozen=True)
class Comparison:
    """What a judge says of N pairs, each asked in both orders.

    Args:
        values: [N] float32 in [0, 1]: the probability that the first is better, ½ for a tie; NaN where a row failed.
        errors: per row None, or why it failed.
        consistent: [N] bool: whether both orders gave the same verdict; False where a row failed.
    """

    values: NDArray[np.float32]
    errors: Sequence[str | None]
    consistent: NDArray[np.bool_]


class Judge(Protocol):
    """A model or function that compares candidates of a prompt by twos."""

    @property
    def name(self) -> str:
        """Its name in the table."""
        ...

    def compare(self, first: Sequence[Candidate], second: Sequence[Candidate], prompts: Sequence[str]) -> Comparison:
        """Which of N pairs' candidates is better, each for its own prompt."""
        ...


class View(Protocol):
    """A reward's exact preprocessing of one image, on the CPU and safe in threads. Equal views are computed once."""

    def __call__(self, image: Image.Image) -> Any:
        """What the reward's model sees of an RGB image."""
        ...

    def __hash__(self) -> int: ...

    def __eq__(self, other: object, /) -> bool: ...


class Staged(Reward, Protocol):
    """A reward in two stages, so that a program can decode and resize while the model runs."""

    @property
    def view(self) -> View:
        """The first stage."""
        ...

    @property
    def batch_size(self) -> int:
        """Rows that the second stage likes to have at once; scores do not depend on it."""
        ...

    def score_views(self, views: Sequence[Any], prompts: Sequence[str], responses: Sequence[str | None]) -> Scores:
        """Scores of N rows in one batch.

        Args:
            views: what `view` made of each row's image.
            prompts: the prompt, or the question.
            responses: None where the image is the candidate, else the answer that is.
        """
        ...
