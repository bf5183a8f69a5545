"""Questions of a benchmark for vision-language models, as its own files have them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmpo.data.sources import open_source


@dataclass(frozen=True, slots=True)
class Item:
    """One question.

    Args:
        id: unique in the benchmark; the `key` of the row that `mmpo respond` is asked.
        question: as it is asked.
        image: the file's name; "" where the question is asked without one.
        truth: what the score is computed from.
        names: what else a file of answers may call it.
        group: a part of the benchmark that can be answered alone.
    """

    id: str
    question: str
    image: str
    truth: Mapping[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    group: str = ""

    @property
    def pair(self) -> str:
        """Image and question: what is asked, whatever it is called."""
        return pair_name(self.image, self.question)


def pair_name(image: str, question: str) -> str:
    """One name of an image's file and a question about it."""
    return f"{image.replace(chr(92), '/').rpartition('/')[2]}\t{' '.join(question.split())}"


def rows_in(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, row) of a file of objects: JSON lines, one JSON list, CSV or parquet, or a folder of such shards.

    Raises:
        ValueError: nothing there, or a row that is none.
    """
    for row in open_source(str(path)).rows():
        if row.fault:
            raise ValueError(f"{row.place}: {row.fault}")
        yield row.place, row.values


def read_object(path: Path) -> Any:
    """A file's one JSON value.

    Raises:
        ValueError: not there, or not JSON.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None


def needed(row: Mapping[str, Any], names: Sequence[str], place: str, expected: str) -> list[str]:
    """Columns that a question must have, as texts.

    Raises:
        ValueError: one is missing.
    """
    lacking = [name for name in names if row.get(name) is None]
    if lacking:
        raise ValueError(f"{place}: has no '{lacking[0]}' (found {', '.join(map(str, row))}); expected {expected}")
    return [str(row[name]) for name in names]
