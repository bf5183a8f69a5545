"""Token tensors [B, T]: their checks, and sums over response tokens that padding cannot reach."""

from __future__ import annotations

import torch
from torch import Tensor

from mmpo.losses.sides import ratio
from mmpo.losses.types import PairLogps, check_tensor, precise


def check_mask(name: str, mask: Tensor | None, shape: torch.Size) -> None:
    """Refuses a mask that is not bool, or not one value a token."""
    check_tensor(name, mask, shape, "true on the tokens that count")
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"{name}: expected a bool tensor, true on the tokens that count, got {mask.dtype}")


def check_tokens(policy: Tensor, reference: Tensor | None, mask: Tensor | None, side: str = "") -> None:
    """Refuses log-probabilities that are not [B, T], and a reference or mask of another shape.

    Args:
        side: ".chosen" or ".rejected" where the two sides of a pair are checked in turn.
    """
    if policy.dim() != 2:
        raise ValueError(
            f"policy{side}: expected log-probabilities of tokens, shape [B, T], got {list(policy.shape)}; "
            "do not sum over tokens"
        )
    if reference is None:
        raise ValueError("reference: expected log-probabilities of the frozen model, got None; this loss compares")
    check_tensor(f"reference{side}", reference, policy.shape, f"log-probabilities like policy{side}")
    check_mask(f"{side[1:]}_mask" if side else "mask", mask, policy.shape)


def check_token_pair(
    policy: PairLogps, reference: PairLogps | None, chosen_mask: Tensor | None, rejected_mask: Tensor | None
) -> PairLogps:
    """`check_tokens` on both sides, which may differ in T but not in B; returns the reference."""
    chosen, rejected = (None, None) if reference is None else reference[:2]
    check_tokens(policy.chosen, chosen, chosen_mask, ".chosen")
    check_tokens(policy.rejected, rejected, rejected_mask, ".rejected")
    count = len(policy.chosen)
    if len(policy.rejected) != count:
        raise ValueError(f"policy.rejected: expected {count} rows like policy.chosen, got {len(policy.rejected)}")
    assert reference is not None
    return reference


def on_tokens(x: Tensor, mask: Tensor) -> Tensor:
    """`x` [B, T] with 0 where the mask is false, whatever stands there (NaN too), and no gradient to it."""
    return torch.where(mask, precise(x), 0)


def token_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Sum over the tokens that count, [B]."""
    return on_tokens(x, mask).sum(-1)


def token_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that count, [B]; 0 where none does."""
    return token_sum(x, mask) / mask.sum(-1).clamp(min=1)


def token_ratio(logp: Tensor, reference_logp: Tensor, mask: Tensor) -> Tensor:
    """δ [B, T] on the tokens that count, 0 elsewhere. The reference is detached."""
    return on_tokens(ratio(logp, reference_logp), mask)


def sum_of_later(x: Tensor) -> Tensor:
    """Σ of the entries after each, [B, T] -> [B, T]; 0 at the last."""
    return x.flip(-1).cumsum(-1).flip(-1) - x
