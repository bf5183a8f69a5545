"""A reward that is a multiple of the cosine of a CLIP's embeddings: what `clip`, `pickscore` and `hpsv2` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from rewards.clip_model import ClipModel, cosine_scores
from rewards.scores import Candidate, Scores, View
from rewards.staged import score_by_views


class CosineReward:
    """scale · max(cos(image, text), least).

    Args:
        name: in the table.
        clip: the model.
        view: its images.
        scale, least: of the formula.
        batch_size: rows at once.
        identity: gives what its scores depend on; asked for when it is needed, once, as it hashes the weights.
    """

    def __init__(
        self,
        name: str,
        clip: ClipModel,
        view: View,
        *,
        scale: float = 1.0,
        least: float = -1.0,
        batch_size: int,
        identity: Callable[[], Mapping[str, str]],
    ) -> None:
        self.name, self.clip, self.view, self.batch_size = name, clip, view, batch_size
        self._scale, self._least, self._identity = scale, least, identity

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """What its scores depend on."""
        return self._identity()

    def score(self, candidates: Sequence[Candidate], prompts: Sequence[str]) -> Scores:
        """See `rewards.scores.Reward.score`; an answer is compared with its image in the prompt's place."""
        return score_by_views(self, candidates, prompts)

    def score_views(self, views: Sequence[Any], prompts: Sequence[str], responses: Sequence[str | None]) -> Scores:
        """See `rewards.scores.Staged.score_views`."""
        return cosine_scores(self.clip, views, prompts, responses, self._scale, self._least)
