"""What models see of an image: resized and cropped exactly as the reference pipelines do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ShortestSideCrop:
    """Shortest side to `size` with PIL's bicubic, then the centre square: CLIP's preprocessing without the last step.

    Args:
        size: pixels a side of the result.
        odd: where one pixel is left over in the crop, "floor" as transformers' processors do, or "round" as
            torchvision's CenterCrop, so OpenAI's, open_clip's and ImageReward's code, does.
    """

    size: int = 224
    odd: Literal["floor", "round"] = "floor"

    def __call__(self, image: Image.Image) -> Tensor:
        """[3, size, size] uint8."""
        width, height = image.size
        short = min(width, height)
        wide, high = (self.size * width // short, self.size * height // short)  # what both truncate to
        if (wide, high) != image.size:
            image = image.resize((wide, high), Image.Resampling.BICUBIC)
        left, top = (self._start(wide), self._start(high))
        image = image.crop((left, top, left + self.size, top + self.size))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()

    def _start(self, side: int) -> int:
        left = side - self.size
        return left // 2 if self.odd == "floor" else round(left / 2)


@dataclass(frozen=True)
class LongestSidePad:
    """Longest side to `size` in floating point, then black to a square: HPSv2's preprocessing without the last step.

    The black is added before mean and deviation are taken off, as there; values may leave [0, 1] a little, as bicubic
    interpolation overshoots. An image whose longest side is `size` already is padded too, which HPSv2's code leaves
    out.

    Args:
        size: pixels a side of the result.
        antialias: false as torchvision before 0.17 did, so as numbers published before did.
        fast: resizes 8-bit pixels, several times faster and off by under half a step of 255 on average.
    """

    size: int = 224
    antialias: bool = True
    fast: bool = False

    def __call__(self, image: Image.Image) -> Tensor:
        """[3, size, size], float32 in about [0, 1], or uint8 when fast."""
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        pixels = pixels if self.fast else pixels.float() / 255
        high, wide = image.height, image.width
        scale = self.size / float(max(high, wide))
        if scale != 1.0:
            high, wide = max(1, round(high * scale)), max(1, round(wide * scale))
            pixels = interpolate(
                pixels[None], (high, wide), mode="bicubic", align_corners=False, antialias=self.antialias
            )[0]
        top, left = (self.size - high) // 2, (self.size - wide) // 2
        return pad(pixels, (left, self.size - wide - left, top, self.size - high - top)).contiguous()


def normalised(pixels: Tensor, mean: tuple[float, ...] = CLIP_MEAN, std: tuple[float, ...] = CLIP_STD) -> Tensor:
    """(pixels − mean) / std in float32.

    Args:
        pixels: [N, 3, H, W], uint8 in [0, 255] or floating point in [0, 1].
    """
    values = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()
    shape = (1, 3, 1, 1)
    return (values - values.new_tensor(mean).view(shape)) / values.new_tensor(std).view(shape)
