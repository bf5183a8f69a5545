"""Values of a row's columns: captions and numbers, each checked, each fault named by its column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmpo.data.source_rows import short

LONGEST_PROMPT = 10_000


def caption(row: Mapping[str, Any], column: str, *, longest: int = LONGEST_PROMPT) -> str:
    """The text of a prompt column, without a byte order mark at its start and line ends at its end.

    Args:
        longest: so many characters at most.
    Raises:
        ValueError: no text, empty, absurdly long, or characters that no text has.
    """
    text = row.get(column)
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"column '{column}' is not UTF-8; save the file as UTF-8") from None
    if text is not None and not isinstance(text, str):
        raise ValueError(f"column '{column}' holds {type(text).__name__}; expected text")
    text = (text or "").removeprefix("\ufeff").rstrip("\r\n")
    if not text.strip():
        raise ValueError(f"column '{column}' is empty")
    if len(text) > longest:
        raise ValueError(f"column '{column}' has {len(text):,} characters, the limit is {longest:,}; is it a prompt?")
    if "\0" in text:
        raise ValueError(f"column '{column}' holds a NUL character; was it UTF-16 or binary? save it as UTF-8")
    broken = next((sign for sign in text if "\ud800" <= sign <= "\udfff"), None)
    if broken is not None:
        raise ValueError(
            f"column '{column}' holds half a character (U+{ord(broken):04X}), so its text is damaged or not UTF-8; "
            "save it as UTF-8"
        )
    return text


def finite(value: Any, column: str) -> float:
    """A finite number, also one written as text (CSV).

    Raises:
        ValueError: it is none.
    """
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"column '{column}' is {short(repr(value))}; expected a finite number")
    return number


def finites(row: Mapping[str, Any], column: str, count: int) -> list[float]:
    """A list of so many finite numbers."""
    return [finite(value, column) for value in _listed(row, column, count)]


def scores_or_none(row: Mapping[str, Any], column: str, count: int) -> list[float | None]:
    """A list of so many finite numbers or nulls: a reward that could not score an image says null."""
    return [None if value is None else finite(value, column) for value in _listed(row, column, count)]


def _listed(row: Mapping[str, Any], column: str, count: int) -> Sequence[Any]:
    values = row.get(column)
    if not isinstance(values, list | tuple) or len(values) != count:
        size = f"{len(values)} values" if isinstance(values, list | tuple) else short(repr(values))
        raise ValueError(f"column '{column}' holds {size} for {count} images; expected one number per image")
    return values


def listed(row: Mapping[str, Any], column: str) -> Sequence[Any]:
    """A column that lists at least two images, not read yet.

    Raises:
        ValueError: no list, or fewer.
    """
    values = row.get(column) if row.get(column) is not None else []
    if not isinstance(values, list | tuple):
        raise ValueError(f"column '{column}' holds one {type(values).__name__}; expected a list of images")
    if len(values) < 2:
        raise ValueError(f"column '{column}' holds {len(values)} images; expected at least 2")
    return values


def label(value: Any) -> str:
    """A column that names a row, such as `key` or `split`; one of another kind says nothing to us."""
    return value if isinstance(value, str) else str(value) if type(value) is int else ""


def own_captions(row: Mapping[str, Any], columns: Sequence[str], prompt: str) -> list[str | None]:
    """Each candidate's own caption, or None where it has none or it is the prompt.

    Args:
        columns: one of each candidate; where the row lacks them, or all are null, nobody has a caption.
    Raises:
        ValueError: some are there and others not, or one is no text.
    """
    if all(row.get(column) is None for column in columns):
        return [None] * len(columns)
    texts = [caption(row, column) for column in columns]
    return [None if text == prompt else text for text in texts]


def listed_captions(row: Mapping[str, Any], count: int, prompt: str) -> list[str | None]:
    """The same of a column `captions` that holds one text per image."""
    texts = row.get("captions")
    if texts is None:
        return [None] * count
    if not isinstance(texts, list | tuple) or len(texts) != count:
        size = f"{len(texts)} values" if isinstance(texts, list | tuple) else short(repr(texts))
        raise ValueError(f"column 'captions' holds {size} for {count} images; expected one text per image")
    named = {f"captions[{number}]": text for number, text in enumerate(texts)}
    return own_captions(named, list(named), prompt)
