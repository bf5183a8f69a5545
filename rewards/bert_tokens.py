"""BERT's tokens with BLIP's two marks, as ImageReward reads a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rewards.image_rows import cut_note

MARKS = ["[DEC]", "[ENC]"]  # BLIP's, after the vocabulary; they matter where a prompt spells them
KEPT_PROMPTS = 100_000


def bert_tokenizer(vocabulary: str, size: int) -> Any:
    """The tokenizer of a vocab.txt, of a folder that holds one, or of a hub name, with BLIP's marks.

    Args:
        size: tokens that the model knows.
    Raises:
        ValueError: no vocabulary there, or one of another size.
    """
    from transformers import BertTokenizer

    path = Path(vocabulary).expanduser()
    file = path / "vocab.txt" if path.is_dir() else path
    try:
        if file.is_file():
            words = file.read_text(encoding="utf-8").splitlines()
            tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
        else:
            tokenizer = BertTokenizer.from_pretrained(vocabulary)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"vocab {vocabulary}: no vocabulary found there ({str(error).strip().splitlines()[0]}); give the vocab.txt "
            "of bert-base-uncased, or put it beside the weights"
        ) from error
    tokenizer.add_tokens(MARKS, special_tokens=True)
    if len(tokenizer) != size:
        raise ValueError(
            f"vocab {vocabulary}: {len(tokenizer)} tokens with {' and '.join(MARKS)}, the model knows {size}; "
            "expected bert-base-uncased's vocab.txt"
        )
    return tokenizer


class BertPrompts:
    """Token ids of prompts, each prompt read once.

    Args:
        tokenizer: from `bert_tokenizer`.
        length: tokens that the model reads, with the two at the ends.
    """

    def __init__(self, tokenizer: Any, length: int) -> None:
        self._tokenizer, self._length = tokenizer, length
        self._kept: dict[str, tuple[list[int], int]] = {}

    def __call__(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor, list[str | None]]:
        """Ids and mask, both [N, L] with L the longest prompt's, and per prompt None or that it was cut."""
        rows = [self._row(prompt) for prompt in prompts]
        longest = max(len(ids) for ids, _ in rows)
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids, _ in rows])
        mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows])
        return ids, mask, [cut_note(tokens, self._length) for _, tokens in rows]

    def _row(self, prompt: str) -> tuple[list[int], int]:
        if prompt not in self._kept:
            if len(self._kept) >= KEPT_PROMPTS:
                self._kept.clear()
            ids = self._tokenizer(prompt, truncation=False, verbose=False).input_ids
            kept = ids if len(ids) <= self._length else [*ids[: self._length - 1], ids[-1]]
            self._kept[prompt] = (kept, len(ids))
        return self._kept[prompt]
