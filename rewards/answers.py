"""What to say of rows that a reward of images cannot score, or not in full."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.table import REWARD_TABLE


def refused_answers(name: str, responses: Sequence[str | None]) -> list[str | None]:
    """Per row None, or why a reward that scores images cannot score an answer.

    Args:
        name: of the reward.
        responses: per row None, or the answer.
    """
    takers = ", ".join(other for other, entry in REWARD_TABLE.items() if "response" in entry.takes)
    said = f"{name} scores images, not answers; rewards that take answers: {takers}"
    return [None if response is None else said for response in responses]


def cut_note(tokens: int, limit: int) -> str | None:
    """What to say of a prompt longer than the model reads."""
    return f"prompt of {tokens} tokens, cut to the {limit} that the model reads" if tokens > limit else None
