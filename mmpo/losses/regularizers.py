"""DPO plus a weighted term on a log-likelihood: of the chosen candidate or of the rationale of the preference."""

from __future__ import annotations

from torch import Tensor

from mmpo.losses.pairwise import dpo, sft
from mmpo.losses.types import PairLogps, check_at_least, check_positive, check_tensor, precise


def sft_dpo(policy: PairLogps, reference: PairLogps | None, *, beta: float, gamma: float) -> Tensor:
    """SFT-DPO: −log σ(β·Δ) − γ·log π(y_w).

    Args:
        policy, reference: log-likelihoods [B], summed over tokens.
        beta: as in `dpo`, > 0.
        gamma: weight of the negative log-likelihood of the chosen candidate, ≥ 0; 0 is `dpo`. It is in units of
            1 / log-likelihood, so it scales with beta.
    Returns:
        [B]. ∂/∂logp_chosen = −β·σ(−β·Δ) − γ: the pull up on the chosen candidate never ends.
    References:
        Yan et al., 3D-Properties: Identifying Challenges in DPO and Charting a Path Forward, arXiv 2406.07327, eq. 7,
        with the sign of its gradient (the printed loss has the opposite one).
    """
    check_at_least("gamma", gamma, 0)
    return dpo(policy, reference, beta=beta) + gamma * sft(policy)


def rpo(policy: PairLogps, reference: PairLogps | None, *, beta: float, eta: float) -> Tensor:
    """Regularised preference optimisation: −log σ(β·Δ) − η·β·log π(y_w).

    Args:
        policy, reference: log-likelihoods [B], summed (not averaged) over tokens.
        beta: as in `dpo`, > 0; 0.01 in the authors' code.
        eta: weight of the negative log-likelihood relative to beta, ≥ 0; 0.005 in the authors' code, 0 is `dpo`.
    Returns:
        [B]. ∂/∂logp_chosen = −β·σ(−β·Δ) − η·β.
    References:
        Liu et al., Provably Mitigating Overoptimization in RLHF: Your SFT Loss is Implicitly an Adversarial
        Regularizer, arXiv 2405.16436.
    TRL's recipe drops the factor beta and averages over the batch's tokens, which is another strength.
    """
    check_positive("beta", beta)
    check_at_least("eta", eta, 0)
    return sft_dpo(policy, reference, beta=beta, gamma=eta * beta)


def rationale_dpo(
    policy: PairLogps, reference: PairLogps | None, *, beta: float, gamma: float, rationale: Tensor
) -> Tensor:
    """DPO with rationales: −log σ(β·Δ) − γ·log π(rationale | x, y_w ≻ y_l).

    Args:
        policy, reference: log-likelihoods [B].
        beta: as in `dpo`, > 0.
        gamma: weight of the rationale, ≥ 0; 0 is `dpo`.
        rationale: [B] log-likelihood under the policy of the text that says why the chosen one is better; carries
            gradient.
    Returns:
        [B]. ∂/∂rationale = −γ.
    References:
        Just et al., Data-Centric Human Preference Optimization with Rationales, arXiv 2407.14477.
    The authors' code has −log σ(γ·log π(rationale)) in place of the paper's linear term.
    """
    check_at_least("gamma", gamma, 0)
    loss = dpo(policy, reference, beta=beta)
    check_tensor("rationale", rationale, loss.shape, "the log-likelihood of the rationale under the policy")
    return loss - gamma * precise(rationale)
