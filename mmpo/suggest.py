"""Nearest names, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, valid: Iterable[str]) -> str | None:
    """The valid name most like `word`, or None where none is close."""
    found = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.5)
    return found[0] if found else None


def one_of(word: str, valid: Iterable[str]) -> str:
    """A phrase for an unknown name: the nearest valid one, and all of them."""
    names = sorted(valid)
    near = nearest(word, names)
    hint = f"did you mean '{near}'? " if near else ""
    return f"unknown name '{word}'; {hint}valid: {', '.join(names)}"
