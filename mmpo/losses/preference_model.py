"""The general preference model: a score of two answers that may go round in circles. Not a loss of a policy."""

from __future__ import annotations

import torch
from torch import Tensor

from mmpo.losses.links import logistic
from mmpo.losses.types import check_positive, check_tensor, precise


def preference_score(first: Tensor, second: Tensor) -> Tensor:
    """s(first ≻ second) = Σ_i (a_2i · b_2i+1 − a_2i+1 · b_2i) of embeddings a, b.

    Args:
        first, second: [..., 2k] embeddings of two answers to one prompt.
    Returns:
        [...]. s(b, a) = −s(a, b) and s(a, a) = 0. With k = 1 and a = (r, 1) it is r_a − r_b, the Bradley-Terry model;
        in general a ≻ b ≻ c ≻ a can be said.
    References:
        Zhang et al., Beyond Bradley-Terry Models: A General Preference Model for Language Model Alignment,
        arXiv 2410.02197.
    """
    if not first.dim() or not first.shape[-1] or first.shape[-1] % 2:
        raise ValueError(f"first: expected embeddings of an even size, shape [..., 2k], got {list(first.shape)}")
    check_tensor("second", second, first.shape, "embeddings like first")
    a, b = (precise(x).unflatten(-1, (-1, 2)) for x in (first, second))
    return (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(-1)


def preference_scores(embeddings: Tensor) -> Tensor:
    """s of every pair among K answers: [..., K, 2k] gives [..., K, K], s[i, j] = s(i ≻ j), antisymmetric."""
    if embeddings.dim() < 2:
        raise ValueError(f"embeddings: expected shape [..., K, 2k], got {list(embeddings.shape)}")
    return preference_score(*torch.broadcast_tensors(embeddings.unsqueeze(-2), embeddings.unsqueeze(-3)))


def preference_model_loss(chosen: Tensor, rejected: Tensor, *, tau: float) -> Tensor:
    """−log σ(s(chosen ≻ rejected) / tau): trains the embeddings of a preference model.

    Args:
        chosen, rejected: [B, 2k] embeddings, both with gradient.
        tau: temperature, > 0; 1 in the authors' code for 2 dimensions, 0.1 for more.
    Returns:
        [B]. ln 2 for equal embeddings.
    References:
        As `preference_score`.
    """
    check_positive("tau", tau)
    return logistic(preference_score(chosen, rejected) / tau)
