"""Side transforms: what one candidate contributes to the logit. Inputs and outputs [B]; the reference is detached."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmpo.losses.types import PairLogps, precise


def ratio(logp: Tensor, reference_logp: Tensor) -> Tensor:
    """δ = log π(y|x) − log π_ref(y|x)."""
    return precise(logp) - precise(reference_logp.detach())


def positive_ratio(logp: Tensor, reference_logp: Tensor) -> Tensor:
    """max(0, δ): counts only where the policy is above the reference. Gradient 0 at δ = 0."""
    return F.relu(ratio(logp, reference_logp))


def ratios(policy: PairLogps, reference: PairLogps) -> tuple[Tensor, Tensor]:
    """(δ_chosen, δ_rejected), both [B]."""
    return ratio(policy.chosen, reference.chosen), ratio(policy.rejected, reference.rejected)
