"""Qwen2-VL's resize to about so many pixels, both sides multiples of the patch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

MOST_LONG = 200  # times as long as wide, beyond which Qwen's code refuses


@dataclass(frozen=True)
class Refused:
    """An image that a reward cannot look at.

    Args:
        why: in words, for the row's error.
    """

    why: str


@dataclass(frozen=True)
class SmartResize:
    """Both sides to multiples of `factor`, their product at most or at least `pixels`, by PIL's bicubic.

    With h, w rounded to multiples: too many pixels: both sides by √(pixels / (height · width)) and down to multiples;
    too few: the same and up; else h, w.

    Args:
        factor: pixels of a merged patch.
        pixels: of the result, nearly.
    References:
        `fetch_image` and `smart_resize` of qwen_vl_utils with min_pixels = max_pixels, as HPSv3 calls them.
    """

    factor: int = 28
    pixels: int = 256 * 28 * 28

    def __call__(self, image: Image.Image) -> Image.Image | Refused:
        """The resized image."""
        width, height = image.size
        if max(width, height) > MOST_LONG * min(width, height):
            return Refused(f"the image of {width} x {height} is more than {MOST_LONG} times as long as wide")
        return image.resize(self.size(width, height), Image.Resampling.BICUBIC)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the result."""
        sides = [max(self.factor, round(side / self.factor) * self.factor) for side in (width, height)]
        if sides[0] * sides[1] == self.pixels:
            return sides[0], sides[1]
        if sides[0] * sides[1] > self.pixels:
            shrink = math.sqrt(width * height / self.pixels)
            sides = [math.floor(side / shrink / self.factor) * self.factor for side in (width, height)]
        else:
            grow = math.sqrt(self.pixels / (width * height))
            sides = [math.ceil(side * grow / self.factor) * self.factor for side in (width, height)]
        return max(self.factor, sides[0]), max(self.factor, sides[1])
