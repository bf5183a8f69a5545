"""Log-likelihoods of policy and reference with given log-ratios."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmpo.training.heldout import BANDS


def logps(ratios: Sequence[Sequence[tuple[float, float]]], draws: int = 2) -> tuple[Tensor, Tensor]:
    """Policy and reference [N, BANDS · draws, 2] with these log-ratios (chosen, rejected) per pair and band.

    The draws of a band spread around the band's ratio and cancel in its mean.
    """
    ratio = torch.tensor(ratios, dtype=torch.float64)
    assert ratio.shape[1] == BANDS
    spread = torch.linspace(-1, 1, draws, dtype=torch.float64).view(1, 1, draws, 1)
    reference = -torch.rand(len(ratio), BANDS * draws, 2, generator=torch.Generator().manual_seed(0)).double()
    return reference + (ratio[:, :, None] + 1e-3 * spread).flatten(1, 2), reference
