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
    both = yes & no
    if not yes - both or not no - both:
        raise ValueError("weights: this tokenizer begins yes and no with the same token; take another model")
    return sorted(yes - both), sorted(no - both)


def _first(tokenizer: Any, words: tuple[str, ...]) -> set[int]:
    ids = {tokenizer(word, add_special_tokens=False).input_ids[0] for word in words}
    return {number for number in ids if words[1].startswith(tokenizer.decode([number]).strip().lower() or "?")}
