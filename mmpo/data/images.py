"""Encoded images to pixels, with limits and errors that say what is wrong."""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
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
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":  # 16 bits a pixel; convert() would clip at 255
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8))
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
    """[3, resolution, resolution] in [−1, 1]: the centre square, resized."""
    if image.size != (resolution, resolution):
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        square = (left, top, left + side, top + side)
        image = image.resize((resolution, resolution), Image.Resampling.LANCZOS, box=square)
    array = np.asarray(image, dtype=np.float32) / 127.5 - 1.0
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()
