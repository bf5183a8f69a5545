"""Which tokens begin a yes, and which a no."""

from __future__ import annotations

from typing import Any

YES = ("Yes", "yes", " Yes", " yes")
NO = ("No", "no", " No", " no")


def yes_and_no(tokenizer: Any) -> tuple[list[int], list[int]]:
    """First tokens of yes and of no in their spellings, each once.

    Two spellings may share a first token, which must not count twice; and a tokenizer that splits off the space
    gives both words the same first token, which says neither.

    Raises:
        ValueError: the tokenizer has no token of one's own for one of them.
    """
    yes, no = _first(tokenizer, YES), _first(tokenizer, NO)
    if not yes or not no:
        raise ValueError("weights: this tokenizer has no token that begins a yes, or none that begins a no")
    return yes, no


def _first(tokenizer: Any, words: tuple[str, ...]) -> list[int]:
    """Those first tokens that begin the word: a lone space, or the mark of an unknown word, says nothing."""
    ids = {tokenizer(word, add_special_tokens=False).input_ids[0] for word in words}
    texts = {number: tokenizer.decode([number]).strip().lower() for number in ids}
    return sorted(number for number, text in texts.items() if text and words[1].startswith(text))
