"""Answers about images, one a question, of any data set that holds them. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mmpo.data.candidate_rows import PROMPTS
from mmpo.data.candidates import DataCandidate, OpenCandidates, open_candidates
from mmpo.data.questions import TURNS, first_question
from mmpo.data.source_rows import Source
from mmpo.data.sources import images_in, open_source
from mmpo.records import normalise_text


@dataclass
class Answers:
    """The best answer of each question about an image.

    Args:
        opened: the rows, and where things stand in them.
        counts: "repeated", questions about an image that stood there before; counted while reading.
    """

    opened: OpenCandidates
    counts: Counter[str] = field(default_factory=Counter)

    def read(self) -> Iterator[DataCandidate]:
        """Each question with its image and its first answer that can be read, in the data's order.

        The first is the chosen one of pairs. What cannot be read says so in `error`. Answers about one image are one
        cluster where the row has no key.
        """
        seen: set[tuple[str, str]] = set()
        for group in self.opened.groups():
            row = next((row for row in group if row.error is None), group[0])
            known = (row.image_hash, row.prompt)
            if row.error is None and known in seen:
                self.counts["repeated"] += 1
                continue
            seen.add(known)
            own = row.cluster != normalise_text(row.prompt)
            yield row if own else replace(row, cluster=row.image_hash[:24])


def open_answered(
    path: str,
    *,
    images: str | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    streaming: bool = True,
) -> Answers:
    """Finds rows with an image, a question and an answer, and reads no image yet.

    Args:
        path: rows with `image, prompt, response` (or `chosen`, or `responses`, of which the first counts), or as
            LLaVA is trained on (`image, conversations`), of which the first question and its answer count.
        images: the folder that image paths in the rows are relative to; None: the folder of the file they stand in.
        split, columns, streaming: as of `open_candidates`.
    Raises:
        ValueError: nothing to read, or columns that fit nothing.
    """
    renames = dict(columns or {})
    source = open_source(path, split=split, streaming=streaming)
    source = source if images is None else images_in(source, images)
    names = {*source.columns} - {*renames.values()} | {*renames}
    if TURNS in names and not names & {*PROMPTS}:
        turned = _first_turns(source, renames.pop(TURNS, TURNS))
        return Answers(OpenCandidates(turned, "answers", renames))
    opened = open_candidates(path, format="answers", split=split, columns=renames, streaming=streaming)
    return Answers(replace(opened, source=source))


def first_answer(turns: Any) -> str:
    """The text of the second turn, which must be the model's: `{from: gpt, value}`, or `{role: assistant, content}`.

    Raises:
        ValueError: no such turn.
    """
    second = turns[1] if isinstance(turns, list | tuple) and len(turns) > 1 else None
    if not isinstance(second, Mapping):
        raise ValueError("holds no answer; expected [{from: human, value: ...}, {from: gpt, value: ...}]")
    who, said = (
        (second.get("from"), second.get("value")) if "from" in second else (second.get("role"), second.get("content"))
    )
    if who not in ("gpt", "assistant") or not isinstance(said, str):
        raise ValueError(f"has a second turn of {who!r}; expected the model's answer as text")
    return said


def _first_turns(source: Source, column: str) -> Source:
    def rows() -> Iterator[Any]:
        for row in source.rows():
            if row.fault:
                yield row
                continue
            try:
                said = row.values.get(column)
                found = {"prompt": first_question(said), "response": first_answer(said)}
                yield replace(row, values={**row.values, **found})
            except ValueError as error:
                yield replace(row, fault=f"column '{column}' {error}")

    return replace(source, columns=[*source.columns, "prompt", "response"], rows=rows)
