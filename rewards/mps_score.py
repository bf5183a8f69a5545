"""MPS: preference for images of one prompt under a condition, such as their aesthetics or their details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from mmpo.suggest import nearest
from rewards.clip_files import clip_tokenizer
from rewards.devices import device_of, dtype_of
from rewards.exact_weights import known_as
from rewards.image_rows import row_faults, score_rows
from rewards.mps_model import MpsModel
from rewards.mps_weights import FILE, load_mps
from rewards.scores import Candidate, Scores
from rewards.staged import score_by_views
from rewards.views import ShortestSideCrop
from rewards.weights_hash import identity_of

CONDITIONS = {
    "overall": "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, "
    "instance, texture, quantity, attributes, position, number, location, word, things.",
    "aesthetic": "light, color, clarity, tone, style, ambiance, artistry.",
    "detail": "shape, face, hair, hands, limbs, structure, instance, texture.",
    "semantic": "quantity, attributes, position, number, location.",
}
"""What the released checkpoint was trained to judge by, and the three groups of its words."""


def condition_text(condition: str) -> str:
    """The text of a condition by name, or the text itself.

    Raises:
        ValueError: empty, or a single word that looks like a misspelt name.
    """
    near = nearest(condition, CONDITIONS) if condition.isalpha() and condition not in CONDITIONS else None
    if near or not condition.strip():
        hint = f"did you mean '{near}'? " if near else ""
        raise ValueError(f"condition: {condition!r}; {hint}give one of {', '.join(CONDITIONS)}, or a text of words")
    return CONDITIONS.get(condition, condition)


class MpsScore:
    """exp(logit_scale) · cos(prompt, image that has read those words of the prompt that the condition is about).

    Args:
        weights: what `scripts/convert_mps.py` wrote, as a file, or as OWNER/NAME/FILE on the hub. The released
            checkpoint is a pickled module.
        condition: overall, aesthetic, detail, semantic, or a text; the released weights were trained on the first.
        threshold: 0.3 as in the released evaluation; the released training code has 0.01.
        revision: on the hub.
        sha256: of the file, checked where given.
        device, dtype: of the model.
        batch_size: rows at once.
    Raises:
        ValueError: no weights, an empty condition, or a threshold that hides all.
    References:
        Zhang et al., Learning Multi-dimensional Human Preference for Text-to-Image Generation, arXiv 2405.14705.
    """

    name = "mps"

    def __init__(
        self,
        weights: str = FILE,
        condition: str = "overall",
        threshold: float = 0.3,
        revision: str | None = None,
        sha256: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int = 32,
    ) -> None:
        where, precision, text = device_of(device), dtype_of(dtype), condition_text(condition)
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not threshold < 1:
            raise ValueError(f"threshold: expected a share below 1, as 1 hides every word, got {threshold!r}")
        self.model = MpsModel(
            load_mps(weights, revision=revision, sha256=sha256),
            clip_tokenizer(),
            condition=text,
            threshold=threshold,
            device=where,
            dtype=precision,
        )
        self.view = ShortestSideCrop(self.model.size)
        self.batch_size = batch_size
        self._known = (*known_as(weights, revision, FILE), dtype)
        self._asked = (text, threshold)

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """What its scores depend on."""
        condition, threshold = self._asked
        return identity_of(*self._known, self.view, condition=condition, threshold=threshold)

    def score(self, candidates: Sequence[Candidate], prompts: Sequence[str]) -> Scores:
        """See `rewards.scores.Reward.score`; an answer is a failed row."""
        return score_by_views(self, candidates, prompts)

    def score_views(self, views: Sequence[Any], prompts: Sequence[str], responses: Sequence[str | None]) -> Scores:
        """See `rewards.scores.Staged.score_views`; an image that stands in several rows is encoded once."""
        return score_rows(
            row_faults(self.name, prompts, responses),
            lambda rows: self.model.score([views[row] for row in rows], [prompts[row] for row in rows]),
        )
