"""Texts to a CLIP's tokens, and what its towers give back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def tokenised(tokenizer: Any, texts: Sequence[str], most: int) -> tuple[Tensor, list[int]]:
    """(ids [N, T] padded to the longest, tokens of each text with its two marks).

    Args:
        most: what the tower reads; a longer text is cut and keeps its end mark.
    """
    ids = [tokenizer(text, truncation=False, verbose=False).input_ids for text in texts]
    kept = [row if len(row) <= most else [*row[: most - 1], row[-1]] for row in ids]
    longest = max(len(row) for row in kept)
    padded = [row + [tokenizer.pad_token_id] * (longest - len(row)) for row in kept]
    return torch.tensor(padded), [len(row) for row in ids]


def projected(output: Any) -> Tensor:
    """The projected embedding, which transformers 5 wraps."""
    return output if isinstance(output, Tensor) else output.pooler_output
