"""Pair losses for labels that may be wrong: with probability ε the chosen and the rejected candidate are swapped.

z = β·Δ, with Δ the difference of the log-ratios to the reference.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from mmpo.losses.links import logistic
from mmpo.losses.sides import difference
from mmpo.losses.types import PairLogps, check_between, check_positive


def _both_ways(z: Tensor, kept: float, swapped: float) -> Tensor:
    """kept·(−log σ(z)) + swapped·(−log σ(−z)): the logistic loss of the label and of its opposite."""
    return kept * logistic(z) + swapped * logistic(-z)


def _reverse_kl(z: Tensor, epsilon: float) -> Tensor:
    """KL( (σ(z), σ(−z)) ‖ (1−ε, ε) ) [B], in logarithms until the last product."""
    kept = z.sigmoid() * (F.logsigmoid(z) - math.log1p(-epsilon))
    return kept + (-z).sigmoid() * (F.logsigmoid(-z) - math.log(epsilon))


def conservative_dpo(policy: PairLogps, reference: PairLogps | None, *, beta: float, epsilon: float) -> Tensor:
    """Conservative DPO (label smoothing): (1−ε)·(−log σ(z)) + ε·(−log σ(−z)), z = β·Δ.

    Args:
        policy, reference: log-likelihoods [B] of the trained and the frozen model.
        beta: as in `dpo`, > 0.
        epsilon: share of labels believed wrong, 0 ≤ ε < ½; 0 is `dpo`.
    Returns:
        [B]. Least, the entropy of ε, at z = log((1−ε)/ε); beyond it the gradient σ(z) − (1−ε) by z pushes back.
    References:
        Mitchell, A note on DPO with noisy preferences and relationship to IPO, 2023 (not on arXiv).
    """
    check_positive("beta", beta)
    check_between("epsilon", epsilon, below=0.5)
    return _both_ways(beta * difference(policy, reference), 1 - epsilon, epsilon)


def robust_dpo(policy: PairLogps, reference: PairLogps | None, *, beta: float, epsilon: float) -> Tensor:
    """Provably robust DPO: [(1−ε)·(−log σ(z)) − ε·(−log σ(−z))] / (1−2ε), z = β·Δ.

    Unbiased: with labels swapped at rate ε its expectation is DPO on the clean labels.

    Args:
        policy, reference: log-likelihoods [B].
        beta: as in `dpo`, > 0.
        epsilon: rate of wrong labels, 0 ≤ ε < ½; 0 is `dpo`. The weights grow without limit towards ½.
    Returns:
        [B], unbounded below: ∂/∂z = −σ(−z) − ε/(1−2ε) never vanishes, so stop early or raise beta.
    References:
        Ray Chowdhury et al., Provably Robust DPO: Aligning Language Models with Noisy Feedback, arXiv 2403.00409.
    Well-known code has + ε in place of − ε: that is `conservative_dpo` / (1−2ε), and biased.
    """
    check_positive("beta", beta)
    check_between("epsilon", epsilon, below=0.5)
    scale = 1 - 2 * epsilon
    return _both_ways(beta * difference(policy, reference), (1 - epsilon) / scale, -epsilon / scale)


def exo(policy: PairLogps, reference: PairLogps | None, *, beta: float, epsilon: float) -> Tensor:
    """Efficient exact optimisation on pairs: KL( (σ(z), σ(−z)) ‖ (1−ε, ε) ), z = β·Δ.

    Args:
        policy, reference: log-likelihoods [B].
        beta: as in `dpo`, > 0.
        epsilon: probability of the rejected candidate in the target, 0 < ε < ½; the paper takes 0.001.
    Returns:
        [B], 0 at z = log((1−ε)/ε). ∂/∂z = σ(z)·σ(−z)·(z − log((1−ε)/ε)): it vanishes far on the wrong side too,
        so pairs that are badly wrong are left alone.
    References:
        Ji et al., Towards Efficient Exact Optimization of Language Model Alignment, arXiv 2402.00856.
    The authors' code leaves the target (1, e^−10) unnormalised: it is this at ε = σ(−10), less log(1 + e^−10).
    """
    check_positive("beta", beta)
    check_between("epsilon", epsilon, above=0.0, below=0.5)
    return _reverse_kl(beta * difference(policy, reference), epsilon)
