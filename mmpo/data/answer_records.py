"""What a row of answers says, whoever wrote it: one record, and the `AnswerPair` that it is read as. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmpo.answer_pairs import AnswerPair, Turn
from mmpo.data.answer_images import encoded_image
from mmpo.data.answer_messages import Message, with_images_first
from mmpo.data.extra_columns import ExtraColumn, read_extra
from mmpo.data.format_values import label
from mmpo.data.rows import is_our_id
from mmpo.data.source_rows import Row
from mmpo.records import Prompt, bytes_hash, content_id

KEY_DIGITS = 24


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """All that a row says.

    Args:
        conversation: up to the answer.
        images: values of the column `column`, in order; images that stand in messages are not in it.
        chosen, rejected: texts; None for the rejected where only the images differ.
        rejected_images: values of the column `rejected_column`; None where the row has none.
        scores: per reward name the chosen's and the rejected's.
        own_id: the id that the row was written with by us; another is ignored.
    """

    conversation: Sequence[Message]
    chosen: str
    rejected: str | None
    column: str = ""
    images: Sequence[Any] = ()
    rejected_column: str = ""
    rejected_images: Sequence[Any] | None = None
    scores: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    own_id: Any = None


@dataclass(frozen=True)
class AnswerFormat:
    """One layout of columns.

    Args:
        name: as recipes name it.
        columns: needed for this format, "a|b" means either; the first match in the table wins.
        record: row -> what it says; None for a tie; `LeftOut` where that is no preference, any other ValueError names
            what is wrong.
        marks: further columns by which it is known where no format is named.
        optional: columns that it reads where they are there.
    """

    name: str
    columns: tuple[str, ...]
    record: Callable[[Row], AnswerRecord | None]
    marks: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    def missing(self, columns: Sequence[str] | Mapping[str, Any]) -> list[str]:
        """What these columns lack for this format."""
        return [need.replace("|", " or ") for need in self.columns if not any(n in columns for n in need.split("|"))]

    def fits(self, columns: Sequence[str]) -> bool:
        """Whether rows with these columns are of this format, where nobody said."""
        marked = all(any(name in columns for name in mark.split("|")) for mark in self.marks)
        return marked and not self.missing(columns)

    @property
    def needs(self) -> str:
        """The columns, for a message."""
        return f"{self.name} needs {', '.join(need.replace('|', ' or ') for need in (*self.columns, *self.marks))}"


def answer_pair(row: Row, record: AnswerRecord, extra: Mapping[str, ExtraColumn]) -> AnswerPair:
    """The row that a VLM is aligned on.

    Images of which the conversation says no place stand first in the user's first turn. The key is the row's own, or
    else the hash of its first image, so that rows that ask about one image stay on one side of a split (a further or a
    rejected image may be on both); without images it is the question.

    Raises:
        ValueError: images and their places do not match, an image cannot be read, or nothing is preferred.
    """
    turns, images = _shown(row, record)
    _check_order(turns)
    rejected_images = _rejected_images(row, record, images)
    if record.rejected is not None and record.rejected == record.chosen and rejected_images is None:
        raise ValueError("chosen and rejected are the same answer, so the row prefers nothing; leave it out")
    rejected = None if record.rejected == record.chosen else record.rejected
    hashes = [bytes_hash(image) for image in images]
    others = None if rejected_images is None else [bytes_hash(image) for image in rejected_images]
    said = [[turn.role, list(turn.parts)] for turn in turns]
    question = "\n".join(part for part in turns[-1].parts if part is not None)
    key = label(row.values.get("key")) or (hashes[0][:KEY_DIGITS] if hashes else "")
    return AnswerPair(
        id=record.own_id
        if is_our_id(record.own_id)
        else content_id("answer pair", said, hashes, record.chosen, rejected, others),
        prompt=Prompt(question, key, label(row.values.get("split"))),
        turns=tuple(turns),
        images=tuple(images),
        chosen=record.chosen,
        rejected=rejected,
        rejected_images=None if rejected_images is None else tuple(rejected_images),
        scores=dict(record.scores),
        extra=read_extra(extra, row.values) if extra else {},
        source=row.place,
    )


def _shown(row: Row, record: AnswerRecord) -> tuple[list[Turn], list[bytes]]:
    """The turns with a place for each image, and the images."""
    turns = [message.turn for message in record.conversation]
    inside = [value for message in record.conversation for value in message.images]
    if inside and record.images:
        raise ValueError(f"images stand in the messages and in the column '{record.column}'; give them in one place")
    values = inside or list(record.images)
    places = sum(turn.images for turn in turns)
    if values and not places:
        turns, places = with_images_first(turns, len(values)), len(values)
    if places != len(values):
        raise ValueError(
            f"the conversation has places for {places} images (<image>), and the row has {len(values)}; give one each"
        )
    column = record.column or "images"
    return turns, [encoded_image(value, column, row.open_file) for value in values]


def _rejected_images(row: Row, record: AnswerRecord, images: Sequence[bytes]) -> list[bytes] | None:
    """The images under which the chosen answer is worse; None where there are none, or they are the same."""
    if record.rejected_images is None:
        return None
    column = record.rejected_column or "rejected_images"
    found = [encoded_image(value, column, row.open_file) for value in record.rejected_images]
    if len(found) != len(images):
        raise ValueError(f"column '{column}' holds {len(found)} images for {len(images)}; give as many")
    return None if found == list(images) else found


def _check_order(turns: Sequence[Turn]) -> None:
    """A conversation is an optional system turn, then user and assistant by turns, and ends with the user's."""
    said = [turn.role for turn in turns]
    rest = said[1:] if said[:1] == ["system"] else said
    wanted = ["user" if number % 2 == 0 else "assistant" for number in range(len(rest))]
    if not rest or rest != wanted or rest[-1] != "user":
        raise ValueError(
            f"the conversation before the answers is {', '.join(said) or 'empty'}; expected the user's and the "
            "assistant's turns by turns, the user's last"
        )
