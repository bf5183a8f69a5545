"""Other people's rows of answers: the table of formats, found by their columns."""

from __future__ import annotations

from collections.abc import Sequence

from mmpo.data.answer_format_chats import POVID, SHAREGPT, SWIFT
from mmpo.data.answer_format_columns import ANSWER_LISTS, ANSWERS, IMPLICIT, RE_ALIGN, RLHF_V
from mmpo.data.answer_records import AnswerFormat
from mmpo.data.format_columns import as_flags, as_override, listed, suggestion

ANSWER_FORMATS = {fmt.name: fmt for fmt in (ANSWER_LISTS, RE_ALIGN, SWIFT, SHAREGPT, POVID, RLHF_V, ANSWERS, IMPLICIT)}
ANSWER_COLUMNS = tuple(
    dict.fromkeys(
        name
        for fmt in ANSWER_FORMATS.values()
        for need in (*fmt.columns, *fmt.marks, *fmt.optional)
        for name in need.split("|")
    )
)


def holds_answers(columns: Sequence[str], name: str = "auto") -> bool:
    """Whether rows with these columns, read as the named format, are preferences between answers."""
    if name != "auto":
        return name in ANSWER_FORMATS
    return any(fmt.fits(columns) for fmt in ANSWER_FORMATS.values())


def detect_answers(columns: Sequence[str], where: str, name: str = "auto") -> AnswerFormat:
    """The format of these columns, or the named one if its columns are there.

    Raises:
        ValueError: lists the columns that were found, what each format needs, and the renaming that comes nearest.
    """
    candidates = [ANSWER_FORMATS[name]] if name != "auto" else list(ANSWER_FORMATS.values())
    for candidate in candidates:
        if candidate.fits(columns) if name == "auto" else not candidate.missing(columns):
            return candidate
    missing = f" missing: {', '.join(candidates[0].missing(columns))};" if name != "auto" else ""
    near = suggestion(columns, [[need.partition("|")[0] for need in c.columns] for c in candidates])
    hint = f" Perhaps '{as_override(near)}'? (mmpo data: {as_flags(near)})" if near else ""
    needs = "; ".join(candidate.needs for candidate in candidates)
    raise ValueError(f"{where}:{missing} found the columns {listed(columns) or 'none'}; {needs}.{hint}")
