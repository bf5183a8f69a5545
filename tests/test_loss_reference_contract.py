"""The contract of the pair losses on log-ratios: shapes, precision, gradients, and what is refused."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from loss_cases import pair, random_pairs, value_and_gradients
from loss_reference_cases import ENTRIES, GRADIENT, LOSS, every, extras_of, options_of, other_options, with_extra
from torch import Tensor

from mmpo.losses import PairLogps
from mmpo.losses.pairwise import ipo

each_option = pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name, entry in ENTRIES.items() for option in entry.options]
)
SHARED = ("weights", "alphas")
"""Further tensors without a pair dimension."""
CENTRED = ("online", "value")
"""Further tensors part of whose effect is detached by definition: finite differences would see that part too."""


def part(extras: dict[str, Tensor], index: slice) -> dict[str, Tensor]:
    """The further tensors of some of the pairs."""
    return {key: x if key in SHARED else x[index] for key, x in extras.items()}


@every
def test_keywords_are_the_options_and_further_tensors_of_the_table(name: str) -> None:
    """`loss(policy, reference, *, ...)`, and the table's defaults are within its own bounds."""
    parameters = inspect.signature(LOSS[name]).parameters
    assert list(parameters)[:2] == ["policy", "reference"]
    assert all(p.kind is p.KEYWORD_ONLY for p in list(parameters.values())[2:])
    entry = ENTRIES[name]
    assert set(list(parameters)[2:]) == entry.options.keys() | entry.extra.keys()
    assert entry.needs_reference
    for bounds in entry.options.values():
        assert not bounds.fault(bounds.default)
        assert not bounds.fault(bounds.surrogate)


@every
@pytest.mark.parametrize("count", [0, 1, 5])
def test_one_value_per_pair_and_no_coupling(name: str, count: int) -> None:
    """[B] unreduced: each value is what the pair gives alone, and the arguments are left as they were."""
    policy, reference = random_pairs(count)
    extras, options = extras_of(name, count), options_of(name)
    given = [*policy, *reference, *extras.values()]
    before = [x.clone() for x in given]
    values = LOSS[name](policy, reference, **options, **extras)
    assert values.shape == (count,)
    for i in range(count):
        one = slice(i, i + 1)
        pairs = [PairLogps(*(side[one] for side in x)) for x in (policy, reference)]
        torch.testing.assert_close(
            LOSS[name](*pairs, **options, **part(extras, one)), values[one], rtol=1e-14, atol=1e-14
        )
    assert all(torch.equal(a, b) for a, b in zip(before, given, strict=True))


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_arithmetic_is_float32_or_better(name: str, dtype: torch.dtype) -> None:
    """Half-precision inputs give what the same numbers give in float32, bit for bit, and float64 stays float64."""
    policy, reference = random_pairs(dtype=dtype)
    extras = extras_of(name, 8, dtype)
    precise = torch.float64 if dtype == torch.float64 else torch.float32
    same = [PairLogps(*(side.to(precise) for side in x[:2]), *x[2:]) for x in (policy, reference)]
    got = LOSS[name](policy, reference, **options_of(name), **extras)
    assert got.dtype == precise
    raised = {key: x.to(precise) for key, x in extras.items()}
    assert torch.equal(got, LOSS[name](*same, **options_of(name), **raised))


@every
def test_gradient_is_the_derivative(name: str) -> None:
    """Finite differences in float64, by both sides and by what else carries gradient, clear of the kinks."""
    policy, reference = random_pairs()
    extras = extras_of(name, 8)
    free = [key for key in extras if key in GRADIENT and key not in CENTRED]
    leaves = [x.detach().requires_grad_() for x in (*policy[:2], *(extras[key] for key in free))]
    for options in (options_of(name), other_options(name)):

        def loss(chosen: Tensor, rejected: Tensor, *rest: Tensor, options: dict[str, Any] = options) -> Tensor:
            given = {**extras, **dict(zip(free, rest, strict=True))}
            return LOSS[name](PairLogps(chosen, rejected, *policy[2:]), reference, **options, **given)

        assert torch.autograd.gradcheck(loss, leaves)


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("options", [options_of, lambda name: options_of(name, "surrogate"), other_options])
def test_extreme_ratios_stay_finite(name: str, dtype: torch.dtype, options: Any) -> None:
    """Value and gradients for log-ratios up to ±1e5, also where a side is an exponential: its exponent is cut."""
    edges = torch.tensor([0.0, 1e-6, 1.0, 100.0, 1e5, -1e-6, -1.0, -100.0, -1e5])
    grid = torch.cartesian_prod(edges, edges)
    zero = torch.zeros(len(grid))
    lengths = torch.ones(len(grid), dtype=torch.long)
    policy = PairLogps(*pair(grid[:, 0], grid[:, 1], dtype)[:2], lengths, lengths)
    given = {**options(name), **extras_of(name, len(grid), dtype)}
    for tensor in value_and_gradients(LOSS[name], policy, pair(zero, zero, dtype), **given):
        assert tensor.isfinite().all()


