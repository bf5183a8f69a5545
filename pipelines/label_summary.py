"""What labelling came to: counts per column, reasons, and the first bad rows, read back from the shards."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpo.data.labels import column_folder, rows_folder
from mmpo.data.shards import read_rows, shard_file

SHOWN = 10
REASONS = 20
"""Kinds of reasons that the marker keeps."""


def count_rows(folder: Path, shards: int) -> dict[str, Any]:
    """`rows`, `groups`, `returning`: groups of a prompt that had one before; `unreadable`: `count, reasons, first`."""
    rows, groups, returning, bad = 0, 0, 0, _Bad()
    last, before, prompts = None, None, set[int]()
    columns = ["group", "prompt", "response", "split", "place", "error"]
    for number in range(shards):
        for _, row in read_rows(shard_file(rows_folder(folder), number), columns):
            rows += 1
            if row["group"] != last:
                groups += 1
                prompt = hash((row["prompt"], row["split"]))  # few bytes for a prompt
                apart = prompt != before  # else a group that is full was cut
                returning += bool(row["prompt"]) and row["response"] is None and apart and prompt in prompts
                prompts.add(prompt)
                before = prompt
            last = row["group"]
            bad.add(row["place"], row["error"])
    return {"rows": rows, "groups": groups, "returning": returning, "shards": shards, "unreadable": bad.counts()}


def count_column(folder: Path, column: str, shards: int) -> dict[str, Any]:
    """`scored`, `failed` (`count, reasons, first`; without what nobody can score), `notes` (the same)."""
    scored, failed, notes = 0, _Bad(), _Bad()
    for number in range(shards):
        rows = read_rows(shard_file(rows_folder(folder), number), ["place", "error"])
        scores = read_rows(shard_file(column_folder(folder, column), number), ["score", "error", "note"])
        for (_, row), (_, score) in zip(rows, scores, strict=True):
            scored += score["score"] is not None
            failed.add(row["place"], score["error"] if row["error"] is None else None)
            notes.add(row["place"], score["note"])
    return {"scored": scored, "failed": failed.counts(), "notes": notes.counts()}


def summary_lines(marker: Mapping[str, Any], columns: Sequence[str]) -> Iterator[str]:
    """The counts for the terminal, and the first bad rows with file and row."""
    yield f"{marker['rows']:,} candidates of {marker['groups']:,} groups"
    if marker["returning"]:
        yield (
            f"  {marker['returning']:,} of them are of a prompt that had a group before; sorted by prompt, the data "
            "would have one group of each"
        )
    unreadable = marker["unreadable"]
    first = [f"{place}: {why}" for place, why in unreadable["first"]]
    count = unreadable["count"]
    for column in columns:
        found = marker["columns"][column]
        failed, notes = found["failed"], found["notes"]
        noted = f"; {notes['count']:,} with a note, the first: {_joined(notes['first'][0])}" if notes["count"] else ""
        yield f"  {column}: {found['scored']:,} scored, {marker['rows'] - found['scored']:,} not{noted}"
        first += [f"{place}: {column}: {why}" for place, why in failed["first"]]
        count += failed["count"]
    if count:
        yield f"{_said(unreadable['count'], count)}; a score that is not there is null, never 0:"
        yield from (f"  {line}" for line in first[:SHOWN])
        if count > SHOWN:
            yield f"  and {count - min(SHOWN, len(first)):,} more; their reasons stand in the column error"


def _said(unreadable: int, count: int) -> str:
    """The bad rows in words: some no reward can score, others one reward could not."""
    rows = f"{unreadable:,} rows that no reward can score" if unreadable else ""
    failed = f"{count - unreadable:,} times a reward failed on a row" if count > unreadable else ""
    return ", ".join(part for part in (rows, failed) if part)


def _joined(named: Sequence[str]) -> str:
    return ": ".join(named)


class _Bad:
    """Rows with something to say: how many, of which kinds, the first by name."""

    def __init__(self) -> None:
        self._count, self._reasons = 0, Counter[str]()
        self._first: list[list[str]] = []

    def add(self, place: str, why: str | None) -> None:
        if why is None:
            return
        self._count += 1
        kind = re.sub(r"\d[\d,.]*", "N", why)[:100]
        if kind not in self._reasons and len(self._reasons) >= REASONS:
            kind = "other"
        self._reasons[kind] += 1
        if len(self._first) < SHOWN:
            self._first.append([place, why[:300]])

    def counts(self) -> dict[str, Any]:
        return {"count": self._count, "reasons": dict(self._reasons.most_common()), "first": self._first}
