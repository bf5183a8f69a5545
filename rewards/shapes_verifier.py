"""The built-in world's verifier as a reward: what is really in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from PIL import Image

from mmpo.shapes.verifier import verify
from rewards.scores import Scores

Measure = Literal["correct", "soft", "mirrored", "count", "objects", "relation"]


class ShapesVerifier:
    """Reads colour, shape, count and order back from pixels; right on more than 99.5 % of rendered images.

    Args:
        measure: what the value is: "correct" 1 or 0, or "soft", a graded score in [0, 1]; every other measure is
            among the parts.
    Raises:
        ValueError: unknown measure.
    """

    name = "shapes"

    def __init__(self, measure: Measure = "correct") -> None:
        if measure not in get_args(Measure):
            raise ValueError(f"measure: expected one of {', '.join(get_args(Measure))}, got {measure!r}")
        self._measure = measure

    def score(self, candidates: Sequence[Image.Image], prompts: Sequence[str]) -> Scores:
        """See `rewards.scores.Reward.score`. A prompt outside the grammar is a failed row."""
        names = get_args(Measure)
        table = np.full((len(names), len(prompts)), np.nan, dtype=np.float32)
        errors: list[str | None] = [None] * len(prompts)
        for row, (image, prompt) in enumerate(zip(candidates, prompts, strict=True)):
            try:
                verdict = verify(image, prompt)
            except ValueError as error:
                errors[row] = str(error)
                continue
            table[:, row] = [float(getattr(verdict, name)) for name in names]
        parts = dict(zip(names, table, strict=True))
        return Scores(parts[self._measure], errors, parts)
