"""What an image file's header says, and whether training can use it, without decoding its pixels. Imports no torch."""

from __future__ import annotations

import io
import struct
import warnings
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 64_000_000
MIN_SIDE = 4
MAX_ASPECT = 16
EXTENSIONS = {  # no format that runs a program to be read
    "PNG": ".png",
    "JPEG": ".jpg",
    "WEBP": ".webp",
    "BMP": ".bmp",
    "GIF": ".gif",
    "TIFF": ".tif",
}
ANIMATED = ("PNG", "WEBP", "GIF", "TIFF")  # an MPO's second picture is the camera's preview of the first
BROKEN = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError, struct.error)
BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)
_ORIENTATION = 274  # the EXIF tag; 5 to 8 turn the picture on its side


class Header(NamedTuple):
    """An image file's kind (a key of `EXTENSIONS`) and its size as it is shown."""

    kind: str
    width: int
    height: int


def open_image(data: bytes) -> Image.Image:
    """The image of encoded bytes, its pixels not decoded yet.

    Raises:
        ValueError: empty, not an image, animated, more than `MAX_PIXELS` pixels, or of an absurd shape.
    """
    if not data:
        raise ValueError("the image is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data), formats=tuple(EXTENSIONS))
    except BOMBS as error:
        raise ValueError(
            f"the image is too large: {error}; the limit is {MAX_PIXELS} pixels, make it smaller"
        ) from None
    except UnidentifiedImageError:
        raise ValueError(f"not an image file ({len(data)} bytes){_guess(data)}") from None
    except BROKEN as error:
        raise corrupt(error) from None
    _check_shape(*image.size)
    try:
        frames = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
    except BROKEN as error:
        raise corrupt(error) from None
    if frames > 1:
        raise ValueError(f"the {image.format} image has {frames} frames; give one frame, saved as PNG, JPEG or WebP")
    return image


def corrupt(error: Exception) -> ValueError:
    """What Pillow said of a damaged file, with the fix."""
    return ValueError(f"the image is corrupt: {error}; save it again")


def _check_shape(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"the image has {width}x{height} pixels; the limit is {MAX_PIXELS}, make it smaller")
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"the image has {width}x{height} pixels, a placeholder; expected {MIN_SIDE} or more per side")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(
            f"the image has {width}x{height} pixels; one side is over {MAX_ASPECT} times the other, and little of it "
            "would be seen: crop it or leave it out"
        )


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


def read_header(data: bytes) -> Header:
    """The header of encoded bytes that training can use; damage after the header is not noticed.

    Raises:
        ValueError: see `open_image`.
    """
    image = open_image(data)
    width, height = image.size
    try:
        turned = "exif" in image.info and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except BROKEN as error:
        raise corrupt(error) from None
    if turned:
        width, height = height, width
    kind = "JPEG" if image.format == "MPO" else image.format or "unknown"  # a camera's JPEG with a preview in it
    return Header(kind, width, height)


def extension(data: bytes) -> str:
    """The file name's ending for encoded bytes.

    Raises:
        ValueError: see `open_image`.
    """
    return EXTENSIONS[read_header(data).kind]
