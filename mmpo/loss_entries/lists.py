"""Losses on lists of candidates with scores."""

from __future__ import annotations

from mmpo.loss_entry import BETA, LossEntry, option, options

ENTRIES = {
    "rank_dpo": LossEntry(
        "RankDPO, pairs of a list weighted by their gain in DCG",
        "arXiv 2410.18013",
        family="list",
        formula="sum over score_i > score_j of W_ij * -log sigmoid(beta * (δ_i - δ_j)), "
        "W_ij = |2^score_i - 2^score_j| * |1/ln(1 + rank_i) - 1/ln(1 + rank_j)|, ranks by score, scores in [0, 1]; "
        "divided by the sum of W where normalise",
        options=options(beta=BETA, normalise=option(False)),
        unit_scores=True,
        unverified="beta and learning rate: the paper reports none, and no code is public",
    ),
    "lipo_lambda": LossEntry(
        "LiPO-lambda, pairs of a list weighted at the predicted ranks",
        "arXiv 2402.01878",
        family="list",
        formula="as rank_dpo, with ranks by beta * δ (detached; ties broken by score)",
        options=options(beta=option(0.05, surrogate=2500.0)),
        unit_scores=True,
        unverified="how the source breaks ties of the prediction",
    ),
    "d3po": LossEntry(
        "D3PO, all pairs of a group on clamped ratios",
        "arXiv 2311.13231",
        family="list",
        formula="sum over i preferred to j of -log sigmoid(beta * (log r_i - log r_j)), r = clamp(exp(δ), 1 - clip, "
        "1 + clip)",
        options=options(beta=BETA, clip=option(0.1, below=1.0)),
        optional={"wins": "[B, K, K] bool, whether the first is preferred to the second; else by the scores"},
        on_surrogates="log-ratios are about 1e-4 there and no ratio reaches the clip: the clip is for the "
        "log-densities of transitions",
    ),
    "plackett_luce": LossEntry(
        "Plackett-Luce DPO, a whole ranking at once",
        "arXiv 2305.18290 (appendix)",
        family="list",
        formula="sum over i of log sum over {j: j = i or score_j < score_i} of exp(beta * (δ_j - δ_i))",
        options=options(beta=BETA),
        unverified="the paper's appendix: the form is derived; ties are this project's choice",
    ),
    "pro": LossEntry(
        "Preference ranking optimisation",
        "arXiv 2306.17492",
        family="list",
        formula="sum over i of log sum over {j: j = i or score_j < score_i} of exp(a_j * T_ij - a_i * T_ii) "
        "- sft_weight * (K - 1)^2 * logp_best, a = logp / length, T_ij = score_i - score_j, T_ii = max_j T_ij",
        options=options(sft_weight=option(0.05, above=None, at_least=0.0)),
        needs_reference=False,
        extra={"lengths": "[B, K] numbers of scored tokens"},
        not_for_surrogates="it compares mean log-likelihoods per token, whose scale a denoising error does not have",
    ),
    "exo_list": LossEntry(
        "Efficient exact optimisation on the rewards of a list",
        "arXiv 2402.00856",
        family="list",
        formula="KL(softmax(beta * δ) || softmax(score / beta_r))",
        options=options(beta=BETA, beta_r=option(1.0)),
    ),
    "tree_po": LossEntry(
        "Tree preference optimisation over reasoning steps",
        "arXiv 2410.12854",
        family="list",
        formula="as lipo_lambda, with margin sum over steps k of (1 + cos_k(i, j)) * beta * (δ_k^i - δ_k^j); "
        "log-likelihoods are [B, K, S], one per step",
        options=options(beta=BETA),
        extra={
            "cosines": "[B, K, K, S] cosine of the hidden states of two candidates' k-th steps",
            "step_mask": "[B, K, S] true where a candidate has that step (optional)",
        },
        not_for_surrogates="it needs log-likelihoods and hidden states of reasoning steps",
        unverified="the ranks behind its weights, steps that one candidate lacks, and its default beta",
    ),
    "pairwise_logistic": LossEntry(
        "DPO on every pair of a list",
        "arXiv 2402.01878 (baseline)",
        family="list",
        formula="sum over score_i > score_j of -log sigmoid(beta * (δ_i - δ_j))",
        options=options(beta=BETA),
    ),
}
