"""What every source gives: rows that know where they came from and how to open the files they name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OpenFile = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Args:
        place: file and row or line, for messages.
        values: its columns.
        open_file: a path that stands in a column -> that file's bytes; None where a row names no files.
        fault: why the source could not read the row; empty where it could.
    """

    place: str
    values: Mapping[str, Any] = field(default_factory=dict)
    open_file: OpenFile | None = None
    fault: str = ""

    def image(self, column: str) -> bytes:
        """The bytes of an image column."""
        return image_bytes(self.values.get(column), column, self.open_file)

    def images(self, column: str) -> list[bytes]:
        """The bytes of a column that holds a list of images."""
        values = self.values.get(column) or []
        if not isinstance(values, list | tuple):
            raise ValueError(f"column '{column}' holds one {type(values).__name__}; expected a list of images")
        return [image_bytes(value, column, self.open_file) for value in values]


@dataclass(frozen=True, slots=True)
class Source:
    """Rows of one place.

    Args:
        layout: what was found there, in words.
        columns: their names; later rows may lack one.
        rows: begins reading from the first row.
        total: rows, where that is cheap to know.
    """

    layout: str
    columns: Sequence[str]
    rows: Callable[[], Iterator[Row]]
    total: int | None = None


def image_bytes(value: Any, column: str, open_file: OpenFile | None = None) -> bytes:
    """Bytes of an image value: raw binary, a path, or the `{bytes, path}` of `datasets.Image`.

    Raises:
        ValueError: null, empty, or a path that cannot be read; names the column.
    """
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path") or b""
    if isinstance(value, bytes | bytearray) and value:
        return bytes(value)
    if isinstance(value, str) and value and open_file is not None:
        try:
            return open_file(value)
        except (OSError, ValueError) as error:
            raise ValueError(f"column '{column}': {error}") from None
    found = "is null" if value is None else f"holds {type(value).__name__}" if value else "is empty (0 bytes)"
    raise ValueError(f"column '{column}' {found}; expected the bytes of an image, or its path")
