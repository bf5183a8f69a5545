"""Rows of files: parquet, JSON lines, one JSON list, CSV."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmpo.data.shards import columns_of, count_rows, read_rows
from mmpo.data.source_paths import TABLE_SUFFIXES, opener, some, visible_files
from mmpo.data.source_rows import Row, Source

COUNTED_BYTES = 2**28
KINDS = {
    ".parquet": "parquet",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".csv": "CSV",
    ".tsv": "CSV",
    ".json": "JSON",
}


def tables_in(folder: Path) -> list[Path]:
    """A folder's table files, all of one kind: parquet before JSON lines before CSV before a lone .json."""
    files = visible_files(folder)
    for kind in dict.fromkeys(KINDS.values()):
        found = [file for file in files if KINDS.get(file.suffix.lower()) == kind]
        if found and (kind != "JSON" or len(found) == 1):
            return found
    return []


def of_split(files: Sequence[Path], root: Path, split: str | None) -> list[Path]:
    """The files of one split, by their names: `train-00000-of-00005.parquet`, `train.jsonl`, `train/a.parquet`.

    Raises:
        ValueError: no file is named like that.
    """
    if split is None:
        return list(files)

    def names(file: Path) -> set[str]:
        *folders, name = file.relative_to(root).parts
        return {*folders, re.split(r"[-.]", name)[0]}

    chosen = [file for file in files if split in names(file)]
    if not chosen:
        raise ValueError(
            f"data.split: no file of {root} is named like split '{split}'; found {some(f.name for f in files)}; "
            "leave data.split out to read every file"
        )
    return chosen


def open_files(files: Sequence[Path]) -> Source:
    """The rows of files of one kind; image paths in them are relative to the file's folder.

    Raises:
        ValueError: several kinds, or the first file cannot be read.
    """
    kinds = {KINDS.get(file.suffix.lower(), "parquet") for file in files}
    if len(kinds) > 1:
        raise ValueError(f"data.path: files of several kinds ({', '.join(sorted(kinds))}); name those of one kind")
    kind = kinds.pop()
    if kind == "parquet":
        return Source(kind, _parquet_columns(files[0]), lambda: _parquet_rows(files), _parquet_total(files))
    if kind == "JSON":
        return _json_source(files)
    read = _read_csv if kind == "CSV" else _read_lines
    total = sum(map(_count_lines, files)) if kind == "JSON lines" and _small(files) else None
    return Source(kind, _first_columns(files, read), lambda: _chained(files, read), total)


def _parquet_columns(file: Path) -> list[str]:
    try:
        columns = columns_of(file)
    except ValueError as error:
        if file.suffix.lower() in TABLE_SUFFIXES:
            raise
        raise ValueError(f"{error}; tables are files named {', '.join(TABLE_SUFFIXES)}") from None
    _refuse_twins(file, columns)
    return columns


def _refuse_twins(file: Path, columns: Sequence[str]) -> None:
    """Two columns of one name: of a row as a dictionary, the second would silently stand for both."""
    twin = next((name for name, count in Counter(columns).items() if count > 1), None)
    if twin is not None:
        raise ValueError(f"{file}: the column '{twin}' stands twice; rename or drop one")


def _parquet_rows(files: Sequence[Path]) -> Iterator[Row]:
    for file in files:
        _refuse_twins(file, columns_of(file))
        open_file = opener(file.parent)
        for place, values in read_rows(file):
            yield Row(place, values, open_file)


def _parquet_total(files: Sequence[Path]) -> int | None:
    counts = [count_rows(file) for file in files]
    return None if None in counts else sum(count or 0 for count in counts)


def _chained(files: Sequence[Path], read: Callable[[Path], Iterator[Row]]) -> Iterator[Row]:
    return itertools.chain.from_iterable(map(read, files))


def _first_columns(files: Sequence[Path], read: Callable[[Path], Iterator[Row]]) -> list[str]:
    """Names in the first rows that can be read; JSON rows need not all have the same."""
    rows = list(itertools.islice(_chained(files, read), 100))
    columns = dict.fromkeys(name for row in rows for name in row.values)
    if rows and not columns:
        raise ValueError(f"none of the first {len(rows)} rows can be read; {rows[0].place}: {rows[0].fault}")
    return list(columns)


def _small(files: Sequence[Path]) -> bool:
    return sum(file.stat().st_size for file in files) <= COUNTED_BYTES


def _count_lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


def _read_lines(file: Path) -> Iterator[Row]:
    """A JSON object a line."""
    open_file = opener(file.parent)
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            place = f"{file}, line {number}"
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not text.strip():
                continue
            try:
                yield _json_row(json.loads(_utf8(text)), place, open_file)
            except (ValueError, RecursionError) as error:
                yield Row(place, fault=_json_fault(error))


def _utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        hint = "it is UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else f"byte 0x{data[error.start]:02x}"
        raise ValueError(f"not UTF-8 ({hint} at position {error.start}); save the file as UTF-8") from None


def _json_fault(error: Exception) -> str:
    return f"not JSON: {error}" if isinstance(error, json.JSONDecodeError | RecursionError) else str(error)


def _json_row(value: Any, place: str, open_file: Any) -> Row:
    if not isinstance(value, dict):
        return Row(place, fault=f'expected an object such as {{"prompt": ...}}, found {type(value).__name__}')
    return Row(place, value, open_file)


def _json_source(files: Sequence[Path]) -> Source:
    """One list of objects a file; a .json file that holds an object a line is read as JSON lines."""
    lists: list[tuple[Path, list[Any]]] = []
    for file in files:
        data = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
        if not data.lstrip().startswith(b"["):
            return Source("JSON lines", _first_columns(files, _read_lines), lambda: _chained(files, _read_lines))
        try:
            lists.append((file, json.loads(_utf8(data))))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}: {_json_fault(error)}") from None

    def rows() -> Iterator[Row]:
        for file, values in lists:
            open_file = opener(file.parent)
            for number, value in enumerate(values):
                yield _json_row(value, f"{file}, row {number}", open_file)

    first = itertools.islice(rows(), 100)
    columns = list(dict.fromkeys(name for row in first for name in row.values))
    return Source("JSON", columns, rows, sum(len(values) for _, values in lists))


def _read_csv(file: Path) -> Iterator[Row]:
    """A header and a row a line. Bytes that are not UTF-8 become lone surrogates, which a prompt may not hold."""
    open_file = opener(file.parent)
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.DictReader(lines, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
        try:
            names = reader.fieldnames or ()
        except csv.Error as error:
            raise ValueError(f"{file}, line 1: not CSV: {error}") from None
        _refuse_twins(file, [name for name in names if name])
        while True:
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(f"{file}, line {reader.line_num}", fault=f"not CSV: {error}")
                continue
            place = f"{file}, line {reader.line_num}"
            if None in values or None in values.values():
                yield Row(place, fault=f"expected {len(names)} cells, as in the header")
            else:
                yield Row(place, values, open_file)
