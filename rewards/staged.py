"""From candidates to scores through the two stages of a reward, and a reward without stages as one with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rewards.scores import Candidate, Response, Reward, Scores, Staged, View


@dataclass(frozen=True)
class Whole:
    """The view of a reward that looks at the picture itself."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """The same picture."""
        return image


@dataclass(frozen=True)
class _Plain:
    """A reward that has `score` alone."""

    reward: Reward
    name: str
    identity: Mapping[str, str]
    view: View = Whole()
    batch_size: int = 64

    def score(self, candidates: Sequence[Candidate], prompts: Sequence[str]) -> Scores:
        return self.reward.score(candidates, prompts)

    def score_views(self, views: Sequence[Any], prompts: Sequence[str], responses: Sequence[str | None]) -> Scores:
        return self.reward.score([_candidate(*row) for row in zip(views, responses, strict=True)], prompts)


def staged(reward: Reward) -> Staged:
    """The reward, with two stages."""
    if hasattr(reward, "score_views"):
        return cast(Staged, reward)
    return _Plain(reward, reward.name, getattr(reward, "identity", {}))


def score_by_views(
    reward: Staged, candidates: Sequence[Candidate], prompts: Sequence[str], **columns: Sequence[Any]
) -> Scores:
    """`Reward.score` of a staged reward: views of `batch_size` rows at a time, then their scores.

    Args:
        columns: what else of each row this reward's `score_views` takes.
    """
    score_views: Callable[..., Scores] = reward.score_views
    if len(candidates) != len(prompts):
        raise ValueError(f"{reward.name}: {len(candidates)} candidates, {len(prompts)} prompts; give one prompt each")
    batches = []
    for start in range(0, len(prompts), reward.batch_size):
        rows = slice(start, start + reward.batch_size)
        chunk = candidates[rows]
        views = [reward.view(image_of(candidate)) for candidate in chunk]
        texts = [candidate.text if isinstance(candidate, Response) else None for candidate in chunk]
        further = {name: column[rows] for name, column in columns.items()}
        batches.append(score_views(views, prompts[rows], texts, **further))
    return joined(batches)


def image_of(candidate: Candidate) -> Image.Image:
    """The image that is the candidate, or that was asked about: RGB, on white where it is transparent."""
    from mmpo.data.images import to_rgb

    return to_rgb(candidate.image if isinstance(candidate, Response) else candidate)


def joined(batches: Sequence[Scores]) -> Scores:
    """The scores of several batches as one."""
    if not batches:
        return Scores(np.empty(0, np.float32), [])
    names = dict.fromkeys(name for batch in batches for name in batch.parts)
    return Scores(
        np.concatenate([batch.values for batch in batches]),
        [error for batch in batches for error in batch.errors],
        {name: np.concatenate([_part(batch, name) for batch in batches]) for name in names},
        [note for batch in batches for note in (batch.notes or [None] * len(batch.errors))],
    )


def _part(batch: Scores, name: str) -> NDArray[np.float32]:
    """A batch's part; NaN where the batch has none of this name, as a judge's of images has none of answers."""
    return batch.parts[name] if name in batch.parts else np.full(len(batch.values), np.nan, np.float32)


def _candidate(image: Image.Image, response: str | None) -> Candidate:
    return image if response is None else Response(response, image)
