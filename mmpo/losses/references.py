"""DPO against a reference made of several: a harmonic mixture, or one extrapolated from its predecessor."""

from __future__ import annotations

import torch
from torch import Tensor

from mmpo.losses.pairwise import dpo
from mmpo.losses.types import PairLogps, check_between, check_pair, check_tensor, check_weights, precise


def harmonic(logps: Tensor, alphas: Tensor) -> Tensor:
    """log of 1 / Σ_k (α_k / π_k): the reference whose KL pull is the weighted sum of the pulls to all of them.

    Args:
        logps: [B, K] log-likelihoods under K references.
        alphas: [K] weights with sum 1.
    Returns:
        [B], between the smallest and the largest of each row; written with logsumexp, so nothing overflows.
    """
    return -torch.logsumexp(precise(alphas).to(logps.device).log() - precise(logps), dim=1)


def extrapolated(logp: Tensor, previous_logp: Tensor, alpha: float) -> Tensor:
    """log π + α·(log π − log π_previous), up to log of a constant of the prompt. Shape as given."""
    return precise(logp) + alpha * (precise(logp) - precise(previous_logp))


def mrpo(
    policy: PairLogps,
    reference: PairLogps | None,
    *,
    beta: float,
    alphas: Tensor,
    other_chosen: Tensor,
    other_rejected: Tensor,
) -> Tensor:
    """Multi-reference DPO: `dpo` against the harmonic mixture 1 / Σ_k (α_k / π_k) of K references.

    Args:
        policy: log-likelihoods [B].
        reference: log-likelihoods [B] under the first reference.
        beta: as in `dpo`, > 0.
        alphas: [K] weights of the references with sum 1, `reference` first. (1, 0, ...) is `dpo` with it alone.
        other_chosen: [B, K − 1] log-likelihoods of the chosen candidates under the other references. Detached.
        other_rejected: [B, K − 1] likewise of the rejected ones.
    Returns:
        [B]; `dpo` where all references agree.
    References:
        Le et al., Multi-Reference Preference Optimization for Large Language Models, arXiv 2405.16388.
    The authors' code puts its α on the second reference's 1/π. Their clipping of one reference to the other and their
    weights by margin are not part of this: give clipped log-likelihoods or other weights.
    """
    check_pair(policy, reference, needs_reference=True)
    assert reference is not None
    check_weights("alphas", alphas, "the weights of the references")
    mixed = []
    for side, first, others in zip(("chosen", "rejected"), reference[:2], (other_chosen, other_rejected), strict=True):
        expected = torch.Size((len(first), len(alphas) - 1))
        check_tensor(f"other_{side}", others, expected, "the log-likelihoods under each reference but the first")
        mixed.append(harmonic(torch.cat((precise(first)[:, None], precise(others)), dim=1), alphas))
    return dpo(policy, PairLogps(*mixed), beta=beta)


def apo_momentum(
    policy: PairLogps,
    reference: PairLogps | None,
    *,
    beta: float,
    alpha: float,
    previous_chosen: Tensor,
    previous_rejected: Tensor,
) -> Tensor:
    """Accelerated preference optimisation: `dpo` against π_t·(π_t / π_{t−1})^α, the last step carried on.

    Args:
        policy: log-likelihoods [B].
        reference: log-likelihoods [B] under the last round's policy, π_t.
        beta: as in `dpo`, > 0.
        alpha: momentum, 0 ≤ α < 1; 0.3 in the paper, 0 is `dpo` in rounds.
        previous_chosen: [B] log-likelihoods of the chosen candidates under the round before, π_{t−1}. Detached.
        previous_rejected: [B] likewise of the rejected ones.
    Returns:
        [B]. The constant of the prompt, log Z(x), cancels between the sides.
    References:
        He et al., Accelerated Preference Optimization for Large Language Model Alignment, arXiv 2410.06293,
        eqs. 3.6 and 3.7.
    The paper's experiments extrapolate the weights instead, which is the same for policies linear in their logits.
    """
    check_pair(policy, reference, needs_reference=True)
    assert reference is not None
    check_between("alpha", alpha, below=1.0)
    moved = []
    previous = (previous_chosen, previous_rejected)
    for side, last, before in zip(("chosen", "rejected"), reference[:2], previous, strict=True):
        check_tensor(f"previous_{side}", before, policy.chosen.shape, "the log-likelihood one round before")
        moved.append(extrapolated(last, before, alpha))
    return dpo(policy, PairLogps(*moved), beta=beta)
