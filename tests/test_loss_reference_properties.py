"""Properties of the pair losses on log-ratios: which of them are one another, and what they are invariant to."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import pair, random_pairs, value_and_gradients
from loss_reference_cases import ENTRIES, LOSS, extras_of, options_of
from torch import Tensor

from mmpo.losses import PairLogps
from mmpo.losses.divergences import DIVERGENCES
from mmpo.losses.pairwise import dpo, ipo
from mmpo.losses.sides import difference

properties = settings(max_examples=60, deadline=None, derandomize=True, database=None)
number = st.floats(-30, 30)
strength = st.floats(0.01, 2)
noise = st.floats(0.001, 0.45)


def at(name: str, chosen: float, rejected: float, **options: Any) -> float:
    """A loss at two log-ratios."""
    return LOSS[name](pair(chosen, rejected), pair(0.0, 0.0), **options).item()


def logistic(z: float) -> float:
    """log(1 + e^(−z)) without overflow."""
    return max(-z, 0.0) + math.log1p(math.exp(-abs(z)))


def same(a: Tensor, b: Tensor) -> None:
    """Equal to 12 digits."""
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@properties
@given(number, number, strength, noise)
def test_label_noise(chosen: float, rejected: float, beta: float, epsilon: float) -> None:
    """conservative = sp(−z) + ε·z; robust = sp(−z) − ε·z/(1−2ε), whose mean over swapped labels is DPO's sp(−z)."""
    z = beta * (chosen - rejected)
    options = {"beta": beta, "epsilon": epsilon}
    assert at("conservative_dpo", chosen, rejected, **options) == pytest.approx(logistic(z) + epsilon * z, abs=1e-9)
    straight, swapped = at("robust_dpo", chosen, rejected, **options), at("robust_dpo", rejected, chosen, **options)
    assert straight == pytest.approx(logistic(z) - epsilon * z / (1 - 2 * epsilon), rel=1e-9, abs=1e-9)
    assert (1 - epsilon) * straight + epsilon * swapped == pytest.approx(logistic(z), rel=1e-9, abs=1e-9)


@properties
@given(st.floats(-3, 3), strength, noise)
def test_exo_has_its_slope_and_least_value(delta: float, beta: float, epsilon: float) -> None:
    """∂/∂z = σ(z)·σ(−z)·(z − log((1−ε)/ε)); 0 with gradient 0 at that z, where the conservative loss is least too."""
    options = {"beta": beta, "epsilon": epsilon}
    z, goal = beta * delta, math.log((1 - epsilon) / epsilon)
    _, slope, _ = value_and_gradients(LOSS["exo"], pair(delta, 0.0), pair(0.0, 0.0), **options)
    sigma = 1 / (1 + math.exp(-z))
    assert slope.item() == pytest.approx(beta * sigma * (1 - sigma) * (z - goal), rel=1e-8, abs=1e-12)
    for name, least in (("exo", 0.0), ("conservative_dpo", None)):
        value, slope, _ = value_and_gradients(LOSS[name], pair(goal / beta, 0.0), pair(0.0, 0.0), **options)
        entropy = -epsilon * math.log(epsilon) - (1 - epsilon) * math.log1p(-epsilon)
        assert value.item() == pytest.approx(entropy if least is None else least, abs=1e-12)
        assert slope.item() == pytest.approx(0.0, abs=1e-12)


def test_exo_leaves_pairs_alone_that_are_badly_wrong() -> None:
    """Far on the wrong side the logistic loss pulls with β, this one hardly at all."""
    policy, reference = pair(-300.0, 300.0), pair(0.0, 0.0)
    _, slope, _ = value_and_gradients(LOSS["exo"], policy, reference, beta=0.1, epsilon=0.001)
    assert abs(slope.item()) < 1e-20


DPO_AGAIN: list[tuple[str, dict[str, Any]]] = [
    ("conservative_dpo", {"epsilon": 0.0}),
    ("robust_dpo", {"epsilon": 0.0}),
    ("f_dpo", {"divergence": "reverse_kl", "alpha": 0.5}),
    ("dpop", {"lam": 0.0}),
    ("sft_dpo", {"gamma": 0.0}),
    ("rpo", {"eta": 0.0}),
    ("apo_momentum", {"alpha": 0.0}),
    ("modpo", {"link": "logistic", "weights": torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)}),
    ("mrpo", {"alphas": torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)}),
    ("xpo", {"alpha": 0.0}),
    ("hypo", {"lam": 0.0}),
    ("rationale_dpo", {"gamma": 0.0}),
]


