"""What is minimised when a reward is trained on preferences: pure functions of two scores and a label."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Objective:
    """A loss per pair and how a batch's are put together.

    Args:
        loss: (scores of the first [B], of the second [B], labels [B]) -> [B], float32 or better.
        by_prompt: a pair weighs 1 over the number of its prompt's pairs, and the weighted mean is over the global
            batch; without it every pair weighs 1.
        summed: the global batch's sum in place of its mean.
        ties: whether pairs without a preferred side say anything.
        scale_bounds: what the logit scale (a logarithm) is kept between after each step; None where it is free.
    """

    loss: Loss
    by_prompt: bool = False
    summed: bool = False
    ties: bool = True
    scale_bounds: tuple[float, float] | None = None


def pick_score(first: Tensor, second: Tensor, label: Tensor) -> Tensor:
    """KL(label ‖ softmax of the two scores) = BCE(σ(s₀ − s₁), y) − H(y): 0 where the model says what people said.

    Args:
        first, second: s₀, s₁ [B], exp(logit_scale) · cos.
        label: y [B] in [0, 1], the share of people that prefer the first: 1, 0, ½ for a tie, or a share of votes.
    Returns:
        [B], at least 0.
    References:
        Kirstain et al., Pick-a-Pic: An Open Dataset of User Preferences for Text-to-Image Generation,
        arXiv 2305.01569, section 4. Its code subtracts ln 2 for ties; the entropy is the same there and goes for
        shares of votes too.
    """
    share = label.to(_wide(first).dtype)
    return hps(first, second, label) - torch.special.entr(share) - torch.special.entr(1 - share)


def hps(first: Tensor, second: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of the label and the softmax of the two scores: BCE(σ(s₀ − s₁), y).

    Args:
        first, second: s₀, s₁ [B].
        label: y [B] in [0, 1].
    Returns:
        [B].
    References:
        Wu et al., Human Preference Score v2: A Solid Benchmark for Evaluating Human Preferences of Text-to-Image
        Synthesis, arXiv 2306.09341, equation 3. Its code sums a process's batch, so its learning rate goes with it.
    """
    difference = _wide(first) - _wide(second)
    return binary_cross_entropy_with_logits(difference, label.to(difference.dtype), reduction="none")


def image_reward(first: Tensor, second: Tensor, label: Tensor) -> Tensor:
    """−log σ(r_w − r_l), the winner w being the side that the label says.

    Args:
        first, second: [B].
        label: [B]; above ½ the first wins, below it the second. At ½ nobody does: leave ties out.
    Returns:
        [B].
    References:
        Xu et al., ImageReward: Learning and Evaluating Human Preferences for Text-to-Image Generation,
        arXiv 2304.05977, equation 1.
    """
    difference = _wide(first) - _wide(second)
    return softplus(torch.where(label > 0.5, -difference, difference))


def total(objective: Objective, losses: Tensor, weights: Tensor, whole: float, processes: int) -> Tensor:
    """What one process back-propagates of a global batch, where gradients are then averaged over processes.

    Args:
        losses: [B] of this process's part.
        weights: [B] of it.
        whole: sum of the weights of the global batch, over all processes and accumulation.
        processes: how many there are.
    """
    part = (losses * weights.to(losses.dtype)).sum() * processes
    return part if objective.summed else part / whole


def _wide(scores: Tensor) -> Tensor:
    return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores


OBJECTIVES = {
    "pickscore": Objective(pick_score, by_prompt=True),
    "hps": Objective(hps, summed=True, scale_bounds=(0.0, math.log(100))),
    "image_reward": Objective(image_reward, ties=False),
}
"""By the recipe's name."""
