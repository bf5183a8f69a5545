"""The contract of the losses of tokens and of own samples: shapes, precision, gradients, and what is refused."""

from __future__ import annotations

import inspect

import pytest
import torch
from token_cases import FUNCTIONS, NAMES, SINGLE, call, case, tensors, with_gradient

from mmpo.loss_entries.tokens import ENTRIES

each = pytest.mark.parametrize("name", NAMES)
each_tensor = pytest.mark.parametrize(
    ("name", "where"), [(name, key) for name in NAMES for key in tensors(name, case(name))]
)
each_option = pytest.mark.parametrize(("name", "option"), [(name, o) for name in NAMES for o in ENTRIES[name].options])


@each
def test_rows_say_what_the_functions_take(name: str) -> None:
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    assert list(parameters)[:2] == ["policy", "reference"]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in list(parameters.values())[2:])
    entry = ENTRIES[name]
    assert set(parameters) - {"policy", "reference"} == entry.options.keys() | entry.extra.keys()
    assert not [o for o in entry.options.values() if o.fault(o.default) or o.fault(o.surrogate)]
    assert entry.not_for_surrogates


@each
@pytest.mark.parametrize("count", [0, 1, 5])
def test_one_value_a_sample_and_no_coupling(name: str, count: int) -> None:
    given = tensors(name, case(name, count))
    before = {key: tensor.clone() for key, tensor in given.items()}
    values = call(name, given)
    assert values.shape == (count,)
    for i in range(count):
        assert torch.equal(call(name, {key: x[i : i + 1] for key, x in given.items()}), values[i : i + 1])
    assert all(torch.equal(before[key], given[key]) for key in given)


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    given = tensors(name, case(name, dtype=dtype))
    same = {key: x if x.dtype == torch.bool else x.float() for key, x in given.items()}
    values = call(name, given)
    assert values.dtype == torch.float32
    assert torch.equal(values, call(name, same))
    doubled = {key: x if x.dtype == torch.bool else x.double() for key, x in given.items()}
    assert call(name, doubled).dtype == torch.float64
    torch.testing.assert_close(values.double(), call(name, doubled), rtol=1e-4, atol=1e-5)


@each
def test_gradient_goes_where_it_should_and_nowhere_else(name: str) -> None:
    """The reference, masks, rewards and what the formula stops have none, although they could."""
    given = tensors(name, case(name))
    leaves = {key: x if x.dtype == torch.bool else x.clone().requires_grad_() for key, x in given.items()}
    real = {key: x for key, x in leaves.items() if x.dtype != torch.bool}
    found = torch.autograd.grad(call(name, leaves).sum(), list(real.values()), allow_unused=True)
    moved = [key for key, gradient in zip(real, found, strict=True) if gradient is not None and gradient.any()]
    assert moved == with_gradient(name, given)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "p3o"])
def test_gradient_is_the_derivative(name: str) -> None:
    """Finite differences in float64 by everything that has a gradient and is not stopped somewhere in the formula.

    P3O's gradient is no derivative of its value; OREO's is one by the divergence only. Both stand in the values.
    """
    given = tensors(name, case(name))
    keys = [key for key in with_gradient(name, given) if not (name == "oreo" and key == "policy")]
    leaves = [given[key].clone().requires_grad_() for key in keys]
    torch.autograd.gradcheck(lambda *x: call(name, {**given, **dict(zip(keys, x, strict=True))}), leaves)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_extreme_ratios_stay_finite(name: str, dtype: torch.dtype) -> None:
    """Value and gradients for log-ratios and divergences of about ±1e5."""
    given = tensors(name, case(name, dtype=dtype, scale=1e5))
    keys = with_gradient(name, given)
    leaves = {key: given[key].clone().requires_grad_() for key in keys}
    values = call(name, {**given, **leaves})
    assert values.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(values.sum(), list(leaves.values())))


@pytest.mark.parametrize("name", [name for name in NAMES if ENTRIES[name].family == "token"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1e30])
def test_tokens_outside_the_mask_count_for_nothing(name: str, bad: float) -> None:
    """Whatever padding holds, in any of the token tensors: neither value nor gradient changes."""
    given = tensors(name, case(name))
    mask = {key: given[f"{key}_mask" if f"{key}_mask" in given else "mask"] for key in ("chosen", "rejected")}
    spoiled = {}
    for key, x in given.items():
        outside = mask["rejected" if "rejected" in key else "chosen"]
        padded = x.dtype != torch.bool and x.dim() == 2
        spoiled[key] = torch.where(outside, x, bad) if padded else x
    keys = with_gradient(name, given)
    results = []
    for tensors_given in (given, spoiled):
        leaves = {key: tensors_given[key].clone().requires_grad_() for key in keys}
        values = call(name, {**tensors_given, **leaves})
        results.append([values, *torch.autograd.grad(values.sum(), list(leaves.values()))])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@each_tensor
@pytest.mark.parametrize("shape", [[], [1], [4], [5, 7], [2, 4], [5, 4, 1]])
def test_other_shapes_are_refused_by_name(name: str, where: str, shape: list[int]) -> None:
    """Also those that would broadcast to a wrong answer in silence."""
    given = tensors(name, case(name))
    dtype = given[where].dtype
    with pytest.raises(ValueError, match=r"expected .*(shape|rows).*got") as error:
        call(name, {**given, where: torch.zeros(shape, dtype=dtype)})
    named = str(error.value).partition(":")[0]
    assert named == where or where.startswith("policy"), "the policy is what the others are measured by"


@each
def test_masks_must_be_bool(name: str) -> None:
    """A float mask would be a weight."""
    given = tensors(name, case(name))
    for key in [key for key, x in given.items() if x.dtype == torch.bool]:
        with pytest.raises(ValueError, match=rf"^{key}: expected a bool tensor.*got torch\.float32"):
            call(name, {**given, key: given[key].float()})


@each
def test_a_missing_reference_is_refused(name: str) -> None:
    policy, _, extra = case(name)
    options = {option: bounds.default for option, bounds in ENTRIES[name].options.items()}
    with pytest.raises(ValueError, match=r"reference: expected .*got None"):
        FUNCTIONS[name](policy, None, **extra, **options)


@each_option
def test_options_out_of_bounds_are_refused(name: str, option: str) -> None:
    bounds = ENTRIES[name].options[option]
    wrong: list[object] = ["no such name"] if bounds.choices else [float("inf"), float("nan"), -0.1]
    if not bounds.choices and bounds.at_least is None:
        wrong.append(0.0)
    if bounds.below is not None:
        wrong.append(bounds.below)
    for value in wrong:
        assert bounds.fault(value)
        with pytest.raises(ValueError, match=rf"^{option}: expected .*got '?{value}"):
            call(name, tensors(name, case(name)), **{option: value})


def test_single_trajectories_are_those_of_tensors() -> None:
    assert {name for name in NAMES if torch.is_tensor(case(name)[0])} == SINGLE
