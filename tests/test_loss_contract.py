"""The contract of every loss: shapes, precision, gradients, and what is refused."""

from __future__ import annotations

import pytest
import torch
from loss_cases import PAIRS, defaults, each_loss, needing_reference, others, pair, random_pairs, value_and_gradients

from mmpo.loss_table import LOSS_TABLE
from mmpo.losses import LOSSES, PairLogps

each_option = pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name in PAIRS for option in LOSS_TABLE[name].options]
)


@each_loss
@pytest.mark.parametrize("count", [0, 1, 5])
def test_one_value_per_pair_and_no_coupling_between_pairs(name: str, count: int) -> None:
    """[B] unreduced: each value is what the pair gives alone, and the arguments are left as they were."""
    policy, reference = random_pairs(count)
    before = [side.clone() for side in (*policy[:2], *reference[:2])]
    values = LOSSES[name](policy, reference, **defaults(name))
    assert values.shape == (count,)
    for i in range(count):
        one = [PairLogps(*(part[i : i + 1] for part in x)) for x in (policy, reference)]
        assert torch.equal(LOSSES[name](*one, **defaults(name)), values[i : i + 1])
    assert all(torch.equal(a, b) for a, b in zip(before, (*policy[:2], *reference[:2]), strict=True))


@each_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_arithmetic_is_float32_or_better(name: str, dtype: torch.dtype) -> None:
    """Half-precision inputs give what the same numbers give in float32, bit for bit.

    1000 and 0.5 are exact in every dtype, their difference 999.5 is not in bfloat16 (8 bits): a subtraction before
    the conversion would be seen.
    """
    numbers = (torch.tensor([-1000.0, -0.5]), torch.tensor([-0.5, -1000.0]))
    policy, reference = pair(*numbers, dtype), pair(numbers[1], numbers[0], dtype)
    precise = torch.float64 if dtype == torch.float64 else torch.float32
    expected = LOSSES[name](pair(*numbers, precise), pair(numbers[1], numbers[0], precise), **defaults(name))
    got = LOSSES[name](policy, reference, **defaults(name))
    assert got.dtype == precise
    assert torch.equal(got, expected)


@needing_reference
def test_a_reference_in_half_precision_does_not_lower_the_policys(name: str) -> None:
    """Mixed dtypes meet in the better one."""
    policy, reference = random_pairs()
    rough = PairLogps(*(side.bfloat16() for side in reference[:2]), *reference[2:])
    same = PairLogps(*(side.bfloat16().double() for side in reference[:2]), *reference[2:])
    got = LOSSES[name](policy, rough, **defaults(name))
    torch.testing.assert_close(got, LOSSES[name](policy, same, **defaults(name)), rtol=1e-12, atol=0)


@each_loss
def test_gradient_is_the_derivative(name: str) -> None:
    """Finite differences in float64; random log-ratios keep clear of the kinks at δ_l = 0 and β·Δ = 1."""
    policy, reference = random_pairs()
    leaves = [side.requires_grad_() for side in policy[:2]]
    for options in (defaults(name), others(name)):
        torch.autograd.gradcheck(
            lambda *sides, o=options: LOSSES[name](PairLogps(*sides, *policy[2:]), reference, **o), leaves
        )


@each_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["default", "surrogate"])
def test_extreme_ratios_stay_finite(name: str, dtype: torch.dtype, kind: str) -> None:
    """Value and gradient for log-ratios up to ±1e5 on either side, for the β of tokens and the β of images."""
    edges = [0.0, 1e-6, 1.0, 100.0, 1e5, -1e-6, -1.0, -100.0, -1e5]
    grid = torch.cartesian_prod(torch.tensor(edges), torch.tensor(edges))
    options = {option: getattr(value, kind) for option, value in LOSS_TABLE[name].options.items()}
    zero = torch.zeros(len(grid))
    policy, reference = pair(grid[:, 0], grid[:, 1], dtype), pair(zero, zero, dtype)
    for tensor in value_and_gradients(LOSSES[name], policy, reference, **options):
        assert tensor.isfinite().all()


@needing_reference
def test_no_gradient_through_the_reference(name: str) -> None:
    """A reference that hangs on the policy's own graph counts as a constant."""
    policy, reference = random_pairs()
    leaves = [side.requires_grad_() for side in policy[:2]]
    attached = PairLogps(*(r + 3 * (leaf - leaf.detach()) for r, leaf in zip(reference[:2], leaves, strict=True)))
    values = LOSSES[name](PairLogps(*leaves, *policy[2:]), PairLogps(*attached[:2], *reference[2:]), **defaults(name))
    got = torch.autograd.grad(values.sum(), leaves)
    expected = value_and_gradients(LOSSES[name], policy, reference, **defaults(name))[1:]
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@each_loss
@pytest.mark.parametrize("shape", [[], [8, 1], [2, 4]])
def test_only_one_number_per_candidate_is_accepted(name: str, shape: list[int]) -> None:
    """Token log-probs [B, T] or error maps are refused, with what to do about them."""
    x = PairLogps(torch.zeros(shape), torch.zeros(shape))
    with pytest.raises(ValueError, match=r"policy\.chosen: expected shape \[B\], got \["):
        LOSSES[name](x, x, **defaults(name))


@needing_reference
@pytest.mark.parametrize("where", ["policy.rejected", "reference.chosen", "reference.rejected"])
@pytest.mark.parametrize("shape", [[1], [7], [8, 8], []])
def test_other_shapes_are_refused_by_name(name: str, where: str, shape: list[int]) -> None:
    """Also those that would broadcast to a wrong answer in silence, such as [1]."""
    who, side = where.split(".")
    pairs = dict(zip(("policy", "reference"), random_pairs(8), strict=True))
    pairs[who] = pairs[who]._replace(**{side: torch.zeros(shape)})
    with pytest.raises(ValueError, match=rf"{who}\.{side}: expected shape \[8\]"):
        LOSSES[name](pairs["policy"], pairs["reference"], **defaults(name))


@each_loss
def test_need_of_a_reference_is_as_the_table_says(name: str) -> None:
    """Without one: refused by name, or, where the table says it is not needed, the same as with any."""
    policy, reference = random_pairs()
    if LOSS_TABLE[name].needs_reference:
        with pytest.raises(ValueError, match="reference: expected"):
            LOSSES[name](policy, None, **defaults(name))
        shifted = reference._replace(chosen=reference.chosen + 0.3)
        assert not torch.equal(*(LOSSES[name](policy, x, **defaults(name)) for x in (reference, shifted)))
    else:
        assert torch.equal(*(LOSSES[name](policy, x, **defaults(name)) for x in (reference, None)))


@each_option
def test_options_out_of_bounds_are_refused(name: str, option: str) -> None:
    """β ≤ 0 would train against the preferences; the error names the option, what was expected and what came."""
    bounds = LOSS_TABLE[name].options[option]
    wrong: list[object] = ["no such name"] if bounds.choices else [float("inf"), float("nan")]
    if isinstance(bounds.default, bool):
        return  # a switch: Python's own truth
    if bounds.at_least is not None:
        wrong.append(bounds.at_least - 0.1)
    elif bounds.above is not None and not bounds.choices:
        wrong += [bounds.above, bounds.above - 0.1]
    if bounds.below is not None:
        wrong.append(bounds.below)
    for value in wrong:
        assert bounds.fault(value), value
        with pytest.raises(ValueError, match=rf"{option}: expected .*got '?{value}"):
            LOSSES[name](*random_pairs(), **{**defaults(name), option: value})