@pytest.mark.parametrize("divergence", ["reverse_kl", "forward_kl", "js", "alpha"])
def test_every_divergence_stays_finite(divergence: str) -> None:
    """The unclamped forward KL overflows float32 at δ = −100 already."""
    policy, reference = pair([-100.0, 1e5, -1e5], [1e5, -1e5, 1e5], torch.float32), pair(*torch.zeros(2, 3))
    given = {"beta": 0.1, "divergence": divergence, "alpha": 0.5}
    for tensor in value_and_gradients(LOSS["f_dpo"], policy, reference, **given):
        assert tensor.isfinite().all()


@every
def test_no_gradient_through_the_reference(name: str) -> None:
    """A reference that hangs on the policy's own graph counts as a constant."""
    policy, reference = random_pairs()
    leaves = [side.requires_grad_() for side in policy[:2]]
    attached = PairLogps(*(r + 3 * (leaf - leaf.detach()) for r, leaf in zip(reference[:2], leaves, strict=True)))
    given = {**options_of(name), **extras_of(name, 8)}
    values = LOSS[name](PairLogps(*leaves, *policy[2:]), attached, **given)
    got = torch.autograd.grad(values.sum(), leaves)
    expected = value_and_gradients(LOSS[name], policy, reference, **given)[1:]
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


@with_extra
def test_further_tensors_are_detached_unless_they_are_the_policys(name: str, extra: str) -> None:
    """Rewards, win rates and references are data; own samples, revisions, rationales and values are trained."""
    policy, reference = random_pairs()
    extras = extras_of(name, 8)
    leaf = extras[extra].requires_grad_()
    policy.chosen.requires_grad_()
    values = LOSS[name](policy, reference, **options_of(name), **extras)
    (gradient,) = torch.autograd.grad(values.sum(), leaf, allow_unused=True, materialize_grads=True)
    assert bool(gradient.any()) == (extra in GRADIENT)


@with_extra
def test_further_tensors_matter(name: str, extra: str) -> None:
    """Each is used: other numbers give another loss."""
    policy, reference = random_pairs()
    extras = extras_of(name, 8)
    options = options_of(name)
    before = LOSS[name](policy, reference, **options, **extras)
    shift = torch.zeros_like(extras[extra])
    shift[..., 0] = -0.1
    if extra in SHARED:
        shift[..., 1] = 0.1
    if extra.endswith("win_rate"):
        shift = 0.5 - extras[extra]
    after = LOSS[name](policy, reference, **options, **{**extras, extra: extras[extra] + shift})
    assert not torch.allclose(before, after, rtol=1e-9, atol=0)


@with_extra
@pytest.mark.parametrize("shape", [[], [1], [7], [8, 8], [8, 2, 3]])
def test_other_shapes_of_further_tensors_are_refused_by_name(name: str, extra: str, shape: list[int]) -> None:
    """Also those that would broadcast to a wrong answer in silence; the error says what came."""
    extras = {**extras_of(name, 8), extra: torch.full(shape, 0.5)}
    blamed = {"online": "online|online_reference", "weights": "weights|margins", "alphas": "alphas|other_chosen"}.get(
        extra, extra
    )
    with pytest.raises(ValueError, match=rf"^({blamed}): expected"):
        LOSS[name](*random_pairs(), **options_of(name), **extras)


@pytest.mark.parametrize(("name", "extra"), [("modpo", "weights"), ("mrpo", "alphas")])
@pytest.mark.parametrize("numbers", [[0.5, 0.5, 0.5], [1.5, -0.5, 0.0], [float("nan"), 0.5, 0.5]])
def test_weights_that_are_no_shares_are_refused(name: str, extra: str, numbers: list[float]) -> None:
    """Negative shares, or a sum other than 1."""
    extras = {**extras_of(name, 8), extra: torch.tensor(numbers)}
    with pytest.raises(ValueError, match=rf"{extra}: expected .* at least 0 with sum 1, got"):
        LOSS[name](*random_pairs(), **options_of(name), **extras)


def test_the_labelled_objective_needs_a_weight() -> None:
    """It is what the logit is divided by."""
    extras = {**extras_of("modpo", 8), "weights": torch.tensor([0.0, 0.5, 0.5])}
    with pytest.raises(ValueError, match="weights: expected the labelled objective's first and above 0"):
        LOSS["modpo"](*random_pairs(), **options_of("modpo"), **extras)


