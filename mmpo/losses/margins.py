"""Pair losses whose logit has a margin from outside: rewards of other objectives than the one that was labelled."""

from __future__ import annotations

import torch
from torch import Tensor

from mmpo.losses.links import hinge, logistic
from mmpo.losses.sides import difference
from mmpo.losses.types import PairLogps, check_choice, check_positive, check_tensor, check_weights, precise

LINKS = {"logistic": logistic, "hinge": hinge}


def modpo(
    policy: PairLogps,
    reference: PairLogps | None,
    *,
    beta: float,
    link: str,
    weights: Tensor,
    margins: Tensor,
) -> Tensor:
    """Multi-objective DPO: f(z) with z = (β·Δ − Σ_k w_k·m_k) / w_0, f(z) = −log σ(z) or max(0, 1 − z).

    The pairs are labelled for one objective; the others come as rewards, so one run serves one weighing of them.

    Args:
        policy, reference: log-likelihoods [B].
        beta: as in `dpo`, > 0.
        link: "logistic" or "hinge".
        weights: [n] of the objectives, the labelled one first and above 0, with sum 1. (1, 0, ...) is `dpo`.
        margins: [B, n − 1] rewards of the chosen less those of the rejected candidate, one column for each other
            objective. Detached.
    Returns:
        [B]. Gradients are those of the link by z times β / w_0.
    References:
        Zhou et al., Beyond One-Preference-Fits-All Alignment: Multi-Objective Direct Preference Optimization,
        arXiv 2310.03708.
    """
    check_positive("beta", beta)
    check_choice("link", link, tuple(LINKS))
    check_weights("weights", weights, "the weights of the objectives")
    if not weights[0] > 0:
        raise ValueError(f"weights: expected the labelled objective's first and above 0, got {weights.tolist()}")
    delta = difference(policy, reference)
    expected = torch.Size((len(delta), len(weights) - 1))
    check_tensor("margins", margins, expected, "a difference of rewards for each objective but the first")
    shares = precise(weights.detach()).to(delta.device)
    margin = (precise(margins.detach()) * shares[1:]).sum(1)
    return LINKS[link]((beta * delta - margin) / shares[0])
