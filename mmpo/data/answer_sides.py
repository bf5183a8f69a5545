"""The two answers of a row and what they answer, whether the columns hold texts, messages or whole conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmpo.data.answer_images import listed_images
from mmpo.data.answer_messages import Message, answer_text, messages_of, text_of, user_message

IMAGES = ("images", "image", "img_path", "image_path")
REJECTED_IMAGES = ("rejected_images", "retrieved_images", "retrieved_image", "rejected_image")


class Sides(NamedTuple):
    """A conversation up to the answer, and both answers; None for the rejected where only the images differ."""

    conversation: Sequence[Message]
    chosen: str
    rejected: str | None


def sides_of(row: Mapping[str, Any], prompt: str | None, *, needed: bool = True) -> Sides:
    """Of the columns `chosen` and `rejected`.

    Args:
        prompt: the column of what they answer; None where they repeat it.
        needed: there must be a rejected answer, since nothing else is rejected.
    Raises:
        ValueError: a column holds something else, or the conversations differ before their last message.
    """
    asked = [] if prompt is None else prompt_of(row.get(prompt), prompt)
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if rejected in (None, "", []) and not needed:
        rejected = chosen
    if _is_text(chosen) and _is_text(rejected):
        return Sides(asked, answer_text(chosen, "chosen"), answer_text(rejected, "rejected"))
    if _is_text(chosen) or _is_text(rejected):
        raise ValueError(
            "one of the columns 'chosen' and 'rejected' holds a text and the other messages; give both alike"
        )
    found = diverging(messages_of(chosen, "chosen"), messages_of(rejected, "rejected"), ("chosen", "rejected"))
    said = found.conversation
    whole = bool(said) and said[0].turn.role != "assistant"
    return found if whole else found._replace(conversation=[*asked, *said])


def prompt_of(value: Any, column: str) -> list[Message]:
    """A question, or the messages up to the answer."""
    return [user_message(value, column)] if _is_text(value) else messages_of(value, column)


def diverging(chosen: Sequence[Message], rejected: Sequence[Message], columns: tuple[str, str]) -> Sides:
    """Of two conversations that differ in their last message, which is the assistant's.

    Raises:
        ValueError: empty ones, another last speaker, or a difference before.
    """
    for messages, column in ((chosen, columns[0]), (rejected, columns[1])):
        if not messages or messages[-1].turn.role != "assistant":
            raise ValueError(f"column '{column}': its last message must be the assistant's, the answer")
    if list(chosen[:-1]) != list(rejected[:-1]):
        raise ValueError(
            f"columns '{columns[0]}' and '{columns[1]}' differ before their last message; answers that are "
            "compared must answer the same conversation"
        )
    return Sides(list(chosen[:-1]), text_of(chosen[-1], columns[0]), text_of(rejected[-1], columns[1]))


def only_answer(value: Any, column: str) -> str:
    """An answer as a text or as one message of the assistant's."""
    if _is_text(value):
        return answer_text(value, column)
    messages = messages_of(value, column)
    if len(messages) != 1 or messages[0].turn.role != "assistant":
        raise ValueError(f"column '{column}' holds {len(messages)} messages; expected the assistant's answer alone")
    return text_of(messages[0], column)


def rejected_images_of(row: Mapping[str, Any]) -> tuple[str, list[Any] | None]:
    """The column of the images under which the chosen answer is worse, and what it holds; None where there are none."""
    column = next((name for name in REJECTED_IMAGES if listed_images(row.get(name))), "")
    return column, listed_images(row[column]) if column else None


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str | bytes)
