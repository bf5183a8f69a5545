"""LAION's improved aesthetic predictor: how much people like an image, whatever its prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rewards.clip_files import load_clip
from rewards.image_rows import Scored, distinct, refused_answers, score_rows
from rewards.scores import Candidate, Scores
from rewards.staged import score_by_views
from rewards.views import ShortestSideCrop
from rewards.weight_files import read_state_dict, weight_file
from rewards.weights_hash import identity_of, weights_identity

HEAD = "trl-lib/ddpo-aesthetic-predictor/aesthetic-model.pth"
"""A copy of sac+logos+ava1-l14-linearMSE.pth on the hub: renamed there, as its commits say."""


class AestheticScore:
    """w · e + b of e, CLIP-L/14's embedding of the image at length 1, in float32; the prompt does not count.

    Args:
        head: OWNER/NAME/FILE on the hub, or sac+logos+ava1-l14-linearMSE.pth as a file. It holds five linear layers
            with nothing but dropout between them, so they are one affine map.
        weights: hub name or folder of the transformers CLIP that the head was trained on.
        sha256: of the head, checked where given.
        revision: of the weights on the hub.
        device, dtype: of the CLIP.
        batch_size: rows at once.
    Raises:
        ValueError: no head, or one for embeddings of another size.
    References:
        Schuhmann et al., LAION-5B: An open large-scale dataset for training next generation image-text models,
        arXiv 2210.08402; github.com/christophschuhmann/improved-aesthetic-predictor.
    """

    name = "aesthetic"

    def __init__(
        self,
        head: str = HEAD,
        weights: str = "openai/clip-vit-large-patch14",
        sha256: str | None = None,
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int = 32,
    ) -> None:
        weight, bias = affine(read_state_dict(_file_of(head, sha256)), head)
        self.clip = load_clip(weights, revision=revision, device=device, dtype=dtype)
        width = int(self.clip.model.config.projection_dim)
        if len(weight) != width:
            raise ValueError(
                f"head {head}: is for embeddings of {len(weight)} numbers, weights {weights} gives {width}; "
                "the published head is for openai/clip-vit-large-patch14"
            )
        self._weight, self._bias = weight, bias
        self.view = ShortestSideCrop(self.clip.size, odd="round")
        self.batch_size = batch_size
        self._known = (weights, revision, dtype, head)

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """What its scores depend on."""
        weights, revision, dtype, head = self._known
        return identity_of(weights, revision, dtype, self.view, head=weights_identity(head))

    def score(self, candidates: Sequence[Candidate], prompts: Sequence[str]) -> Scores:
        """See `rewards.scores.Reward.score`; an answer is a failed row."""
        return score_by_views(self, candidates, prompts)

    def score_views(self, views: Sequence[Any], prompts: Sequence[str], responses: Sequence[str | None]) -> Scores:
        """See `rewards.scores.Staged.score_views`."""

        def run(rows: list[int]) -> Scored:
            images, numbers = distinct([views[row] for row in rows])
            values = (self.clip.images(images).cpu() * self._weight).sum(-1) + self._bias
            return values[numbers].numpy(), [None] * len(rows)

        return score_rows(refused_answers(self.name, responses), run)


def _file_of(head: str, sha256: str | None) -> Path:
    where = "it is sac+logos+ava1-l14-linearMSE.pth of github.com/christophschuhmann/improved-aesthetic-predictor"
    try:
        file = weight_file(head, sha256=sha256)
    except ValueError as error:
        raise ValueError(f"head: {error}; {where}") from None
    if file is None:
        raise ValueError(f"head {head}: not a file, and not OWNER/NAME/FILE on the hub; {where}")
    return file


def affine(state: Mapping[str, Tensor], source: str) -> tuple[Tensor, Tensor]:
    """(w [D], b []) in float32 of the linear layers `layers.N.weight`, `layers.N.bias`, applied one after the other.

    Multiplied out in float64.

    Raises:
        ValueError: other tensors, or layers that do not follow on each other or do not end in one number.
    """
    named = {re.fullmatch(r"layers\.(\d+)\.(weight|bias)", name): name for name in state}
    odd = [name for match, name in named.items() if match is None]
    numbers = sorted({int(match[1]) for match in named if match is not None})
    missing = [
        f"layers.{number}.{kind}"
        for number in numbers
        for kind in ("weight", "bias")
        if f"layers.{number}.{kind}" not in state
    ]
    if odd or missing or not numbers:
        faults = [*(f"unexpected {name}" for name in odd), *(f"missing {name}" for name in missing)]
        raise ValueError(f"head {source}: expected layers.N.weight and .bias; {'; '.join(faults[:6]) or 'found none'}")
    width = state[f"layers.{numbers[0]}.weight"].shape[-1]
    weight, bias = torch.eye(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    for number in numbers:
        matrix, shift = (state[f"layers.{number}.{kind}"].double() for kind in ("weight", "bias"))
        if matrix.ndim != 2 or matrix.shape[1] != len(weight) or shift.shape != matrix.shape[:1]:
            raise ValueError(
                f"head {source}: layers.{number}.weight is {list(matrix.shape)} after {len(weight)} numbers"
            )
        weight, bias = matrix @ weight, matrix @ bias + shift
    if len(weight) != 1:
        raise ValueError(f"head {source}: ends in {len(weight)} numbers; a score is one")
    return weight[0].float(), bias[0].float()
