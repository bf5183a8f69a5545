"""Curry-DPO's order of pairs, easy before hard. Not a loss: the pairs are then trained on with `dpo`. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence


def easy_to_hard(gaps: Sequence[float]) -> list[int]:
    """Positions of pairs in the order to train on them: the widest rating gap first.

    Args:
        gaps: rating of the chosen minus rating of the rejected of each pair, > 0 where the rating agrees.
    Returns:
        A permutation of 0 ... len(gaps) − 1; equal gaps keep their order.
    Raises:
        ValueError: a gap that is not a finite number.
    References:
        Pattnaik et al., Curry-DPO: Enhancing Alignment using Curriculum Learning & Ranked Preferences,
        arXiv 2403.07230. The paper pairs the best response of a prompt with each other one and trains in stages, the
        widest gap of every prompt first; each stage's reference is the model of the stage before, which is a setting
        of the rounds and not of this order. Its abstract and introduction were seen, not its code.
    """
    for position, gap in enumerate(gaps):
        if not math.isfinite(gap):
            raise ValueError(f"gaps[{position}]: expected a finite number, got {gap!r}; drop the pair or rate it again")
    return sorted(range(len(gaps)), key=lambda position: -gaps[position])
