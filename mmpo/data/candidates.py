"""The candidates of any data set in a fixed order, group by group: what a reward scores. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from mmpo.data.candidate_folder import open_captioned
from mmpo.data.candidate_rows import ANSWERS, IMAGES, LAYOUTS, PROMPTS, RowDrafts, answers_of, pictures_of
from mmpo.data.format_columns import as_flags, listed, our_names, renamed, suggestion
from mmpo.data.format_values import label
from mmpo.data.formats import FORMATS, KNOWN, detect
from mmpo.data.source_rows import Row, Source
from mmpo.data.sources import open_source
from mmpo.records import bytes_hash, content_id

LARGEST_GROUP = 256
"""Candidates that one group holds; further ones of the same prompt begin another."""

KINDS = (*LAYOUTS, "answers")
"""What `format` names: formats of preferences, "images" (one image a row) and "answers" (text answers)."""


WITHOUT_BYTES = ("CSV", "JSON", "images with captions")  # layouts whose rows are small


@dataclass(frozen=True, slots=True)
class DataCandidate:
    """One candidate.

    Args:
        key: `content_id(image_hash, prompt, response)`, so equal candidates have equal keys wherever they stand; of
            one that cannot be read, its place in the data set instead.
        group: id of the prompt's group within the data set.
        number: place within the group.
        image: the file's bytes, empty where there are none.
        image_hash: SHA-256 of them, "" where there are none.
        response: None where the image is the candidate, else the answer to `prompt` that is.
        cluster: of the prompt, as `Prompt.cluster`.
        split: the row's own, "" where it has none.
        place: file and row.
        error: why nobody can score it, or None. Pixels are not looked at.
        made: what made it, as far as the data says.
        row: rows of the data set that were read before its own.
        id: of its row, where we made that row of this one candidate (a sample's); "" otherwise.
    """

    key: str
    group: str
    number: int
    image: bytes
    image_hash: str
    prompt: str
    response: str | None
    cluster: str
    split: str
    place: str
    error: str | None
    made: Mapping[str, Any] = field(default_factory=dict)
    row: int = 0
    id: str = ""

    def without_image(self) -> DataCandidate:
        """The same without the image's bytes."""
        return replace(self, image=b"")


@dataclass(frozen=True, slots=True)
class OpenCandidates:
    """Rows that were found, and what their candidates are.

    Args:
        kind: a name of `KINDS`.
        columns: {our name: theirs}.
    """

    source: Source
    kind: str
    columns: Mapping[str, str]

    def groups(self, limit: int | None = None) -> Iterator[list[DataCandidate]]:
        """Candidates of neighbouring rows with one prompt and split (with answers: and image), in the data's order.

        Where rows hold no image bytes (image folders, JSON, CSV), rows of one prompt are brought together first. In
        other data a prompt that comes back later begins another group. A candidate that stands twice in its group
        is given once.

        Args:
            limit: stop after so many candidates; the last group stays whole.
        """
        rows, given = self._rows(), 0
        numbers: dict[int, int] = {}
        for run in _runs(rows, by_image=self.kind == "answers"):
            if limit is not None and given >= limit:
                return
            group = _group(run, numbers)
            given += len(group)
            yield group

    def _rows(self) -> Iterator[_Placed]:
        """Rows as they are read, each with its number in the data set."""
        numbered: Iterator[tuple[int, Row]] = enumerate(self.source.rows())
        if self.kind == "images" and self.source.layout.startswith(WITHOUT_BYTES):
            numbered = _gathered(self.source, self.columns)
        for read, (number, row) in enumerate(numbered):
            yield _Placed(number, read, self._drafts(row))

    def _drafts(self, row: Row) -> RowDrafts:
        if not row.fault:
            row = replace(row, values=renamed(row.values, self.columns))
            row = FORMATS[self.kind].prepare(row) if self.kind in FORMATS else row
        return answers_of(row) if self.kind == "answers" else pictures_of(row, LAYOUTS[self.kind])


class _Placed(NamedTuple):
    number: int
    read: int
    row: RowDrafts


def open_candidates(
    path: str,
    *,
    format: str = "auto",
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    rejected: str | None = None,
    streaming: bool = True,
) -> OpenCandidates:
    """Finds the rows at a path and what their candidates are, and reads no image yet.

    Args:
        path: what `mmpo.data.readers.open_pairs` takes; a folder of images with a caption in a text file beside each;
            or tables with one image a row, and a prompt (`--format images`) or a question and answers ("answers").
        format: a name of `KINDS`, or "auto" by columns.
        columns: {ours: theirs}, renamed before anything looks at them.
    Raises:
        ValueError: nothing to read, no rows, or columns that fit nothing.
    """
    if format not in ("auto", *KINDS):
        from mmpo.suggest import one_of

        raise ValueError(f"data.format: {one_of(format, ('auto', *KINDS))}")
    renames = dict(columns or {})
    captioned = open_captioned(path) if rejected is None and split is None else None
    if captioned is not None:
        return OpenCandidates(captioned, "images", renames)

    def check(source: Source) -> None:
        _kind(source, path, format, renames)

    source = open_source(path, split=split, rejected=rejected, streaming=streaming, check=None if renames else check)
    return OpenCandidates(source, _kind(source, path, format, renames), renames)


def _kind(source: Source, path: str, format: str, columns: Mapping[str, str]) -> str:
    where = source.file or path
    if source.total == 0 or not source.columns:
        raise ValueError(f"data.path {where}: no rows in it ({source.layout})")
    names = our_names(source.columns, columns, (*KNOWN, *PROMPTS, *IMAGES, *ANSWERS), where)
    image, prompt = (any(name in names for name in some) for some in (IMAGES, PROMPTS))
    texts = any(name in names for name in ANSWERS[:3]) or {"chosen", "rejected"} <= {*names}
    answers = texts and prompt and ("image" in names or "images" in names)
    if format == "answers" or (format == "auto" and answers):
        if not answers:
            raise ValueError(f"data.path {where}: {_needs_answers()}; found {listed(names)}")
        return "answers"
    fits = format in FORMATS or (format == "auto" and any(not known.missing(names) for known in FORMATS.values()))
    if fits:
        return detect(names, where, format).name
    if image and prompt:
        return "images"
    near = suggestion(source.columns, [("prompt", "image")])
    hint = f". Perhaps {as_flags(near)}?" if near else ". Other names: --columns prompt=THEIRS --columns image=THEIRS"
    needs = "; ".join(known.needs for known in FORMATS.values())
    raise ValueError(
        f"data.path {where}: found the columns {listed(source.columns)}; one image a row needs prompt and image; "
        f"{_needs_answers()}; {needs}{hint}"
    )


def _needs_answers() -> str:
    return "answers need prompt (or question), image, and response, responses, or chosen and rejected"


def _gathered(source: Source, columns: Mapping[str, str]) -> Iterator[tuple[int, Row]]:
    """Rows with those of one prompt together; kept in memory, without images, only where they are not already."""
    order: dict[tuple[str, str], list[int]] = {}
    apart, last = False, ("", "")
    for number, row in enumerate(source.rows()):
        text, split = _prompt(row, columns)
        cluster = (f"{number}", "") if text is None else (f"={text}", split)
        apart = apart or (cluster in order and cluster != last)
        order.setdefault(cluster, []).append(number)
        last = cluster
    if not apart:
        return enumerate(source.rows())
    rows = list(source.rows())
    return ((number, rows[number]) for numbers in order.values() for number in numbers)


def _prompt(row: Row, columns: Mapping[str, str]) -> tuple[str | None, str]:
    """A row's prompt and split."""
    values = renamed(row.values, columns)
    found = next((values[name] for name in PROMPTS if values.get(name) is not None), None)
    return found if isinstance(found, str) else None, label(values.get("split"))


def _runs(rows: Iterator[_Placed], *, by_image: bool) -> Iterator[list[_Placed]]:
    """Neighbouring rows of one prompt."""
    run: list[_Placed] = []
    aside: list[_Placed] = []  # rows without a prompt belong to nobody, and do not part their neighbours
    size = 0
    for placed in rows:
        row = placed.row
        if not row.prompt:
            aside.append(placed)
        ends = run and row.prompt and not _together(run[-1].row, row, by_image)
        if ends or max(size + len(row.drafts), len(aside)) > LARGEST_GROUP or not run:
            yield from _closed(run, aside)
            run, aside, size = [], [], 0
        if row.prompt:
            run.append(placed)
            size += len(row.drafts)
    yield from _closed(run, aside)


def _closed(run: list[_Placed], aside: Sequence[_Placed]) -> Iterator[list[_Placed]]:
    """A run, and then each row without a prompt that stood in it, alone."""
    if run:
        yield run
    yield from ([placed] for placed in aside)


def _together(one: RowDrafts, other: RowDrafts, by_image: bool) -> bool:
    same = (one.prompt, one.split) == (other.prompt, other.split)  # a pair of two splits would show one in the other
    return same and (not by_image or one.drafts[0].image == other.drafts[0].image)


def _group(run: Sequence[_Placed], numbers: dict[int, int]) -> list[DataCandidate]:
    """A group of a run of rows.

    Args:
        numbers: how often each prompt began a group, by the first 60 bits of its hash; is counted up.
    """
    first = run[0].row
    about = bytes_hash(first.drafts[0].image) if first.drafts[0].response is not None else ""
    name = content_id("candidates", first.prompt or run[0].number, about)
    times = numbers.get(int(name[:15], 16), 0)
    numbers[int(name[:15], 16)] = times + 1
    group = name if times == 0 else content_id(name, times)
    found: dict[str, DataCandidate] = {}
    for row_number, read, row in run:
        for place, draft in enumerate(row.drafts):
            image_hash = bytes_hash(draft.image) if draft.image else ""
            key = content_id(image_hash, row.prompt, draft.response)
            if draft.error is not None:
                key = content_id("unread", row_number, place)
            if key not in found:
                found[key] = DataCandidate(
                    key=key,
                    group=group,
                    number=len(found),
                    image=draft.image,
                    image_hash=image_hash,
                    prompt=row.prompt,
                    response=draft.response,
                    cluster=row.cluster,
                    split=row.split,
                    place=row.place,
                    error=draft.error,
                    made=draft.made,
                    row=read,
                    id=row.id if len(row.drafts) == 1 else "",
                )
    return list(found.values())
