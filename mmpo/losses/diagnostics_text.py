"""Diagnostics of language models: how alike two answers are to the model, and how sharp its next-token choice is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmpo.losses.types import check_bool, check_tensor, precise


class TopTokens(NamedTuple):
    """What the k likeliest next tokens hold, one number per position.

    Args:
        mass: their probability together, at most 1.
        entropy: −Σ p·log p over them, p as it is.
        normalized_entropy: the same of p / mass, at most log k.
    """

    mass: Tensor
    entropy: Tensor
    normalized_entropy: Tensor


@torch.no_grad()
def top_tokens(logits: Tensor, *, k: int) -> TopTokens:
    """Mass and entropy of the k likeliest next tokens. Both fall as a model is over-optimised.

    Args:
        logits: [..., V].
        k: number of tokens, 1 to V.
    Returns:
        Three [...]; the caller masks and averages. A constant added to the logits changes nothing.
    References:
        Shi et al., Understanding Likelihood Over-optimisation in Direct Alignment Algorithms, arXiv 2410.11677, names
        the two signals; which normalisation it uses was not seen, so both are given.
    """
    if not logits.dim() or not 1 <= k <= logits.shape[-1]:
        size = logits.shape[-1] if logits.dim() else 0
        raise ValueError(f"k: expected 1 to {size}, the size of the vocabulary in logits {list(logits.shape)}, got {k}")
    logp = precise(logits).log_softmax(-1).topk(k, dim=-1).values
    inside = logp.log_softmax(-1)
    return TopTokens(logp.exp().sum(-1), _entropy(logp), _entropy(inside))


def _entropy(logp: Tensor) -> Tensor:
    """−Σ p·log p; a token of probability 0 (a logit of −∞) adds nothing."""
    return -torch.where(logp.isneginf(), 0.0, logp.exp() * logp).sum(-1)


@torch.no_grad()
def ches(
    chosen: Tensor, rejected: Tensor, *, chosen_mask: Tensor, rejected_mask: Tensor, length_normalized: bool = False
) -> Tensor:
    """Centred hidden embedding similarity: ⟨H_w, H_l⟩ − ‖H_w‖² with H = Σ_k h_k.

    High means that raising the chosen answer over the rejected one tends to lower both (likelihood displacement): such
    pairs are better left out.

    Args:
        chosen, rejected: [B, T, D] hidden states before the unembedding; the two may differ in T.
        chosen_mask, rejected_mask: [B, T] bool, true at the positions that *predict* a token of the answer: from the
            prompt's last token to the one before the answer's last. Padding must be false.
        length_normalized: divide each H by its number of positions.
    Returns:
        [B]. 0 for identical answers.
    References:
        Razin et al., Unintentional Unalignment: Likelihood Displacement in Direct Preference Optimization,
        arXiv 2410.08847.
    The authors' batched code drops the last padded position and sums over padding; the masks here say what counts.
    """
    chosen_sum = _summed("chosen", chosen, chosen_mask, length_normalized)
    rejected_sum = _summed("rejected", rejected, rejected_mask, length_normalized)
    check_tensor("rejected", rejected_sum, chosen_sum.shape, "as many pairs and features as chosen, summed over tokens")
    return (chosen_sum * (rejected_sum - chosen_sum)).sum(-1)


def _summed(name: str, hidden: Tensor, mask: Tensor, mean: bool) -> Tensor:
    """Σ or mean over the positions of the mask, [B, D]."""
    if hidden.dim() != 3:
        raise ValueError(f"{name}: expected hidden states, shape [B, T, D], got {list(hidden.shape)}")
    check_tensor(f"{name}_mask", mask, hidden.shape[:2], "true where a token of the answer is predicted")
    check_bool(f"{name}_mask", mask)
    total = torch.where(mask[..., None], precise(hidden), 0.0).sum(1)
    return total / mask.sum(1, keepdim=True).clamp(min=1) if mean else total
