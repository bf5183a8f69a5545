"""Random labels: the control that shows how much of a result comes from the labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmpo.records import bytes_hash, content_id
from rewards.scores import Candidate, Response, Scores
from rewards.staged import image_of


class RandomScore:
    """A uniform number in [0, 1) per image and prompt, or per image, question and answer, by hash: the same everywhere.

    Args:
        seed: another seed gives other labels.
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"seed: expected a whole number, got {seed!r}")
        self._seed = seed
        self.identity = {"seed": str(seed)}

    def score(self, candidates: Sequence[Candidate], prompts: Sequence[str]) -> Scores:
        """See `rewards.scores.Reward.score`; no row fails."""
        numbers = [self._number(*row) for row in zip(candidates, prompts, strict=True)]
        return Scores(np.asarray(numbers, dtype=np.float32), [None] * len(numbers))

    def _number(self, candidate: Candidate, prompt: str) -> float:
        answered = [candidate.text] if isinstance(candidate, Response) else []
        return (
            int(content_id(self._seed, prompt, bytes_hash(image_of(candidate).tobytes()), *answered)[:12], 16) / 16**12
        )
