"""Text in columns and paragraphs, as wide as a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

WIDTH = 100


def wrapped_row(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """A row as one or more lines, each line of a cell wrapped to its column."""
    cells = [
        [part for line in cell.splitlines() for part in textwrap.wrap(line, width, break_on_hyphens=False)]
        for cell, width in zip(row, widths, strict=True)
    ]
    for i in range(max(map(len, cells))):
        parts = [(cell[i] if i < len(cell) else "").ljust(width) for cell, width in zip(cells, widths, strict=True)]
        yield "  ".join(parts).rstrip()


def paragraph(head: str, words: str) -> list[str]:
    """Words after a head, wrapped with a hanging indent; nothing where there are none."""
    if not words:
        return []
    return textwrap.wrap(head + words, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
