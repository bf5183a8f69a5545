"""Rows of CSV files, and of their like with another sign between cells."""

from __future__ import annotations

import contextlib
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmpo.data.source_paths import opener
from mmpo.data.source_rows import Row

SEPARATORS = (",", ";", "\t", "|")


def refuse_twins(file: Path, columns: Sequence[str]) -> None:
    """Two columns of one name: of a row as a dictionary, the second would silently stand for both."""
    twin = next((name for name, count in Counter(columns).items() if count > 1), None)
    if twin is not None:
        raise ValueError(f"{file}: the column '{twin}' stands twice; rename or drop one")


def _separator(file: Path) -> str:
    """What stands between cells: the usual sign, or where the header has none of it, another that it has.

    One column alone is no pair, so nothing that could be read with the usual sign is read otherwise.
    """
    usual = "\t" if file.suffix.lower() == ".tsv" else ","
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        head = next((line for line in lines if line.strip()), "")
    for sign in (usual, *SEPARATORS):
        with contextlib.suppress(csv.Error):
            if len(next(csv.reader([head], delimiter=sign), [])) > 1:
                return sign
    return usual


def read_csv(file: Path) -> Iterator[Row]:
    """A header and a row a line. Bytes that are not UTF-8 become lone surrogates, which a prompt may not hold."""
    open_file = opener(file.parent)
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.DictReader(lines, delimiter=_separator(file))
        try:
            names = reader.fieldnames or ()
        except csv.Error as error:
            raise ValueError(f"{file}, line 1: not CSV: {error}") from None
        refuse_twins(file, [name for name in names if name])
        while True:
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                hint = "; are images in it? give files and their paths" if "field limit" in str(error) else ""
                yield Row(f"{file}, line {reader.line_num}", fault=f"not CSV: {error}{hint}")
                continue
            place = f"{file}, line {reader.line_num}"
            if None in values or None in values.values():
                yield Row(place, fault=f"expected {len(names)} cells, as in the header")
            else:
                yield Row(place, values, open_file)
