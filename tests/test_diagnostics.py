"""What is reported beside the loss."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmpo.losses import PairLogps, dpo
from mmpo.losses import diagnostics as d

properties = settings(max_examples=60, deadline=None, derandomize=True, database=None)
POLICY = PairLogps(torch.tensor([-12.0, -20.0, -1.0], requires_grad=True), torch.tensor([-15.0, -18.0, -2.0]))
REFERENCE = PairLogps(torch.tensor([-13.0, -19.2, -1.0]), torch.tensor([-14.5, -18.4, -2.0]))


def numbers(*values: float) -> Tensor:
    """[B] in float64."""
    return torch.tensor(values, dtype=torch.float64)


def test_implied_rewards_and_accuracies() -> None:
    """β·δ of both sides, unclamped; an untrained policy (Δ = 0) counts a half. No gradient."""
    chosen, rejected = d.implied_rewards(POLICY, REFERENCE, beta=10.0)
    torch.testing.assert_close(chosen, torch.tensor([10.0, -8.0, 0.0]), rtol=0, atol=1e-4)
    torch.testing.assert_close(rejected, torch.tensor([-5.0, 4.0, 0.0]), rtol=0, atol=1e-4)
    margins = d.margins(POLICY, REFERENCE, beta=10.0)
    torch.testing.assert_close(margins, torch.tensor([15.0, -12.0, 0.0]), rtol=0, atol=1e-4)
    assert d.accuracies(POLICY, REFERENCE).tolist() == [1.0, 0.0, 0.5]


def test_nothing_has_a_gradient() -> None:
    """A metric that hung on the graph would keep a step's memory alive."""
    results = [
        *d.implied_rewards(POLICY, REFERENCE, beta=10.0),
        d.margins(POLICY, REFERENCE, beta=10.0),
        d.accuracies(POLICY, REFERENCE),
        d.ranking_accuracies(POLICY),
        d.ideal_ranking_accuracies(POLICY, beta=1.0),
        *d.displacement(POLICY, REFERENCE),
        d.open_gate(POLICY, REFERENCE),
        d.clamped(POLICY.chosen),
        *d.kl_estimates(POLICY.chosen, REFERENCE.chosen),
    ]
    assert all(x.shape == (3,) and not x.requires_grad for x in results)


def test_displacement_and_the_open_gate() -> None:
    """Case A: δ = +1, −0.5; case B: −0.8, +0.4, where the chosen has fallen and the gate is open; then δ = 0."""
    chosen, rejected = d.displacement(POLICY, REFERENCE)
    torch.testing.assert_close(chosen, torch.tensor([-1.0, 0.8, 0.0]), rtol=0, atol=1e-5)
    torch.testing.assert_close(rejected, torch.tensor([0.5, -0.4, 0.0]), rtol=0, atol=1e-5)
    assert d.open_gate(POLICY, REFERENCE).tolist() == [0.0, 1.0, 0.0]


def test_ranking_accuracy_is_the_policys_own() -> None:
    """l_w ≥ l_l: right in A, wrong in B; a tie counts as right, as in its definition."""
    assert d.ranking_accuracies(POLICY).tolist() == [1.0, 0.0, 1.0]
    tie = PairLogps(numbers(-3.0), numbers(-3.0))
    assert d.ranking_accuracies(tie).tolist() == [1.0]


@pytest.mark.parametrize(("beta", "right"), [(0.1, 1.0), (1.0, 0.0), (10.0, 0.0)])
def test_ideal_ranking_accuracy(beta: float, right: float) -> None:
    """−2 + logit(0.75)/β = −2 + 1.0986/β: 8.99, −0.90, −1.89."""
    reference = PairLogps(numbers(-14.0), numbers(-12.0))
    assert d.ideal_ranking_accuracies(reference, beta=beta, preference=numbers(0.75)).tolist() == [right]


def test_ideal_ranking_accuracy_of_unanimous_pairs() -> None:
    """α = 1 counts as 0.999: logit 6.907, so at β = 1 a reference wrong by 6.9 can be mended and one by 6.91 not."""
    reference = PairLogps(numbers(-6.9, -6.91), numbers(0.0, 0.0))
    assert d.ideal_ranking_accuracies(reference, beta=1.0).tolist() == [1.0, 0.0]
    against = d.ideal_ranking_accuracies(reference, beta=1.0, preference=numbers(0.0, 0.0))
    assert against.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="beta: expected a finite number above 0, got 0"):
        d.ideal_ranking_accuracies(reference, beta=0.0)


@properties
@given(*(st.floats(-20, 20),) * 4, st.floats(0.05, 2))
def test_a_pair_is_ranked_right_where_the_loss_is_low_enough(
    l_w: float, l_l: float, r_w: float, r_l: float, beta: float
) -> None:
    """Theorem 4.1 of 2405.19534: l_w ≥ l_l where the DPO loss is at most −log σ(β·(r_l − r_w)), and only there."""
    policy, reference = (PairLogps(numbers(w), numbers(x)) for w, x in ((l_w, l_l), (r_w, r_l)))
    bound = math.log1p(math.exp(-beta * (r_l - r_w)))
    loss = dpo(policy, reference, beta=beta).item()
    if abs(loss - bound) > 1e-9:
        assert d.ranking_accuracies(policy).item() == (loss < bound)


def test_kl_estimates_by_hand() -> None:
    """δ = 1: 1, ½, e^−1; δ = −0.5: −½, ⅛, e^½ − 1.5; δ = 1e-4: k3 is δ²/2 − δ³/6 and does not drown in rounding."""
    k1, k2, k3 = d.kl_estimates(numbers(-12.0, -20.5, 1e-4), numbers(-13.0, -20.0, 0.0))
    assert k1.tolist() == pytest.approx([1, -0.5, 1e-4])
    assert k2.tolist() == pytest.approx([0.5, 0.125, 5e-9])
    assert k3.tolist() == pytest.approx([math.exp(-1), math.exp(0.5) - 1.5, 5e-9 - 1e-12 / 6], rel=1e-7)


def test_kl_estimates_average_to_the_kl() -> None:
    """Over a distribution, exactly: Σ π·k1 = Σ π·k3 = KL(π‖π_ref); k3 is never negative, k1 is somewhere."""
    policy, reference = (numbers(*x).log() for x in ((0.5, 0.3, 0.2), (0.2, 0.3, 0.5)))
    kl = 0.5 * math.log(2.5) + 0.2 * math.log(0.4)
    k1, k2, k3 = d.kl_estimates(policy, reference)
    assert (policy.exp() * k1).sum().item() == pytest.approx(kl)
    assert (policy.exp() * k3).sum().item() == pytest.approx(kl)
    assert k2.min() >= 0
    assert k3.min() >= 0
    assert k1.min() < 0


def test_kl_estimates_and_clamped_exponents_far_out() -> None:
    """k3 stops at e^20 − 1 + δ in float32; the share of cut exponents says how often."""
    delta = torch.tensor([-1e5, -20.5, -19.5, 1e5])
    assert all(x.isfinite().all() for x in d.kl_estimates(delta, torch.zeros(4)))
    assert d.clamped(-delta).tolist() == [1, 1, 0, 0]
    assert d.clamped(-delta).mean().item() == 0.5
    assert d.clamped(-delta, ceiling=19.0).tolist() == [1, 1, 1, 0]
