"""What a vision-language model is asked to score: branches of tokens with their images, and the scores it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mmpo.branches import BRANCHES, Branch

__all__ = ["BRANCHES", "AnswerBatch", "Branch", "BranchTokens", "TokenLogps", "score_columns"]


@dataclass(frozen=True)
class BranchTokens:
    """One branch of the N rows that have it, padded on the right. On the CPU.

    Args:
        rows: [N] which of the batch's rows.
        ids: [N, T] tokens, an image's placeholders among them.
        lengths: [N] tokens without padding.
        starts: [N] where the answer's first token stands; before it, branches of one conversation and one set of
            images are the same.
        scored: [N, T] bool, tokens whose log-probabilities count: the answer and its end of turn.
        weights: [N, T] float32, what a scored token weighs; 0 elsewhere.
        types: [N, T] per token 0 for text and 1 for an image, or None where the model asks for none.
        images: per row the places of its images in the batch's list, in the order in which they are shown.
    """

    rows: Tensor
    ids: Tensor
    lengths: Tensor
    starts: Tensor
    scored: Tensor
    weights: Tensor
    types: Tensor | None
    images: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ScoreColumns:
    """Where the scores of a branch's M scored tokens go.

    Args:
        at_row, place: [M] row and place of each token in the branch.
        at_column: [M] its column in the result.
        mask: [N, T] bool, where the result has a score.
        weights: [N, T] float32.
    """

    at_row: Tensor
    place: Tensor
    at_column: Tensor
    mask: Tensor
    weights: Tensor


def score_columns(branch: BranchTokens) -> ScoreColumns:
    """A branch's scored tokens, moved together to the left."""
    at_row, place = branch.scored.nonzero(as_tuple=True)
    counts = branch.scored.sum(-1)
    first = torch.cat([counts.new_zeros(1), counts.cumsum(0)[:-1]])
    at_column = torch.arange(len(at_row)) - first[at_row]
    mask = torch.arange(int(counts.max()) if len(counts) else 0) < counts[:, None]
    weights = torch.zeros(mask.shape)
    weights[at_row, at_column] = branch.weights[at_row, place]
    return ScoreColumns(at_row, place, at_column, mask, weights)


@dataclass(frozen=True)
class AnswerBatch:
    """B rows of preference data for a VLM, encoded. On the CPU; the adapter moves what a forward needs.

    Args:
        ids: B row ids.
        branches: by name, for the rows that have it.
        images: what the model takes of each distinct image, once: pixels, and sizes or grids where it asks for them.
        types_name: under which name the model takes `BranchTokens.types`.
        extra: [B, ...] each: columns of the data that a loss asks for, by name.
    """

    ids: tuple[str, ...]
    branches: Mapping[str, BranchTokens]
    images: tuple[Mapping[str, Tensor], ...]
    types_name: str = "mm_token_type_ids"
    extra: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenLogps:
    """What a model says of one branch's scored tokens, in order; T counts scored tokens, not the prompt's.

    A `chosen` and a `visual` branch score the same answer, so their tokens stand in the same columns.

    Args:
        logps: [N, T] float32 or better, log π(y_t | images, conversation, y_<t); 0 where the mask is false.
        mask: [N, T] bool, true on scored tokens.
        weights: [N, T] float32, what each weighs; 0 where the mask is false.
        rows: [N] which of the batch's rows.
        extra: [N, T] each: what else was asked for, such as "kl"; 0 where the mask is false.
    """

    logps: Tensor
    mask: Tensor
    weights: Tensor
    rows: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> TokenLogps:
        """The same on a device."""
        extra = {name: value.to(device) for name, value in self.extra.items()}
        return replace(
            self,
            logps=self.logps.to(device),
            mask=self.mask.to(device),
            weights=self.weights.to(device),
            rows=self.rows.to(device),
            extra=extra,
        )

    @property
    def sums(self) -> Tensor:
        """[N] weighted sum over tokens: the log-likelihood of the answer where all weights are 1."""
        return (self.logps * self.weights).sum(-1)

    @property
    def means(self) -> Tensor:
        """[N] weighted mean over tokens; 0 where none is scored."""
        total = self.weights.sum(-1)
        return self.sums / total.where(total > 0, 1)

    @property
    def lengths(self) -> Tensor:
        """[N] number of scored tokens."""
        return self.mask.sum(-1)

    def total(self, name: str) -> Tensor:
        """[N] weighted sum over tokens of something in `extra`, such as the sequential KL of `tdpo1`."""
        return (self.extra[name] * self.weights).sum(-1)
