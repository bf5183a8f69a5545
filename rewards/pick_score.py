"""PickScore: which image of a prompt people prefer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewards.clip_files import load_clip
from rewards.clip_model import cosine_scores
from rewards.scores import Candidate, Scores
from rewards.staged import score_by_views
from rewards.views import ShortestSideCrop
from rewards.weights_hash import weights_identity


class PickScore:
    """exp(logit_scale) · cos(image, text) of a CLIP-H trained on human choices.

    Args:
        weights: hub name or folder of a transformers CLIP.
        revision: on the hub.
        device, dtype: of the model.
        batch_size: rows at once.
    References:
        Kirstain et al., Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image Generation, arXiv 2305.01569.
    """

    name = "pickscore"

    def __init__(
        self,
        weights: str = "yuvalkirstain/PickScore_v1",
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int = 32,
    ) -> None:
        self.clip = load_clip(weights, revision=revision, device=device, dtype=dtype)
        self.view = ShortestSideCrop(self.clip.size)
        self.batch_size = batch_size
        self._weights, self._revision, self._dtype = weights, revision, dtype

    @property
    def identity(self) -> Mapping[str, str]:
        """What its scores depend on."""
        where = weights_identity(self._weights, self._revision)
        return {"weights": where, "dtype": self._dtype, "view": repr(self.view)}

    def score(self, candidates: Sequence[Candidate], prompts: Sequence[str]) -> Scores:
        """See `rewards.scores.Reward.score`; an answer is compared with its image in the prompt's place."""
        return score_by_views(self, candidates, prompts)

    def score_views(self, views: Sequence[Any], prompts: Sequence[str], responses: Sequence[str | None]) -> Scores:
        """See `rewards.scores.Staged.score_views`."""
        return cosine_scores(self.clip, views, prompts, responses, self.clip.scale)
