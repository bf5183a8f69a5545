"""Golden values of the losses without a reference or per token, from their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from free_losses import FREE, three, value_and_all_gradients
from torch import Tensor

TPO = {"beta": 0.01, "alpha": 1.0, "gamma": 0.0, "length_normalized": False}
TPO_L = {"beta": 2.0, "alpha": 1.0, "gamma": 0.5, "length_normalized": True}

GOLDEN = [
    ("slic", {"delta": 1.0, "nll_weight": 0.1}, "A", 1.2, -0.1, 0.0),  # l_w − l_l = 3 is beyond 1; 0.1·12
    ("slic", {"delta": 1.0, "nll_weight": 0.1}, "B", 5.0, -1.1, 1.0),  # 1 + 2, and 0.1·20
    ("rso_hinge", {"gamma": 0.05}, "A", 0.85, -0.05, 0.05),  # 1 − 0.05·3
    ("rso_hinge", {"gamma": 0.05}, "B", 1.1, -0.05, 0.05),  # 1 + 0.05·2
    ("maximum_preference", {"beta": 0.1}, "A", -0.574442516812, -0.024445831, 0.024445831),  # z = 0.3
    ("maximum_preference", {"beta": 0.1}, "B", -0.450166002688, -0.024751657, 0.024751657),  # z = −0.2
    ("simpo", {"beta": 2.0, "gamma": 0.5}, "A", 0.97407698418, -0.15561483, 0.12449187),  # z = 0 − 0.5
    ("simpo", {"beta": 2.0, "gamma": 0.5}, "B", 0.69314718056, -0.0625, 0.083333333),  # z = 0.5 − 0.5
    ("length_normalized_dpo", {"beta": 5.0}, "A", 0.348444581005, -0.18388436, 0.14710749),  # 5·(0.125 + 0.05)
    ("length_normalized_dpo", {"beta": 5.0}, "B", 0.923026712686, -0.18833917, 0.25111889),  # 5·(−0.05 − 0.4/12)
    ("cpo", {"beta": 0.1, "alpha": 1.0}, "A", 2.05435524447, -0.16755575, 0.042555748),  # sp(−0.3) + 1.5
    ("cpo", {"beta": 0.1, "alpha": 1.0}, "B", 2.04813886938, -0.1174834, 0.0549834),  # sp(0.2) + 1.25
    ("orpo", {"odds_weight": 0.1}, "A", 1.56931471806, -0.13304511, 0.0064360846),  # 1.5 + 0.1·ln 2
    ("orpo", {"odds_weight": 0.1}, "B", 1.30395697016, -0.066152801, 0.0044730888),
    ("asft", {"odds_weight": 0.1}, "A", 1.67524824589, -0.1375, 0.0028721692),  # −1.1/8
    ("asft", {"odds_weight": 0.1}, "B", 1.40024824589, -0.06875, 0.0023934743),  # −1.1/16
    ("triple_po", TPO, "A", 1.87825967634, -0.0049250056, 0.0049250056),  # sp(−0.03) + 1.2
    ("triple_po", TPO, "B", 1.90319717973, -0.0050499983, 0.0050499983),  # sp(0.02) + 1.2
    ("triple_po", TPO_L, "A", 2.17407698418, -0.15561483, 0.12449187),  # SimPO + 1.2
    ("triple_po", TPO_L, "B", 1.89314718056, -0.0625, 0.083333333),
]


@pytest.mark.parametrize(("name", "options", "case", "value", "chosen", "rejected"), GOLDEN)
def test_golden_values(
    name: str, options: dict[str, float], case: str, value: float, chosen: float, rejected: float
) -> None:
    """Value and both derivatives on two pairs of answers with lengths, from the formulas.

    A: l = −12, −15 of 8 and 10 tokens, so l̄ = −1.5 on both sides; B: l = −20, −18 of 16 and 12 tokens, l̄ = −1.25 and
    −1.5. Logistic losses: softplus(−z), derivative by l_w −∂z/∂l_w / (1 + e^z). Odds at l̄ = −1.5: p = 0.22313,
    o = −1.5 − log(1 − p) = −1.24755; at A the two odds agree, so ORPO is 1.5 + 0.1·ln 2 with derivative
    −1/8 − 0.1·½/(8·(1 − p)). ASFT: 1.5·1.1 − 0.1·log(1 − p). The gold answer has nll 1.2. The numbers were also
    obtained by running the methods' published code, but for RSO, maximum preference, ASFT and CPO's second term.
    """
    policy, reference = three(case)
    extra = {"gold_nll": torch.tensor([1.2], dtype=torch.float64)} if name == "triple_po" else {}
    got = value_and_all_gradients(FREE[name], policy, reference, **extra, **options)
    expected = torch.tensor([[value], [chosen], [rejected]], dtype=torch.float64)
    torch.testing.assert_close(torch.stack(got), expected, rtol=1e-10, atol=5e-9)
    assert got[0].item() == pytest.approx(value, rel=1e-11, abs=1e-11)


def test_policy_equal_to_the_reference() -> None:
    """Case C of the per-token DPO: z = 0, so ln 2 and −β/(2·n_w), +β/(2·n_l)."""
    policy, reference = three("C")
    got = value_and_all_gradients(FREE["length_normalized_dpo"], policy, reference, beta=5.0)
    assert [x.item() for x in got] == pytest.approx([math.log(2), -5 / 16, 5 / 20], rel=1e-12)


def test_the_gold_answer_has_its_gradient() -> None:
    """∂/∂gold_nll = alpha: the third answer is trained on."""
    policy, reference = three("A")
    gold = torch.tensor([1.2], dtype=torch.float64, requires_grad=True)
    FREE["triple_po"](policy, reference, gold_nll=gold, **(TPO | {"alpha": 0.3})).sum().backward()
    assert gold.grad is not None
    assert gold.grad.item() == 0.3


@pytest.mark.parametrize(("name", "options"), [("cpo", {"beta": 0.1, "alpha": 1.0})])
def test_without_lengths_the_log_likelihood_counts_whole(name: str, options: dict[str, float]) -> None:
    """A surrogate is a mean already: sp(−0.3) + 12."""
    policy, _ = three("A")
    whole: Callable[..., Tensor] = FREE[name]
    got = whole(policy._replace(chosen_length=None, rejected_length=None), None, **options).item()
    assert got == pytest.approx(math.log1p(math.exp(-0.3)) + 12, rel=1e-12)
