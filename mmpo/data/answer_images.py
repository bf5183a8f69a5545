"""Images of rows of answers: files by path, bytes, or data URIs; nothing is fetched."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from mmpo.data.source_paths import MAX_BYTES
from mmpo.data.source_rows import OpenFile, image_bytes, short

WEB = ("http://", "https://", "ftp://", "s3://", "gs://")


def encoded_image(value: Any, column: str, open_file: OpenFile | None) -> bytes:
    """The bytes of an image: raw, `{bytes, path}`, a path inside the data's folder, or a base64 data URI.

    Pixels are not looked at; `mmpo.data.images.decode` turns and converts them later.

    Raises:
        ValueError: none of these, or a URL of the web; names the column.
    """
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("bytes", "path", "url") if value.get(name)), None)
    if isinstance(value, str):
        start = value.lstrip()[:40].lower()
        if start.startswith(WEB):
            raise ValueError(
                f"column '{column}': {short(value)} is a URL, and nothing is fetched; download the images, give paths"
            )
        if start.startswith("data:"):
            return _from_uri(value.strip(), column)
        if start.startswith("file://"):
            raise ValueError(f"column '{column}': {short(value)}; give a path in the data's folder without file://")
    return image_bytes(value, column, open_file)


def listed_images(value: Any) -> list[Any]:
    """A column of images as a list: of one image, of several, or of none where it is null."""
    if value is None or value == "" or value == {}:
        return []
    if isinstance(value, Mapping) and not any(value.get(name) for name in ("bytes", "path", "url")):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def image_values(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, list[Any]]:
    """The first of the columns that holds images, and what it holds; ("", []) where none does."""
    for column in columns:
        values = listed_images(row.get(column))
        if values:
            return column, values
    return "", []


def _from_uri(uri: str, column: str) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma or not head.lower().startswith("data:image/") or not head.lower().endswith(";base64"):
        raise ValueError(
            f"column '{column}': {short(head, 60)} is no data URI of an image; expected data:image/...;base64,"
        )
    if len(body) > MAX_BYTES * 4 // 3:
        raise ValueError(
            f"column '{column}': a data URI of {len(body):,} characters; an image has at most {MAX_BYTES:,} bytes"
        )
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"column '{column}': a data URI whose base64 is damaged") from None
    if not data:
        raise ValueError(f"column '{column}': an empty data URI")
    return data
