"""What a run reports beside its loss: pure functions of detached log-likelihoods, no gradient.

Each gives [B], so that a share or a mean is the caller's `.mean()`. What needs hidden states or a vocabulary stands in
`diagnostics_text`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmpo.losses.numerics import EXPONENT, clamped_exp
from mmpo.losses.sides import ratios
from mmpo.losses.types import PairLogps, check_positive, precise


@torch.no_grad()
def implied_rewards(policy: PairLogps, reference: PairLogps, *, beta: float) -> tuple[Tensor, Tensor]:
    """(β·δ_chosen, β·δ_rejected), both [B]: the rewards that the policy implies (unclamped)."""
    chosen, rejected = ratios(policy, reference)
    return beta * chosen, beta * rejected


@torch.no_grad()
def margins(policy: PairLogps, reference: PairLogps, *, beta: float) -> Tensor:
    """β·Δ [B]: the chosen candidate's implied reward less the rejected one's."""
    chosen, rejected = implied_rewards(policy, reference, beta=beta)
    return chosen - rejected


@torch.no_grad()
def accuracies(policy: PairLogps, reference: PairLogps) -> Tensor:
    """[B]: 1 where Δ > 0, 0 where Δ < 0, ½ at exactly 0 (an untrained policy is a coin, not always wrong)."""
    chosen, rejected = ratios(policy, reference)
    return 0.5 + 0.5 * torch.sign(chosen - rejected)


@torch.no_grad()
def ranking_accuracies(policy: PairLogps) -> Tensor:
    """[B]: 1 where the policy itself ranks the pair right, l_w ≥ l_l, else 0; no reference is involved.

    References:
        Chen et al., Preference Learning Algorithms Do Not Learn Preference Rankings, arXiv 2405.19534, Definition 2.3.
    """
    return (precise(policy.chosen) >= precise(policy.rejected)).float()


@torch.no_grad()
def ideal_ranking_accuracies(reference: PairLogps, *, beta: float, preference: Tensor | None = None) -> Tensor:
    """[B]: 1 where the best policy that DPO could reach would rank the pair right, r_w − r_l + logit(α)/β > 0.

    A reference that ranks a pair wrong by more than the preference is sure of cannot be trained right.

    Args:
        reference: log-likelihoods [B].
        beta: of the loss, > 0.
        preference: [B] share α of people that prefer the chosen one, cut to [0.001, 0.999]; None for 1.
    References:
        As `ranking_accuracies`.
    """
    check_positive("beta", beta)
    gap = precise(reference.chosen) - precise(reference.rejected)
    share = torch.ones_like(gap) if preference is None else precise(preference)
    return (gap + share.clamp(1e-3, 1 - 1e-3).logit() / beta > 0).float()


@torch.no_grad()
def displacement(policy: PairLogps, reference: PairLogps) -> tuple[Tensor, Tensor]:
    """(−δ_chosen, −δ_rejected), both [B]: how far log-likelihoods have fallen below the reference's.

    Chosen answers that fall while the margin grows are likelihood displacement: the probability goes elsewhere.

    References:
        Razin et al., Unintentional Unalignment: Likelihood Displacement in Direct Preference Optimization,
        arXiv 2410.08847.
    """
    chosen, rejected = ratios(policy, reference)
    return -chosen, -rejected


@torch.no_grad()
def open_gate(policy: PairLogps, reference: PairLogps) -> Tensor:
    """[B]: 1 where δ_rejected > 0, so that MinorDPO's rejected side counts and has a gradient; 0 at δ_rejected = 0."""
    return (ratios(policy, reference)[1] > 0).float()


@torch.no_grad()
def clamped(exponent: Tensor, *, ceiling: float = EXPONENT) -> Tensor:
    """1 where `clamped_exp` cuts an exponent off and with it the gradient, else 0; the exponent's shape."""
    return (precise(exponent) > ceiling).float()


@torch.no_grad()
def kl_estimates(policy: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Three estimates [B] of KL(π‖π_ref) from one sample of the policy each: k1 = δ, k2 = δ²/2, k3 = e^(−δ) − 1 + δ.

    Args:
        policy, reference: log-likelihoods [B] of answers *drawn from the policy*; of others it is no KL.
    Returns:
        (k1, k2, k3). k1 and k3 have the right mean, k1 can be negative and varies most; k2 has a small bias where the
        two are near. k3's exponent is cut at 20.
    References:
        Schulman, Approximating KL Divergence, 2020.
    """
    delta = precise(policy) - precise(reference)
    k3 = torch.where(delta.abs() < 1, torch.expm1(-delta), clamped_exp(-delta) - 1) + delta
    return delta, delta.square() / 2, k3
