"""RTO's reward of each token. Not a loss: a policy-gradient method such as PPO maximises it."""

from __future__ import annotations

import torch
from torch import Tensor

from mmpo.losses.tokens import check_tokens, token_ratio
from mmpo.losses.types import check_at_least, check_positive, check_tensor, precise


@torch.no_grad()
def rto_reward(
    policy: Tensor,
    reference: Tensor,
    *,
    dpo_policy: Tensor,
    mask: Tensor,
    reward: Tensor,
    beta: float = 0.05,
    kl_weight: float = 0.01,
    clip: float | None = 0.05,
    reward_clip: float = 10.0,
) -> Tensor:
    """Reward of each token: −κ·δ_t + clip(β·δ^dpo_t, ±clip), and clip(R, ±reward_clip) on the last token.

    δ_t = log π_t − log π_ref,t of the policy in training, δ^dpo_t the same of a policy trained by DPO before.

    Args:
        policy, reference, dpo_policy: log-probabilities of the sampled tokens [B, T].
        mask: bool [B, T], true on the response; its last true token is the end. A row without one gets zeros.
        reward: [B], of the whole response, from a reward model.
        beta: β, weight of the DPO policy's implicit reward, > 0.
        kl_weight: κ, cost of leaving the reference, ≥ 0.
        clip: bound of the implicit reward of one token, > 0; None for no bound.
        reward_clip: bound of R, > 0.
    Returns:
        [B, T] without gradient, 0 outside the mask.
    References:
        Zhong et al., DPO Meets PPO: Reinforced Token Optimization for RLHF, arXiv 2404.18922; coefficients of the
        official code.
    """
    check_tokens(policy, reference, mask)
    check_tensor("dpo_policy", dpo_policy, policy.shape, "log-probabilities like policy")
    check_tensor("reward", reward, policy.shape[:1], "one reward a response")
    check_positive("beta", beta)
    check_at_least("kl_weight", kl_weight, 0)
    check_positive("reward_clip", reward_clip)
    implicit = beta * token_ratio(dpo_policy, reference, mask)
    if clip is not None:
        check_positive("clip", clip)
        implicit = implicit.clamp(-clip, clip)
    last = mask & (mask.cumsum(-1) == mask.sum(-1, keepdim=True))
    at_end = torch.where(last, precise(reward)[:, None].clamp(-reward_clip, reward_clip), 0)
    return implicit - kl_weight * token_ratio(policy, reference, mask) + at_end
