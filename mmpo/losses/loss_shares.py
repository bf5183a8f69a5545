"""How often a loss clamps or gates, by the loss's name: what a run logs beside it. No gradient.

Each is called as its loss is, with its options and further tensors, and gives [B]: 1 where it happens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mmpo.losses.diagnostics import clamped, open_gate
from mmpo.losses.divergences import chi_logit
from mmpo.losses.sides import ratio, ratios
from mmpo.losses.types import PairLogps, precise


@torch.no_grad()
def cut_exponents(policy: PairLogps, reference: PairLogps, *, divergence: str, alpha: float, **_: Any) -> Tensor:
    """f-DPO: the exponent −α·δ of a side is cut, beyond which it has no gradient."""
    order = {"forward_kl": 1.0, "alpha": alpha}.get(divergence, 0.0)
    chosen, rejected = ratios(policy, reference)
    return torch.maximum(clamped(-order * chosen), clamped(-order * rejected))


@torch.no_grad()
def clipped_logits(
    policy: PairLogps, reference: PairLogps, *, beta: float, gamma: float, clip: float, **_: Any
) -> Tensor:
    """χ²-PO: the logit is outside its clip, beyond which it has no gradient, or e^δ of a side is cut."""
    chosen, rejected = ratios(policy, reference)
    outside = (chi_logit(chosen, rejected, beta, gamma).abs() > clip).float()
    return torch.maximum(outside, torch.maximum(clamped(chosen), clamped(rejected)))


@torch.no_grad()
def clipped_ratios(policy: PairLogps, reference: PairLogps, *, clip: float, **_: Any) -> Tensor:
    """D3PO's and SPO's clamp: e^δ of a side is outside 1 ± clip, so that side has no gradient."""
    outside = [(delta.exp() - 1).abs() > clip for delta in ratios(policy, reference)]
    return (outside[0] | outside[1]).float()


@torch.no_grad()
def fallen(policy: PairLogps, reference: PairLogps, **_: Any) -> Tensor:
    """DPO-positive: the chosen has fallen below the reference and the penalty is on."""
    return (ratios(policy, reference)[0] < 0).float()


@torch.no_grad()
def open_gates(policy: PairLogps, reference: PairLogps, **_: Any) -> Tensor:
    """MinorDPO: the rejected side counts."""
    return open_gate(policy, reference)


@torch.no_grad()
def cut_advantages(
    policy: PairLogps, reference: PairLogps, *, lam: float, reward: Tensor, value: Tensor, **_: Any
) -> Tensor:
    """HPO: the exponent λ·(R − V) of its weight is cut."""
    return clamped(lam * (precise(reward) - precise(value)))


@torch.no_grad()
def cut_importance(
    policy: PairLogps,
    reference: PairLogps,
    *,
    clipping: str,
    clip: float,
    chosen_behavior: Tensor | None = None,
    rejected_behavior: Tensor | None = None,
    **_: Any,
) -> Tensor:
    """P3O: the importance weight is clipped, or its exponent cut."""
    if chosen_behavior is None or rejected_behavior is None:
        return torch.zeros_like(precise(policy.chosen))
    sides = ratio(policy.chosen, chosen_behavior), ratio(policy.rejected, rejected_behavior)
    exponents = sides if clipping == "separate" else (sides[0] + sides[1],)
    cut = torch.stack([clamped(x) if clipping == "none" else ((x.exp() - 1).abs() > clip).float() for x in exponents])
    return cut.amax(0)


SHARES: Mapping[str, Mapping[str, Callable[..., Tensor]]] = {
    "f_dpo": {"clamped": cut_exponents},
    "chi_po": {"clipped": clipped_logits},
    "clipped_dpo": {"clipped": clipped_ratios},
    "d3po": {"clipped": clipped_ratios},
    "dpop": {"penalised": fallen},
    "minor_dpo": {"rejected_counts": open_gates},
    "hpo": {"clamped": cut_advantages},
    "p3o": {"clipped": cut_importance},
}
