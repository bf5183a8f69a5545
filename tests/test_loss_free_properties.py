"""Properties of the losses without a reference or per token: what equals what, and what changes nothing."""

from __future__ import annotations

import math

import pytest
import torch
from free_losses import FREE, defaults, extras, random_answers, value_and_all_gradients, with_lengths
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpo.losses import PairLogps, dpo
from mmpo.losses.numerics import EXPONENT, clamped_exp, log1mexp
from mmpo.losses.odds import CERTAIN, log_odds

properties = settings(max_examples=60, deadline=None, derandomize=True, database=None)
number = st.floats(-50, -0.01)
length = st.integers(1, 60)
strength = st.floats(0.01, 2)


def of(name: str, numbers: tuple[float, ...], **options: object) -> float:
    """A loss on one pair (l_w, l_l, r_w, r_l, n_w, n_l) in float64."""
    return FREE[name](*with_lengths(numbers), **options).item()


@properties
@given(number, number, length, length, strength, st.floats(0, 2), st.floats(-5, 5))
def test_simpo_is_dpo_per_token_with_a_made_up_reference(
    l_w: float, l_l: float, n_w: int, n_l: int, beta: float, gamma: float, c: float
) -> None:
    """r_w = (c + γ/β)·n_w and r_l = c·n_l for any c give β·(l̄_w − l̄_l) − γ; with γ = 0, r = 0 will do."""
    made_up = (l_w, l_l, (c + gamma / beta) * n_w, c * n_l, n_w, n_l)
    simpo = of("simpo", made_up, beta=beta, gamma=gamma)
    assert simpo == pytest.approx(of("length_normalized_dpo", made_up, beta=beta), rel=1e-9, abs=1e-9)
    plain = (l_w, l_l, 0.0, 0.0, n_w, n_l)
    assert of("simpo", plain, beta=beta, gamma=0.0) == of("length_normalized_dpo", plain, beta=beta)


@properties
@given(number, number, number, number, length, strength)
def test_dpo_per_token_on_one_length_is_dpo(
    l_w: float, l_l: float, r_w: float, r_l: float, n: int, beta: float
) -> None:
    """β/n takes the place of β where both answers have n tokens."""
    policy, reference = with_lengths((l_w, l_l, r_w, r_l, n, n))
    got = FREE["length_normalized_dpo"](policy, reference, beta=beta).item()
    assert got == pytest.approx(dpo(policy, reference, beta=beta / n).item(), rel=1e-9, abs=1e-12)


@properties
@given(number, number, length, length, strength)
def test_cpo_without_its_second_term_is_dpo_with_a_constant_reference(
    l_w: float, l_l: float, n_w: int, n_l: int, beta: float
) -> None:
    policy, zero = with_lengths((l_w, l_l, 0.0, 0.0, n_w, n_l))
    assert FREE["cpo"](policy, None, beta=beta, alpha=0.0).item() == dpo(policy, zero, beta=beta).item()


@properties
@given(number, number, length, length, st.floats(0, 2))
def test_orpo_is_at_most_asft_by_a_known_gap(l_w: float, l_l: float, n_w: int, n_l: int, weight: float) -> None:
    """ORPO − ASFT = weight · log(p_w·(1 − p_l) + p_l·(1 − p_w)), and what stands in the log is at most 1."""
    numbers = (l_w, l_l, 0.0, 0.0, n_w, n_l)
    gap = of("orpo", numbers, odds_weight=weight) - of("asft", numbers, odds_weight=weight)
    p_w, p_l = math.exp(l_w / n_w), math.exp(l_l / n_l)
    assert gap == pytest.approx(weight * math.log(p_w * (1 - p_l) + p_l * (1 - p_w)), rel=1e-7, abs=1e-7)
    assert gap <= 1e-12


@properties
@given(number, number, length, length, strength, st.floats(0, 2))
def test_a_gold_answer_that_is_the_chosen_one_gives_cpo(
    l_w: float, l_l: float, n_w: int, n_l: int, beta: float, alpha: float
) -> None:
    policy, _ = with_lengths((l_w, l_l, 0.0, 0.0, n_w, n_l))
    gold = -policy.chosen / n_w
    got = FREE["triple_po"](policy, gold_nll=gold, beta=beta, alpha=alpha, gamma=0.0, length_normalized=False)
    assert got.item() == pytest.approx(FREE["cpo"](policy, beta=beta, alpha=alpha).item(), rel=1e-12)


@properties
@given(number, number, length, length, strength, st.floats(0, 2))
def test_triple_po_per_token_is_simpo_and_the_gold_answer(
    l_w: float, l_l: float, n_w: int, n_l: int, beta: float, gamma: float
) -> None:
    policy, _ = with_lengths((l_w, l_l, 0.0, 0.0, n_w, n_l))
    gold = torch.tensor([0.7], dtype=torch.float64)
    got = FREE["triple_po"](policy, gold_nll=gold, beta=beta, alpha=1.0, gamma=gamma, length_normalized=True).item()
    assert got == pytest.approx(FREE["simpo"](policy, beta=beta, gamma=gamma).item() + 0.7, rel=1e-12)


SHIFTED = {"rso_hinge": True, "maximum_preference": True, "slic": False, "cpo": False, "orpo": False, "asft": False}


