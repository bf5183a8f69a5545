"""Sample grids: base above tuned, same prompt and noise in a column."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from mmpo.data.images import encode

COLUMNS = 12
CELL = 128


def side_by_side(base: Sequence[Image.Image], tuned: Sequence[Image.Image], per_prompt: int) -> bytes:
    """PNG bytes: the first sample of each of the first prompts, base in the upper row, tuned below it."""
    picks = range(0, min(len(base), COLUMNS * per_prompt), per_prompt)
    cell = max(CELL, min(base[0].size)) if base else CELL
    sheet = Image.new("RGB", (max(1, len(picks)) * (cell + 4), 2 * (cell + 4)), "white")
    for column, index in enumerate(picks):
        for row, images in enumerate((base, tuned)):
            tile = images[index].resize((cell, cell), Image.Resampling.NEAREST if images[index].width < cell else None)
            sheet.paste(tile, (column * (cell + 4) + 2, row * (cell + 4) + 2))
    return encode(sheet)
