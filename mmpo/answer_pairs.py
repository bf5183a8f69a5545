"""A preference between answers about images, or between images for one answer: what a VLM is aligned on.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mmpo.records import Prompt

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation.

    Args:
        role: who speaks.
        parts: its pieces in order: a text, or None where the conversation's next image stands.
    """

    role: Role
    parts: tuple[str | None, ...]

    @property
    def images(self) -> int:
        """How many images it shows."""
        return sum(part is None for part in self.parts)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters [start, stop) of an answer, and what their tokens weigh; the others weigh 1."""

    start: int
    stop: int
    weight: float


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """One row of preference data for a VLM.

    Args:
        id: hash of what made the row; whatever is drawn is counted by it.
        prompt: the question, its key (rows of one key stay on one split side), and its split.
        turns: the conversation up to the answer; the last turn is the user's.
        images: encoded files, in the order in which the turns show them.
        chosen: the better answer.
        rejected: the worse one, or None where only the images differ.
        rejected_images: as many as `images`: under them `chosen` is the worse side (rDPO's retrieved image).
            None: the row has none.
        chosen_spans, rejected_spans: parts of the answers that weigh more or less (RLHF-V's corrected segments).
        scores: per reward name the chosen's and the rejected's.
        extra: further columns that a loss asked for, by name.
        source: file and row it was read from, for error messages.
    Raises:
        ValueError: the turns show another number of images than there are, or do not end with a question.
    """

    id: str
    prompt: Prompt
    turns: tuple[Turn, ...]
    images: tuple[bytes, ...]
    chosen: str
    rejected: str | None
    rejected_images: tuple[bytes, ...] | None = None
    chosen_spans: tuple[Span, ...] = ()
    rejected_spans: tuple[Span, ...] = ()
    scores: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    extra: Mapping[str, float | bool | tuple[float, ...]] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        where = f"row {self.id} ({self.source or 'no source'})"
        shown = sum(turn.images for turn in self.turns)
        if shown != len(self.images):
            raise ValueError(f"{where}: its conversation shows {shown} images, and it has {len(self.images)}")
        if self.rejected_images is not None and len(self.rejected_images) != len(self.images):
            raise ValueError(
                f"{where}: has {len(self.images)} images and {len(self.rejected_images)} rejected ones; give as many"
            )
        if not self.turns or self.turns[-1].role != "user":
            raise ValueError(f"{where}: its conversation must end with the user's turn, which the answers answer")
        if self.rejected is None and self.rejected_images is None:
            raise ValueError(f"{where}: has neither a rejected answer nor rejected images; nothing is preferred")