@pytest.mark.parametrize("side", ["chosen_win_rate", "rejected_win_rate"])
@pytest.mark.parametrize("rate", [-0.1, 80.0, float("nan")])
def test_win_rates_are_between_0_and_1(side: str, rate: float) -> None:
    """Percentages would send the log-ratio a hundred times too far."""
    extras = extras_of("sppo", 8)
    extras[side][3] = rate
    with pytest.raises(ValueError, match=f"{side}: expected win rates between 0 and 1"):
        LOSS["sppo"](*random_pairs(), beta=0.001, **extras)


@every
@pytest.mark.parametrize("where", ["policy.rejected", "reference.chosen", "reference.rejected"])
@pytest.mark.parametrize("shape", [[1], [7], [8, 8], []])
def test_other_shapes_of_log_likelihoods_are_refused_by_name(name: str, where: str, shape: list[int]) -> None:
    """The shape of policy.chosen is the one that counts."""
    who, side = where.split(".")
    pairs = dict(zip(("policy", "reference"), random_pairs(8), strict=True))
    pairs[who] = pairs[who]._replace(**{side: torch.zeros(shape)})
    with pytest.raises(ValueError, match=rf"{who}\.{side}: expected shape \[8\]"):
        LOSS[name](pairs["policy"], pairs["reference"], **options_of(name), **extras_of(name, 8))


@every
def test_a_missing_reference_or_a_map_of_errors_is_refused(name: str) -> None:
    """None, and one number per token or pixel."""
    given = {**options_of(name), **extras_of(name, 8)}
    with pytest.raises(ValueError, match="reference: expected"):
        LOSS[name](random_pairs()[0], None, **given)
    square = PairLogps(torch.zeros(8, 4), torch.zeros(8, 4))
    with pytest.raises(ValueError, match=r"policy\.chosen: expected shape \[B\], got \["):
        LOSS[name](square, square, **given)


@each_option
def test_options_out_of_bounds_are_refused(name: str, option: str) -> None:
    """The function refuses what the table's bounds refuse, and takes the bounds that are inclusive."""
    bounds = ENTRIES[name].options[option]
    given = {**options_of(name), **extras_of(name, 8)}
    wrong: list[Any] = ["no such name"] if bounds.choices else [float("inf"), float("nan"), -0.1, bounds.below]
    if not bounds.choices and bounds.at_least is None:
        wrong.append(bounds.above)
    for value in wrong:
        if value is None:
            continue
        assert bounds.fault(value)
        with pytest.raises(ValueError, match=rf"{option}: expected .*got '?{value}"):
            LOSS[name](*random_pairs(), **{**given, option: value})
    if bounds.at_least is not None:
        assert not bounds.fault(bounds.at_least)
        assert LOSS[name](*random_pairs(), **{**given, option: bounds.at_least}).isfinite().all()


@pytest.mark.parametrize("missing", ["chosen_length", "rejected_length"])
def test_ipo_per_token_needs_the_lengths(missing: str) -> None:
    """Both of the policy; the reference's are not read."""
    policy, reference = random_pairs()
    with pytest.raises(ValueError, match=rf"policy\.{missing}: expected the number of scored tokens"):
        ipo(policy._replace(**{missing: None}), reference, tau=0.1, length_normalized=True)
    assert torch.equal(
        ipo(policy, PairLogps(*reference[:2]), tau=0.1, length_normalized=True),
        ipo(policy, reference, tau=0.1, length_normalized=True),
    )
    assert torch.equal(
        ipo(PairLogps(*policy[:2]), reference, tau=0.1, length_normalized=False), ipo(policy, reference, tau=0.1)
    )


def test_hpo_needs_the_length_of_the_chosen() -> None:
    """Its auxiliary term is a mean over tokens."""
    policy, reference = random_pairs()
    with pytest.raises(ValueError, match=r"policy\.chosen_length: expected"):
        LOSS["hpo"](policy._replace(chosen_length=None), reference, **options_of("hpo"), **extras_of("hpo", 8))


def test_hpo_trains_the_value_by_its_expectile_alone() -> None:
    """The weight e^(λ·(R − V)) is detached: ∂/∂V = −0.1·2·|τ − 1(u < 0)|·u, and huge rewards stay finite."""
    extras = extras_of("hpo", 8)
    value = extras["value"].requires_grad_()
    loss = LOSS["hpo"](*random_pairs(), **options_of("hpo"), **extras)
    (gradient,) = torch.autograd.grad(loss.sum(), value)
    error = extras["reward"] - value.detach()
    share = torch.where(error < 0, torch.tensor(0.3).double(), torch.tensor(0.7).double())
    torch.testing.assert_close(gradient, -0.2 * share * error, rtol=1e-6, atol=0)
    huge = {**extras, "reward": torch.full((8,), 1e5)}
    assert LOSS["hpo"](*random_pairs(dtype=torch.float32), **options_of("hpo"), **huge).isfinite().all()
