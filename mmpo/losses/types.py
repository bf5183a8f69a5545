"""What losses are called with, and the checks every loss of a family shares."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PairLogps(NamedTuple):
    """Log-likelihoods of one model for B pairs.

    Args:
        chosen: [B], log-likelihood (or surrogate) of the chosen candidates.
        rejected: [B], the same of the rejected ones.
        chosen_length: [B] number of scored tokens, where a loss divides by it; else None.
        rejected_length: [B] likewise.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_length: Tensor | None = None
    rejected_length: Tensor | None = None


def precise(x: Tensor) -> Tensor:
    """`x` in float32 or better: the maths of a loss never runs in half precision."""
    return x if x.dtype == torch.float64 else x.float()


def check_pair(policy: PairLogps, reference: PairLogps | None, *, needs_reference: bool) -> None:
    """Refuses log-likelihoods of the wrong shape or a missing reference.

    Raises:
        ValueError: names the argument, what was expected and what came.
    """
    if needs_reference and reference is None:
        raise ValueError("reference: expected PairLogps of the frozen model, got None; this loss compares with it")
    shape = policy.chosen.shape
    if policy.chosen.dim() != 1:
        raise ValueError(
            f"policy.chosen: expected shape [B], got {list(shape)}; sum over tokens or average over pixels"
        )
    sides = {"policy": policy, "reference": reference}
    for who, logps in sides.items():
        if logps is None:
            continue
        for side in ("chosen", "rejected"):
            got = getattr(logps, side).shape
            if got != shape:
                raise ValueError(f"{who}.{side}: expected shape {list(shape)} like policy.chosen, got {list(got)}")


def check_positive(name: str, value: float) -> None:
    """Refuses an option that is not a finite number above 0."""
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}: expected a finite number above 0, got {value!r}")
