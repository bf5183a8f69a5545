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


def distinct_texts(tokenizer: Any, texts: Sequence[str], most: int, device: torch.device) -> dict[str, Tensor]:
    """`input_ids` [D, T] of each distinct text once, and `text_of` [B], which of them is each row's."""
    distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    ids, _ = tokenised(tokenizer, list(distinct), most)
    return {"input_ids": ids.to(device), "text_of": torch.tensor([distinct[text] for text in texts], device=device)}


def projected(output: Any) -> Tensor:
    """The projected embedding, which transformers 5 wraps."""
    return output if isinstance(output, Tensor) else output.pooler_output


def count_cut(tokenizer: Any, texts: Sequence[str], most: int) -> int:
    """How many texts `tokenised` would cut."""
    return sum(len(tokenizer(text, truncation=False, verbose=False).input_ids) > most for text in texts)