@pytest.mark.parametrize(("name", "invariant"), SHIFTED.items())
def test_what_a_shift_by_the_prompt_changes(name: str, invariant: bool) -> None:
    """c(x) added to both sides cancels in l_w − l_l, but not in a negative log-likelihood or in odds."""
    policy, _ = random_answers()
    moved = policy._replace(chosen=policy.chosen + 0.5, rejected=policy.rejected + 0.5)
    before, after = (FREE[name](x, None, **defaults(name)) for x in (policy, moved))
    assert torch.allclose(before, after, rtol=1e-12, atol=1e-12) is invariant


@pytest.mark.parametrize("name", ["simpo", "length_normalized_dpo"])
def test_a_shift_per_token_cancels_and_a_shift_per_answer_does_not(name: str) -> None:
    """c·n added to each side is a constant of the mean; c alone weighs more in the shorter answer."""
    policy, reference = random_answers()
    n_w, n_l = policy[2:]
    assert n_w is not None
    assert n_l is not None
    per_token = policy._replace(chosen=policy.chosen + 0.1 * n_w, rejected=policy.rejected + 0.1 * n_l)
    per_answer = policy._replace(chosen=policy.chosen + 0.5, rejected=policy.rejected + 0.5)
    before, same, other = (FREE[name](x, reference, **defaults(name)) for x in (policy, per_token, per_answer))
    torch.testing.assert_close(same, before, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(other, before)


def swapped(policy: PairLogps) -> PairLogps:
    """Chosen and rejected in each other's place, lengths too."""
    return PairLogps(policy.rejected, policy.chosen, policy.rejected_length, policy.chosen_length)


def test_swapping_the_pair() -> None:
    """softplus(z) − softplus(−z) = z per token; −σ(z) − σ(−z) = −1; and SimPO's margin does not change sides: −2γ."""
    policy, reference = random_answers()
    n_w, n_l = policy[2:]
    loss = FREE["length_normalized_dpo"]
    z = 5 * ((policy.chosen - reference.chosen) / n_w - (policy.rejected - reference.rejected) / n_l)
    difference = loss(swapped(policy), swapped(reference), beta=5.0) - loss(policy, reference, beta=5.0)
    torch.testing.assert_close(difference, z, rtol=1e-10, atol=1e-10)
    both = FREE["maximum_preference"](policy, beta=0.4) + FREE["maximum_preference"](swapped(policy), beta=0.4)
    torch.testing.assert_close(both, torch.full_like(both, -1.0), rtol=1e-12, atol=0)
    # with z₁ = u − γ and z₂ = −u − γ: z = −log(e^L − 1), so z₁ + z₂ = −2γ
    logits = [-FREE["simpo"](x, beta=2.0, gamma=0.5).expm1().log() for x in (policy, swapped(policy))]
    torch.testing.assert_close(logits[0] + logits[1], torch.full_like(logits[0], -1.0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(FREE))
def test_chosen_is_raised_and_rejected_lowered(name: str) -> None:
    policy, reference = random_answers()
    given = {**extras(name, 8), **defaults(name)}
    _, chosen, rejected = value_and_all_gradients(FREE[name], policy, reference, **given)
    assert (chosen <= 0).all()
    assert (rejected >= 0).all()
    assert chosen.min() < 0 < rejected.max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log1mexp_against_its_series_and_its_definition(dtype: torch.dtype) -> None:
    """Near 0: log(−x) + x/2, to x²/24; far below: −e^x. At −ln 2 both are −ln 2. Gradients −1/(e^−x − 1), no NaN."""
    x = torch.tensor([-1e-9, -1e-8, -1e-7, -1e-4, -math.log(2), -1.5, -30.0, -1e5], dtype=dtype, requires_grad=True)
    values = log1mexp(x)
    values.sum().backward()
    near = [math.log(-v) + v / 2 for v in (-1e-9, -1e-8, -1e-7, -1e-4)]
    expected = [*near, -math.log(2), math.log(1 - math.exp(-1.5)), -math.exp(-30), 0.0]
    torch.testing.assert_close(values, torch.tensor(expected, dtype=dtype), rtol=2e-6, atol=0)
    slopes = [-1e9, -1e8, -1e7, -1e4, -1.0, -1 / math.expm1(1.5), -math.exp(-30), 0.0]
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor(slopes, dtype=dtype), rtol=1e-4, atol=0)


def test_odds_of_a_half_are_even_and_stop_at_certainty() -> None:
    """o(ln ½) = 0; a mean log-likelihood of 0 counts as −1e-7: finite, with finite gradient, in float32."""
    assert log_odds(torch.tensor(-math.log(2), dtype=torch.float64)).item() == pytest.approx(0, abs=1e-15)
    x = torch.tensor([CERTAIN, 0.0], requires_grad=True)
    log_odds(x).sum().backward()
    assert log_odds(x.detach()).tolist() == pytest.approx([-math.log(1e-7)] * 2, rel=1e-5)
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad[1] == 1


def test_clamped_exp_is_exp_below_its_ceiling() -> None:
    x = torch.tensor([-3.0, 2.0, 21.0, 1e5], dtype=torch.float64, requires_grad=True)
    clamped_exp(x).sum().backward()
    top = math.exp(EXPONENT)
    assert clamped_exp(x.detach()).tolist() == pytest.approx([math.exp(-3), math.exp(2), top, top])
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([math.exp(-3), math.exp(2), 0, 0])
