"""Other people's preference rows as groups: a source gives rows, a format makes pairs of them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from mmpo.data.extra_columns import ExtraColumn, read_extra
from mmpo.data.format_columns import listed, our_names, renamed
from mmpo.data.format_records import Format, LeftOut
from mmpo.data.formats import FORMATS, KNOWN, detect
from mmpo.data.list_pairs import every_pair
from mmpo.data.source_paths import is_local
from mmpo.data.source_rows import Row, Source
from mmpo.data.sources import open_source
from mmpo.records import Group

__all__ = ["FORMATS", "OpenPairs", "ReadReport", "check_first", "detect", "is_local", "open_pairs", "read_pairs"]

Made = TypeVar("Made")


@dataclass
class ReadReport:
    """What reading left out, and why.

    Args:
        counts: "rows", "pairs", "ties", "bad", "duplicates" and "left out".
        bad: the first messages, each naming file and row.
        reasons: of the rows that were left out since they hold no preference, by reason.
        total: rows to read, where that was cheap to know.
        note: what stands beside the rows and was not read; empty where nothing was left aside.
    """

    counts: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    total: int | None = None
    note: str = ""
    reasons: Counter[str] = field(default_factory=Counter)

    def leave_out(self, reason: str) -> None:
        """Counts a sound row that holds no preference."""
        self.counts["left out"] += 1
        self.reasons[reason] += 1

    def add_bad(self, message: str) -> None:
        """Counts a bad row and keeps the first twenty messages."""
        self.counts["bad"] += 1
        if len(self.bad) < 20:
            self.bad.append(message)

    def drop(self, message: str) -> None:
        """A pair that was counted turns out to be bad."""
        self.counts["pairs"] -= 1
        self.add_bad(message)

    @property
    def left_out(self) -> str:
        """How many rows were left out, by kind; empty where none was."""
        counts = [f"{self.counts[name]} {name}" for name in ("ties", "bad", "duplicates") if self.counts[name]]
        return ", ".join([*counts, *(f"{count} {reason}" for reason, count in self.reasons.most_common())])

    def nothing(self, path: str) -> str:
        """The message where no row can be used, with the first reasons."""
        first = "".join(f"\n  {message}" for message in self.bad[:3])
        left_out = f" ({self.left_out})" if self.left_out else ""
        reasons = f"; the first bad rows:{first}" if first else ""
        note = f" (note: {self.note})" if self.note else ""
        return f"data.path {path}{note}: no training pairs are left of {self.counts['rows']} rows{left_out}{reasons}"


@dataclass(frozen=True, slots=True)
class OpenPairs:
    """Rows that were found, and the format that reads them.

    Args:
        columns: {our name: theirs}, to rename each row by.
        extra: further columns to read, by our name.
        fewest: candidates that a group must have.
        lists, ties, each_pair: as `with_format` takes them.
    """

    source: Source
    format: Format
    columns: Mapping[str, str]
    extra: Mapping[str, ExtraColumn] = field(default_factory=dict)
    fewest: int = 2
    lists: bool = False
    ties: bool = False
    each_pair: bool = False

    def rows(self) -> Iterator[Row]:
        """The rows under our names, one of each prompt where the format has its images apart."""
        rows = (self._named(row) for row in self.source.rows())
        return self.format.gather(rows) if self.format.gather is not None else rows

    def _named(self, row: Row) -> Row:
        return row if row.fault else self.format.prepare(replace(row, values=renamed(row.values, self.columns)))


def open_pairs(
    path: str,
    *,
    format: str = "auto",
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    rejected: str | None = None,
    streaming: bool = True,
    **needs: Any,
) -> OpenPairs:
    """Finds the rows at a path and the format of their columns, and reads no pair yet.

    Args:
        needs: what the loss needs, as `with_format` takes it; the others as of `read_pairs`.

    Raises:
        ValueError: nothing to read, no rows, or columns that no format knows.
    """

    def check(source: Source) -> None:
        with_format(source, path, format=format, **needs)

    source = open_source(path, split=split, rejected=rejected, streaming=streaming, check=None if columns else check)
    return with_format(source, path, format=format, columns=columns, **needs)


def with_format(
    source: Source,
    path: str,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    extra: Mapping[str, ExtraColumn] | None = None,
    lists: bool = False,
    ties: bool = False,
    fewest: int = 2,
    each_pair: bool = False,
) -> OpenPairs:
    """A source and the format that reads its rows.

    Args:
        path: what messages call it, where the source is no file.
        extra: further columns that must be there, for the loss.
        lists: all candidates of a ranked row, and not its best and worst alone.
        ties: a tie is a group of equal ranks, and not left out.
        fewest: candidates that a group must have.
        each_pair: a ranked row gives all pairs of unequal rank, and not its best and worst alone.
    Raises:
        ValueError: no rows, or columns that no format knows.
    """
    if format != "auto" and format not in FORMATS:
        raise ValueError(f"data.format: unknown name '{format}'; valid: auto, {', '.join(FORMATS)}")
    where = source.file or path
    if source.total == 0 or not source.columns:
        raise ValueError(f"data.path {where}: no rows in it ({source.layout})")
    extra = extra or {}
    names = our_names(source.columns, columns or {}, (*KNOWN, *extra), where)
    found = detect(names, where, format)
    lacking = [name for name in extra if name not in names]
    if lacking:
        raise ValueError(
            f"data.path {where}: the recipe's loss needs the column{'s' * (len(lacking) > 1)} {', '.join(lacking)}; "
            f"found {listed(names)}; where theirs has another name, data.columns={{{lacking[0]}: THEIRS}} says so"
        )
    if fewest > 2 and not (lists and found.lists):
        raise ValueError(
            f"data.path {where}: the recipe's loss takes ranked lists of at least {fewest} candidates, and the format "
            f"{found.name} gives pairs; use data of the format ranked"
        )
    return OpenPairs(source, found, dict(columns or {}), extra, fewest, lists or each_pair, ties, each_pair)


def read_pairs(
    path: str,
    *,
    format: str = "auto",
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    rejected: str | None = None,
    streaming: bool = True,
    limit: int | None = None,
    on_bad_row: str = "skip",
    report: ReadReport | None = None,
    lists: bool = False,
    ties: bool = False,
) -> Iterator[Group]:
    """Pairs, chosen first, from table files, image folders, a saved data set, or a data set on the hub.

    Args:
        path: where the rows are; ranked rows give their best and worst candidate, or all with `lists`.
        format: a key of `FORMATS`, or "auto" by columns.
        split: of a data set with several.
        columns: {ours: theirs}, renamed before anything looks at them.
        rejected: the folder of the rejected images, where `path` is that of the chosen ones.
        streaming: of a data set on the hub; false downloads it once and keeps it.
        limit: stop after so many pairs.
        on_bad_row: "skip" counts a bad row in `report`; "error" raises.
        report: is filled while reading.
        lists, ties: as `with_format` takes them.
    Raises:
        ValueError: nothing to read, unknown columns, or a bad row where that is fatal.
    """
    report = report if report is not None else ReadReport()
    where: dict[str, Any] = {"format": format, "split": split, "columns": columns, "rejected": rejected}
    opened = open_pairs(path, **where, streaming=streaming, lists=lists, ties=ties)
    return read_open(opened, limit=limit, on_bad_row=on_bad_row, report=report)


def read_open(
    opened: OpenPairs,
    *,
    limit: int | None = None,
    on_bad_row: str = "skip",
    report: ReadReport | None = None,
) -> Iterator[Group]:
    """The groups of rows that were found before; arguments as of `read_pairs`."""
    report = report if report is not None else ReadReport()
    gathers = opened.format.gather is not None  # the source counts images then, and not rows of one prompt
    report.total, report.note = None if gathers or opened.each_pair else opened.source.total, opened.source.note
    return _pairs(opened, limit, on_bad_row, report)


def check_first(
    opened: OpenPairs, path: str, rows: int = 1000, *, check: Callable[[Group], None] = lambda group: None
) -> None:
    """Reads until the first pair, so that a wrong folder of images shows before hours of work.

    Args:
        check: refuses that pair by a ValueError, for reasons of the recipe's.
    Raises:
        ValueError: there is no pair at all, or each of the first `rows` rows is bad.
    """
    report = ReadReport(note=opened.source.note)
    for row in itertools.islice(opened.rows(), rows):
        report.counts["rows"] += 1
        try:
            group = _pair_of(row, opened)
        except LeftOut as reason:
            report.leave_out(str(reason))
        except ValueError as error:
            report.add_bad(f"{row.place}: {error}")
        else:
            if group is not None:
                return check(group)
            report.counts["ties"] += 1
    if report.counts["rows"] < rows or report.counts["bad"] == rows:
        raise ValueError(report.nothing(path))


def _pairs(opened: OpenPairs, limit: int | None, on_bad_row: str, report: ReadReport) -> Iterator[Group]:
    if limit is not None and limit <= 0:
        return
    for made in sound(opened.rows(), lambda row: _made(_pair_of(row, opened), opened), on_bad_row, report):
        if not made:
            report.counts["ties"] += 1
        for one in made[: None if limit is None else limit - report.counts["pairs"]]:
            report.counts["pairs"] += 1
            yield one
        if limit is not None and report.counts["pairs"] >= limit:
            return


def sound(rows: Iterable[Row], make: Callable[[Row], Made], on_bad_row: str, report: ReadReport) -> Iterator[Made]:
    """What is made of each row; rows that hold no preference and bad ones are counted and left out.

    Args:
        make: raises `LeftOut`, or ValueError of a bad row.
        on_bad_row: "skip", or "error" to raise.
    """
    for row in rows:
        report.counts["rows"] += 1
        try:
            made = make(row)
        except LeftOut as reason:
            report.leave_out(str(reason))
        except ValueError as error:
            if on_bad_row == "error":
                raise ValueError(f"{row.place}: {error}") from None
            report.add_bad(f"{row.place}: {error}")
        else:
            yield made


def _made(group: Group | None, opened: OpenPairs) -> list[Group]:
    """What is trained on of a row: all pairs of a list where that is asked for; nothing of a tie."""
    if group is None:
        return []
    return every_pair(group) if opened.each_pair else [group]


def _pair_of(row: Row, opened: OpenPairs) -> Group | None:
    """The row's pair. A later file may lack a column that the first one has."""
    if row.fault:
        raise ValueError(row.fault)
    missing = opened.format.missing(row.values)
    if missing:
        raise ValueError(f"column '{missing[0]}' is missing; found {listed(row.values) or 'none'}")
    group = opened.format.read(row, lists=opened.lists, ties=opened.ties)
    if group is not None and len(group.candidates) < opened.fewest:
        raise ValueError(f"has {len(group.candidates)} candidates; the recipe's loss takes at least {opened.fewest}")
    if group is None or not opened.extra:
        return group
    return replace(group, extra=read_extra(opened.extra, row.values))
