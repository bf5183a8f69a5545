"""How branches are laid into the rows of one forward: each alone, or several behind a conversation that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmpo.answer_batch import AnswerBatch, BranchTokens, score_columns

Member = tuple[str, int]
"""A branch's name, and which of its rows."""


@dataclass(frozen=True)
class ScoredTokens:
    """Where a branch's M scored tokens stand. [M] each.

    Args:
        row, place: of the state that predicts the token, in the layout's rows.
        token: its id.
        at_row, at_column: where its score goes in the result [N, T].
        mask: [N, T] bool, where the result has a score.
        weights: [N, T] float32.
        rows: [N] which of the batch's rows.
    """

    row: Tensor
    place: Tensor
    token: Tensor
    at_row: Tensor
    at_column: Tensor
    mask: Tensor
    weights: Tensor
    rows: Tensor


@dataclass(frozen=True)
class Layout:
    """Rows of one forward, padded on the right.

    Args:
        ids: [R, T] tokens.
        real: [R, T] bool, false on padding.
        types: [R, T] or None.
        segments: [R, T] int32: 0 the shared conversation, 1, 2, ... the answers behind it, −1 padding. A token sees
            what stands before it in the conversation and in its own answer.
        back: [R, T] by how much a token's position is less than its place: the tokens of answers before its own.
        images: per row, places in the batch's list of images.
        scored: per branch.
        late: [R, L] places of the second and later answers, and others where a row has fewer; all of a row differ.
    """

    ids: Tensor
    real: Tensor
    types: Tensor | None
    segments: Tensor
    back: Tensor
    images: tuple[tuple[int, ...], ...]
    scored: Mapping[str, ScoredTokens]
    late: Tensor

    @property
    def shares(self) -> bool:
        """Whether any row holds more than one answer."""
        return self.late.shape[1] > 0


def lay_out(batch: AnswerBatch, *, shared: bool) -> Layout:
    """The rows of a forward over all branches of a batch.

    Args:
        shared: whether branches of one row that show the same images to the same conversation stand behind it in one
            row of the forward.
    """
    groups = _groups(batch, shared)
    rows: list[tuple[list[Tensor], list[int], int]] = []
    places: dict[Member, tuple[int, int]] = {}
    for number, members in enumerate(groups):
        start, parts, segments = _start(batch, members[0]), [], []
        branch, n = _of(batch, members[0])
        parts.append(branch.ids[n, :start])
        segments += [0] * start
        for segment, member in enumerate(members, 1):
            branch, n = _of(batch, member)
            tail = branch.ids[n, start : int(branch.lengths[n])]
            places[member] = (number, len(segments) - start)
            parts.append(tail)
            segments += [segment] * len(tail)
        rows.append((parts, segments, start))
    width = max(len(segments) for _, segments, _ in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    segments_of = torch.full((len(rows), width), -1, dtype=torch.int32)
    for number, (parts, segments, _) in enumerate(rows):
        ids[number, : len(segments)] = torch.cat(parts)
        segments_of[number, : len(segments)] = torch.tensor(segments, dtype=torch.int32)
    typed = all(_of(batch, members[0])[0].types is not None for members in groups)
    types = torch.zeros_like(ids) if typed else None
    images = []
    for number, members in enumerate(groups):
        branch, n = _of(batch, members[0])
        images.append(branch.images[n])
        if types is not None and branch.types is not None:  # images stand in the conversation, never in an answer
            start = rows[number][2]
            types[number, :start] = branch.types[n, :start]
    return Layout(
        ids=ids,
        real=segments_of >= 0,
        types=types,
        segments=segments_of,
        back=_back(segments_of),
        images=tuple(images),
        scored={name: _scored(name, branch, places) for name, branch in batch.branches.items()},
        late=_late(segments_of),
    )


def _groups(batch: AnswerBatch, shared: bool) -> list[list[Member]]:
    groups: dict[object, list[Member]] = {}
    for name, branch in batch.branches.items():
        for n in range(len(branch.rows)):
            key: object = (name, n)
            if shared:
                prompt = branch.ids[n, : int(branch.starts[n])]
                key = (int(branch.rows[n]), branch.images[n], tuple(prompt.tolist()))
            groups.setdefault(key, []).append((name, n))
    return list(groups.values())


def _of(batch: AnswerBatch, member: Member) -> tuple[BranchTokens, int]:
    return batch.branches[member[0]], member[1]


def _start(batch: AnswerBatch, member: Member) -> int:
    branch, n = _of(batch, member)
    return int(branch.starts[n])


def _back(segments: Tensor) -> Tensor:
    """[R, T] tokens of earlier answers, for each token of an answer."""
    back = torch.zeros(segments.shape, dtype=torch.long)
    for segment in range(2, int(segments.max()) + 1):
        before = ((segments >= 1) & (segments < segment)).sum(-1, keepdim=True)
        back = back.where(segments != segment, before)
    return back


def _late(segments: Tensor) -> Tensor:
    """[R, L] of each row a stretch of L places that holds all of its second and later answers."""
    late = segments > 1
    length = int(late.sum(-1).max())
    if not length:
        return torch.zeros(len(segments), 0, dtype=torch.long)
    first = late.int().argmax(-1).clamp(max=segments.shape[1] - length)
    return first[:, None] + torch.arange(length)


def _scored(name: str, branch: BranchTokens, places: Mapping[Member, tuple[int, int]]) -> ScoredTokens:
    columns = score_columns(branch)
    at_row, place = columns.at_row, columns.place
    rows = torch.tensor([places[name, n][0] for n in range(len(branch.rows))], dtype=torch.long)
    shift = torch.tensor([places[name, n][1] for n in range(len(branch.rows))], dtype=torch.long)
    moved = (
        place - 1 + shift[at_row] * (place > branch.starts[at_row])
    )  # an answer's first token is the prompt's to say
    token = branch.ids[at_row, place]
    return ScoredTokens(
        rows[at_row], moved, token, at_row, columns.at_column, columns.mask, columns.weights, branch.rows
    )
