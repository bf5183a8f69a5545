"""The contract of the list losses: shapes, absent candidates, ties, invariances, precision, and what is refused."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import torch
from list_losses import LISTS, call, each_list_loss, option_values, random_list, reorder, rows_of, with_gradient

from mmpo.loss_entries.lists import ENTRIES

BAD = [float("nan"), float("inf"), -float("inf")]
without_steps = pytest.mark.parametrize("name", [name for name in ENTRIES if name != "tree_po"])
ordered = pytest.mark.parametrize("name", [name for name in ENTRIES if name != "exo_list"])
labelled = pytest.mark.parametrize("name", ["rank_dpo", "lipo_lambda", "tree_po"])


def same(a: torch.Tensor, b: torch.Tensor, rtol: float = 1e-12) -> None:
    """Equal but for the order of sums."""
    torch.testing.assert_close(a, b, rtol=rtol, atol=1e-13)


@each_list_loss
def test_signature_is_as_the_table_says(name: str) -> None:
    """`loss(policy, reference, *, scores, mask, extra, options)`."""
    parameters = inspect.signature(LISTS[name]).parameters
    assert list(parameters)[:2] == ["policy", "reference"]
    rest = {key: p for key, p in parameters.items() if key not in ("policy", "reference")}
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in rest.values())
    assert rest.keys() == {"scores", "mask", *ENTRIES[name].extra, *ENTRIES[name].options}
    for kind in ("default", "surrogate"):
        assert not [o for o in ENTRIES[name].options.values() if o.fault(getattr(o, kind))]


@each_list_loss
@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("size", [0, 1, 2, 4])
def test_one_value_per_list_and_no_coupling_between_lists(name: str, count: int, size: int) -> None:
    """[B] unreduced, each as alone; a list of one or none gives 0; arguments are left as they were."""
    given = random_list(name, count, size)
    before = {key: value.clone() for key, value in given.items()}
    values = call(name, given)
    assert values.shape == (count,)
    for i in range(count):
        same(call(name, rows_of(given, slice(i, i + 1))), values[i : i + 1])
    assert (values > 0).all() if size > 1 else (values == 0).all()
    assert all(torch.equal(given[key], before[key]) for key in given)


@each_list_loss
@pytest.mark.parametrize("bad", BAD)
def test_an_absent_candidate_has_neither_value_nor_gradient(name: str, bad: float) -> None:
    """Whatever stands in its slot, NaN and infinity included, the rest is the list without it."""
    given = random_list(name, 4, 5)
    absent, kept = 2, torch.tensor([0, 1, 3, 4])
    spoiled = {key: value.clone() for key, value in given.items()}
    for key in spoiled.keys() - {"mask", "step_mask", "lengths"}:
        spoiled[key][:, absent] = bad
    if "cosines" in spoiled:
        spoiled["cosines"][:, :, absent] = bad
    if "lengths" in spoiled:
        spoiled["lengths"][:, absent] = 0
    spoiled["mask"][:, absent] = False
    value, gradient = with_gradient(name, spoiled)
    expected, expected_gradient = with_gradient(name, reorder(given, kept))
    same(value, expected)
    assert (gradient[:, absent] == 0).all()
    same(gradient[:, kept], expected_gradient)


@each_list_loss
@pytest.mark.parametrize("bad", BAD)
def test_a_candidate_without_a_score_is_absent(name: str, bad: float) -> None:
    """A reward that failed on it gives no number; that is not a score of 0."""
    given = random_list(name, 4, 5)
    unscored = {**given, "scores": given["scores"].clone()}
    unscored["scores"][:, 1] = bad
    masked = {**given, "mask": given["mask"].clone()}
    masked["mask"][:, 1] = False
    for a, b in zip(with_gradient(name, unscored), with_gradient(name, masked), strict=True):
        assert torch.equal(a, b)


@each_list_loss
@pytest.mark.parametrize("left", [0, 1])
def test_lists_without_two_candidates_give_zero(name: str, left: int) -> None:
    """All slots empty, or all but one: 0 and gradient 0, whatever stands there."""
    given = random_list(name, 2, 3)
    given["mask"][:, left:] = False
    given["policy"][:, left:] = float("nan")
    for tensor in with_gradient(name, given):
        assert (tensor == 0).all()


@each_list_loss
def test_no_mask_is_a_full_mask(name: str) -> None:
    given = random_list(name)
    assert torch.equal(call(name, {**given, "mask": None}), call(name, given))


@each_list_loss
def test_the_order_of_the_list_has_no_effect(name: str) -> None:
    """Candidates permuted, also with ties and an empty slot: the same value, the gradient permuted."""
    given = random_list(name, 6, 5)
    given["scores"][:, 1] = given["scores"][:, 3]
    given["policy"][:, 0] = given["policy"][:, 2]
    given["reference"][:, 0] = given["reference"][:, 2]
    given["mask"][0, 4] = False
    order = torch.tensor([3, 0, 4, 1, 2])
    value, gradient = with_gradient(name, given)
    moved, moved_gradient = with_gradient(name, reorder(given, order))
    same(moved, value)
    same(moved_gradient, gradient[:, order])


@ordered
def test_equal_scores_ask_for_nothing(name: str) -> None:
    """All labels alike: no term (PRO keeps its likelihood term, the mean over those that tie for best)."""
    given = random_list(name)
    given["scores"] = torch.full_like(given["scores"], 0.5)
    value, gradient = with_gradient(name, given, **({"sft_weight": 0.0} if name == "pro" else {}))
    assert (value == 0).all()
    assert (gradient == 0).all()
    if name == "pro":
        same(call(name, given, sft_weight=0.5), -0.5 * 9 * given["policy"].mean(-1))


@ordered
def test_a_tie_drops_the_terms_of_its_pair_only(name: str) -> None:
    """Two tied candidates alone do not pull at each other, while a third still pulls at both."""
    given = random_list(name, 4, 3)
    given["scores"] = torch.tensor([[0.8, 0.8, 0.1]], dtype=torch.float64).expand(4, 3)
    options = {"sft_weight": 0.0} if name == "pro" else {}
    tied = call(name, reorder(given, torch.tensor([0, 1])), **options)
    assert (tied == 0).all()
    if name in ("pairwise_logistic", "plackett_luce", "rank_dpo"):
        pairs = [call(name, reorder(given, torch.tensor(p))) for p in ([0, 2], [1, 2])]
        # RankDPO: ranks 1, 1, 3 in the list, 1 and 2 in a pair of its own.
        factor = (1 / math.log(2) - 1 / math.log(4)) / (1 / math.log(2) - 1 / math.log(3)) if name == "rank_dpo" else 1
        same(call(name, given), factor * (pairs[0] + pairs[1]))


def test_equal_rewards_ask_exo_for_equal_strengths() -> None:
    """EXO matches a distribution, so ties do have a term: KL to the uniform distribution, 0 only where s is level."""
    given = random_list("exo_list")
    given["scores"] = torch.full_like(given["scores"], 0.5)
    assert (call("exo_list", given) > 0).all()
    assert call("exo_list", {**given, "policy": given["reference"]}).abs().max() < 1e-14


@each_list_loss
def test_a_shift_by_the_prompt(name: str) -> None:
    """c(x) added to every candidate's log-likelihood cancels, except in PRO, which scales each by its gaps."""
    given = random_list(name)
    shift = torch.linspace(-3, 3, 5, dtype=torch.float64).view(5, *[1] * (given["policy"].dim() - 1))
    if name == "tree_po":
        given["step_mask"] = None  # a step that only one candidate has is a difference between them
        given["cosines"] = given["cosines"].clone()
    moved = call(name, {**given, "policy": given["policy"] + shift})
    if name == "pro":
        assert not torch.isclose(moved, call(name, given))[shift.flatten() != 0].any()
    else:
        same(moved, call(name, given), rtol=1e-10)


