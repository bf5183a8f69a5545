"""Preferences between answers about images as `AnswerPair`s: a source gives rows, a format makes pairs of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mmpo.answer_pairs import AnswerPair
from mmpo.data.answer_formats import ANSWER_COLUMNS, ANSWER_FORMATS, detect_answers
from mmpo.data.answer_records import AnswerFormat, answer_pair
from mmpo.data.dataset_info import InfoEntry, info_of
from mmpo.data.extra_columns import ExtraColumn
from mmpo.data.format_columns import listed, our_names, renamed
from mmpo.data.readers import ReadReport, sound
from mmpo.data.source_rows import Row, Source
from mmpo.data.sources import images_in, open_source


@dataclass(frozen=True, slots=True)
class OpenAnswers:
    """Rows that were found, and the format that reads them.

    Args:
        columns: {our name: theirs}, to rename each row by.
        extra: further columns to read, by our name.
        info: what LLaMA-Factory's dataset_info.json says of the file, if it says anything.
    """

    source: Source
    format: AnswerFormat
    columns: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, ExtraColumn] = field(default_factory=dict)
    info: InfoEntry | None = None

    def pair(self, row: Row) -> AnswerPair | None:
        """The row's pair; None for a tie. A later file may lack a column that the first one has.

        Raises:
            ValueError: the row holds no preference (`LeftOut`), or something is wrong with it.
        """
        if row.fault:
            raise ValueError(row.fault)
        values = renamed(row.values, self.columns)
        row = replace(row, values=self.info.messages(values) if self.info is not None else values)
        missing = self.format.missing(row.values)
        if missing:
            raise ValueError(f"column '{missing[0]}' is missing; found {listed(row.values) or 'none'}")
        record = self.format.record(row)
        return None if record is None else answer_pair(row, record, self.extra)


def open_answers(
    path: str,
    *,
    format: str = "auto",
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    images: str | None = None,
    streaming: bool = True,
    extra: Mapping[str, ExtraColumn] | None = None,
) -> OpenAnswers:
    """Finds the rows at a path and the format of their columns, and reads no pair yet.

    Args:
        path: as of `mmpo.data.sources.open_source`. Where a dataset_info.json of LLaMA-Factory beside a file names
            it, its columns are taken from there.
        format: a key of `ANSWER_FORMATS`, or "auto" by columns.
        split: of a data set with several.
        columns: {ours: theirs}, renamed before anything looks at them.
        images: the folder that image paths are relative to and stay in; None: that of the file that names them.
        streaming: of a data set on the hub; false downloads it once and keeps it.
        extra: further columns that must be there, for the loss.
    Raises:
        ValueError: nothing to read, no rows, or columns that no format knows.
    """
    source = open_source(path, split=split, streaming=streaming)
    source = source if images is None else images_in(source, images)
    return with_answer_format(source, path, format=format, columns=columns, extra=extra)


def with_answer_format(
    source: Source,
    path: str,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    extra: Mapping[str, ExtraColumn] | None = None,
) -> OpenAnswers:
    """A source (of a path, or of rows in memory) and the format that reads its rows; see `open_answers`."""
    if format != "auto" and format not in ANSWER_FORMATS:
        raise ValueError(f"data.format: unknown name '{format}'; valid: auto, {', '.join(ANSWER_FORMATS)}")
    where = source.file or path
    if source.total == 0 or not source.columns:
        raise ValueError(f"data.path {where}: no rows in it ({source.layout})")
    info = info_of(source.file)
    renames = {**(info.columns if info is not None else {}), **(columns or {})}
    extra = extra or {}
    names = our_names(source.columns, renames, (*ANSWER_COLUMNS, *extra), where)
    found = detect_answers(names, where, format)
    lacking = [name for name in extra if name not in names]
    if lacking:
        raise ValueError(
            f"data.path {where}: the recipe's loss needs the column{'s' * (len(lacking) > 1)} {', '.join(lacking)}; "
            f"found {listed(names)}; where theirs has another name, data.columns={{{lacking[0]}: THEIRS}} says so"
        )
    return OpenAnswers(source, found, renames, extra, info)


def read_open_answers(
    opened: OpenAnswers,
    *,
    limit: int | None = None,
    on_bad_row: str = "skip",
    report: ReadReport | None = None,
) -> Iterator[AnswerPair]:
    """The pairs of rows that were found before; arguments as of `read_answers`."""
    report = report if report is not None else ReadReport()
    report.total, report.note = opened.source.total, opened.source.note
    if limit is not None and limit <= 0:
        return
    for pair in sound(opened.source.rows(), opened.pair, on_bad_row, report):
        if pair is None:
            report.counts["ties"] += 1
            continue
        report.counts["pairs"] += 1
        yield pair
        if limit is not None and report.counts["pairs"] >= limit:
            return


def read_answers(
    path: str,
    *,
    limit: int | None = None,
    on_bad_row: str = "skip",
    report: ReadReport | None = None,
    **options: Any,
) -> Iterator[AnswerPair]:
    """Preferences between answers, from table files, a saved data set, or a data set on the hub.

    Args:
        limit: stop after so many pairs.
        on_bad_row: "skip" counts a bad row in `report`; "error" raises.
        report: is filled while reading.
        options: as of `open_answers`.
    Raises:
        ValueError: nothing to read, unknown columns, or a bad row where that is fatal.
    """
    return read_open_answers(open_answers(path, **options), limit=limit, on_bad_row=on_bad_row, report=report)
