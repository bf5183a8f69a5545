"""What is asked of a vision-language model, and texts with slots."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Question:
    """One turn of a user.

    Args:
        parts: texts and images in the order in which the model reads them.
    """

    parts: tuple[str | Image.Image, ...]

    @property
    def images(self) -> list[Image.Image]:
        """Its images, in order."""
        return [part for part in self.parts if isinstance(part, Image.Image)]


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with `{name}` replaced for each name in `values`, once: braces in a value stay as they are."""
    return re.sub(r"\{(\w*)\}", lambda found: values.get(found[1], found[0]), template)


def check_slots(option: str, template: str, slots: tuple[str, ...]) -> None:
    """Refuses a template that lacks a slot.

    Args:
        option: its name, for the message.
        slots: names that must stand in braces; "" is `{}`.
    Raises:
        ValueError: a slot is missing.
    """
    missing = [f"{{{slot}}}" for slot in slots if f"{{{slot}}}" not in template]
    if missing:
        raise ValueError(f"{option}: {' and '.join(missing)} must stand in it, got {template!r}")


def shortened(text: str, limit: int = 160) -> str:
    """A text on one line, cut in its middle, for messages."""
    line = " ".join(text.split())
    half = limit // 2
    return line if len(line) <= limit else f"{line[:half]} ... {line[-half:]}"
