"""What a reward returns, and what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Scores:
    """Scores of N candidates, higher is better.

    Args:
        values: [N] float32; NaN where a row failed, never 0.
        errors: per row None, or why it failed.
        parts: per name [N]: what the score is made of.
    """

    values: NDArray[np.float32]
    errors: Sequence[str | None]
    parts: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


class Reward(Protocol):
    """A model or function that scores candidates."""

    name: str

    def score(self, candidates: Sequence[Image.Image], prompts: Sequence[str]) -> Scores:
        """Scores of N images, each for its own prompt."""
        ...
