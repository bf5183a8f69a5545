"""Losses of vision-language models that compare more than two branches: an anchor, guidance, three margins in one.

They are terms of `mmpo.vlm_recipe` and not entries of `LOSSES`: a third branch is an image or its absence, which image
generation does not have. δ is a log-ratio to the reference, of sums over an answer's tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from mmpo.losses.links import logistic
from mmpo.losses.sides import checked_ratios, ratio
from mmpo.losses.types import PairLogps, check_at_least, check_pair, check_positive, check_tensor, precise


def anchor(policy: PairLogps, reference: PairLogps | None, *, beta: float, delta: float) -> Tensor:
    """mDPO's anchor: −log σ(β·δ_w − δ): the chosen answer must not become less likely than it was.

    Args:
        policy, reference: log-likelihoods [B]; the rejected side is not looked at.
        beta: as in `dpo`, > 0.
        delta: the margin δ that the chosen reward is to reach; 0 in the source.
    Returns:
        [B]; ln 2 where policy == reference and delta = 0.
    References:
        Wang et al., mDPO: Conditional Preference Optimization for Multimodal LLMs, arXiv 2406.11839.
    """
    check_positive("beta", beta)
    chosen, _ = checked_ratios(policy, reference)
    return logistic(beta * chosen - delta)


def v_dpo(
    policy: PairLogps,
    reference: PairLogps | None,
    *,
    prior_chosen: Tensor,
    prior_rejected: Tensor,
    beta: float,
    guidance: float,
) -> Tensor:
    """V-DPO: −log σ(β·[(ĝ_w − ref_w) − (ĝ_l − ref_l)]), ĝ = g·log π(y|v,x) − (g − 1)·sg[log π(y|x)].

    Args:
        policy, reference: log-likelihoods [B] under the image.
        prior_chosen, prior_rejected: [B], the policy's under an image of zeros; no gradient goes to them.
        beta: as in `dpo`, > 0.
        guidance: g, > 0; 1 is `dpo`. The paper's weight plus 1; the released script's g = 0 has no gradient.
    Returns:
        [B]. At the start not ln 2: the guided score is not the reference's.
    References:
        Xie et al., V-DPO: Mitigating Hallucination in Large Vision Language Models via Vision-Guided Direct Preference
        Optimization, arXiv 2411.02712.
    """
    check_positive("beta", beta)
    check_positive("guidance", guidance)
    check_pair(policy, reference, needs_reference=True)
    assert reference is not None
    check_tensor("prior_chosen", prior_chosen, policy.chosen.shape, "log-likelihoods without the image")
    check_tensor("prior_rejected", prior_rejected, policy.chosen.shape, "log-likelihoods without the image")
    chosen, rejected = (
        guidance * precise(logp) - (guidance - 1) * precise(prior).detach() - precise(known).detach()
        for logp, prior, known in (
            (policy.chosen, prior_chosen, reference.chosen),
            (policy.rejected, prior_rejected, reference.rejected),
        )
    )
    return logistic(beta * (chosen - rejected))


def chip(
    policy: PairLogps,
    reference: PairLogps | None,
    *,
    visual: Tensor,
    reference_visual: Tensor,
    chosen_kl: Tensor,
    rejected_kl: Tensor,
    beta: float,
    token_weight: float,
) -> Tensor:
    """CHiP as released, one sigmoid: −log σ(β·{[δ_w − δ_l] + [δ_w − δ_v] − γ·(KL_l − sg[KL_w])}).

    Args:
        policy, reference: log-likelihoods [B].
        visual, reference_visual: [B], of the chosen answer under the rejected image: δ_v.
        chosen_kl, rejected_kl: [B], Σ_t KL(π_ref ‖ π) over an answer's tokens, as of `tdpo2`.
        beta: as in `dpo`, > 0.
        token_weight: γ, ≥ 0; 0.1 in the released code.
    Returns:
        [B]; ln 2 where policy == reference. The paper's sum of losses is terms of `dpo` and `tdpo2`.
    References:
        Fu et al., CHiP: Cross-modal Hierarchical Direct Preference Optimization for Multimodal LLMs, arXiv 2501.16629.
    """
    check_positive("beta", beta)
    check_at_least("token_weight", token_weight, 0)
    chosen, rejected = checked_ratios(policy, reference)
    for name, tensor in (("visual", visual), ("reference_visual", reference_visual)):
        check_tensor(name, tensor, chosen.shape, "log-likelihoods under the rejected image")
    for name, tensor in (("chosen_kl", chosen_kl), ("rejected_kl", rejected_kl)):
        check_tensor(name, tensor, chosen.shape, "the sequential KL of this side")
    seen = chosen - ratio(visual, reference_visual)
    drift = precise(rejected_kl) - precise(chosen_kl).detach()
    return logistic(beta * ((chosen - rejected) + seen - token_weight * drift))


VISUAL_LOSSES: Mapping[str, Callable[..., Tensor]] = {"anchor": anchor, "v_dpo": v_dpo, "chip": chip}
