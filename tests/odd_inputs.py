"""Inputs that look odd and are fine: how they must be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from bad_inputs import PAIR, World, among_good_rows, as_file, folders, line
from PIL import Image


@dataclass(frozen=True)
class OddImage:
    """An image that is fine.

    Args:
        corners: RGB of the upright picture: top left, top right, bottom left, bottom right.
        tolerance: of each value, out of 255.
    """

    name: str
    data: bytes
    corners: Sequence[tuple[int, int, int]]
    tolerance: float = 0.01


@dataclass(frozen=True)
class OddText:
    """Rows that are fine; `reads` is the prompt of the one between the good ones."""

    name: str
    make: Callable[[World], object]
    reads: str = "a blue moon"


def _lying() -> Image.Image:
    """Left half red, right half blue."""
    lying = Image.new("RGB", (16, 16), "red")
    lying.paste("blue", (8, 0, 16, 16))
    return lying


def _turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _palette() -> Image.Image:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([9, 9, 9, 0, 128, 0])
    image.paste(1, (8, 0, 16, 16))
    return image


RED, BLUE, WHITE, GREEN = (255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 128, 0)
GREY = Image.fromarray(np.full((16, 16), 77 * 257, np.uint16))
INKS = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
ODD_IMAGES = [
    OddImage("turned-clockwise", as_file(_lying(), "PNG", exif=_turned(6)), [RED, RED, BLUE, BLUE]),
    OddImage("turned-by-half", as_file(_lying(), "PNG", exif=_turned(3)), [BLUE, RED, BLUE, RED]),
    OddImage("turned-jpeg", as_file(_lying(), "JPEG", exif=_turned(8), quality=100, subsampling=0),
             [BLUE, BLUE, RED, RED], 4),
    OddImage("cmyk-jpeg", as_file(INKS, "JPEG", quality=95), [RED] * 4, 3),
    OddImage("16-bit-grey", as_file(GREY, "PNG"), [(77, 77, 77)] * 4, 1),
    OddImage("palette-with-transparency", as_file(_palette(), "PNG", transparency=0), [WHITE, GREEN, WHITE, GREEN]),
    OddImage("one-frame-gif", as_file(_lying(), "GIF"), [RED, BLUE, RED, BLUE]),
    OddImage("one-frame-webp", as_file(_lying(), "WEBP", lossless=True), [RED, BLUE, RED, BLUE]),
    OddImage("long", as_file(Image.new("RGB", (160, 16), "red"), "PNG"), [RED] * 4),
]  # fmt: skip


def _lines_with_bom(world: World) -> None:
    line("bom", {"prompt": "a blue moon", "chosen": "chosen0.png", "rejected": "rejected0.png"}).make(world)
    file = world.data / "train.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())


ODD_TEXTS = [
    OddText("more-columns", lambda world: among_good_rows(world, {"upvotes": 7, "rank": "high", "scores": [1]}, PAIR)),
    OddText("accents", lambda world: among_good_rows(world, {"prompt": "une forêt"}, PAIR), "une forêt"),
    OddText("line-ends", lambda world: among_good_rows(world, {"prompt": "a blue moon\r\n"}, PAIR)),
    OddText("bom-in-a-row", lambda world: among_good_rows(world, {"prompt": "\ufeffa blue moon"}, PAIR)),
    OddText("bom-before-lines", _lines_with_bom),
    OddText("bom-in-a-caption-file", folders("bom", lambda data: (data / "w" / "b.txt").write_bytes(
        b"\xef\xbb\xbfa blue moon\n")).make),
    OddText("equal-captions-on-both-sides", folders("two", lambda data: (data / "l" / "b.txt").write_text(
        "a blue moon\n")).make),
]  # fmt: skip
