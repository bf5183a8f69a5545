"""Losses of single trajectories with a reward at the end, stated for each token (or step) through a value."""

from __future__ import annotations

from torch import Tensor

from mmpo.losses.links import square
from mmpo.losses.tokens import check_tokens, on_tokens, sum_of_later, token_mean, token_ratio
from mmpo.losses.types import check_at_least, check_positive, check_tensor, precise


def oreo(
    policy: Tensor,
    reference: Tensor | None,
    *,
    mask: Tensor,
    values: Tensor,
    reward: Tensor,
    kl: Tensor | None = None,
    beta: float,
    alpha: float,
) -> Tensor:
    """OREO, the policy's loss: mean_t (V_t − R + β·δ_t + β·sg[Σ_{i>t} δ_i])² + α·mean_t KL_t, sg without gradient.

    Args:
        policy, reference: log-probabilities of tokens (or of steps: sums over a step's tokens) [B, T].
        mask: bool [B, T], true on the policy's own tokens; the means and sums are over these.
        values: [B, T], V of the state before each token; detached here, `oreo_value` trains it.
        reward: [B], R of the whole trajectory.
        kl: [B, T], with gradient: KL(π(·|s_t) ‖ π_ref(·|s_t)) over the vocabulary; not needed where alpha is 0.
        beta: strength of the pull to the reference, > 0. 0.03 in the paper.
        alpha: weight of the divergence, ≥ 0. 0.01 in the paper.
    Returns:
        [B]. ∂/∂log π_t = 2·β·(V_t − R + β·Σ_{i≥t} δ_i)/n of the n tokens: each is moved by its own residual, and
        not by those of earlier tokens, whose sums of later log-ratios count as constants.
    References:
        Wang et al., Offline Reinforcement Learning for LLM Multi-Step Reasoning, arXiv 2412.16145. With T = 1 and
        sums over the response it is the response-level variant. The official code takes the means of the residuals
        over a mask of states of its own, and by default an estimate of the divergence from the sampled tokens.
    """
    check_positive("beta", beta)
    check_at_least("alpha", alpha, 0)
    delta = _ratios(policy, reference, mask, values, reward)
    later = sum_of_later(delta.detach())
    loss = token_mean(
        square(on_tokens(values.detach(), mask) + beta * (delta + later), precise(reward.detach())[:, None]), mask
    )
    if alpha == 0:
        return loss
    check_tensor("kl", kl, policy.shape, "KL(policy || reference) of each token; or alpha 0")
    assert kl is not None
    return loss + alpha * token_mean(kl, mask)


def oreo_value(
    policy: Tensor, reference: Tensor | None, *, mask: Tensor, values: Tensor, reward: Tensor, beta: float
) -> Tensor:
    """OREO, the value's loss: mean_t (V_t − R + β·sg[Σ_{i≥t} δ_i])².

    Args:
        policy, reference, mask, reward, beta: as in `oreo`.
        values: [B, T], with gradient.
    Returns:
        [B], with the value of `oreo` at alpha 0 and no gradient to the policy: ∂/∂V_t = 2·(V_t − R + β·Σ_{i≥t} δ_i)/n.
        Where policy == reference it is the mean of (V − R)².
    References:
        Wang et al., Offline Reinforcement Learning for LLM Multi-Step Reasoning, arXiv 2412.16145.
    """
    check_positive("beta", beta)
    delta = _ratios(policy, reference, mask, values, reward).detach()
    remaining = delta + sum_of_later(delta)
    return token_mean(square(on_tokens(values, mask) + beta * remaining, precise(reward.detach())[:, None]), mask)


def _ratios(policy: Tensor, reference: Tensor | None, mask: Tensor, values: Tensor, reward: Tensor) -> Tensor:
    """δ [B, T] on the policy's own tokens, after the checks that both losses share."""
    check_tokens(policy, reference, mask)
    assert reference is not None
    check_tensor("values", values, policy.shape, "the value before each token")
    check_tensor("reward", reward, policy.shape[:1], "one reward a trajectory")
    return token_ratio(policy, reference, mask)
