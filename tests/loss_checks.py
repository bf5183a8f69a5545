"""What every loss promises, whatever its family: the checks that the contract tests run over the table."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from loss_inputs import (
    SHARED,
    Given,
    call,
    cast,
    gradients,
    inputs,
    option_sets,
    policy_keys,
    rows,
    without_reference,
)
from torch import Tensor

from mmpo.loss_table import LOSS_TABLE
from mmpo.losses import LOSSES

TRAINED = {
    *("chosen_drift", "chosen_kl", "chosen_kl_weight", "chosen_reward_weight", "gold_nll", "kl", "online"),
    *("rationale", "reference_sample", "rejected_kl", "rejected_kl_weight", "rejected_reward_weight", "revision"),
    *("value", "values"),
}
"""Further tensors with gradient; all others are constants."""
CONSTANT = {
    "sft": {"policy.rejected"},  # the control does not see it
    "tdpo2": {"chosen_kl"},  # what makes it the second form
    "oreo": {"values"},  # trained by the other one
    "oreo_value": {"policy"},
}
"""Tensors that would have a gradient by their name, and have none in these losses."""
HALF_CONSTANT = {"hypo": ["online"], "hpo": ["value"], "oreo": ["policy"], "p3o": ["policy.chosen", "policy.rejected"]}
"""Tensors part of whose effect is detached by definition, so that the gradient is not the value's derivative."""
OPTIONAL = {("tree_po", "step_mask")}
"""Further tensors that may be left out."""
SIZED_BY = {"weights": ["margins"], "alphas": ["other_chosen"], "online": ["online_reference"]}
"""Tensors that set a size of another one: where they are wrong, the other one may be blamed."""
EDGES = [0.0, 1e-6, 1.0, 100.0, 1e5, -1e-9, -1e-7, -1e-6, -1.0, -100.0, -1e5]


def same(a: Tensor, b: Tensor) -> bool:
    """Equal but for the order of sums."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-12, atol=1e-13)


def refused(pattern: str, name: str, given: Given, **options: Any) -> None:
    """The call raises a ValueError whose message begins so."""
    with pytest.raises(ValueError, match=f"^(?:{pattern})"):
        call(name, given, **options)


def further(name: str, given: Given) -> list[str]:
    """Names of the tensors beside the log-likelihoods."""
    return [key for key in given if key in LOSS_TABLE[name].extra or key in ("scores", "mask")]


def trained(name: str, given: Given) -> list[str]:
    """Names of the tensors that the loss has a gradient by."""
    keys = [*policy_keys(given), *(key for key in given if key in TRAINED)]
    return [key for key in keys if key not in CONSTANT.get(name, set())]


def one_value_a_sample(name: str) -> None:
    """[B] unreduced: each value is what the sample gives alone, and the arguments are left as they were."""
    for count in (0, 1, 5):
        given = inputs(name, count)
        before = {key: x.clone() for key, x in given.items()}
        values = call(name, given)
        assert values.shape == (count,)
        assert all(torch.equal(given[key], x) for key, x in before.items())
        for i in range(count):
            assert same(call(name, rows(given, slice(i, i + 1))), values[i : i + 1])


def unlike_in_half(name: str, dtype: torch.dtype) -> Given:
    """Log-likelihoods of sizes 0.0003 to 500, each its own: differences of unlike numbers are not exact in half."""
    given = inputs(name, 40)
    generator = torch.Generator().manual_seed(7)
    for key in policy_keys(given):
        size = (10.0 ** (torch.arange(40) % 5 - 1)).view(-1, *[1] * (given[key].dim() - 1)) / 2
        for other in (key, key.replace("policy", "reference")):
            share = 3.5 ** -torch.randint(5, given[key].shape, generator=generator).double()
            given[other] = -share * size * (1 + 0.3 * torch.rand(given[key].shape, generator=generator))
    return cast(given, dtype)


def half_precision_is_only_stored(name: str) -> None:
    """Half-precision inputs give what the same numbers give in float32, bit for bit; float64 stays float64."""
    for dtype in (torch.bfloat16, torch.float16):
        given = unlike_in_half(name, dtype)
        for options in option_sets(name):
            wide = call(name, cast(given, torch.float32), **options)
            assert wide.dtype == torch.float32
            got = call(name, given, **options)
            assert got.dtype == torch.float32
            assert torch.equal(got, wide), f"{name} computes in {dtype}"
    assert call(name, inputs(name)).dtype == torch.float64


def dtypes_meet_in_the_better_one(name: str) -> None:
    """A reference in half precision, or a policy, does not lower the other one's."""
    if LOSS_TABLE[name].needs_reference:
        for rough in ("policy", "reference"):
            given = cast(inputs(name), torch.bfloat16, rough)
            got = call(name, given)
            assert got.dtype == torch.float64
            torch.testing.assert_close(got, call(name, cast(given, torch.float64)), rtol=1e-6, atol=1e-12)


