"""What stands beside the losses: RTO's reward, Curry-DPO's order, OFS-DPO's unsettled loss."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import pair, random_pairs, value_and_gradients

from mmpo.loss_table import LOSS_TABLE
from mmpo.losses import LOSSES, dpo
from mmpo.preference_extras.curriculum import easy_to_hard
from mmpo.preference_extras.ofs_dpo import UNRESOLVED_SIGNS, ofs_dpo
from mmpo.preference_extras.rto_reward import rto_reward

REFERENCE = torch.tensor([[-1.2, -1.5, -0.6]], dtype=torch.float64)
RTO = {  # δ = (0.2, −0.5, 0.1), δ^dpo = (0.8, −2, 0.1)
    "policy": torch.tensor([[-1.0, -2.0, -0.5]], dtype=torch.float64),
    "reference": REFERENCE,
    "dpo_policy": REFERENCE + torch.tensor([[0.8, -2.0, 0.1]], dtype=torch.float64),
    "mask": torch.ones(1, 3, dtype=torch.bool),
    "reward": torch.tensor([0.8], dtype=torch.float64),
}


def rto(**changes: object) -> torch.Tensor:
    """RTO's reward of the three tokens above."""
    arguments = {**RTO, **changes}
    return rto_reward(arguments.pop("policy"), arguments.pop("reference"), **arguments)  # type: ignore[arg-type]


def test_golden_values_of_rto() -> None:
    """−0.002 + 0.04; 0.005 − 0.05 (−0.1 before the clip); −0.001 + 0.005 + 0.8."""
    assert rto()[0].tolist() == pytest.approx([0.038, -0.045, 0.804], rel=1e-12)
    assert rto(clip=None)[0].tolist() == pytest.approx([0.038, -0.095, 0.804], rel=1e-12)
    assert rto(reward=torch.tensor([30.0]))[0, 2].item() == pytest.approx(10.004), "the reward stops at 10"


@pytest.mark.parametrize("mask", [[True, True, False], [False, True, False], [False, False, False]])
def test_rto_gives_the_reward_to_the_last_token_of_the_mask(mask: list[bool]) -> None:
    """Padding gets 0 whatever stands in it, also left of the response."""
    inside = torch.tensor([mask])
    spoiled = {key: torch.where(inside, RTO[key], float("nan")) for key in ("policy", "reference", "dpo_policy")}
    got = rto(**spoiled, mask=inside)[0].tolist()
    plain = [0.038, -0.045, 0.004]
    last = max((i for i, on in enumerate(mask) if on), default=None)
    expected = [plain[i] * on + 0.8 * (i == last) for i, on in enumerate(mask)]
    assert got == pytest.approx(expected, abs=1e-12)


def test_rto_has_no_gradient_and_names_what_is_wrong() -> None:
    assert not rto(policy=RTO["policy"].clone().requires_grad_()).requires_grad
    for wrong in ({"dpo_policy": torch.zeros(1, 2)}, {"reward": torch.zeros(1, 1)}, {"mask": torch.ones(1, 3)}):
        with pytest.raises(ValueError, match=rf"^{next(iter(wrong))}: expected"):
            rto(**wrong)
    for option, value in (("beta", 0.0), ("kl_weight", -1.0), ("clip", 0.0), ("reward_clip", float("nan"))):
        with pytest.raises(ValueError, match=rf"^{option}: expected .*got {value}"):
            rto(**{option: value})


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, 3.5]), max_size=12))
def test_the_widest_gap_comes_first_and_equal_gaps_keep_their_order(gaps: list[float]) -> None:
    order = easy_to_hard(gaps)
    assert sorted(order) == list(range(len(gaps)))
    for before, after in itertools.pairwise(order):
        assert gaps[before] > gaps[after] or (gaps[before] == gaps[after] and before < after)


def test_ratings_that_are_no_numbers_have_no_place_in_an_order() -> None:
    with pytest.raises(ValueError, match=r"gaps\[1\]: expected a finite number, got nan"):
        easy_to_hard([1.0, float("nan")])


def test_golden_values_of_ofs_dpo() -> None:
    """Δ_fast − Δ_slow = 0.3 at beta 0.1: softplus(−0.03) = 0.678259676341 beside DPO's 0.62095704779 (case A)."""
    fast, slow, reference = pair(-12.0, -15.0), pair(-12.1, -14.8), pair(-13.0, -14.5)
    got = {
        sign: ofs_dpo(fast, reference, slow=slow, beta=0.1, weight=1.0, unresolved_sign=sign).item()
        for sign in UNRESOLVED_SIGNS
    }
    assert got["fast_above_slow"] == pytest.approx(0.62095704779 + 0.678259676341, rel=1e-11)
    assert got["fast_below_slow"] == pytest.approx(0.62095704779 + 0.678259676341 + 0.03, rel=1e-11)


def test_ofs_dpo_has_no_default_for_what_is_not_known_and_is_not_in_the_table() -> None:
    policy, reference = random_pairs()
    options = {"slow": reference, "beta": 0.1}
    with pytest.raises(TypeError, match="unresolved_sign"):
        ofs_dpo(policy, reference, **options, weight=1.0)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"unresolved_sign: expected one of fast_above_slow.* not known"):
        ofs_dpo(policy, reference, **options, weight=1.0, unresolved_sign="papers")
    for sign in UNRESOLVED_SIGNS:
        without = ofs_dpo(policy, reference, **options, weight=0.0, unresolved_sign=sign)
        assert torch.equal(without, dpo(policy, reference, beta=0.1))
        start = ofs_dpo(policy, policy, slow=policy, beta=0.1, weight=0.5, unresolved_sign=sign)
        assert start.tolist() == pytest.approx([1.5 * math.log(2)] * 8)
    assert not {"ofs_dpo", "rto", "rto_reward", "curriculum"} & (LOSS_TABLE.keys() | LOSSES.keys())


def test_neither_slow_learner_nor_reference_is_trained_by_ofs_dpo() -> None:
    policy, reference = random_pairs()
    moving = [side.clone().requires_grad_() for side in (*reference[:2], *reference[:2])]
    models = pair(moving[0], moving[1])._replace(chosen=moving[0], rejected=moving[1])
    slow = models._replace(chosen=moving[2], rejected=moving[3])
    options = {"slow": slow, "beta": 0.1, "weight": 1.0, "unresolved_sign": "fast_above_slow"}
    _, chosen, rejected = value_and_gradients(ofs_dpo, policy, models, **options)
    assert chosen.all()
    assert rejected.all()
    leaf = policy.chosen.clone().requires_grad_()
    ofs_dpo(policy._replace(chosen=leaf), models, **options).sum().backward()  # type: ignore[arg-type]
    assert all(side.grad is None for side in moving)
