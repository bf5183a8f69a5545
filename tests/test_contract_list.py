"""The contract of every list loss of the table: what all losses promise, then absent candidates, ties, and order."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from loss_checks import each_check, refused, same
from loss_inputs import Given, call, defaults, each, gradients, inputs, names
from torch import Tensor

from mmpo.loss_table import LOSS_TABLE
from mmpo.losses import PairLogps, dpo

BAD = [float("nan"), float("inf"), -float("inf")]

TIES_COUNT = {"exo_list"}
"""Losses in which equal scores have a term: EXO asks for equal strengths."""
NOT_SHIFT_INVARIANT = {"pro", "d3po"}
"""Losses in which c(x), added to every candidate, does not cancel: PRO scales each by its gaps, D3PO clips each."""
ONLY_ORDER = {"pairwise_logistic", "plackett_luce", "d3po"}
"""Losses that use the order of the scores and not their size."""
LABELS = {"rank_dpo", "lipo_lambda", "tree_po"}
"""Losses whose scores are labels in [0, 1]."""
FIRST_GAIN = 1 / math.log(2) - 1 / math.log(3)
PAIR_OF_TWO = {
    **dict.fromkeys(("pairwise_logistic", "plackett_luce", "d3po"), 1.0),
    **dict.fromkeys(("rank_dpo", "lipo_lambda"), FIRST_GAIN),
}
"""What a list of two with scores 1 and 0 is a multiple of DPO by (D3PO within its clip); the other losses are none."""

of = pytest.mark.parametrize


@each_check
@each("list")
def test_the_contract_of_list_losses(name: str, check: Callable[[str], None]) -> None:
    """What every loss promises; see `loss_checks`."""
    check(name)


def with_gradient(name: str, given: Given, **options: Any) -> tuple[Tensor, Tensor]:
    """Loss [B] and its derivative by the policy."""
    value, found = gradients(name, given, ["policy"], **options)
    return value, found["policy"]


def per_candidate(x: Tensor) -> Tensor:
    """[B, K] of [B, K] or, summed over steps, of [B, K, S]."""
    return x.sum(-1) if x.dim() > 2 else x


def candidates(given: Given, order: list[int]) -> Given:
    """The same lists with some of their candidates, in this order: dimensions of the size of the list hold them."""
    size, chosen = given["scores"].shape[1], dict(given)
    for key, x in given.items():
        for dim in range(1, x.dim()):
            if x.shape[dim] == size:
                chosen[key] = chosen[key].index_select(dim, torch.tensor(order))
    return chosen


def spoiled(given: Given, slot: int, bad: float) -> Given:
    """The same with a candidate absent, and nonsense in whatever stands in its slot."""
    size, other = given["scores"].shape[1], {key: x.clone() for key, x in given.items()}
    for x in other.values():
        for dim in range(1, x.dim()):
            if x.shape[dim] == size and x.dtype != torch.bool:
                x.select(dim, slot).fill_(bad if x.is_floating_point() else 0)
    other["mask"][:, slot] = False
    return other


@each("list")
@of("bad", BAD)
def test_an_absent_candidate_has_neither_value_nor_gradient(name: str, bad: float) -> None:
    """Whatever stands in its slot, NaN and infinity included, the rest is the list without it."""
    given, kept = inputs(name, 4, size=5), [0, 1, 3, 4]
    value, gradient = with_gradient(name, spoiled(given, 2, bad))
    expected, expected_gradient = with_gradient(name, candidates(given, kept))
    assert same(value, expected)
    assert (gradient[:, 2] == 0).all()
    assert same(gradient[:, kept], expected_gradient)


@each("list")
@of("bad", BAD)
def test_a_candidate_without_a_score_is_absent(name: str, bad: float) -> None:
    """A reward that failed on it gives no number; that is not a score of 0."""
    given = inputs(name, 4, size=5)
    unscored, masked = ({key: x.clone() for key, x in given.items()} for _ in range(2))
    unscored["scores"][:, 1] = bad
    masked["mask"][:, 1] = False
    for a, b in zip(with_gradient(name, unscored), with_gradient(name, masked), strict=True):
        assert torch.equal(a, b)


@each("list")
@of("left", [0, 1])
def test_lists_without_two_candidates_give_zero(name: str, left: int) -> None:
    """All slots empty, or all but one: 0 and gradient 0, whatever stands there."""
    given = inputs(name, 2, size=3)
    given["mask"][:, left:] = False
    given["policy"][:, left:] = float("nan")
    for tensor in with_gradient(name, given):
        assert (tensor == 0).all()


@each("list")
@of("size", [0, 1, 2, 4])
@of("count", [0, 5])
def test_lists_of_any_size(name: str, size: int, count: int) -> None:
    """[B] whatever K; 0 where there is nothing to compare."""
    given = inputs(name, count, size=size)
    values = call(name, given)
    assert values.shape == (count,)
    assert (values > 0).all() if size > 1 else (values == 0).all()


@each("list")
def test_no_mask_is_a_full_mask(name: str) -> None:
    """Datasets without empty slots need none."""
    given = inputs(name)
    assert torch.equal(call(name, {**given, "mask": None}), call(name, given))


@each("list")
def test_the_order_of_the_list_has_no_effect(name: str) -> None:
    """Candidates permuted, also with ties and an empty slot: the same value, the gradient permuted."""
    given, order = inputs(name, 6, size=5), [3, 2, 4, 1, 0]
    given["scores"][:, 1] = given["scores"][:, 3]
    for key in ("policy", "reference"):
        given[key][:, 0] = given[key][:, 2]
    given["mask"][0, 4] = False
    value, gradient = with_gradient(name, given)
    moved, moved_gradient = with_gradient(name, candidates(given, order))
    assert same(moved, value)
    assert same(moved_gradient, gradient[:, order])


def no_likelihood(name: str) -> dict[str, float]:
    """Options that leave a list's likelihood of its best candidate out, which is no comparison."""
    return {option: 0.0 for option in defaults(name) if option == "sft_weight"}


