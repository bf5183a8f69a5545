"""Beta is not one number: the same training has another β in other tools. Conversions for denoising surrogates."""

from __future__ import annotations

CONVENTIONS = {
    "half_mean": "logit = -(beta/2) * mean squared error: the official Diffusion-DPO code, and mmpo",
    "mean": "logit = -beta * mean squared error: diffusers' scripts (2500 there = 5000 here)",
    "half_sum": "logit = -(beta/2) * summed squared error: tools that sum over C, H, W",
}


SCALES = frozenset({"beta", "tau", "beta_chosen", "beta_rejected"})
"""Options of losses that are stated in these conventions."""


def describe(beta: float, elements: int) -> str:
    """The same strength in every convention, for a terminal."""
    return ", ".join(f"{value:g} ({name})" for name, value in equivalents(beta, elements).items())


def to_half_mean(beta: float, convention: str, elements: int) -> float:
    """β in the `half_mean` convention.

    Args:
        beta: as the other tool states it.
        convention: a key of `CONVENTIONS`.
        elements: C·H·W of one latent (4·64·64 for Stable Diffusion 1.5 at 512 pixels).
    Raises:
        ValueError: for an unknown convention.
    """
    return beta * _factor(convention, elements)


def equivalents(beta: float, elements: int) -> dict[str, float]:
    """The same strength in every convention, from β in `half_mean`."""
    return {name: beta / _factor(name, elements) for name in CONVENTIONS}


def _factor(convention: str, elements: int) -> float:
    factors = {"half_mean": 1.0, "mean": 2.0, "half_sum": float(elements)}
    if convention not in factors:
        raise ValueError(f"beta_convention: expected one of {sorted(factors)}, got {convention!r}")
    return factors[convention]
