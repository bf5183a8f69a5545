"""OFS-DPO: a fast learner beside a slow one. Not in the table: form and sign of its regulariser are unresolved."""

from __future__ import annotations

from torch import Tensor

from mmpo.losses.links import logistic
from mmpo.losses.sides import difference
from mmpo.losses.types import PairLogps, check_at_least, check_positive

UNRESOLVED_SIGNS = {"fast_above_slow": 1.0, "fast_below_slow": -1.0}


def ofs_dpo(
    policy: PairLogps,
    reference: PairLogps | None,
    *,
    slow: PairLogps,
    beta: float,
    weight: float,
    unresolved_sign: str,
) -> Tensor:
    """The fast learner's loss: −log σ(β·Δ) − λ·log σ(±β·(Δ − Δ_slow)), a reconstruction.

    Δ − Δ_slow is the difference of the log-ratios of the fast learner to the slow one, which is detached.

    Args:
        policy: log-likelihoods [B] of the fast learner, a LoRA with the higher learning rate.
        reference: of the frozen model [B].
        slow: of the slow learner [B], a second LoRA on the same base.
        beta: as in `dpo`, > 0.
        weight: λ, ≥ 0; 0 is `dpo`.
        unresolved_sign: "fast_above_slow" (the regulariser widens the fast learner's margin beyond the slow one's) or
            "fast_below_slow" (it holds it back). There is no default: nobody here has seen which one is the paper's,
            nor that the regulariser has this logistic form at all.
    Returns:
        [B]. (1 + λ)·ln 2 where all three models are equal.
    References:
        Qi et al., Online DPO: Online Direct Preference Optimization with Fast-Slow Chasing, arXiv 2406.05534.
        Only its abstract and a summary were seen; results with this function are not results of that paper.
    """
    check_positive("beta", beta)
    check_at_least("weight", weight, 0)
    if unresolved_sign not in UNRESOLVED_SIGNS:
        signs = ", ".join(UNRESOLVED_SIGNS)
        raise ValueError(f"unresolved_sign: expected one of {signs}, got {unresolved_sign!r}; the paper's is not known")
    chase = UNRESOLVED_SIGNS[unresolved_sign] * beta * difference(policy, slow)
    return logistic(beta * difference(policy, reference)) + weight * logistic(chase)
