"""Sample grids: base above tuned, same prompt and noise in a column; and the strips of the previews, cut up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from mmpo.data.images import decode, encode

COLUMNS = 12
CELL = 128
LARGEST = 384
GAP = 4


def side_by_side(base: Sequence[Image.Image], tuned: Sequence[Image.Image], per_prompt: int) -> bytes:
    """PNG bytes: the first sample of each of the first prompts, base in the upper row, tuned below it."""
    picks = range(0, min(len(base), COLUMNS * per_prompt), per_prompt)
    width, height = _cell(base[0].size) if base else (CELL, CELL)
    sheet = Image.new("RGB", (max(1, len(picks)) * (width + GAP), 2 * (height + GAP)), "white")
    for column, index in enumerate(picks):
        for row, images in enumerate((base, tuned)):
            how = Image.Resampling.NEAREST if images[index].width < width else Image.Resampling.LANCZOS
            tile = images[index].resize((width, height), how)
            sheet.paste(tile, (column * (width + GAP) + GAP // 2, row * (height + GAP) + GAP // 2))
    return encode(sheet)


def tiles(png: bytes, grid: Mapping[str, Any]) -> list[tuple[str, Image.Image, Image.Image]]:
    """(prompt, base, tuned) of each column of a sheet.

    Args:
        png: what `side_by_side` wrote.
        grid: `prompts` of the columns, `cell` [width, height] and `gap` in pixels.
    Raises:
        ValueError: no image, or one that this grid does not describe.
    """
    sheet = decode(png)
    prompts, (width, height), gap = list(grid["prompts"]), grid["cell"], grid["gap"]
    expected = (len(prompts) * (width + gap), 2 * (height + gap))
    if not prompts or sheet.size != expected:
        raise ValueError(
            f"the sheet has {sheet.width}x{sheet.height} pixels; its grid says {expected[0]}x{expected[1]}; "
            "run mmpo eval again"
        )
    found = []
    for column, prompt in enumerate(prompts):
        left, top = column * (width + gap) + gap // 2, gap // 2
        below = top + height + gap
        upper = sheet.crop((left, top, left + width, top + height))
        found.append((str(prompt), upper, sheet.crop((left, below, left + width, below + height))))
    return found


def cells(png: bytes, count: int) -> list[Image.Image]:
    """The cells of a strip that stands side by side without gaps.

    Raises:
        ValueError: no image, or its width is no multiple of the count.
    """
    strip = decode(png)
    if count < 1 or strip.width % count:
        raise ValueError(f"the strip has {strip.width} pixels across, which is no multiple of {count} cells")
    width = strip.width // count
    return [strip.crop((column * width, 0, (column + 1) * width, strip.height)) for column in range(count)]


def _cell(size: tuple[int, int]) -> tuple[int, int]:
    """Size of a cell: the image's own, small ones enlarged and large ones reduced, its shape kept."""
    shorter, longer = min(size), max(size)
    factor = max(1.0, CELL / shorter)
    factor = min(factor, LARGEST / longer) if longer > LARGEST else factor
    return round(size[0] * factor), round(size[1] * factor)
