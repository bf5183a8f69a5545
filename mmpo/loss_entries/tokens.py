"""Losses that see tokens, single trajectories with a reward at the end, and the pairwise policy gradient."""

from __future__ import annotations

from mmpo.loss_entry import BETA, LossEntry, option, options

_NO_VOCABULARY = "a denoiser has no distribution over a vocabulary, whose divergence the loss needs"
_NO_TOKENS = "a denoising surrogate is one number a candidate, and the loss needs one a token or step"
_NO_DENSITY = "importance weights need the density of a sample, and the surrogate only bounds it: use transitions"
_SEQUENCE_KLS = {
    "chosen_kl": "[B] Σ_t KL(reference || policy) over the chosen response",
    "rejected_kl": "[B] Σ_t KL(reference || policy) over the rejected response",
}
_PAIR_MASKS = {
    "chosen_mask": "[B, T] bool, true on the chosen tokens that count",
    "rejected_mask": "[B, T'] bool, true on the rejected tokens that count",
}
_TRAJECTORY = {
    "mask": "[B, T] bool, true on the policy's own tokens",
    "values": "[B, T] value of the state before each token",
    "reward": "[B] reward of the whole trajectory",
}

ENTRIES = {
    "tdpo1": LossEntry(
        "Token-level DPO, first form",
        "arXiv 2404.11999",
        formula="-log sigmoid(beta * (Δ - (KL_rejected - KL_chosen)))",
        options=options(beta=BETA),
        extra=_SEQUENCE_KLS,
        not_for_surrogates=_NO_VOCABULARY,
    ),
    "tdpo2": LossEntry(
        "Token-level DPO, second form",
        "arXiv 2404.11999",
        formula="-log sigmoid(beta * (Δ - alpha * (KL_rejected - detach(KL_chosen))))",
        options=options(beta=BETA, alpha=option(0.5, at_least=0.0)),
        extra=_SEQUENCE_KLS,
        not_for_surrogates=_NO_VOCABULARY,
    ),
    "sparse_po": LossEntry(
        "SparsePO, weights on tokens",
        "arXiv 2410.05102",
        "token",
        formula="-log sigmoid(beta * (u - d)) + l1_reward * |m_u| + l1_kl * |m_d|; "
        "u: difference of sums of m_u * δ_t, d: of m_d * KL_t",
        options=options(beta=BETA, l1_reward=option(0.001, at_least=0.0), l1_kl=option(0.001, at_least=0.0)),
        extra={
            **_PAIR_MASKS,
            "chosen_kl": "[B, T] KL(reference || policy) of each chosen token",
            "rejected_kl": "[B, T'] KL(reference || policy) of each rejected token",
            "chosen_reward_weight": "[B, T] m_u >= 0 of the chosen tokens, learned or from activations",
            "rejected_reward_weight": "[B, T'] m_u >= 0 of the rejected tokens",
            "chosen_kl_weight": "[B, T] m_d >= 0 of the chosen tokens",
            "rejected_kl_weight": "[B, T'] m_d >= 0 of the rejected tokens",
        },
        not_for_surrogates=_NO_VOCABULARY,
        unverified="the paper's L1 weights; the official code was read and not run",
    ),
    "step_dpo": LossEntry(
        "Step-DPO, DPO on one step's tokens",
        "arXiv 2406.18629, 2409.02392",
        "token",
        formula="-log sigmoid(beta * Δ), δ summed over the tokens of the step (or of the agent's turns)",
        options=options(beta=option(0.4, surrogate=5000.0)),
        extra=_PAIR_MASKS,
        not_for_surrogates=_NO_TOKENS,
    ),
    "oreo": LossEntry(
        "OREO, offline reasoning, the policy",
        "arXiv 2412.16145",
        "token",
        formula="mean_t (V_t - R + beta * δ_t + beta * detach(sum of later δ))^2 + alpha * mean_t KL_t",
        options=options(beta=option(0.03, surrogate=5000.0), alpha=option(0.01, at_least=0.0)),
        extra={**_TRAJECTORY, "kl": "[B, T] KL(policy || reference) of each token; not needed at alpha 0"},
        not_for_surrogates=_NO_VOCABULARY,
    ),
    "oreo_value": LossEntry(
        "OREO, offline reasoning, the value",
        "arXiv 2412.16145",
        "token",
        formula="mean_t (V_t - R + beta * detach(δ_t + sum of later δ))^2",
        options=options(beta=option(0.03, surrogate=5000.0)),
        extra=_TRAJECTORY,
        not_for_surrogates=_NO_TOKENS,
    ),
    "p3o": LossEntry(
        "P3O, pairwise policy gradient",
        "arXiv 2310.00212",
        formula="-1/2 * detach(w * (r_1 - beta * δ_1 - r_2 + beta * δ_2)) * (logp_1 - logp_2); "
        "w: importance weight of the two samples",
        options=options(
            beta=option(0.1, at_least=0.0),
            clipping=option("none", choices=("none", "separate", "joint")),
            clip=option(0.2, below=1.0),
        ),
        extra={
            "chosen_reward": "[B] reward of the first sample",
            "rejected_reward": "[B] reward of the second sample",
            "chosen_behavior": "[B] log-likelihood under the policy that drew it; none where that is the policy",
            "rejected_behavior": "[B] the same of the second sample",
        },
        not_for_surrogates=_NO_DENSITY,
        unverified="the forms of both clippings and the defaults of beta and clip; the identity is from the "
        "authors' summary",
    ),
}
