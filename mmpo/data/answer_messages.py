"""Other people's messages as turns: who speaks, what they say, and where the images stand in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmpo.answer_pairs import Role, Turn
from mmpo.data.format_values import caption
from mmpo.data.source_rows import short

LONGEST = 100_000
"""Characters of one message."""
ROLES: Mapping[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "system": "system",
}
MARK = re.compile(
    r"(?:<\|vision_start\|>|<im_start>|<img>)?"
    r"<(?:image|ImageHere|image_placeholder|image_soft_token|IMG_CONTEXT|\|image\|?|\|image_pad\|"
    r"|image_(?P<number>\d+)|\|image_(?P<phi>\d+)\|)>"
    r"(?:<\|vision_end\|>|<im_end>|</img>)?"
)
"""How an image's place is written in a text: LLaVA, Qwen, InternVL, DeepSeek, Gemma, Phi, and the same numbered."""
OTHER_MARK = re.compile(r"<img>[^<]+</img>|<\|?(?:video|audio)(?:_pad)?\|?>")
"""What would be read as text and is none: an image named in the text, a video, a sound."""
EMBEDDED = ("image", "bytes", "path", "url", "image_url", "base64")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn, and the images that stand in the message itself rather than in a column.

    Args:
        turn: its parts.
        images: values of its image blocks that have one; a bare block or a mark in a text has none.
    """

    turn: Turn
    images: tuple[Any, ...] = ()


def messages_of(value: Any, column: str) -> list[Message]:
    """A list of messages: `{role, content}` or `{from, value}`, content as text or as blocks.

    Args:
        value: of the column; one message alone is a list of one.
    Raises:
        ValueError: another shape, an unknown role, or a text that cannot be; names the column and the message.
    """
    listed = [value] if isinstance(value, Mapping) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(one, Mapping) for one in listed):
        raise ValueError(
            f"column '{column}' holds {_shape(value)}; expected messages, such as "
            '[{"role": "user", "content": ...}] or [{"from": "human", "value": ...}]'
        )
    return [_message(one, f"{column}[{number}]") for number, one in enumerate(listed)]


def user_message(text: Any, column: str) -> Message:
    """A question that is a text and no list of messages."""
    return Message(Turn("user", text_parts(_text(text, column), column)))


def text_of(message: Message, column: str) -> str:
    """What an answer says.

    Raises:
        ValueError: it shows an image; answers are text.
    """
    if message.turn.images:
        raise ValueError(f"column '{column}': the answer shows an image (a mark such as <image>); answers are text")
    return "".join(part or "" for part in message.turn.parts)


def answer_text(value: Any, column: str) -> str:
    """An answer that is a text and no message.

    Raises:
        ValueError: no text, empty, or holding the mark of an image.
    """
    return text_of(Message(Turn("assistant", text_parts(_text(value, column), column))), column)


def text_parts(text: str, column: str) -> tuple[str | None, ...]:
    """A text cut where images stand; line ends beside a mark, and blanks between a mark and the text's end, go too.

    Raises:
        ValueError: numbered marks that are out of order, or the mark of a video, a sound, or a file in the text.
    """
    other = OTHER_MARK.search(text)
    if other is not None:
        raise ValueError(f"column '{column}' holds {short(other[0], 60)}; images are read, from a column or as blocks")
    marks = list(MARK.finditer(text))
    numbers = [int(mark["number"] or mark["phi"]) for mark in marks if mark["number"] or mark["phi"]]
    if numbers and (len(numbers) < len(marks) or numbers != list(range(numbers[0], numbers[0] + len(numbers)))):
        raise ValueError(f"column '{column}': its images are numbered {numbers}; expected them in order")
    parts: list[str | None] = []
    at = 0
    for mark in marks:
        parts += [text[at : mark.start()], None]
        at = mark.end()
    parts.append(text[at:])
    if not marks:
        return (text,)
    return tuple(part for part in _trimmed(parts) if part is None or part.strip())


def with_images_first(turns: Sequence[Turn], count: int) -> list[Turn]:
    """The same turns with so many images at the start of the user's first."""
    found = list(turns)
    first = next((number for number, turn in enumerate(found) if turn.role == "user"), None)
    if first is None:
        return found
    found[first] = Turn("user", (None,) * count + found[first].parts)
    return found


def _trimmed(parts: Sequence[str | None]) -> list[str | None]:
    """Without the line ends beside marks; at the text's own ends without any blanks beside them."""
    shown: list[str | None] = []
    for number, part in enumerate(parts):
        if part is None:
            shown.append(None)
            continue
        before, after = number > 0, number + 1 < len(parts)
        leads = all(one is None or not one.strip() for one in parts[:number])
        trails = all(one is None or not one.strip() for one in parts[number + 1 :])
        part = part.lstrip() if before and leads else part.lstrip("\r\n") if before else part
        part = part.rstrip() if after and trails else part.rstrip("\r\n") if after else part
        shown.append(part)
    return shown


def _message(value: Mapping[str, Any], column: str) -> Message:
    said = value.get("role") if value.get("role") is not None else value.get("from")
    role = ROLES.get(said.lower()) if isinstance(said, str) else None
    if role is None:
        raise ValueError(f"{column}: the role is {short(repr(said))}; expected one of {', '.join(ROLES)}")
    content = value.get("content") if value.get("content") is not None else value.get("value")
    if isinstance(content, str | bytes):
        return Message(Turn(role, text_parts(_text(content, column), column)))
    if not isinstance(content, list | tuple) or not content:
        raise ValueError(f"{column}: its content is {_shape(content)}; expected a text, or blocks of text and image")
    parts: list[str | None] = []
    images: list[Any] = []
    for block in content:
        found, image = _block(block, column)
        parts += found
        images += image
    if images and len(images) != sum(part is None for part in parts):
        raise ValueError(f"{column}: some of its images stand in it and others do not; give all of them in one way")
    return Message(Turn(role, tuple(parts)), tuple(images))


def _block(block: Any, column: str) -> tuple[Sequence[str | None], list[Any]]:
    """Parts of a content block, and the image in it where there is one."""
    if isinstance(block, str):
        return text_parts(_text(block, column), column), []
    if not isinstance(block, Mapping):
        raise ValueError(f"{column}: a block is {_shape(block)}; expected {{type: text, text: ...}} or {{type: image}}")
    kind = block.get("type")
    if kind == "text" or (kind is None and isinstance(block.get("text"), str)):
        return text_parts(_text(block.get("text"), column), column), []
    if kind not in ("image", "image_url", None) or (kind is None and not any(name in block for name in EMBEDDED)):
        raise ValueError(f"{column}: a block of type {short(repr(kind))}; expected text or image")
    value = next((block[name] for name in EMBEDDED if block.get(name) is not None), None)
    if isinstance(value, Mapping) and isinstance(value.get("url"), str):
        value = value["url"]
    return (None,), [] if value is None else [value]


def _text(value: Any, column: str) -> str:
    return caption({column: value}, column, longest=LONGEST)


def _shape(value: Any) -> str:
    if isinstance(value, list | tuple):
        wrong = next((type(one).__name__ for one in value if not isinstance(one, Mapping)), "")
        return f"a list of {wrong}" if wrong else f"a list of {len(value)}"
    return "nothing" if value is None else f"{type(value).__name__}"
