"""Encoded images to pixels, with limits and errors that say what is wrong."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

MAX_PIXELS = 64_000_000
MIN_SIDE = 4
MAX_ASPECT = 16
FILE_KINDS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # no format that runs a program to be read
ANIMATED = ("PNG", "WEBP", "GIF", "TIFF")  # an MPO's second picture is the camera's preview of the first
BROKEN = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError, struct.error)
BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)


def decode(data: bytes) -> Image.Image:
    """An upright RGB image, on white where it is transparent, from a PNG, JPEG, WebP, BMP, or one-frame GIF or TIFF.

    Raises:
        ValueError: empty, not an image, truncated, animated, more than `MAX_PIXELS` pixels, or of an absurd shape.
    """
    if not data:
        raise ValueError("the image is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data), formats=FILE_KINDS)
    except BOMBS as error:
        raise ValueError(
            f"the image is too large: {error}; the limit is {MAX_PIXELS} pixels, make it smaller"
        ) from None
    except UnidentifiedImageError:
        raise ValueError(f"not an image file ({len(data)} bytes){_guess(data)}") from None
    except BROKEN as error:
        raise ValueError(f"the image is corrupt: {error}; save it again") from None
    _check_shape(image)
    try:
        frames = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
        if frames == 1:
            image.load()
            image = ImageOps.exif_transpose(image)
    except BROKEN as error:
        raise ValueError(f"the image is corrupt: {error}; save it again") from None
    if frames > 1:
        raise ValueError(f"the {image.format} image has {frames} frames; give one frame, saved as PNG, JPEG or WebP")
    return _to_rgb(image)


def _check_shape(image: Image.Image) -> None:
    """Judges by the header, before any pixel is decoded."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"the image has {width}x{height} pixels; the limit is {MAX_PIXELS}, make it smaller")
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"the image has {width}x{height} pixels, a placeholder; expected {MIN_SIDE} or more per side")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(
            f"the image has {width}x{height} pixels; one side is over {MAX_ASPECT} times the other, and only the "
            "centre square is trained on: crop it or leave it out"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("the image has float pixels, whose range is not known; save it with 8 bits per channel")
    if image.mode.startswith("I;16") or image.mode == "I":  # 16 bits a pixel; convert() would clip at 255
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if image.mode == "CMYK":
        image = _from_inks(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def _from_inks(image: Image.Image) -> Image.Image:
    """CMYK by the profile in the file, which says what its inks look like; without a usable one by subtraction."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image.convert("RGB")
    from PIL import ImageCms

    try:
        inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            image,
            inks,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image.convert("RGB")
    return converted if converted is not None else image.convert("RGB")


def _guess(data: bytes) -> str:
    """What such bytes often are, with the fix."""
    start = data[:200].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "; it is a Git LFS pointer: run `git lfs pull` where it came from"
    if b"<svg" in start:
        return "; it is an SVG drawing: save it as PNG"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "; it is a web page, perhaps of a link that is gone: download the image again"
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif"):
        return "; it is HEIC or AVIF: save it as PNG, JPEG or WebP"
    return "; expected PNG, JPEG, WebP or BMP"


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
