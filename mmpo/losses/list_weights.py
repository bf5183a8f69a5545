"""Who beats whom in a list of candidates, ranks, and the weights of the pairs. No gradient passes through any of them.

`present` [B, K] says which slots hold a candidate. Ranks start at 1 for the best and ties share the better one
(1, 1, 3). The candidate that wins a pair stands in the row, the one that loses in the column.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmpo.losses.types import check_tensor


def present_slots(scores: Tensor, mask: Tensor | None) -> Tensor:
    """[B, K] bool: slots with a candidate and a finite score; a candidate that could not be scored takes no part."""
    return scores.isfinite() if mask is None else mask & scores.isfinite()


def differences(x: Tensor) -> Tensor:
    """[B, K, K]: the row's value minus the column's."""
    return x.unsqueeze(-1) - x.unsqueeze(-2)


def win_matrix(scores: Tensor, present: Tensor) -> Tensor:
    """[B, K, K] bool: whether the row's candidate has a higher score than the column's. Ties: neither has."""
    both = present.unsqueeze(-1) & present.unsqueeze(-2)
    return (scores.unsqueeze(-1) > scores.unsqueeze(-2)) & both


def label_ranks(scores: Tensor, present: Tensor) -> Tensor:
    """[B, K] int: 1 + the number of candidates with a higher score."""
    return 1 + win_matrix(scores, present).sum(-2)


def predicted_ranks(predicted: Tensor, scores: Tensor, present: Tensor) -> Tensor:
    """[B, K] int: ranks by what the policy predicts, ties of the prediction broken by the scores.

    An untrained policy predicts all alike. Were these ties shared, every weight made of ranks would be 0 and training
    could not begin; broken by the order of the list, the loss would depend on that order.
    """
    predicted = predicted.detach()
    ahead = predicted.unsqueeze(-1) > predicted.unsqueeze(-2)
    level = predicted.unsqueeze(-1) == predicted.unsqueeze(-2)
    both = present.unsqueeze(-1) & present.unsqueeze(-2)
    return 1 + ((ahead & both) | (level & win_matrix(scores, present))).sum(-2)


def gain_discount(scores: Tensor, ranks: Tensor, present: Tensor) -> Tensor:
    """[B, K, K]: |2^ψ_i − 2^ψ_j| · |1/ln(1 + τ_i) − 1/ln(1 + τ_j)|, what swapping two candidates costs in DCG.

    Args:
        scores: [B, K] labels ψ in [0, 1], as in the sources: a raw reward of 20 would weigh a million.
        ranks: [B, K] ranks τ, 1 is the best.
        present: [B, K] bool; pairs with an empty slot weigh 0.
    """
    scores = scores.detach().masked_fill(~present, 0)
    if ((scores < 0) | (scores > 1)).any():
        span = f"{scores.min().item():g} to {scores.max().item():g}"
        raise ValueError(f"scores: expected labels in [0, 1], got {span}; list_weights.win_rates makes them of rewards")
    gains = torch.exp2(scores if scores.dtype == torch.float64 else scores.float())
    discounts = 1 / torch.log1p(ranks.to(gains.dtype))
    weights = differences(gains).abs() * differences(discounts).abs()
    return weights * (present.unsqueeze(-1) & present.unsqueeze(-2))


def dcg_weights(scores: Tensor, present: Tensor) -> Tensor:
    """[B, K, K]: `gain_discount` at the ranks of the labels: fixed for a list (RankDPO)."""
    return gain_discount(scores, label_ranks(scores, present), present)


def lambda_weights(predicted: Tensor, scores: Tensor, present: Tensor) -> Tensor:
    """[B, K, K]: `gain_discount` at the ranks that the policy predicts now (LambdaRank), detached."""
    return gain_discount(scores, predicted_ranks(predicted, scores, present), present)


def win_rates(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Labels of a list from several rewards: the share of rewards and opponents that a candidate beats.

    φ_i = Σ_rewards Σ_{j≠i} [r(x_i) > r(x_j)] / (number of rewards · (K − 1)). Counting wins needs no common scale.

    Args:
        scores: [B, K, R], R rewards; a score that is not finite neither wins nor loses.
        mask: [B, K] bool, true where there is a candidate; None: everywhere.
    Returns:
        [B, K] in [0, 1]; 0 for a candidate without opponents.
    References:
        Karthik et al., Scalable Ranked Preference Optimization for Text-to-Image Generation, arXiv 2410.18013,
        section 3 (Syn-Pic).
    """
    if scores.dim() != 3:
        raise ValueError(f"scores: expected shape [B, K, R], a score per reward, got {list(scores.shape)}")
    if mask is None:
        mask = torch.ones(scores.shape[:2], dtype=torch.bool, device=scores.device)
    check_tensor("mask", mask, scores.shape[:2], "true where there is a candidate")
    by_reward = scores.movedim(-1, 1)
    wins = win_matrix(by_reward, by_reward.isfinite() & mask.unsqueeze(1)).sum((1, 3))
    opponents = scores.shape[-1] * (mask.sum(-1, keepdim=True) - 1)
    dtype = torch.promote_types(scores.dtype, torch.float32)
    return (wins.to(dtype) / opponents.clamp(min=1)).masked_fill(~mask, 0)
