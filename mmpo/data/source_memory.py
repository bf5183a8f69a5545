"""Rows that are in memory already: a `datasets.Dataset`, or any sequence of dictionaries."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmpo.data.source_hub import dataset_source
from mmpo.data.source_rows import Row, Source

PLACE = "the rows in memory"


def open_memory(data: Any) -> Source:
    """The rows of a data set of Hugging Face, or of an iterable of dictionaries.

    Args:
        data: images as bytes, PIL images, `{bytes, path}`, or paths of files.
    Raises:
        ValueError: something else, or nothing in it.
    """
    if hasattr(data, "cast_column") and hasattr(data, "features"):
        return dataset_source(data, PLACE, "a data set in memory", _read_file)
    if isinstance(data, Mapping) or not isinstance(data, Iterable):
        hint = "; choose one split of it" if isinstance(data, Mapping) else ""
        raise ValueError(f"data: expected a path, a datasets.Dataset or rows, got {type(data).__name__}{hint}")
    rows = list(data)
    wrong = next((row for row in rows if not isinstance(row, Mapping)), None)
    if not rows or wrong is not None:
        got = "nothing" if wrong is None else f"one of type {type(wrong).__name__}"
        raise ValueError(f"data: expected rows as dictionaries of columns, got {got}")

    def read() -> Iterator[Row]:
        for number, row in enumerate(rows):
            place = f"{PLACE}, row {number}"
            try:
                yield Row(place, {name: _encoded(value) for name, value in row.items()}, _read_file)
            except (OSError, ValueError, TypeError) as error:
                yield Row(place, fault=f"an image in memory cannot be used: {error}")

    return Source("rows in memory", list(rows[0]), read, len(rows))


def _encoded(value: Any) -> Any:
    """A PIL image as the bytes of a file, since an image's bytes are its identity; also inside lists and messages."""
    if isinstance(value, list | tuple):
        return [_encoded(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _encoded(item) for name, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "__array_interface__") and hasattr(value, "ndim") and value.ndim >= 2:
        from PIL import Image

        value = Image.fromarray(value)
    if hasattr(value, "save") and hasattr(value, "mode"):
        return _png(value)
    return value


def _png(image: Any) -> bytes:
    """An image in memory as PNG, upright; what PNG cannot hold goes through TIFF, which keeps its inks."""
    from PIL import ImageOps

    from mmpo.data.images import decode, encode

    image = ImageOps.exif_transpose(image)
    if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        return encode(image)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    return encode(decode(buffer.getvalue()))


def _read_file(name: str) -> bytes:
    """Who hands over rows in Python may name any file; only files from elsewhere are held to their folder."""
    return Path(name).read_bytes()