@without_steps
def test_scores_count_as_each_source_says(name: str) -> None:
    """Only their order for the unweighted losses; also their size for the others."""
    given = random_list(name)
    bent = call(name, {**given, "scores": given["scores"] ** 2})
    if name in ("pairwise_logistic", "plackett_luce"):
        assert torch.equal(bent, call(name, given))
    else:
        assert not torch.isclose(bent, call(name, given)).any()


@each_list_loss
def test_gradient_is_the_derivative(name: str) -> None:
    """Finite differences in float64, away from changes of the predicted order, with an empty slot."""
    given = random_list(name, 3, 4)
    given["mask"][0, 1] = False
    leaf = given["policy"].requires_grad_()
    for options in ({}, dict.fromkeys(option_values(name), 1.3)):
        torch.autograd.gradcheck(lambda x, o=options: call(name, {**given, "policy": x}, **o), [leaf])


@each_list_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["default", "surrogate"])
def test_extreme_ratios_stay_finite(name: str, dtype: torch.dtype, kind: str) -> None:
    """Value and gradient for log-ratios up to ±1e5, every pair of them in either order of the scores."""
    edges = torch.tensor([0.0, 1e-6, 1.0, 100.0, 1e5, -1e-6, -1.0, -100.0, -1e5])
    grid = torch.cartesian_prod(edges, edges, edges[::4]).to(dtype)
    given = random_list(name, len(grid), 3)
    if name == "tree_po":
        grid = torch.stack([grid, grid.flip(0), grid], -1)
    given.update(policy=grid, reference=torch.zeros_like(grid))
    for tensor in with_gradient(name, given, **option_values(name, kind)):
        assert tensor.isfinite().all()