@pytest.mark.parametrize(("name", "options"), DPO_AGAIN)
def test_without_its_own_term_a_loss_is_dpo(name: str, options: dict[str, Any]) -> None:
    """ε, λ, γ, η or α of 0, or all the weight on the first objective or reference."""
    policy, reference = random_pairs()
    given = {**extras_of(name, 8), **options}
    same(LOSS[name](policy, reference, beta=0.7, **given), dpo(policy, reference, beta=0.7))


def test_special_cases() -> None:
    """Equal strengths, δ_w ≥ 0, references that agree, α → 0 and 1, a clip beyond every ratio, no χ² in effect."""
    policy, reference = random_pairs()
    expected = dpo(policy, reference, beta=0.7)
    same(LOSS["flex_dpo"](policy, reference, beta_chosen=0.7, beta_rejected=0.7), expected)
    above = reference._replace(chosen=policy.chosen - 0.1)
    same(LOSS["dpop"](policy, above, beta=0.7, lam=50.0), dpo(policy, above, beta=0.7))
    agree = {"other_chosen": reference.chosen[:, None], "other_rejected": reference.rejected[:, None]}
    shares = torch.tensor([0.4, 0.6], dtype=torch.float64)
    same(LOSS["mrpo"](policy, reference, beta=0.7, alphas=shares, **agree), expected)
    forward = {"divergence": "forward_kl", "alpha": 0.5}
    one, small = {"divergence": "alpha", "alpha": 1.0}, {"divergence": "alpha", "alpha": 1e-9}
    same(LOSS["f_dpo"](policy, reference, beta=0.7, **forward), LOSS["f_dpo"](policy, reference, beta=0.7, **one))
    got = LOSS["f_dpo"](policy, reference, beta=0.7, **small)
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7)
    near = PairLogps(reference.chosen + 0.01, reference.rejected - 0.02)
    same(LOSS["clipped_dpo"](near, reference, beta=0.7, clip=0.1), dpo(near, reference, beta=0.7))


def test_flex_without_the_rejected_side() -> None:
    """β_l = 0: −log σ(β·δ_w), and no gradient on the rejected side."""
    policy, reference = random_pairs()
    options = {"beta_chosen": 0.7, "beta_rejected": 0.0}
    value, _, rejected = value_and_gradients(LOSS["flex_dpo"], policy, reference, **options)
    same(value, F.softplus(-0.7 * (policy.chosen - reference.chosen)))
    assert not rejected.any()


@properties
@given(st.floats(-8, 8), st.floats(-8, 8), st.floats(0.01, 0.5), st.floats(0, 2))
def test_chi_po_is_the_chi_squared_score_inside_its_clip(
    chosen: float, rejected: float, beta: float, gamma: float
) -> None:
    """z = β·(e^δ_w + γ·δ_w − e^δ_l − γ·δ_l) inside ±clip; beyond it the loss is that of the clip, without gradient."""
    z = beta * (math.exp(chosen) + gamma * chosen - math.exp(rejected) - gamma * rejected)
    policy, reference = pair(chosen, rejected), pair(0.0, 0.0)
    value, *slopes = value_and_gradients(LOSS["chi_po"], policy, reference, beta=beta, gamma=gamma, clip=2.0)
    assert value.item() == pytest.approx(logistic(max(-2.0, min(2.0, z))), rel=1e-9, abs=1e-9)
    if abs(z) > 2.001:
        assert all(slope.item() == 0 for slope in slopes)


def test_squares_of_self_play() -> None:
    """GPO is SPPO at win rates ½ + s; SRPO without revision is β² · IPO(τ = β/2), so least at β·Δ = 1."""
    policy, reference = random_pairs()
    scores = extras_of("gpo", 8)
    halved = {key: 0.5 * score for key, score in scores.items()}
    rates = {f"{key.removesuffix('_score')}_win_rate": 0.5 + score for key, score in halved.items()}
    same(LOSS["gpo"](policy, reference, beta=0.3, **halved), LOSS["sppo"](policy, reference, beta=0.3, **rates))
    none = torch.zeros(8, 2, 2)
    got = LOSS["srpo"](policy, reference, beta=0.3, alpha=0.0, revision=none, reference_revision=none)
    same(got, 0.09 * ipo(policy, reference, tau=0.15))


