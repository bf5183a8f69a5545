"""Scores of candidates to preferences between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def dominance(scores: Tensor) -> Tensor:
    """[B, K, K] bool: the first is at least as good by every reward and better by one (Pareto); else a tie.

    Args:
        scores: [R, B, K], higher is better. A candidate with a score that is not finite wins and loses nothing.
    References:
        Yang et al., arXiv 2311.13231, and its code's comparison of several rewards.
    """
    mine, other = scores.unsqueeze(-1), scores.unsqueeze(-2)
    better = (mine >= other).all(0) & (mine > other).any(0)
    known = scores.isfinite().all(0)
    return better & known.unsqueeze(-1) & known.unsqueeze(-2)


def extremes(scores: Tensor, threshold: Tensor | float, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """([B, 2] the best and the worst candidate, [B] bool whether they are far enough apart).

    Far enough is p_w − p_l > threshold with p = softmax(scale·[s_w, s_l]); all scores must be finite.

    Args:
        scores: [B, K].
        threshold: in [0, 1), or [B].
        scale: multiplies the scores; 1 for PickScore and its kind, whose scores are logits.
    References:
        Liang et al., arXiv 2406.04314, code of the resampler.
    """
    finite = scores.isfinite()
    best = scores.masked_fill(~finite, -torch.inf).argmax(1)
    worst = scores.masked_fill(~finite, torch.inf).argmin(1)
    pair = torch.stack([best, worst], 1)
    gap = scores.gather(1, pair).diff(dim=1).squeeze(1).neg() * scale
    share = torch.tanh(gap / 2)  # σ(g) − σ(−g)
    return pair, finite.all(1) & (share > threshold)


def threshold_at(threshold: float | Sequence[float], std: Tensor, step: int) -> float:
    """The threshold of a step: one number, or from low to high as the step's deviation grows.

    Args:
        threshold: a number, or [low, high].
        std: [S] of the sampler.
    References:
        Zhang et al., Diffusion Model as a Noise-Aware Latent Reward Model for Step-Level Preference Optimization
        (LPO), arXiv 2502.01051: thresholds between low and high, linear in σ_t.
    """
    if isinstance(threshold, int | float):
        return float(threshold)
    low, high = threshold
    least, most = float(std.min()), float(std.max())
    return low + (float(std[step]) - least) / max(most - least, 1e-12) * (high - low)
