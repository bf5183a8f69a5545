"""Side transforms: what one candidate contributes to the logit. Inputs and outputs [B]; the reference is detached."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mmpo.losses.types import PairLogps, check_lengths, check_pair, precise


def ratio(logp: Tensor, reference_logp: Tensor) -> Tensor:
    """δ = log π(y|x) − log π_ref(y|x)."""
    return precise(logp) - precise(reference_logp.detach())


def positive_ratio(logp: Tensor, reference_logp: Tensor) -> Tensor:
    """max(0, δ): counts only where the policy is above the reference. Gradient 0 at δ = 0."""
    return F.relu(ratio(logp, reference_logp))


def ratios(policy: PairLogps, reference: PairLogps) -> tuple[Tensor, Tensor]:
    """(δ_chosen, δ_rejected), both [B]."""
    return ratio(policy.chosen, reference.chosen), ratio(policy.rejected, reference.rejected)


def per_token(logp: Tensor, length: Tensor) -> Tensor:
    """log π / n: the mean over the n scored tokens; an empty answer (n = 0) counts as one token of log-likelihood 0."""
    return precise(logp) / precise(length).clamp(min=1)


def checked_ratios(policy: PairLogps, reference: PairLogps | None) -> tuple[Tensor, Tensor]:
    """`ratios`, after the checks that every loss with a reference shares."""
    check_pair(policy, reference, needs_reference=True)
    assert reference is not None
    return ratios(policy, reference)


def difference(policy: PairLogps, reference: PairLogps | None) -> Tensor:
    """Δ = δ_chosen − δ_rejected, after the same checks."""
    chosen, rejected = checked_ratios(policy, reference)
    return chosen - rejected


def mean_difference(policy: PairLogps, reference: PairLogps | None) -> Tensor:
    """δ_chosen / n_chosen − δ_rejected / n_rejected, after the same checks; the lengths are the policy's."""
    chosen, rejected = checked_ratios(policy, reference)
    check_lengths(policy)
    assert policy.chosen_length is not None
    assert policy.rejected_length is not None
    return per_token(chosen, policy.chosen_length) - per_token(rejected, policy.rejected_length)