@pytest.mark.parametrize(("which", "value"), [((1.0, -0.5), 498501.25), ((-0.8, 0.4), 501200.8), ((0.0, 0.0), 5e5)])
def test_sppo_with_certain_wins_is_half_of_the_hard_form(which: tuple[float, float], value: float) -> None:
    """(δ_w − 500)² + (δ_l + 500)² at β = 0.001, which well-known code does not halve."""
    rates = {"chosen_win_rate": torch.ones(1), "rejected_win_rate": torch.zeros(1)}
    assert 2 * at("sppo", *which, beta=0.001, **rates) == pytest.approx(value, rel=1e-12)


FOLLOWING = ("other_", "previous_")
"""Further references: what is added to the reference of a side is added to them too."""
SHIFTED = [  # changed by a constant of the prompt on both sides of the policy
    *("chi_po", "f_dpo", "dpop", "flex_dpo", "sft_dpo", "rpo", "apo_zero", "apo_down", "clipped_dpo", "sppo", "gpo"),
    "hpo",
]


@pytest.mark.parametrize("name", ENTRIES)
def test_a_shift_by_the_prompt(name: str) -> None:
    """c(x) added to the policy's chosen and rejected cancels in Δ, and only there."""
    policy, reference = random_pairs()
    near = PairLogps(reference.chosen - 0.05, reference.rejected + 0.03, *policy[2:])
    given = {**options_of(name), **extras_of(name, 8)}
    before = LOSS[name](near, reference, **given)
    after = LOSS[name](near._replace(chosen=near.chosen + 1.0, rejected=near.rejected + 1.0), reference, **given)
    assert torch.allclose(before, after, rtol=1e-9, atol=0) == (name not in SHIFTED)


@pytest.mark.parametrize("name", ENTRIES)
def test_only_log_ratios_count_unless_a_log_likelihood_is_added(name: str) -> None:
    """What policy and references have alike on a side changes only the losses with raw log-likelihoods."""
    policy, reference = random_pairs()
    extras = extras_of(name, 8)
    moved = {
        key: x + (0.7 if "chosen" in key else -0.4) if key.startswith(FOLLOWING) else x for key, x in extras.items()
    }
    shifted = [x._replace(chosen=x.chosen + 0.7, rejected=x.rejected - 0.4) for x in (policy, reference)]
    before = LOSS[name](policy, reference, **options_of(name), **extras)
    after = LOSS[name](*shifted, **options_of(name), **moved)
    assert torch.allclose(before, after, rtol=1e-9, atol=1e-12) == (name not in ("sft_dpo", "rpo", "hpo"))


ODD = ("chi_po", "f_dpo", "clipped_dpo", "mrpo", "apo_momentum", "modpo")
"""Losses −log σ(z) whose z changes sign when the pair is swapped."""


@pytest.mark.parametrize("name", [name for name in ENTRIES if name not in ("sppo", "gpo")])
def test_swapping_the_pair(name: str) -> None:
    """σ(z) + σ(−z) = 1 where the swap flips the logit, and not elsewhere (modpo's margins flip with it)."""
    policy, reference = random_pairs()
    extras = extras_of(name, 8)
    back = {"chosen": "rejected", "rejected": "chosen"}
    flipped = {
        key: extras["_".join(back.get(word, word) for word in key.split("_"))] * (-1 if key == "margins" else 1)
        for key in extras
    }
    straight = LOSS[name](policy, reference, **options_of(name), **extras)
    turned = [PairLogps(x.rejected, x.chosen, x.rejected_length, x.chosen_length) for x in (policy, reference)]
    total = torch.exp(-straight) + torch.exp(-LOSS[name](*turned, **options_of(name), **flipped))
    assert torch.allclose(total, torch.ones(8).double(), rtol=1e-9) == (name in ODD)


