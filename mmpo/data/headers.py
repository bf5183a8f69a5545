"""What an image file's header says, without decoding its pixels. Imports no torch."""

from __future__ import annotations

import io
import warnings
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

EXTENSIONS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif", "TIFF": ".tif"}
_ORIENTATION = 274  # the EXIF tag; 5 to 8 turn the picture on its side


class Header(NamedTuple):
    """An image file's kind (a key of `EXTENSIONS`) and its size as it is shown."""

    kind: str
    width: int
    height: int


def read_header(data: bytes) -> Header:
    """The header of encoded bytes; damage after the header is not noticed.

    Raises:
        ValueError: empty, or not an image file.
    """
    if not data:
        raise ValueError("the image is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=tuple(EXTENSIONS))
    except UnidentifiedImageError:
        raise ValueError(f"not an image file ({len(data)} bytes)") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"the image is corrupt: {error}") from None
    width, height = image.size
    if "exif" in image.info and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
        width, height = height, width
    kind = "JPEG" if image.format == "MPO" else image.format or "unknown"  # a camera's JPEG with a preview in it
    return Header(kind, width, height)


def extension(data: bytes) -> str:
    """The file name's ending for encoded bytes.

    Raises:
        ValueError: not an image file.
    """
    return EXTENSIONS[read_header(data).kind]
