"""Properties of the losses: what they are invariant to, and where their gradients point."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import PAIRS, defaults, of, pair, random_pairs, value_and_gradients

from mmpo.loss_table import LOSS_TABLE
from mmpo.losses import LOSSES

RAW = {"rpo", "sft_dpo"}
"""Losses that add a log-likelihood of their own beside the ratios."""

properties = settings(max_examples=60, deadline=None, derandomize=True, database=None)
number = st.floats(-50, 50)
strength = st.floats(0.01, 2)


@pytest.mark.parametrize(("name", "option"), [("dpo", "beta"), ("ipo", "tau"), ("hinge", "beta")])
@properties
@given(st.tuples(number, number, number, number), number, strength)
def test_a_shift_by_the_prompt_changes_nothing(
    name: str, option: str, numbers: tuple[float, ...], shift: float, value: float
) -> None:
    """c(x) added to the policy's chosen and rejected cancels in Δ."""
    l_w, l_l, r_w, r_l = numbers
    before = of(name, numbers, **{option: value})
    after = of(name, (l_w + shift, l_l + shift, r_w, r_l), **{option: value})
    assert after == pytest.approx(before, rel=1e-9, abs=1e-9)


@properties
@given(st.floats(-5, 5), st.floats(-5, -0.1), st.floats(0.1, 5), strength)
def test_a_shift_by_the_prompt_changes_minor_dpo(delta_w: float, delta_l: float, shift: float, beta: float) -> None:
    """Below the gate a shift up moves δ_w more than max(0, δ_l), so the loss falls: it is not invariant."""
    before = of("minor_dpo", (delta_w, delta_l, 0.0, 0.0), beta=beta)
    assert of("minor_dpo", (delta_w + shift, delta_l + shift, 0.0, 0.0), beta=beta) < before


@pytest.mark.parametrize("name", [name for name in PAIRS if LOSS_TABLE[name].needs_reference and name not in RAW])
@properties
@given(st.tuples(number, number, number, number), number, number)
def test_only_log_ratios_count(name: str, numbers: tuple[float, ...], chosen: float, rejected: float) -> None:
    """What is added to policy and reference alike, differently on each side, changes nothing (gates included)."""
    l_w, l_l, r_w, r_l = numbers
    before = of(name, numbers, **defaults(name))
    after = of(name, (l_w + chosen, l_l + rejected, r_w + chosen, r_l + rejected), **defaults(name))
    assert after == pytest.approx(before, rel=1e-9, abs=1e-9)


@properties
@given(st.tuples(number, number, number, number), strength)
def test_swapping_the_pair_flips_the_logit(numbers: tuple[float, ...], value: float) -> None:
    """softplus(z) − softplus(−z) = z for DPO; (Δ + t)² − (Δ − t)² = 4·Δ·t with t = 1/(2τ) for IPO."""
    l_w, l_l, r_w, r_l = numbers
    delta = (l_w - r_w) - (l_l - r_l)
    swapped = (l_l, l_w, r_l, r_w)
    difference = of("dpo", swapped, beta=value) - of("dpo", numbers, beta=value)
    assert difference == pytest.approx(value * delta, rel=1e-9, abs=1e-9)
    difference = of("ipo", swapped, tau=value) - of("ipo", numbers, tau=value)
    assert difference == pytest.approx(2 * delta / value, rel=1e-7, abs=1e-7)


@properties
@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(0.01, 1))
def test_minor_dpo_is_at_least_dpo(delta_w: float, delta_l: float, beta: float) -> None:
    """Equal where δ_l ≥ 0, above DPO below it, and there independent of δ_l: log(1 + e^(−β·δ_w))."""
    numbers = (delta_w, delta_l, 0.0, 0.0)
    minor, dpo = of("minor_dpo", numbers, beta=beta), of("dpo", numbers, beta=beta)
    if delta_l >= 0:
        assert minor == dpo
    else:
        assert minor >= dpo
        assert minor > dpo or beta * -delta_l < 1e-6
        assert minor == F.softplus(torch.tensor(-beta * delta_w, dtype=torch.float64)).item()


@properties
@given(st.floats(-1e5, 1e5), st.floats(-1e5, 0), st.floats(0.01, 5000))
def test_minor_dpo_never_pushes_the_rejected_below_the_reference(delta_w: float, delta_l: float, beta: float) -> None:
    """The rejected side's gradient is exactly 0 at δ_l ≤ 0; the chosen side's is −β·σ(−β·δ_w)."""
    policy, reference = pair(delta_w, delta_l), pair(0.0, 0.0)
    _, chosen, rejected = value_and_gradients(LOSSES["minor_dpo"], policy, reference, beta=beta)
    assert rejected.item() == 0.0
    expected = -beta * torch.sigmoid(torch.tensor(-beta * delta_w, dtype=torch.float64)).item()
    assert chosen.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_first_step_of_minor_dpo_moves_the_chosen_side_only(dtype: torch.dtype) -> None:
    """policy == reference is the tie δ_l = 0 exactly, in every dtype: maximum(δ, 0) would pass half a gradient."""
    policy, _ = random_pairs(dtype=dtype)
    _, chosen, rejected = value_and_gradients(LOSSES["minor_dpo"], policy, policy, beta=0.1)
    assert rejected.eq(0).all()
    torch.testing.assert_close(chosen, torch.full_like(chosen, -0.05))


@pytest.mark.parametrize("name", ["dpo", "hinge"])
@properties
@given(st.tuples(number, number, number, number), strength)
def test_chosen_is_raised_and_rejected_lowered(name: str, numbers: tuple[float, ...], beta: float) -> None:
    """Opposite gradients of at most β: the bound keeps a wrong pair from dominating a batch."""
    l_w, l_l, r_w, r_l = numbers
    _, chosen, rejected = value_and_gradients(LOSSES[name], pair(l_w, l_l), pair(r_w, r_l), beta=beta)
    assert -beta <= chosen.item() <= 0
    assert rejected.item() == -chosen.item()


def test_the_mean_is_taken_after_the_logistic() -> None:
    """−log σ is convex: the mean of the losses is above the loss of the mean logit, and the first is right."""
    policy, reference = pair([3.0, -3.0], [0.0, 0.0]), pair([0.0, 0.0], [0.0, 0.0])
    losses = LOSSES["dpo"](policy, reference, beta=1.0)
    # ln(1 + e^−3) = 0.04858735…, ln(1 + e^3) = 3.04858735…; the mean logit is 0, whose loss is ln 2
    assert losses.tolist() == pytest.approx([0.0485873515737, 3.0485873515737], rel=1e-11)
    assert losses.mean().item() == pytest.approx(1.5485873515737)
