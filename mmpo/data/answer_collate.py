"""Encoded rows to the batch that the adapter scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmpo.answer_batch import AnswerBatch, BranchTokens
from mmpo.data.answer_tokens import AnswerTokens, EncodedPair


def collate_answers(pairs: Sequence[EncodedPair], pad_id: int) -> AnswerBatch:
    """B rows as one batch, padded on the right; an image that several rows or branches show is in it once.

    Padded on the right, a causal model's own tokens never see the padding, whatever the mask, and their positions are
    those of the row alone.

    Args:
        pairs: at least one row.
        pad_id: the token that fills shorter rows.
    Raises:
        ValueError: no rows.
    """
    if not pairs:
        raise ValueError("pairs: no rows to put into a batch")
    places: dict[str, int] = {}
    images = []
    for pair in pairs:
        for key, image in pair.images.items():
            if key not in places:
                places[key] = len(places)
                images.append(image.inputs)
    names = dict.fromkeys(name for pair in pairs for name in pair.branches)
    branches = {}
    for name in names:
        rows = [row for row, pair in enumerate(pairs) if name in pair.branches]
        tokens = [pairs[row].branches[name] for row in rows]
        branches[name] = _branch(rows, tokens, places, pad_id)
    extra = {
        name: torch.tensor([pair.extra[name] for pair in pairs])
        for name in pairs[0].extra
        if all(name in pair.extra for pair in pairs)
    }
    types_name = next((pair.types_name for pair in pairs if pair.images), pairs[0].types_name)
    return AnswerBatch(tuple(pair.id for pair in pairs), branches, tuple(images), types_name, extra)


def _branch(rows: list[int], tokens: list[AnswerTokens], places: dict[str, int], pad_id: int) -> BranchTokens:
    typed = [one.types for one in tokens]
    types = None if None in typed else _padded([one for one in typed if one is not None], 0, torch.long)
    return BranchTokens(
        rows=torch.tensor(rows),
        ids=_padded([one.ids for one in tokens], pad_id, torch.long),
        lengths=torch.tensor([len(one.ids) for one in tokens]),
        starts=torch.tensor([one.start for one in tokens]),
        scored=_padded([one.scored for one in tokens], False, torch.bool),
        weights=_padded([one.weights for one in tokens], 0.0, torch.float32),
        types=types,
        images=tuple(tuple(places[key] for key in one.images) for one in tokens),
    )


def _padded(rows: Sequence[Sequence[float]], fill: float, dtype: torch.dtype) -> Tensor:
    out = torch.full((len(rows), max(map(len, rows))), fill, dtype=dtype)
    for number, row in enumerate(rows):
        out[number, : len(row)] = torch.tensor(row, dtype=dtype)
    return out
