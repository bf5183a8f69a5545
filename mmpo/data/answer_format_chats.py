"""Rows of whole conversations: LLaMA-Factory's ShareGPT, ms-swift's messages, and LLaVA's as POVID has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmpo.answer_pairs import Turn
from mmpo.data.answer_images import image_values
from mmpo.data.answer_messages import Message, answer_text, messages_of
from mmpo.data.answer_records import AnswerFormat, AnswerRecord
from mmpo.data.answer_sides import IMAGES, Sides, diverging, only_answer, rejected_images_of
from mmpo.data.source_rows import Row


def _sharegpt(row: Row) -> AnswerRecord:
    """`conversations` up to the answer, and `chosen` and `rejected` as one message each."""
    values = row.values
    asked = _with_system(messages_of(values.get("conversations"), "conversations"), values)
    chosen, rejected = (only_answer(values.get(side), side) for side in ("chosen", "rejected"))
    return _record(values, Sides(asked, chosen, rejected))


def _swift(row: Row) -> AnswerRecord:
    """`messages` whose last is the chosen answer; the rejected as an answer, as a conversation, or as images."""
    values = row.values
    messages = _with_system(messages_of(values.get("messages"), "messages"), values)
    if values.get("rejected_messages"):
        other = _with_system(messages_of(values["rejected_messages"], "rejected_messages"), values)
        return _record(values, diverging(messages, other, ("messages", "rejected_messages")))
    sides = diverging(messages, messages, ("messages", "messages"))
    response = values.get("rejected_response")
    if response in (None, "", []):
        if rejected_images_of(values)[1] is None:
            raise ValueError("has neither rejected_response, rejected_messages nor rejected_images")
        return _record(values, sides._replace(rejected=None))
    return _record(values, sides._replace(rejected=only_answer(response, "rejected_response")))


def _povid(row: Row) -> AnswerRecord:
    """Two whole conversations; a rejected side that is an answer alone is taken too."""
    values = row.values
    messages = messages_of(values.get("conversations"), "conversations")
    other = values.get("rejected_conversations")
    if isinstance(other, str):
        sides = diverging(messages, messages, ("conversations", "conversations"))
        return _record(values, sides._replace(rejected=answer_text(other, "rejected_conversations")))
    found = messages_of(other, "rejected_conversations")
    return _record(values, diverging(messages, found, ("conversations", "rejected_conversations")))


def _record(values: Mapping[str, Any], sides: Sides) -> AnswerRecord:
    column, images = image_values(values, IMAGES)
    return AnswerRecord(*sides, column, images, *rejected_images_of(values))


def _with_system(messages: Sequence[Message], values: Mapping[str, Any]) -> list[Message]:
    """A column `system` as the first turn, where the conversation has none."""
    said = values.get("system")
    has = bool(messages) and messages[0].turn.role == "system"
    if has or not isinstance(said, str) or not said.strip():
        return list(messages)
    return [Message(Turn("system", (said,))), *messages]


SHAREGPT = AnswerFormat("sharegpt", ("conversations", "chosen", "rejected"), _sharegpt, optional=IMAGES)
POVID = AnswerFormat("povid", ("conversations", "rejected_conversations"), _povid, optional=IMAGES)
SWIFT = AnswerFormat(
    "swift", ("messages", "rejected_response|rejected_messages|rejected_images"), _swift, optional=("images",)
)
