"""Named losses on lists of K candidates: `loss(policy, reference, *, scores, mask, ...) -> [B]`, unreduced.

policy, reference [B, K]: log-likelihoods. scores [B, K]: labels, higher is better, no gradient. mask [B, K] bool: true
where there is a candidate (None: everywhere). An absent candidate, and one whose score is not finite, has neither value
nor gradient. A list with fewer than two candidates gives 0. δ is the log-ratio log π − log π_ref, s = β·δ; every pair
i, j with scores ψ_i > ψ_j asks for s_i > s_j, ties ask for nothing. The order in which a list is stored has no effect.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmpo.losses.links import logistic
from mmpo.losses.list_weights import dcg_weights, differences, lambda_weights, present_slots, win_matrix
from mmpo.losses.sides import ratio
from mmpo.losses.types import (
    check_at_least,
    check_between,
    check_bool,
    check_list,
    check_positive,
    check_tensor,
    precise,
)


def pairwise_logistic(
    policy: Tensor, reference: Tensor | None, *, scores: Tensor, mask: Tensor | None = None, beta: float
) -> Tensor:
    """DPO on every ordered pair of a list: Σ_{ψ_i > ψ_j} −log σ(s_i − s_j).

    Args:
        policy, reference: log-likelihoods [B, K].
        scores: [B, K] labels; only their order counts.
        mask: [B, K] bool, true where there is a candidate.
        beta: as in `dpo`, > 0.
    Returns:
        [B], a sum over up to K(K − 1)/2 pairs: ln 2 times their number where policy == reference. K = 2 is `dpo`.
    References:
        Liu et al., LiPO: Listwise Preference Optimization through Learning-to-Rank, arXiv 2402.01878 (the unweighted
        baseline).
    """
    s, labels, present = _strengths(policy, reference, scores, mask, beta)
    return _weighted_pairs(differences(s), win_matrix(labels, present).to(s.dtype))


def d3po(
    policy: Tensor,
    reference: Tensor | None,
    *,
    scores: Tensor,
    mask: Tensor | None = None,
    wins: Tensor | None = None,
    beta: float,
    clip: float,
) -> Tensor:
    """D3PO on a whole group: Σ_{i ≻ j} −log σ(β·log r_i − β·log r_j), r = clamp(π/π_ref, 1 − clip, 1 + clip).

    All pairs of a group come from one log-likelihood per candidate; a tie asks for nothing.

    Args:
        policy, reference: log-likelihoods [B, K]; there the mean log-density of a sampler's step over C, H, W.
        scores: [B, K] labels; only their order counts, and only where `wins` is None.
        mask: [B, K] bool, true where there is a candidate.
        wins: [B, K, K] bool, whether the first is preferred to the second, where that is no order of one score
            (Pareto dominance of several, votes).
        beta: as in `dpo`, > 0; 0.1 in the source.
        clip: largest distance of a ratio from 1, 0 < clip < 1; 0.1 in the source. Beyond it a candidate has gradient 0.
    Returns:
        [B], a sum over up to K(K − 1)/2 pairs: ln 2 times their number where policy == reference. K = 2 is
        `clipped_dpo`.
    References:
        Yang et al., Using Human Feedback to Fine-tune Diffusion Models without Any Reward Model, arXiv 2311.13231, and
        code, where a tie is the constant ln 2 and each pair of a group is forwarded anew.
    """
    check_positive("beta", beta)
    check_between("clip", clip, above=0.0, below=1.0)
    check_list(policy, _needed(reference), scores, mask, steps=False)
    present = present_slots(scores, mask)
    log_ratio = ratio(policy, _needed(reference)).where(present, 0).clamp(math.log1p(-clip), math.log1p(clip))
    if wins is None:
        wins = win_matrix(_labels(scores, log_ratio), present)
    else:
        check_tensor("wins", wins, policy.shape + policy.shape[1:], "whether the first is preferred to the second")
        check_bool("wins", wins)
        wins = wins & present.unsqueeze(-1) & present.unsqueeze(-2)
    return _weighted_pairs(differences(beta * log_ratio), wins.to(log_ratio.dtype))


def rank_dpo(
    policy: Tensor,
    reference: Tensor | None,
    *,
    scores: Tensor,
    mask: Tensor | None = None,
    beta: float,
    normalise: bool = False,
) -> Tensor:
    """RankDPO: Σ_{φ_i > φ_j} Δ_ij · −log σ(s_i − s_j), Δ_ij = |2^φ_i − 2^φ_j| · |1/ln(1 + τ_i) − 1/ln(1 + τ_j)|.

    τ is the rank by the labels (1 is best, ties share), so the weights of a list never change. `lipo_lambda` is the
    same with the ranks that the policy predicts.

    Args:
        policy, reference: log-likelihoods [B, K], all of a list at one timestep; the source draws noise per image,
            and sharing it (the recipes' default) lowers the variance.
        scores: [B, K] labels φ in [0, 1]: win rates, as `list_weights.win_rates` makes them of several rewards.
        mask: [B, K] bool, true where there is a candidate.
        beta: as in `dpo`, > 0. The source has no ½: β here is 2·β there, with logp = −½ · mean squared error.
        normalise: divide by Σ Δ_ij of the list: a weighted mean, whose size depends neither on K nor on how far apart
            the labels are. Not in the source.
    Returns:
        [B]. A pair with φ = (1, 0) is 0.5325 times `dpo`; the sum grows with K, as in the source. Normalised, a pair
        is `dpo` and an untrained policy has ln 2. A list whose labels all tie is 0.
    References:
        Karthik et al., Scalable Ranked Preference Optimization for Text-to-Image Generation, arXiv 2410.18013.
        The text once speaks of predicted ranks; its algorithm uses those of the labels, and so does this. The source
        reports no β and no code is public.
    Not verified: beta and learning rate: the paper reports none, and no code is public.
    """
    s, labels, present = _strengths(policy, reference, scores, mask, beta)
    weights = win_matrix(labels, present) * dcg_weights(labels, present)
    if normalise:
        whole = weights.sum((-1, -2), keepdim=True)
        weights = weights / whole.where(whole > 0, 1)
    return _weighted_pairs(differences(s), weights)


def lipo_lambda(
    policy: Tensor, reference: Tensor | None, *, scores: Tensor, mask: Tensor | None = None, beta: float
) -> Tensor:
    """LiPO-λ: as `rank_dpo`, with τ the rank by the current prediction s (LambdaRank), detached.

    Args:
        policy, reference: log-likelihoods [B, K].
        scores: [B, K] labels in [0, 1]: mean win probability over the list.
        mask: [B, K] bool, true where there is a candidate.
        beta: as in `dpo`, > 0; 0.05 in the source.
    Returns:
        [B]. Equal to `rank_dpo` where the prediction has the order of the labels, and where policy == reference,
        because ties of the prediction are broken by the labels (the source does not say; shared ranks would give
        weight 0 and no training). The value jumps where the predicted order changes.
    References:
        Liu et al., LiPO: Listwise Preference Optimization through Learning-to-Rank, arXiv 2402.01878.
    Not verified: how the source breaks ties of the prediction.
    """
    s, labels, present = _strengths(policy, reference, scores, mask, beta)
    return _weighted_pairs(differences(s), win_matrix(labels, present) * lambda_weights(s, labels, present))


def tree_po(
    policy: Tensor,
    reference: Tensor | None,
    *,
    scores: Tensor,
    cosines: Tensor,
    mask: Tensor | None = None,
    step_mask: Tensor | None = None,
    beta: float,
) -> Tensor:
    """TPO on trees of thought: `lipo_lambda` whose margin is Σ_k (1 + cos_k(i, j)) · β·(δ_k^i − δ_k^j).

    A step that two candidates share has δ_k equal and adds nothing; steps of like meaning count up to twice.

    Args:
        policy, reference: log-likelihoods of the steps [B, K, S].
        scores: [B, K] labels in [0, 1].
        cosines: [B, K, K, S] cosine of the hidden states of the k-th steps of i and j; symmetric in i and j; detached.
        mask: [B, K] bool, true where there is a candidate.
        step_mask: [B, K, S] bool, true where a candidate has that step; None: everywhere.
        beta: as in `dpo`, > 0.
    Returns:
        [B]. Predicted ranks are by β·Σ_k δ_k.
    References:
        Liao et al., TPO: Aligning Large Language Models with Multi-branch & Multi-step Preference Trees,
        arXiv 2410.12854. The published code trains in the opposite direction; the paper is followed. A step
        that only one of two candidates has counts once (cosine 0), and ranks are LiPO's: neither was seen in the paper.
    Not verified: the ranks behind its weights, steps that one candidate lacks, and its default beta.
    """
    check_positive("beta", beta)
    check_list(policy, _needed(reference), scores, mask, steps=True)
    check_tensor("cosines", cosines, policy.shape[:2] + policy.shape[1:], "a cosine per pair and step")
    present = present_slots(scores, mask)
    there = present.unsqueeze(-1).expand(policy.shape)
    if step_mask is not None:
        check_tensor("step_mask", step_mask, policy.shape, "true where a candidate has that step")
        check_bool("step_mask", step_mask)
        there = there & step_mask
    steps = beta * ratio(policy, _needed(reference)).where(there, 0)
    labels = _labels(scores, steps)
    alike = (1 + precise(cosines.detach())).where(there.unsqueeze(2) & there.unsqueeze(1), 1)
    margins = (alike.to(steps.dtype) * (steps.unsqueeze(2) - steps.unsqueeze(1))).sum(-1)
    return _weighted_pairs(margins, win_matrix(labels, present) * lambda_weights(steps.sum(-1), labels, present))


def plackett_luce(
    policy: Tensor, reference: Tensor | None, *, scores: Tensor, mask: Tensor | None = None, beta: float
) -> Tensor:
    """Plackett-Luce DPO: Σ_i [log Σ_{j = i or ψ_j < ψ_i} e^(s_j) − s_i], each candidate against all worse ones.

    Args:
        policy, reference: log-likelihoods [B, K].
        scores: [B, K] labels; only their order counts.
        mask: [B, K] bool, true where there is a candidate.
        beta: as in `dpo`, > 0.
    Returns:
        [B]. ln K! where policy == reference and no labels tie. K = 2 is `dpo`.
    References:
        Rafailov et al., Direct Preference Optimization, arXiv 2305.18290, appendix (the form is derived; the appendix
        was not seen). The model has no ties: here a tied candidate is not among those that the other is chosen from.
    Not verified: the paper's appendix: the form is derived; ties are this project's choice.
    """
    s, labels, present = _strengths(policy, reference, scores, mask, beta)
    return _choices(s.unsqueeze(-2) - s.unsqueeze(-1), win_matrix(labels, present))


def exo_list(
    policy: Tensor,
    reference: Tensor | None,
    *,
    scores: Tensor,
    mask: Tensor | None = None,
    beta: float,
    beta_r: float,
) -> Tensor:
    """EXO on rewards: KL(p ‖ t) of p = softmax(s) from t = softmax(ψ/β_r) over the list.

    Args:
        policy, reference: log-likelihoods [B, K].
        scores: [B, K] rewards ψ, in their own unit: equal rewards ask for equal s, so ties do have a term here.
        mask: [B, K] bool, true where there is a candidate.
        beta: as in `dpo`, > 0.
        beta_r: temperature of the rewards, > 0.
    Returns:
        [B]. 0 exactly where s and ψ/β_r differ by a constant; the gradient also vanishes where p is far wrong.
    References:
        Ji et al., Towards Efficient Exact Optimization of Language Model Alignment, arXiv 2402.00856 (EXO-rw).
    """
    check_positive("beta_r", beta_r)
    s, labels, present = _strengths(policy, reference, scores, mask, beta)
    own = _log_shares(s, present)
    target = _log_shares(labels / beta_r, present).to(s.dtype)
    return (own.exp() * (own - target)).where(present, 0).sum(-1)


def pro(
    policy: Tensor,
    reference: Tensor | None = None,
    *,
    scores: Tensor,
    lengths: Tensor,
    mask: Tensor | None = None,
    sft_weight: float,
) -> Tensor:
    """Preference ranking: Σ_i [log Σ_{j = i or ψ_j < ψ_i} e^(a_j·T_ij) − a_i·T_ii] − λ·(K − 1)²·logp_best.

    a is the mean log-likelihood per token, T_ij = ψ_i − ψ_j for worse j, T_ii the largest of them: the wider the gap
    of the scores, the sharper the comparison.

    Args:
        policy: summed log-likelihoods [B, K].
        reference: not used.
        scores: [B, K] rewards; their differences multiply a, so their scale counts.
        lengths: [B, K] numbers of scored tokens.
        mask: [B, K] bool, true where there is a candidate.
        sft_weight: λ ≥ 0 of the likelihood of the best candidate (the mean of those that tie for best).
    Returns:
        [B]. Not invariant to a shift of all a by the prompt, because T differs from candidate to candidate.
    References:
        Song et al., Preference Ranking Optimization for Human Alignment, arXiv 2306.17492, and the authors' ranking
        loop (without its 1e-10 inside the logarithm).
    """
    check_at_least("sft_weight", sft_weight, 0)
    check_list(policy, None, scores, mask, steps=False)
    check_tensor("lengths", lengths, policy.shape, "the number of scored tokens")
    present = present_slots(scores, mask)
    logps = precise(policy).where(present, 0)
    means = logps / precise(lengths).where(present, 1).clamp(min=1).to(logps.dtype)
    labels = _labels(scores, logps).where(present, 0)
    wins = win_matrix(labels, present)
    gaps = differences(labels).where(wins, 0).to(means.dtype)
    own = means * gaps.amax(-1) if gaps.shape[-1] else means
    ranking = _choices(means.unsqueeze(-2) * gaps - own.unsqueeze(-1), wins)
    best = present & ~wins.any(-2)
    likelihood = (logps * best).sum(-1) / best.sum(-1).clamp(min=1)
    others = (present.sum(-1) - 1).clamp(min=0).to(logps.dtype)
    return ranking - sft_weight * others.square() * likelihood


def _needed(reference: Tensor | None) -> Tensor:
    if reference is None:
        raise ValueError(
            "reference: expected log-likelihoods of the frozen model, got None; this loss compares with it"
        )
    return reference


def _strengths(
    policy: Tensor, reference: Tensor | None, scores: Tensor, mask: Tensor | None, beta: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(s = β·δ, 0 where there is no candidate; labels; which slots hold one), all [B, K], after the shared checks."""
    check_positive("beta", beta)
    check_list(policy, _needed(reference), scores, mask, steps=False)
    present = present_slots(scores, mask)
    s = beta * ratio(policy, _needed(reference)).where(present, 0)
    return s, _labels(scores, s), present


def _labels(scores: Tensor, like: Tensor) -> Tensor:
    """The scores, at least as precise as the log-likelihoods: rounding them down could make ties."""
    return scores.detach().to(torch.promote_types(scores.dtype, like.dtype))


def _weighted_pairs(margins: Tensor, weights: Tensor) -> Tensor:
    """[B]: Σ weight · −log σ(margin) over [B, K, K]."""
    return (weights.to(margins.dtype) * logistic(margins)).sum((-1, -2))


def _choices(logits: Tensor, wins: Tensor) -> Tensor:
    """[B]: Σ_i log(1 + Σ_{j: i beats j} e^(logit_ij)): i chosen among itself (logit 0) and those it beats."""
    worse = logits.masked_fill(~wins, -math.inf)
    itself = torch.zeros_like(worse[..., :1])
    return torch.cat([itself, worse], -1).logsumexp(-1).sum(-1)


def _log_shares(logits: Tensor, present: Tensor) -> Tensor:
    """[B, K]: log-softmax over the candidates that are there; anything finite elsewhere."""
    empty = ~present.any(-1, keepdim=True)
    logs = logits.masked_fill(~(present | empty), -math.inf).log_softmax(-1)
    return logs.where(present, 0)
