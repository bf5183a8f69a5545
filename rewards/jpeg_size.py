"""How small an image is as a JPEG: the reward of compressibility, and the other way round."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from rewards.image_rows import refused_answers
from rewards.scores import Candidate, Scores
from rewards.staged import score_by_views


@dataclass(frozen=True)
class JpegBytes:
    """The view that counts: bytes of the image as a JPEG of PIL's, at this quality, at its own size."""

    quality: int = 95

    def __call__(self, image: Image.Image) -> int:
        """Bytes."""
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=self.quality)
        return buffer.tell()


class JpegSize:
    """−bytes / 1000 of the image as a JPEG of quality 95, or +bytes / 1000; compares images of one size only.

    Args:
        more: larger files are better (incompressibility).
    References:
        Black et al., Training Diffusion Models with Reinforcement Learning, arXiv 2305.13301, section 5.1.
    """

    name = "jpeg_size"
    view = JpegBytes()
    batch_size = 64

    def __init__(self, more: bool = False) -> None:
        if not isinstance(more, bool):
            raise ValueError(f"more: expected true or false, got {more!r}")
        self.identity = {"view": repr(self.view), "more": str(more)}
        self._sign = 1 if more else -1

    def score(self, candidates: Sequence[Candidate], prompts: Sequence[str]) -> Scores:
        """See `rewards.scores.Reward.score`; an answer is a failed row."""
        return score_by_views(self, candidates, prompts)

    def score_views(self, views: Sequence[Any], prompts: Sequence[str], responses: Sequence[str | None]) -> Scores:
        """See `rewards.scores.Staged.score_views`."""
        faults = refused_answers(self.name, responses)
        values = [
            self._sign * size / 1000 if fault is None else np.nan for size, fault in zip(views, faults, strict=True)
        ]
        return Scores(np.asarray(values, np.float32), faults)
