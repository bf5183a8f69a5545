"""Random labels: the control that shows how much of a result comes from the labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from mmpo.records import bytes_hash, content_id
from rewards.scores import Scores


class RandomScore:
    """A uniform number in [0, 1) per image and prompt, by hash: the same on every machine.

    Args:
        seed: another seed gives other labels.
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def score(self, candidates: Sequence[Image.Image], prompts: Sequence[str]) -> Scores:
        """See `rewards.scores.Reward.score`; no row fails."""
        numbers = [
            int(content_id(self._seed, prompt, bytes_hash(image.tobytes()))[:12], 16) / 16**12
            for image, prompt in zip(candidates, prompts, strict=True)
        ]
        return Scores(np.asarray(numbers, dtype=np.float32), [None] * len(numbers))
