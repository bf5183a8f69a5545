"""Means with intervals, clustered: the unit that is independent is a prompt, not an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % bootstrap interval and standard error over clusters."""

    mean: float
    low: float
    high: float
    standard_error: float


def clustered_mean(
    values: Sequence[float] | NDArray[np.floating], clusters: Sequence[str], *, seed: int = 0
) -> Interval:
    """Mean of `values`, with a percentile bootstrap that resamples whole clusters.

    Args:
        values: N numbers; NaN entries are left out.
        clusters: N names; equal names are resampled together.
        seed: of the resampling.
    Raises:
        ValueError: no value is left, or the lengths differ.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) != len(clusters):
        raise ValueError(f"clusters: expected {len(array)} names, one per value, got {len(clusters)}")
    keep = ~np.isnan(array)
    if not keep.any():
        raise ValueError("values: nothing to average; every value is missing")
    _, index = np.unique(np.asarray(clusters, dtype=object)[keep].astype(str), return_inverse=True)
    sums = np.bincount(index, weights=array[keep])
    counts = np.bincount(index).astype(np.float64)
    picks = np.random.default_rng(seed).integers(0, len(sums), size=(RESAMPLES, len(sums)))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high), float(means.std(ddof=1)))
