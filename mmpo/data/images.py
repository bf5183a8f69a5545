"""Encoded images to pixels, with limits and errors that say what is wrong."""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

MAX_PIXELS = 64_000_000


def decode(data: bytes) -> Image.Image:
    """An RGB image from PNG, JPEG or WebP bytes.

    Raises:
        ValueError: empty, not an image, truncated, or more than `MAX_PIXELS` pixels.
    """
    if not data:
        raise ValueError("the image is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data))
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"the image has {image.width}x{image.height} pixels; the limit is {MAX_PIXELS}")
            image.load()
    except UnidentifiedImageError:
        raise ValueError(f"not an image file ({len(data)} bytes)") from None
    except (OSError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"the image is corrupt: {error}") from None
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def encode(image: Image.Image, *, lossless: bool = True) -> bytes:
    """PNG bytes, or JPEG at quality 95."""
    buffer = io.BytesIO()
    if lossless:
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def to_pixels(image: Image.Image, resolution: int) -> Tensor:
    """[3, resolution, resolution] in [−1, 1]: the shorter side is resized, then the centre is cropped."""
    if image.size != (resolution, resolution):
        scale = resolution / min(image.size)
        size = (max(resolution, round(image.width * scale)), max(resolution, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
        left, top = (size[0] - resolution) // 2, (size[1] - resolution) // 2
        image = image.crop((left, top, left + resolution, top + resolution))
    array = np.asarray(image, dtype=np.float32) / 127.5 - 1.0
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()