def lengths_may_be_of_any_type(name: str) -> None:
    """Whole numbers, as a sum over a mask gives them, count as the same numbers in floating point."""
    given = inputs(name)
    floating = {key: x.double() if "length" in key else x for key, x in given.items()}
    assert torch.equal(call(name, floating), call(name, given))
    assert call(name, cast(inputs(name), torch.float32)).dtype == torch.float32


def gradient_is_the_derivative(name: str) -> None:
    """Finite differences in float64 with default and other options; part-detached tensors are told by a mismatch."""
    given = inputs(name, 4)
    loose = HALF_CONSTANT.get(name, [])
    firm = [key for key in trained(name, given) if key not in loose]
    for keys in (firm, *([key] for key in loose)):
        leaves = [given[key].clone().requires_grad_() for key in keys]
        for options in (option_sets(name)[0], *option_sets(name)[2:]) if leaves else ():

            def loss(*x: Tensor, keys: list[str] = keys, options: dict[str, Any] = options) -> Tensor:
                return call(name, {**given, **dict(zip(keys, x, strict=True))}, **options)

            assert torch.autograd.gradcheck(loss, leaves, raise_exception=keys is firm) == (keys is firm)


def at_the_edges(name: str, dtype: torch.dtype, scale: float) -> Given:
    """Log-likelihoods of ±1e5 and around 0 against a reference of 0, and lengths of 0, 1 and 512."""
    columns = sum(inputs(name, 1, size=3)[key].numel() for key in policy_keys(inputs(name, 1)))
    edges = torch.tensor(EDGES)
    if columns <= 2:
        grid = torch.cartesian_prod(*[edges] * columns).view(-1, columns).repeat(3, 1)
    else:
        grid = edges[torch.randint(len(edges), (500, columns), generator=torch.Generator().manual_seed(2))]
    given = inputs(name, len(grid), size=3, scale=scale)
    for key in policy_keys(given):
        part, grid = grid[:, : given[key][0].numel()], grid[:, given[key][0].numel() :]
        given[key] = part.reshape(given[key].shape).double()
        reference = key.replace("policy", "reference")
        given[reference] = torch.zeros_like(given[key])
    for key in [key for key in given if "length" in key]:
        numbers = torch.tensor([0, 1, 512]).repeat_interleave(-(-len(given[key]) // 3))[: len(given[key])]
        given[key] = numbers.view(-1, *[1] * (given[key].dim() - 1)).expand(given[key].shape)
    return cast(given, dtype)


def extremes_stay_finite(name: str) -> None:
    """Value and gradients for log-ratios up to ±1e5, with every option set: β of tokens and of images, every choice."""
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        for scale in (1.0, 1e5):
            given = at_the_edges(name, dtype, scale)
            for options in option_sets(name):
                values, found = gradients(name, given, trained(name, given), **options)
                assert values.isfinite().all(), f"{name} {dtype} {options}"
                assert all(x.isfinite().all() for x in found.values()), f"{name} {dtype} {options}"


def nothing_else_is_trained(name: str) -> None:
    """Rewards, labels, references and what a formula stops are constants; own samples and the like are not."""
    given = inputs(name, 64)
    real = [key for key, x in given.items() if x.is_floating_point()]
    _, found = gradients(name, given, real)
    got, expected = {key for key, x in found.items() if x.any()}, set(trained(name, given))
    assert got == expected, f"{name} trains {got}, and by TRAINED and CONSTANT of loss_checks it is {expected}"


def the_policys_graph_ends_at_constants(name: str) -> None:
    """A reference, a baseline or a reward that hangs on the policy's own graph counts as a constant."""
    given = inputs(name)
    keys = policy_keys(given)
    fixed = {key for key, x in given.items() if x.is_floating_point()} - {*keys, *trained(name, given)}
    _, expected = gradients(name, given, keys)
    leaves = {key: given[key].clone().requires_grad_() for key in keys}
    pull = sum(((leaf - leaf.detach()).sum() for leaf in leaves.values()), torch.zeros(()))
    values = call(name, {**given, **leaves, **{key: given[key] + 3 * pull for key in fixed}})
    if values.requires_grad:
        found = torch.autograd.grad(values.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
        assert all(same(a, expected[key]) for a, key in zip(found, keys, strict=True))
    else:
        assert not any(x.any() for x in expected.values())


def reference_is_needed_as_the_table_says(name: str) -> None:
    """Without one: refused by name, or, where the table says it is not needed, the same as with any."""
    given = inputs(name)
    bare = without_reference(given)
    if LOSS_TABLE[name].needs_reference:
        refused("reference: expected .*got None", name, bare)
        other = {key: x for key, x in inputs(name, seed=1).items() if key.partition(".")[0] == "reference"}
        assert not torch.equal(call(name, {**given, **other}), call(name, given))
    else:
        assert torch.equal(call(name, bare), call(name, given))


def wrong_shapes_of(x: Tensor) -> list[tuple[int, ...]]:
    """Shapes that are not a tensor's, above all those that would broadcast to a wrong answer in silence."""
    shape = tuple(x.shape)
    wrong = [(), (1,), (7,), (*shape, 1), (*shape, 3)]
    wrong += [(1, *shape[1:]), (7, *shape[1:]), shape[:-1]] if shape else []
    wrong += [(shape[0], 1, *shape[2:])] if len(shape) > 1 else []
    return [other for other in dict.fromkeys(wrong) if other != shape]


def other_shapes_are_refused(name: str) -> None:
    """By the argument's name, with what was expected and what came."""
    given = inputs(name)
    if not LOSS_TABLE[name].needs_reference:
        given = without_reference(given)
    for key in [key for key in given if not key.endswith("_length")]:
        for shape in wrong_shapes_of(given[key]):
            if key == "aligned" and len(shape) == 2 and shape[0] == 8:
                continue  # another number of aligned models
            wrong = torch.full(shape, 1.0 / max(1, torch.Size(shape).numel())).to(given[key].dtype)
            # The policy's own shape is what the others are measured by, so they may be blamed.
            blamed = list(given) if key.startswith("policy") else [key, *SIZED_BY.get(key, [])]
            refused(rf"({'|'.join(blamed)}): expected .*\bgot\b", name, {**given, key: wrong})


def missing_tensors_are_refused(name: str) -> None:
    """By name: neither a default nor an error from inside."""
    given = inputs(name)
    for key in LOSS_TABLE[name].extra:
        fewer = {other: x for other, x in given.items() if other != key}
        if (name, key) in OPTIONAL:
            assert call(name, fewer).isfinite().all()
        else:
            with pytest.raises((ValueError, TypeError), match=rf"^{key}: expected|'{key}'"):
                call(name, fewer)


def further_tensors_matter(name: str) -> None:
    """Each is used: other numbers give another loss."""
    given, other = inputs(name, 64), inputs(name, 64, seed=2)
    for key in further(name, given):
        changed = other[key].flip(0) if key in SHARED and other[key].dim() else other[key]
        if not torch.equal(changed, given[key]):
            assert not torch.equal(call(name, {**given, key: changed}), call(name, given)), f"{name}: {key}"


def masks_and_labels_are_bool(name: str) -> None:
    """0 and 1 as numbers would index or weigh in silence."""
    given = inputs(name)
    for key in [key for key, x in given.items() if x.dtype == torch.bool]:
        for dtype in (torch.int64, torch.float32):
            refused(rf"{key}: expected .*bool.*got {dtype}", name, {**given, key: given[key].to(dtype)})


def options_have_bounds(name: str) -> None:
    """The function refuses what the table's bounds refuse, naming the option, and takes bounds that are inclusive."""
    given = inputs(name)
    for option, bounds in LOSS_TABLE[name].options.items():
        if isinstance(bounds.default, bool):
            continue  # a switch: Python's own truth
        wrong: list[Any] = ["no such name"] if bounds.choices else [float("inf"), float("nan"), -0.1]
        if not bounds.choices:
            wrong += [bounds.above] if bounds.at_least is None and bounds.above is not None else []
            wrong += [bounds.below] if bounds.below is not None else []
        for value in wrong:
            assert bounds.fault(value), f"{name}: {option} {value}"
            refused(rf"{option}: expected .*got '?{value}", name, given, **{option: value})
        if bounds.at_least is not None:
            assert call(name, given, **{option: bounds.at_least}).isfinite().all()


def keywords_are_those_of_the_table(name: str) -> None:
    """`loss(policy, reference, *, ...)`: the table's options, the further tensors, and a list's scores and mask."""
    parameters = inspect.signature(LOSSES[name]).parameters
    assert list(parameters)[:2] == ["policy", "reference"]
    rest = list(parameters.values())[2:]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in rest)
    entry = LOSS_TABLE[name]
    assert {p.name for p in rest} == entry.options.keys() | set(further(name, inputs(name))) | entry.optional.keys()
    assert all(p.default is None for p in rest if p.name in entry.optional)
    assert not [o for o in entry.options.values() if o.fault(o.default) or o.fault(o.surrogate)]


CHECKS: list[Callable[[str], None]] = [
    one_value_a_sample,
    half_precision_is_only_stored,
    dtypes_meet_in_the_better_one,
    lengths_may_be_of_any_type,
    gradient_is_the_derivative,
    extremes_stay_finite,
    nothing_else_is_trained,
    the_policys_graph_ends_at_constants,
    reference_is_needed_as_the_table_says,
    other_shapes_are_refused,
    missing_tensors_are_refused,
    further_tensors_matter,
    masks_and_labels_are_bool,
    options_have_bounds,
    keywords_are_those_of_the_table,
]
each_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