@properties
@given(number, number, strength)
def test_swapping_apo_zero_and_exo(chosen: float, rejected: float, beta: float) -> None:
    """Both orders of apo_zero sum to 2, those of exo differ by tanh(z/2)·log((1−ε)/ε), of robust DPO by z/(1−2ε)."""
    z = beta * (chosen - rejected)
    both = at("apo_zero", chosen, rejected, beta=beta) + at("apo_zero", rejected, chosen, beta=beta)
    assert both == pytest.approx(2.0, rel=1e-12)
    options = {"beta": beta, "epsilon": 0.1}
    gap = at("exo", rejected, chosen, **options) - at("exo", chosen, rejected, **options)
    assert gap == pytest.approx(math.tanh(z / 2) * math.log(9), rel=1e-9, abs=1e-9)
    gap = at("robust_dpo", rejected, chosen, **options) - at("robust_dpo", chosen, rejected, **options)
    assert gap == pytest.approx(z / 0.8, rel=1e-9, abs=1e-9)


UP_AND_DOWN = [
    *("robust_dpo", "chi_po", "dpop", "flex_dpo", "sft_dpo", "rpo", "apo_zero", "clipped_dpo", "modpo", "mrpo"),
    *("apo_momentum", "xpo", "hypo", "hpo", "rationale_dpo"),
]


@pytest.mark.parametrize("name", UP_AND_DOWN)
def test_chosen_is_raised_and_rejected_lowered(name: str) -> None:
    """Everywhere. The others stop or turn back: beyond their target (exo, conservative, sppo, gpo, srpo), by design."""
    policy, reference = random_pairs(64)
    given = {**options_of(name), **extras_of(name, 64)}
    _, chosen, rejected = value_and_gradients(LOSS[name], policy, reference, **given)
    assert (chosen <= 0).all()
    assert (rejected >= 0).all()


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_every_divergence_raises_the_chosen(divergence: str) -> None:
    """f' is increasing; the bounded slope of js is at most that of DPO."""
    policy, reference = random_pairs(64)
    given = {"beta": 0.3, "divergence": divergence, "alpha": 0.5}
    _, chosen, rejected = value_and_gradients(LOSS["f_dpo"], policy, reference, **given)
    assert (chosen < 0).all()
    assert (rejected > 0).all()
    if divergence == "js":
        assert (chosen > -0.3).all()


def test_apo_down_lowers_the_chosen_where_the_margin_is_reached() -> None:
    """∂/∂δ_w = β·(σσ'(δ_w) − σσ'(Δ)): above 0 where Δ is the larger; the rejected side is always lowered."""
    policy, reference = pair([1.0, -3.0], [-4.0, -3.1]), pair([0.0, 0.0], [0.0, 0.0])
    _, chosen, rejected = value_and_gradients(LOSS["apo_down"], policy, reference, beta=1.0)
    assert chosen[0] > 0 > chosen[1]
    assert (rejected > 0).all()


def test_the_first_step_of_dpop_is_dpos() -> None:
    """At policy == reference the penalty has no gradient: relu, not maximum, which would pass half of λ."""
    policy, _ = random_pairs()
    _, chosen, _ = value_and_gradients(LOSS["dpop"], policy, policy, beta=0.3, lam=50.0)
    same(chosen, torch.full_like(chosen, -0.15))


@properties
@given(st.lists(number, min_size=3, max_size=3), st.floats(0.01, 0.98), strength)
def test_a_mixture_lies_between_its_references(refs: list[float], share: float, beta: float) -> None:
    """So the logit lies between those of the references; far apart, the less likely one decides."""
    policy = pair(0.0, 0.0)
    alphas = torch.tensor([share, 0.99 - share, 0.01], dtype=torch.float64)
    others = torch.tensor([refs[1:]], dtype=torch.float64)
    given = {"beta": beta, "alphas": alphas, "other_chosen": others, "other_rejected": torch.zeros(1, 2).double()}
    value = LOSS["mrpo"](policy, pair(refs[0], 0.0), **given).item()
    ends = [dpo(policy, pair(end, 0.0), beta=beta).item() for end in (min(refs), max(refs))]
    assert ends[0] - 1e-9 <= value <= ends[1] + 1e-9


def test_margins_of_other_objectives_set_the_wanted_difference() -> None:
    """At Δ = Σ w·m / β the logit is 0; a candidate already better by the others needs less of its own."""
    policy, reference = random_pairs()
    extras = extras_of("modpo", 8)
    margin = (difference(policy, reference) * 0.1 / 0.5)[:, None].expand(8, 2)
    got = LOSS["modpo"](policy, reference, beta=0.1, link="logistic", **(extras | {"margins": margin}))
    same(got, torch.full_like(got, math.log(2)))
