"""Golden values of the losses of tokens and of own samples, and the identities between them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import pair, value_and_gradients
from token_cases import call, case, tensors
from torch import Tensor

from mmpo.losses import PairLogps, dpo
from mmpo.losses.outcome import oreo, oreo_value
from mmpo.losses.policy_gradient import p3o
from mmpo.losses.tokenwise import sparse_po, step_dpo, tdpo1, tdpo2

properties = settings(max_examples=40, deadline=None, derandomize=True, database=None)
number = st.floats(-20, 20)
CASES = {  # chosen and rejected of the policy, then of the reference: Δ = 1.5, −1.2 and 0
    "A": (-12.0, -15.0, -13.0, -14.5),
    "B": (-20.0, -18.0, -19.2, -18.4),
    "C": (-12.0, -15.0, -12.0, -15.0),
}


def row(*numbers: float) -> Tensor:
    """[1, T] in float64."""
    return torch.tensor([numbers], dtype=torch.float64)


def one(value: float) -> Tensor:
    """[1] in float64."""
    return torch.tensor([value], dtype=torch.float64)


TDPO = [  # KL_w = 0.3, KL_l = 0.7, beta 0.1; z = 0.1·(Δ − 0.4), and with alpha 0.5: 0.1·(Δ − 0.2)
    (tdpo1, {}, "A", 0.639658918622, -0.04725277, 0.04725277),
    (tdpo1, {}, "B", 0.776343773041, -0.053991488, 0.053991488),
    (tdpo1, {}, "C", math.log1p(math.exp(0.04)), -0.1 / (1 + math.exp(-0.04)), 0.1 / (1 + math.exp(-0.04))),
    (tdpo2, {"alpha": 0.5}, "A", 0.630258194682, -0.046754569, 0.046754569),
    (tdpo2, {"alpha": 0.5}, "B", 0.765595182337, -0.053494295, 0.053494295),
    (tdpo2, {"alpha": 0.5}, "C", math.log1p(math.exp(0.02)), -0.1 / (1 + math.exp(-0.02)), 0.1 / (1 + math.exp(-0.02))),
]


@pytest.mark.parametrize(("loss", "options", "case_name", "value", "chosen", "rejected"), TDPO)
def test_golden_values_of_tdpo(
    loss: Any, options: dict[str, float], case_name: str, value: float, chosen: float, rejected: float
) -> None:
    """softplus(−z) and ∓β·σ(−z). A: z = 0.11 and 0.13; B: −0.16 and −0.14; C: −0.04 and −0.02."""
    l_w, l_l, r_w, r_l = CASES[case_name]
    kls = {"chosen_kl": one(0.3), "rejected_kl": one(0.7)}
    got = value_and_gradients(loss, pair(l_w, l_l), pair(r_w, r_l), beta=0.1, **kls, **options)
    assert got[0].item() == pytest.approx(value, rel=1e-11)
    assert [x.item() for x in got[1:]] == pytest.approx([chosen, rejected], rel=1e-7)


@pytest.mark.parametrize(
    ("loss", "options", "by_chosen", "by_rejected"),
    [(tdpo1, {}, -0.04725277, 0.04725277), (tdpo2, {"alpha": 0.5}, 0.0, 0.5 * 0.046754569)],
)
def test_gradients_through_the_divergences(
    loss: Any, options: dict[str, float], by_chosen: float, by_rejected: float
) -> None:
    """∂/∂KL_l = β·α·σ(−z); ∂/∂KL_w is its negative in the first form and stopped in the second. Case A."""
    l_w, l_l, r_w, r_l = CASES["A"]
    kls = [one(0.3).requires_grad_(), one(0.7).requires_grad_()]
    value = loss(pair(l_w, l_l), pair(r_w, r_l), chosen_kl=kls[0], rejected_kl=kls[1], beta=0.1, **options)
    found = torch.autograd.grad(value.sum(), kls, allow_unused=True, materialize_grads=True)
    assert [x.item() for x in found] == pytest.approx([by_chosen, by_rejected], rel=1e-7)


def test_tdpo_without_divergences_is_dpo() -> None:
    for name in ("tdpo1", "tdpo2"):
        found = tensors(name, case(name))
        policy, reference, _ = case(name)
        expected = dpo(policy, reference, beta=0.1)
        none = {key: torch.zeros_like(found[key]) for key in ("chosen_kl", "rejected_kl")}
        torch.testing.assert_close(call(name, {**found, **none}), expected, rtol=0, atol=0)
        if name == "tdpo2":
            torch.testing.assert_close(call(name, found, alpha=0.0), expected, rtol=0, atol=0)
            torch.testing.assert_close(call("tdpo2", found, alpha=1.0), call("tdpo1", found), rtol=0, atol=0)


@properties
@given(st.tuples(number, number, number, number), number)
def test_tdpo_does_not_change_with_a_shift_by_the_prompt(numbers: tuple[float, ...], shift: float) -> None:
    l_w, l_l, r_w, r_l = numbers
    kls = {"chosen_kl": one(0.3), "rejected_kl": one(0.7)}
    before = tdpo2(pair(l_w, l_l), pair(r_w, r_l), beta=0.1, alpha=0.5, **kls).item()
    after = tdpo2(pair(l_w + shift, l_l + shift), pair(r_w, r_l), beta=0.1, alpha=0.5, **kls).item()
    assert after == pytest.approx(before, rel=1e-9, abs=1e-9)


@properties
@given(st.tuples(number, number, number, number), st.floats(0, 5), st.floats(0, 5))
def test_swapping_a_pair_flips_the_logit_of_tdpo1(numbers: tuple[float, ...], kl_w: float, kl_l: float) -> None:
    """softplus(z) − softplus(−z) = z, the divergences swapped along."""
    l_w, l_l, r_w, r_l = numbers
    first = tdpo1(pair(l_w, l_l), pair(r_w, r_l), chosen_kl=one(kl_w), rejected_kl=one(kl_l), beta=0.1)
    second = tdpo1(pair(l_l, l_w), pair(r_l, r_w), chosen_kl=one(kl_l), rejected_kl=one(kl_w), beta=0.1)
    logit = 0.1 * ((l_w - r_w) - (l_l - r_l) - (kl_l - kl_w))
    assert (second - first).item() == pytest.approx(logit, rel=1e-9, abs=1e-9)


SPARSE = {  # δ_w sums to 1, δ_l to −0.5; KL_w to 0.3, KL_l to 0.7
    "policy": PairLogps(row(0.3, 0.2, 0.5) - 4, row(-0.1, 0.1, -0.5) - 5),
    "reference": PairLogps(row(0.0, 0.0, 0.0) - 4, row(0.0, 0.0, 0.0) - 5),
    "chosen_mask": torch.ones(1, 3, dtype=torch.bool),
    "rejected_mask": torch.ones(1, 3, dtype=torch.bool),
    "chosen_kl": row(0.1, 0.1, 0.1),
    "rejected_kl": row(0.2, 0.3, 0.2),
}


def sparse(reward_weight: Tensor, kl_weight: Tensor, l1: float) -> float:
    """SparsePO on the tensors above, the same weights on both sides."""
    weights = {f"{side}_reward_weight": reward_weight for side in ("chosen", "rejected")}
    weights |= {f"{side}_kl_weight": kl_weight for side in ("chosen", "rejected")}
    given_tensors = {key: value for key, value in SPARSE.items() if key not in ("policy", "reference")}
    sides = SPARSE["policy"], SPARSE["reference"]
    return sparse_po(*sides, **given_tensors, **weights, beta=0.1, l1_reward=l1, l1_kl=l1).item()


def test_golden_values_of_sparse_po() -> None:
    """All weights 1: u = 1.5, d = 0.4, z = 0.11. m_u = (1, 0, ½), m_d = (0, 1, 0), λ = 1e-3 for both:
    u = (0.3 + 0.25) − (−0.1 − 0.25) = 0.9, d = 0.3 − 0.1 = 0.2, z = 0.07 and the norms are 3 and 2.
    m_u = 1 and m_d = 0: z = 0.15, which is DPO."""
    ones, zeros = row(1, 1, 1), row(0, 0, 0)
    assert sparse(ones, ones, 0.0) == pytest.approx(0.639658918622, rel=1e-11)
    assert sparse(row(1, 0, 0.5), row(0, 1, 0), 1e-3) == pytest.approx(0.663759555549, rel=1e-11)
    assert sparse(ones, zeros, 0.0) == pytest.approx(0.62095704779, rel=1e-11)


@pytest.mark.parametrize(("case_name", "value"), [("A", 0.437487950486), ("B", 0.961674874396), ("C", math.log(2))])
def test_golden_values_of_step_dpo(case_name: str, value: float) -> None:
    """softplus(−0.4·Δ): 0.6, −0.48 and 0. The sums stand on two tokens of the step; a third is the verified prefix."""
    l_w, l_l, r_w, r_l = CASES[case_name]
    policy = PairLogps(row(-7.0, l_w + 2, -2.0), row(-3.0, l_l + 4, -4.0))
    reference = PairLogps(row(-5.0, r_w + 1, -1.0), row(-8.0, r_l + 3, -3.0))
    step = torch.tensor([[False, True, True]])
    got = step_dpo(policy, reference, chosen_mask=step, rejected_mask=step, beta=0.4)
    assert got.item() == pytest.approx(value, rel=1e-11)


def test_step_dpo_on_all_tokens_is_dpo_of_their_sums() -> None:
    policy, reference, extra = case("step_dpo")
    assert isinstance(policy, PairLogps)
    assert isinstance(reference, PairLogps)
    masks = {key: torch.ones_like(mask) for key, mask in extra.items()}
    sums = [PairLogps(*(side.sum(-1) for side in x[:2] if side is not None)) for x in (policy, reference)]
    torch.testing.assert_close(step_dpo(policy, reference, **masks, beta=0.4), dpo(*sums, beta=0.4))
    none = {key: torch.zeros_like(mask) for key, mask in extra.items()}
    assert step_dpo(policy, reference, **none, beta=0.4).tolist() == pytest.approx([math.log(2)] * 5)


OREO = {  # δ = (0.2, −0.5, 0.1); sums from each token on: −0.2, −0.4, 0.1
    "mask": torch.ones(1, 3, dtype=torch.bool),
    "values": row(0.4, 0.5, 0.8),
}
POLICY, REFERENCE = row(-1.0, -2.0, -0.5), row(-1.2, -1.5, -0.6)


@pytest.mark.parametrize(("reward", "value"), [(1.0, 0.222729666667), (0.0, 0.346063)])
def test_golden_values_of_oreo(reward: float, value: float) -> None:
    """beta 0.03, R = 1: residuals 0.4 − 1 − 0.006, 0.5 − 1 − 0.012, 0.8 − 1 + 0.003; the mean of their squares."""
    given_tensors = {**OREO, "reward": one(reward), "beta": 0.03}
    assert oreo(POLICY, REFERENCE, **given_tensors, alpha=0.0).item() == pytest.approx(value, rel=1e-10)
    assert oreo_value(POLICY, REFERENCE, **given_tensors).item() == pytest.approx(value, rel=1e-10)
    with_kl = oreo(POLICY, REFERENCE, **given_tensors, kl=row(0.3, 0.6, 0.9), alpha=0.01)
    assert with_kl.item() == pytest.approx(value + 0.01 * 0.6, rel=1e-10)


def test_gradients_of_oreo() -> None:
    """Policy: 2·β·residual_t/3 and nothing through later tokens; value: 2·residual_t/3. R = 1."""
    residuals = torch.tensor([[-0.606, -0.512, -0.197]], dtype=torch.float64)
    policy, values = POLICY.clone().requires_grad_(), OREO["values"].clone().requires_grad_()
    options = {"mask": OREO["mask"], "reward": one(1.0), "beta": 0.03}
    loss = oreo(policy, REFERENCE, values=values, alpha=0.0, **options)
    by_policy, by_values = torch.autograd.grad(loss.sum(), (policy, values), allow_unused=True)
    torch.testing.assert_close(by_policy, 2 * 0.03 * residuals / 3)
    assert by_values is None or not by_values.any()
    loss = oreo_value(policy, REFERENCE, values=values, **options)
    by_policy, by_values = torch.autograd.grad(loss.sum(), (policy, values), allow_unused=True)
    assert by_policy is None or not by_policy.any()
    torch.testing.assert_close(by_values, 2 * residuals / 3)


def test_oreo_at_the_reference_fits_the_reward_and_an_empty_trajectory_costs_nothing() -> None:
    options = {**OREO, "reward": one(1.0), "beta": 0.03}
    expected = (0.36 + 0.25 + 0.04) / 3
    assert oreo_value(POLICY, POLICY, **options).item() == pytest.approx(expected)
    options["mask"] = torch.zeros(1, 3, dtype=torch.bool)
    assert oreo(POLICY, REFERENCE, **options, alpha=0.0).item() == 0
    with pytest.raises(ValueError, match=r"^kl: expected .*alpha 0.*got None"):
        oreo(POLICY, REFERENCE, **options, alpha=0.01)


# Two samples with log π = −12 and −14, rewards 1.2 and 0.3
SAMPLES = {"chosen_reward": one(1.2), "rejected_reward": one(0.3), "beta": 0.0, "clipping": "none", "clip": 0.2}
OLD = {"chosen_behavior": one(-11.6), "rejected_behavior": one(-14.3)}


@pytest.mark.parametrize(
    ("options", "value", "gradient"),
    [
        ({}, -0.9, 0.45),  # on-policy: −½·0.9·2
        (OLD, -0.814353676232, 0.407176838116),  # w = e^(−0.4 + 0.3) = e^−0.1 = 0.904837418
        ({**OLD, "clipping": "joint"}, -0.814353676232, 0.407176838116),  # 0.90 lies inside [0.8, 1.2]
        ({**OLD, "clipping": "joint", "clip": 0.05}, -0.855, 0.4275),  # w = 0.95
        ({**OLD, "clipping": "separate"}, -0.864, 0.432),  # e^−0.4 and e^0.3 are clamped: w = 0.8·1.2
    ],
)
def test_golden_values_of_p3o(options: dict[str, Any], value: float, gradient: float) -> None:
    """−½·w·(r_1 − r_2)·(l_1 − l_2) and its derivatives ∓½·w·(r_1 − r_2); the reference does not count at beta 0."""
    arguments = {**SAMPLES, **options}
    got = value_and_gradients(p3o, pair(-12.0, -14.0), pair(-3.0, -4.0), **arguments)
    assert got[0].item() == pytest.approx(value, rel=1e-11)
    assert [x.item() for x in got[1:]] == pytest.approx([-gradient, gradient], rel=1e-11)


def test_p3o_wants_the_old_policys_log_likelihoods_of_both_samples_or_of_neither() -> None:
    for key in OLD:
        (other,) = OLD.keys() - {key}
        with pytest.raises(ValueError, match=rf"^{other}: expected .*got None"):
            p3o(pair(-12.0, -14.0), pair(-3.0, -4.0), **SAMPLES, **{key: OLD[key]})


def test_the_divergence_of_p3o_enters_the_rewards() -> None:
    """Case A, beta 0.1: r_1 − 0.1·1 − r_2 − 0.1·0.5 = 0.75 in place of 0.9, so ∓0.375."""
    l_w, l_l, r_w, r_l = CASES["A"]
    got = value_and_gradients(p3o, pair(l_w, l_l), pair(r_w, r_l), **{**SAMPLES, "beta": 0.1})
    assert [x.item() for x in got] == pytest.approx([-0.5 * 0.75 * 3, -0.375, 0.375], rel=1e-11)


@properties
@given(st.tuples(number, number, number, number), st.tuples(number, number, number))
def test_p3o_knows_no_order_and_no_offset(numbers: tuple[float, ...], rewards: tuple[float, ...]) -> None:
    """Swapping the samples changes nothing; nor does a constant on both rewards."""
    l_w, l_l, r_w, r_l = numbers
    first, second, shift = rewards

    def value(swapped: bool, offset: float) -> float:
        sides = [(l_w, r_w, first, -10.0), (l_l, r_l, second, -9.0)]
        (l_1, r_1, a, old_1), (l_2, r_2, b, old_2) = reversed(sides) if swapped else sides
        given_rewards = {"chosen_reward": one(a + offset), "rejected_reward": one(b + offset)}
        old = {"chosen_behavior": one(old_1), "rejected_behavior": one(old_2)}
        options = {"beta": 0.1, "clipping": "separate", "clip": 0.2}
        return p3o(pair(l_1, l_2), pair(r_1, r_2), **given_rewards, **old, **options).item()

    assert value(True, 0.0) == pytest.approx(value(False, 0.0), rel=1e-9, abs=1e-9)
    assert value(False, shift) == pytest.approx(value(False, 0.0), rel=1e-7, abs=1e-7)