@each("list")
def test_equal_scores_ask_for_nothing(name: str) -> None:
    """All labels alike: no term, but where documented."""
    given = inputs(name)
    given["scores"] = torch.full_like(given["scores"], 0.5)
    value, gradient = with_gradient(name, given, **no_likelihood(name))
    if name in TIES_COUNT:
        assert (value > 0).all()
        level = {**given, "policy": given["reference"] + 3}
        assert call(name, level).abs().max() < 1e-14
    else:
        assert (value == 0).all()
        assert (gradient == 0).all()


@each("list")
def test_a_tie_drops_the_terms_of_its_pair_only(name: str) -> None:
    """Two tied candidates alone do not pull at each other, while a third still pulls at both."""
    given = inputs(name, 4, size=3)
    given["scores"] = torch.tensor([[0.8, 0.8, 0.1]], dtype=torch.float64).repeat(4, 1)
    tied = call(name, candidates(given, [0, 1]), **no_likelihood(name))
    assert (tied > 0).all() if name in TIES_COUNT else (tied == 0).all()
    assert per_candidate(with_gradient(name, given, **no_likelihood(name))[1]).all()
    if name in ONLY_ORDER | {"rank_dpo"}:
        alone = sum(call(name, candidates(given, pair)) for pair in ([0, 2], [1, 2]))
        # RankDPO: ranks 1, 1, 3 in the list, 1 and 2 in a pair of its own.
        factor = (1 / math.log(2) - 1 / math.log(4)) / FIRST_GAIN if name == "rank_dpo" else 1
        assert same(call(name, given), factor * alone)


def test_pro_keeps_the_mean_likelihood_of_those_that_tie_for_best() -> None:
    """−λ·(K − 1)²·logp_best is no comparison, so ties do not end it."""
    given = inputs("pro")
    given["scores"] = torch.full_like(given["scores"], 0.5)
    assert same(call("pro", given, sft_weight=0.5), -0.5 * 9 * given["policy"].mean(-1))


@each("list")
def test_the_better_is_raised_and_the_worse_lowered(name: str) -> None:
    """With two candidates near the reference: ∂/∂better < 0 < ∂/∂worse."""
    given = inputs(name, 32, size=2)
    noise = 1e-3 * (given["policy"] - given["policy"].mean())
    given |= {"policy": given["reference"] + noise, "mask": torch.ones(32, 2, dtype=torch.bool)}
    gradient = with_gradient(name, given)[1]
    by_score = per_candidate(gradient).gather(1, given["scores"].argsort(-1))
    assert (by_score[:, 0] > 0).all()
    assert (by_score[:, 1] < 0).all()


