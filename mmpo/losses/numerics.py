"""Exponentials and logarithms of probabilities that stay finite, in value and in gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

EXPONENT = 20.0
"""Where exponents are cut: e^20 ≈ 5e8, whose square still fits float32."""


def log1mexp(x: Tensor) -> Tensor:
    """log(1 − e^x) for x < 0: the log-probability of the opposite of an event of log-probability x.

    Args:
        x: any shape, < 0.
    Returns:
        The same shape; ∂/∂x = −e^x/(1 − e^x). At x = 0 it is −∞, so callers cut x below 0 first.
    References:
        Mächler, Accurately computing log(1 − exp(−|a|)), 2012 (the switch at −ln 2).
    Differs from well-known code in feeding each branch a harmless number where the other one is taken: with a single
    `where`, float32 gives NaN as the gradient once e^x rounds to 1 (the unused log1p(−1) sends back ∞·0).
    """
    small = x < -math.log(2)
    far = torch.where(small, x, -1.0)
    near = torch.where(small, -1.0, x)
    return torch.where(small, torch.log1p(-far.exp()), torch.log(-torch.expm1(near)))


def clamped_exp(x: Tensor, ceiling: float = EXPONENT) -> Tensor:
    """exp(min(x, ceiling)): no overflow; beyond the ceiling the gradient is 0 (`diagnostics.clamped` counts it)."""
    return x.clamp(max=ceiling).exp()
