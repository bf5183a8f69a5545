"""How often a reward agrees with people: pure functions of two scores and a label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = tuple(round(0.1 * step, 1) for step in range(11))
Numbers = NDArray[np.float64]


def pair_accuracy(first: Numbers, second: Numbers, label: Numbers) -> Numbers:
    """[N]: 1 where the preferred image has the higher score, 0 where not or where the scores are equal.

    NaN where nobody is preferred (label ½): such a pair says nothing here.
    """
    right = np.where(label > 0.5, first > second, second > first).astype(float)
    return np.where(label == 0.5, np.nan, right)


def tie_aware_accuracy(first: Numbers, second: Numbers, label: Numbers, threshold: float) -> Numbers:
    """[N]: 1 where the predicted winner or tie is what the label says, ½ where one of the two is a tie, else 0.

    A tie is predicted where the two probabilities, the softmax of the scores, differ by no more than `threshold`.

    References:
        Kirstain et al., Pick-a-Pic, arXiv 2305.01569, section 5. A share of votes counts as its majority.
    """
    with np.errstate(over="ignore"):
        probability = 1 / (1 + np.exp(-(first - second)))
    said = np.where(np.abs(2 * probability - 1) <= threshold, 0.0, np.sign(first - second))
    meant = np.sign(label - 0.5)
    return np.where(said == meant, 1.0, np.where((said == 0) | (meant == 0), 0.5, 0.0))


def best_threshold(first: Numbers, second: Numbers, label: Numbers, thresholds: Sequence[float] = THRESHOLDS) -> float:
    """The threshold of the highest mean tie-aware accuracy; the lowest of several."""
    means = [float(tie_aware_accuracy(first, second, label, threshold).mean()) for threshold in thresholds]
    return thresholds[int(np.argmax(means))]
