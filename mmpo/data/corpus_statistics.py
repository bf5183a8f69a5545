"""Mean and deviation of each reward over a whole corpus, read as it comes, and the file that keeps them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmpo.files import write_json


class Statistics(NamedTuple):
    """Of one reward: the mean and the standard deviation (of the whole, not of a sample) of `scored` finite scores."""

    mean: float
    std: float
    scored: int = 0


class Corpus:
    """Adds up scores batch by batch; two halves and the whole give the same figures up to rounding.

    References:
        Chan, Golub, LeVeque, "Algorithms for computing the sample variance", The American Statistician 37 (1983).
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._count = np.zeros(len(names))
        self._mean = np.zeros(len(names))
        self._squares = np.zeros(len(names))

    def add(self, scores: NDArray[np.float64]) -> None:
        """Takes [N, R] scores; what is not finite is left out."""
        known = np.isfinite(scores)
        count = known.sum(0)
        divisor = np.maximum(count, 1)
        mean = np.where(known, scores, 0).sum(0) / divisor
        squares = np.where(known, scores - mean, 0) ** 2
        total = self._count + count
        gap = mean - self._mean
        share = count / np.maximum(total, 1)
        self._squares += squares.sum(0) + gap**2 * self._count * share
        self._mean += gap * share
        self._count = total

    def result(self) -> dict[str, Statistics]:
        """By reward; of one without any finite score mean and std are 0."""
        deviations = np.sqrt(self._squares / np.maximum(self._count, 1))
        rows = zip(self._names, self._mean, deviations, self._count, strict=True)
        return {name: Statistics(float(mean), float(std), int(count)) for name, mean, std, count in rows}


def write_statistics(file: Path, found: Mapping[str, Statistics]) -> None:
    """`{reward: {mean, std, scored}}` as JSON."""
    write_json(file, {name: values._asdict() for name, values in found.items()})


def read_statistics(file: Path, names: Sequence[str]) -> list[Statistics]:
    """What `write_statistics` wrote, in the order of the names.

    Raises:
        ValueError: no such file, a reward that is not in it, or a number that is none; names the fix.
    """
    how = "`mmpo data pair DATASET --labels DIR --dry-run --write-statistics FILE` makes it from labels"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(f"statistics {file}: no such file; {how}") from None
    except ValueError as error:
        raise ValueError(f"statistics {file}: not JSON: {error}; {how}") from None
    rows = []
    for name in names:
        entry = found.get(name) if isinstance(found, dict) else None
        if not isinstance(entry, dict):
            has = ", ".join(found) if isinstance(found, dict) else "no names"
            raise ValueError(f"statistics {file}: nothing of '{name}'; it has {has or 'none'}; {how}")
        mean, std = entry.get("mean"), entry.get("std")
        numbers = [x for x in (mean, std) if isinstance(x, int | float) and math.isfinite(x)]
        if len(numbers) != 2 or numbers[1] < 0:
            raise ValueError(f"statistics {file}: '{name}' has mean {mean!r} and std {std!r}; expected two numbers")
        rows.append(Statistics(float(numbers[0]), float(numbers[1]), int(entry.get("scored") or 0)))
    return rows
