"""Preferences between answers, as the data commands read them. Imports no torch at its top."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.data_progress import told
from pipelines.data_source import Source

if TYPE_CHECKING:
    from mmpo.answer_pairs import AnswerPair
    from mmpo.data.answer_readers import OpenAnswers
    from mmpo.data.readers import ReadReport

INSTEAD = {
    "split": "training holds rows out by question (evaluation.held_out_pairs), and a column split of yours is kept",
    "convert": "--to llava takes them, and mmpo train reads them as they are",
}
"""What to do with pairs of answers, by the command that does not take them."""
CONVERSATIONS = ("conversations", "messages", "rejected_response", "rejected_conversations", "retrieved_image")


@dataclass(frozen=True)
class AnswerSource:
    """Where pairs of answers are read from.

    Args:
        path: file, folder or hub name.
        options: further keywords of `read_answers`.
    """

    path: str
    options: dict[str, Any] = field(default_factory=dict)

    def open(self) -> OpenAnswers:
        """The rows that are there, and their format.

        Raises:
            ValueError: nothing to read there.
        """
        from mmpo.data.answer_readers import open_answers

        return open_answers(self.path, **{k: v for k, v in self.options.items() if k != "limit"})

    def read(self, report: ReadReport) -> Iterator[AnswerPair]:
        """The pairs; bad rows are counted in `report` and left out.

        Raises:
            ValueError: nothing to read there.
        """
        from mmpo.data.answer_readers import read_answers

        def line(pairs: int) -> str:
            total = f" of {report.total:,}" if report.total else ""
            return f"{report.counts['rows']:,}{total} rows read"

        return told(read_answers(self.path, report=report, **self.options), line)


def answers_in(source: Source, images: str | None = None) -> AnswerSource | None:
    """The source of pairs of answers, or None where these rows are pairs of images.

    Args:
        images: the folder that image paths in the rows are relative to.
    Raises:
        ValueError: a format of answers or a folder of images was named, or the rows hold conversations, and they cannot
            be read so.
    """
    from mmpo.data.answer_formats import ANSWER_FORMATS

    named = source.options.get("format") in ANSWER_FORMATS
    if "rejected" in source.options or (source.options.get("format") and not named):
        if images is not None:
            raise ValueError(f"--images {images}: is for rows of answers; these are pairs of images")
        return None
    found = AnswerSource(source.path, {**source.options, **({"images": images} if images is not None else {})})
    try:
        found.open()
    except ValueError:
        if named or images is not None or _of_conversations(found):
            raise
        return None
    return found


def _of_conversations(source: AnswerSource) -> bool:
    """Whether rows that fit no format hold what pairs of images never do."""
    from mmpo.data.sources import open_source

    options = {name: source.options[name] for name in ("split", "streaming") if name in source.options}
    try:
        return bool({*CONVERSATIONS} & {*open_source(source.path, **options).columns})
    except ValueError:
        return False


def refuse_answers(source: Source, command: str, options: str = "") -> None:
    """Refuses pairs of answers where `mmpo data COMMAND` takes pairs of images, and says what to do instead.

    Raises:
        ValueError: the rows are pairs of answers.
    """
    if answers_in(source) is not None:
        raise ValueError(
            f"{source.path}: holds pairs of answers, and `mmpo data {command}{options}` takes pairs of images; "
            f"{INSTEAD[command]}"
        )