@each("list")
def test_two_candidates_are_a_pair(name: str) -> None:
    """Scores 1 and 0: DPO, or DPO times the gain of the first rank, where documented; else no multiple of it."""
    given = inputs(name, 16, size=2)
    given["scores"] = torch.tensor([[1.0, 0.0]], dtype=torch.float64).repeat(16, 1)
    pairs = [PairLogps(*per_candidate(given[key]).unbind(1)) for key in ("policy", "reference")]
    factors = call(name, given) / dpo(*pairs, beta=defaults(name).get("beta", 0.1))
    if name in PAIR_OF_TWO:
        torch.testing.assert_close(factors, torch.full_like(factors, PAIR_OF_TWO[name]), rtol=1e-10, atol=0)
    else:
        assert not torch.allclose(factors, factors.mean(), rtol=1e-3)


@each("list")
def test_a_shift_by_the_prompt(name: str) -> None:
    """c(x) added to every candidate's log-likelihood cancels, or not, as documented."""
    given = inputs(name)
    if "step_mask" in given:
        given["step_mask"][:] = True  # a step that only one candidate has is a difference between them
    shift = torch.linspace(-3, 3, 8, dtype=torch.float64).view(8, *[1] * (given["policy"].dim() - 1))
    moved, before = call(name, {**given, "policy": given["policy"] + shift}), call(name, given)
    if name in NOT_SHIFT_INVARIANT:
        assert not torch.isclose(moved, before).any()
    else:
        torch.testing.assert_close(moved, before, rtol=1e-10, atol=1e-12)


@of("name", [name for name in names("list") if LOSS_TABLE[name].needs_reference])
def test_only_log_ratios_count(name: str) -> None:
    """What is added to a candidate under both models changes nothing."""
    given = inputs(name)
    shift = inputs(name, seed=3)["policy"]
    moved = {**given, "policy": given["policy"] + shift, "reference": given["reference"] + shift}
    torch.testing.assert_close(call(name, moved), call(name, given), rtol=1e-10, atol=1e-12)


@each("list")
def test_scores_count_as_each_source_says(name: str) -> None:
    """Only their order, or also their size."""
    given = inputs(name)
    bent, before = call(name, {**given, "scores": given["scores"] ** 2}), call(name, given)
    assert torch.equal(bent, before) if name in ONLY_ORDER else not torch.isclose(bent, before).any()


@each("list")
def test_scores_may_be_of_any_type(name: str) -> None:
    """Integers and other precisions mean what they say, and never lower the precision of the rest."""
    given = inputs(name, 4, size=2)
    given["scores"] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    for dtype in (torch.int64, torch.float16, torch.float32):
        got = call(name, {**given, "scores": given["scores"].to(dtype)})
        assert got.dtype == torch.float64
        assert torch.equal(got, call(name, given))


@each("list")
@of("score", [1.5, -0.1, 21.0])
def test_labels_outside_0_and_1_are_refused(name: str, score: float) -> None:
    """2^21 in a weight would drown every other list; an absent candidate's label does not count."""
    given = inputs(name)
    given["scores"][2, 1] = score
    if name in LABELS:
        refused(r"scores: expected labels in \[0, 1\].*got.*win_rates", name, given)
        given["mask"][2, 1] = False
    assert call(name, given).isfinite().all()


def test_lambda_weights_carry_no_gradient() -> None:
    """LiPO's gradient is that of the weighted sum at fixed weights: equal to RankDPO's where the orders agree."""
    given = inputs("lipo_lambda")
    given["policy"] = given["reference"] + given["scores"]
    lipo, rank = (with_gradient(name, given, beta=0.7) for name in ("lipo_lambda", "rank_dpo"))
    assert torch.equal(lipo[0], rank[0])
    assert torch.equal(lipo[1], rank[1])


def test_pro_clamps_lengths_at_one() -> None:
    """An answer without a scored token does not divide by 0."""
    given = inputs("pro")
    one = {**given, "lengths": given["lengths"].clamp(max=1)}
    assert torch.equal(call("pro", {**given, "lengths": torch.zeros_like(given["lengths"])}), call("pro", one))
