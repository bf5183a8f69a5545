"""What a run reports beside its loss: pure functions of detached log-likelihoods, no gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from mmpo.losses.sides import ratios
from mmpo.losses.types import PairLogps


@torch.no_grad()
def implied_rewards(policy: PairLogps, reference: PairLogps, *, beta: float) -> tuple[Tensor, Tensor]:
    """(β·δ_chosen, β·δ_rejected), both [B]: the rewards that the policy implies (unclamped)."""
    chosen, rejected = ratios(policy, reference)
    return beta * chosen, beta * rejected


@torch.no_grad()
def accuracies(policy: PairLogps, reference: PairLogps) -> Tensor:
    """[B]: 1 where Δ > 0, 0 where Δ < 0, ½ at exactly 0 (an untrained policy is a coin, not always wrong)."""
    chosen, rejected = ratios(policy, reference)
    return 0.5 + 0.5 * torch.sign(chosen - rejected)
