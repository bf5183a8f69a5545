"""Rows of JSON: an object a line, or one list of objects."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpo.data.source_paths import opener
from mmpo.data.source_rows import OpenFile, Row, short


def read_lines(file: Path) -> Iterator[Row]:
    """A JSON object a line."""
    open_file = opener(file.parent)
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            place = f"{file}, line {number}"
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not text.strip():
                continue
            try:
                yield json_row(parse(text), place, open_file)
            except (ValueError, RecursionError) as error:
                yield Row(place, fault=json_fault(error))


@dataclass(frozen=True, slots=True)
class Twins:
    """Stands for a JSON object in which a key stands twice, since a dictionary would silently keep the last."""

    key: str


def parse(data: bytes) -> Any:
    """A JSON value; an object with equal keys, also deeper inside, becomes `Twins`.

    Raises:
        ValueError: not JSON, or not UTF-8.
    """
    return json.loads(_utf8(data), object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> Any:
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        return Twins(next(key for key, count in counts.items() if count > 1))
    for value in values.values():
        for inner in value if isinstance(value, list) else (value,):
            if isinstance(inner, Twins):
                return inner
    return values


def _utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        hint = "it is UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else f"byte 0x{data[error.start]:02x}"
        raise ValueError(f"not UTF-8 ({hint} at position {error.start}); save the file as UTF-8") from None


def json_fault(error: Exception) -> str:
    """What is wrong with a text that should be JSON."""
    return f"not JSON: {error}" if isinstance(error, json.JSONDecodeError | RecursionError) else str(error)


def json_row(value: Any, place: str, open_file: OpenFile) -> Row:
    """The row of a parsed value."""
    if isinstance(value, Twins):
        return Row(place, fault=f"the key '{short(value.key)}' stands twice in one object; rename or drop one")
    if not isinstance(value, dict):
        return Row(place, fault=f'expected an object such as {{"prompt": ...}}, found {type(value).__name__}')
    return Row(place, value, open_file)
