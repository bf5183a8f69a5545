"""Questions about images, of any data set that holds an image and a text a row. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmpo.data.candidate_folder import open_captioned
from mmpo.data.candidate_rows import IMAGES, PROMPTS
from mmpo.data.candidates import DataCandidate, OpenCandidates, open_candidates
from mmpo.data.folder_pairs import look
from mmpo.data.source_files import tables_in
from mmpo.data.source_hub import is_saved
from mmpo.data.source_paths import is_local, local_path, read_file
from mmpo.data.source_rows import Row, Source
from mmpo.data.sources import images_in, open_source
from mmpo.records import normalise_text

TURNS = "conversations"
SLOT = "{prompt}"


@dataclass
class Questions:
    """The questions of a data set, each once.

    Args:
        opened: the rows, and where a question and its image stand in them.
        template: in place of each row's text; `{prompt}` in it stands for that text.
        counts: "repeated", questions about an image that stood there before; counted while reading.
    """

    opened: OpenCandidates
    template: str | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def read(self) -> Iterator[DataCandidate]:
        """Each question with its image, in the data's order; what cannot be asked says so in `error`.

        Questions about one image are one cluster where the row has no key: what to keep apart is what was seen.
        """
        seen: set[tuple[str, str]] = set()
        for group in self.opened.groups():
            for row in self._questions(group):
                text = row.prompt if self.template is None else self.template.replace(SLOT, row.prompt)
                known = (row.image_hash, text)
                if row.error is None and known in seen:
                    self.counts["repeated"] += 1
                    continue
                seen.add(known)
                own = row.cluster != normalise_text(row.prompt)
                yield replace(row, prompt=text, cluster=row.cluster if own else row.image_hash[:24], response=None)

    def _questions(self, group: list[DataCandidate]) -> list[DataCandidate]:
        """The rows of a group; of answers to one question the first that can be read."""
        if self.opened.kind != "answers":
            return group
        return [next((row for row in group if row.error is None), group[0])]


def open_questions(
    path: str,
    *,
    question: str | None = None,
    images: str | None = None,
    format: str = "auto",
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    streaming: bool = True,
) -> Questions:
    """Finds rows with an image and a question, and reads no image yet.

    Args:
        path: what `mmpo.data.candidates.open_candidates` takes (of rows with answers the question counts); rows as
            LLaVA is trained on (`image, conversations`), of which the first question is asked; or, with `question`,
            a folder of images alone and tables with images alone.
        question: asked of every image, in place of the row's text, which `{prompt}` in it stands for.
        images: the folder that image paths in the rows are relative to; None: the folder of the file they stand in.
        format, split, columns, streaming: as of `open_candidates`.
    Raises:
        ValueError: nothing to read, or columns that fit nothing.
    """
    renames = dict(columns or {})
    asked = question if question is None or SLOT not in question else None
    bare = _bare_folder(path, asked) if asked is not None else None
    if bare is not None:
        return _in_order(OpenCandidates(bare, "images", renames), question)
    if is_local(path) and open_captioned(path) is not None:
        return _in_order(open_candidates(path, format=format, split=split, columns=renames), question)
    source = open_source(path, split=split, streaming=streaming)
    if images is not None:
        source = images_in(source, images)
    names = {*source.columns} - {*renames.values()} | {*renames}
    if TURNS in names and not names & {*PROMPTS}:
        turns = renames.pop(TURNS, TURNS)
        return _in_order(OpenCandidates(_first_turns(source, turns), "images", renames), question)
    if asked is not None and names & {*IMAGES} and not names & {*PROMPTS}:
        return _in_order(OpenCandidates(_with_text(source, asked), "images", renames), question)
    opened = open_candidates(path, format=format, split=split, columns=renames, streaming=streaming)
    return _in_order(opened if images is None else replace(opened, source=source), question)


def _in_order(opened: OpenCandidates, template: str | None) -> Questions:
    """Rows of one text are not brought together, as candidates of a prompt are where rows hold no image bytes."""
    return Questions(
        replace(opened, source=replace(opened.source, layout=f"questions, {opened.source.layout}")), template
    )


def _bare_folder(path: str, text: str) -> Source | None:
    """Images without captions; None where the path is no such folder."""
    folder = local_path(path)
    if not folder.is_dir() or is_saved(folder) or tables_in(folder):
        return None
    side = look(folder)
    if not side.images or side.captions:
        return None
    files = [file for stem in sorted(side.images) for file in side.images[stem]]

    def rows() -> Iterator[Row]:
        yield from (Row(str(file), fault=why) for file, why in side.faults)
        for file in files:
            yield Row(str(file), {"image": file.name, "prompt": text}, _beside(file))

    return Source("images", ["image", "prompt"], rows, len(side.faults) + len(files))


def _beside(file: Path) -> Any:
    return lambda name: read_file(file, name)


def _with_text(source: Source, text: str) -> Source:
    def rows() -> Iterator[Row]:
        for row in source.rows():
            yield row if row.fault else replace(row, values={**row.values, "prompt": text})

    return replace(source, columns=[*source.columns, "prompt"], rows=rows)


def _first_turns(source: Source, column: str) -> Source:
    """What a person says first in each row's conversation, as its prompt."""

    def rows() -> Iterator[Row]:
        for row in source.rows():
            if row.fault:
                yield row
                continue
            try:
                yield replace(row, values={**row.values, "prompt": first_question(row.values.get(column))})
            except ValueError as error:
                yield replace(row, fault=f"column '{column}' {error}")

    return replace(source, columns=[*source.columns, "prompt"], rows=rows)


def first_question(turns: Any) -> str:
    """The text of the first turn, which must be a person's: `{from: human, value}`, or `{role: user, content}`.

    Raises:
        ValueError: no list of turns, or somebody else begins.
    """
    if not isinstance(turns, list | tuple) or not turns or not isinstance(turns[0], Mapping):
        raise ValueError("holds no list of turns; expected [{from: human, value: ...}, {from: gpt, value: ...}]")
    first = turns[0]
    who, said = (
        (first.get("from"), first.get("value")) if "from" in first else (first.get("role"), first.get("content"))
    )
    if who not in ("human", "user") or not isinstance(said, str):
        raise ValueError(f"begins with a turn of {who!r}; expected a person's question as text")
    return said
