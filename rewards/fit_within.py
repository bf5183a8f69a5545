"""An image at most so long."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class FitWithin:
    """The longest side to at most `side`, by PIL's bicubic; smaller images stay as they are.

    Args:
        side: pixels.
    """

    side: int = 1024

    def __call__(self, image: Image.Image) -> Image.Image:
        """The same picture, no larger than that."""
        longest = max(image.size)
        if longest <= self.side:
            return image
        width, height = (max(1, round(side * self.side / longest)) for side in image.size)
        return image.resize((width, height), Image.Resampling.BICUBIC)
