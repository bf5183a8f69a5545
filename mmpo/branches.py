"""The names of a row's branches: which answer a vision-language model scores under which images. No torch."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Branch(NamedTuple):
    """One way to put a row to the model.

    Args:
        answer: which of the row's answers.
        images: under which images: the row's own, its rejected ones, all-zero pixels in place of its own, or none at
            all (the conversation without them).
    """

    answer: Literal["chosen", "rejected"]
    images: Literal["own", "rejected", "zero", "none"]


BRANCHES: dict[str, Branch] = {
    "chosen": Branch("chosen", "own"),
    "rejected": Branch("rejected", "own"),
    "visual": Branch("chosen", "rejected"),
    "visual_rejected": Branch("rejected", "rejected"),
    "prior": Branch("chosen", "zero"),
    "prior_rejected": Branch("rejected", "zero"),
    "blind": Branch("chosen", "none"),
    "blind_rejected": Branch("rejected", "none"),
}
"""What the names that losses use stand for: rDPO's and mDPO's `visual`, V-DPO's `prior`."""