@each_list_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_arithmetic_is_float32_or_better(name: str, dtype: torch.dtype) -> None:
    """Half-precision log-likelihoods give what the same numbers give in float32, bit for bit."""
    given = random_list(name, dtype=dtype)
    precise = torch.float64 if dtype == torch.float64 else torch.float32
    wide = {**given, "policy": given["policy"].to(precise), "reference": given["reference"].to(precise)}
    got = call(name, given)
    assert got.dtype == precise
    assert torch.equal(got, call(name, wide))


@each_list_loss
def test_scores_may_be_of_any_type(name: str) -> None:
    """Integers and other precisions mean what they say, and never lower the precision of the rest."""
    given = random_list(name, 4, 2)
    given["scores"] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    for dtype in (torch.int64, torch.float16, torch.float32):
        got = call(name, {**given, "scores": given["scores"].to(dtype)})
        assert got.dtype == torch.float64
        assert torch.equal(got, call(name, given))


@each_list_loss
def test_no_gradient_through_reference_and_scores(name: str) -> None:
    """A reference on the policy's own graph, scores and cosines that need gradients: all constants."""
    given = random_list(name)
    leaf = given["policy"].detach().clone().requires_grad_()
    attached: dict[str, Any] = {**given, "policy": leaf}
    for key in attached.keys() & {"reference", "scores", "cosines"}:
        tied = 3 * (leaf - leaf.detach()).sum()
        attached[key] = given[key] + tied
    (got,) = torch.autograd.grad(call(name, attached).sum(), leaf)
    assert torch.equal(got, with_gradient(name, given)[1])


@each_list_loss
def test_need_of_a_reference_is_as_the_table_says(name: str) -> None:
    given = random_list(name)
    if ENTRIES[name].needs_reference:
        with pytest.raises(ValueError, match="reference: expected"):
            call(name, {**given, "reference": None})
    else:
        assert torch.equal(call(name, {**given, "reference": None}), call(name, given))


@each_list_loss
def test_other_shapes_are_refused_by_name(name: str) -> None:
    """Also those that would broadcast to a wrong answer in silence, such as [1, 4]."""
    given = random_list(name, 5, 4)
    keys = given.keys() - {"policy"} - (set() if ENTRIES[name].needs_reference else {"reference"})
    for key in keys:
        for wrong in (given[key][:1], given[key][:, :1], given[key][0]):
            with pytest.raises(ValueError, match=rf"{key}: expected .*shape \[5, 4"):
                call(name, {**given, key: wrong})
    for policy in (given["policy"][0, :, 0] if name == "tree_po" else given["policy"][0], torch.zeros(2, 3, 4, 5)):
        with pytest.raises(ValueError, match=r"policy: expected shape \[B, K"):
            call(name, {**given, "policy": policy})


@each_list_loss
def test_a_mask_of_numbers_is_refused(name: str) -> None:
    """`mask & finite` of integers would be a bitwise and."""
    given = random_list(name)
    for key in given.keys() & {"mask", "step_mask"}:
        with pytest.raises(ValueError, match=rf"^{key}: expected true or false .*torch.int64"):
            call(name, {**given, key: given[key].long()})


@labelled
@pytest.mark.parametrize("score", [1.5, -0.1, 21.0])
def test_labels_outside_0_and_1_are_refused(name: str, score: float) -> None:
    """2^21 in a weight would drown every other list; an absent candidate's label does not count."""
    given = random_list(name)
    given["scores"][2, 1] = score
    with pytest.raises(ValueError, match=r"scores: expected labels in \[0, 1\].*win_rates"):
        call(name, given)
    given["mask"][2, 1] = False
    assert call(name, given).isfinite().all()


@pytest.mark.parametrize(("name", "option"), [(name, o) for name, e in ENTRIES.items() for o in e.options])
@pytest.mark.parametrize("value", [0.0, -0.1, float("inf"), float("nan")])
def test_options_have_bounds(name: str, option: str, value: float) -> None:
    """The function refuses what its row of the table refuses, naming the option and what came."""
    if ENTRIES[name].options[option].fault(value):
        with pytest.raises(ValueError, match=rf"^{option}: expected .*, got {value}"):
            call(name, random_list(name), **{option: value})
    else:
        assert call(name, random_list(name), **{option: value}).isfinite().all()


def test_lambda_weights_carry_no_gradient() -> None:
    """LiPO's gradient is that of the weighted sum at fixed weights: equal to RankDPO's where the orders agree."""
    given = random_list("lipo_lambda")
    given["policy"] = given["reference"] + given["scores"]
    lipo, rank = (with_gradient(name, given, beta=0.7) for name in ("lipo_lambda", "rank_dpo"))
    assert torch.equal(lipo[0], rank[0])
    assert torch.equal(lipo[1], rank[1])


def test_pro_clamps_lengths_at_one() -> None:
    """An answer without a scored token does not divide by 0."""
    given = random_list("pro")
    one = {**given, "lengths": given["lengths"].clamp(max=1)}
    assert torch.equal(call("pro", {**given, "lengths": torch.zeros_like(given["lengths"])}), call("pro", one))
