"""The contract of the losses without a reference or per token: shapes, precision, gradients, what is refused."""

from __future__ import annotations

import inspect

import pytest
import torch
from free_losses import FREE, NEED_LENGTHS, defaults, extras, random_answers, value_and_all_gradients, with_lengths

from mmpo.loss_entries.reference_free import ENTRIES
from mmpo.losses import PairLogps

each = pytest.mark.parametrize("name", sorted(ENTRIES))
each_with_lengths = pytest.mark.parametrize("name", NEED_LENGTHS)
each_number = pytest.mark.parametrize(
    ("name", "option"),
    [(n, o) for n, entry in ENTRIES.items() for o, v in entry.options.items() if not isinstance(v.default, bool)],
)


def test_every_row_has_its_function() -> None:
    assert FREE.keys() == ENTRIES.keys()


@each
def test_options_and_extra_tensors_are_the_keyword_only_parameters(name: str) -> None:
    parameters = inspect.signature(FREE[name]).parameters
    assert list(parameters)[:2] == ["policy", "reference"]
    rest = {key: p for key, p in parameters.items() if key not in ("policy", "reference")}
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in rest.values())
    assert rest.keys() == {*ENTRIES[name].options, *ENTRIES[name].extra}
    for option in ENTRIES[name].options.values():
        assert option.fault(option.default) == option.fault(option.surrogate) == ""


@each
@pytest.mark.parametrize("count", [0, 1, 5])
def test_one_value_per_pair_and_no_coupling(name: str, count: int) -> None:
    policy, reference = random_answers(count)
    values = FREE[name](policy, reference, **extras(name, count), **defaults(name))
    assert values.shape == (count,)
    for i in range(count):
        one = PairLogps(*(x[i : i + 1] for x in policy))
        ref = PairLogps(*(x[i : i + 1] for x in reference[:2]))
        extra = {key: value[i : i + 1] for key, value in extras(name, count).items()}
        assert torch.equal(FREE[name](one, ref, **extra, **defaults(name)), values[i : i + 1])


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_arithmetic_is_float32_or_better(name: str, dtype: torch.dtype) -> None:
    """Half-precision inputs, exact in every dtype, give what the same numbers give in float32, bit for bit."""
    numbers = ([-1000.0, -0.5], [-0.5, -1000.0], [-0.5, -1000.0], [-1000.0, -0.5], [7.0, 3.0], [3.0, 7.0])
    precise = torch.float64 if dtype == torch.float64 else torch.float32
    got, expected = (
        FREE[name](*with_lengths(numbers, d), **extras(name, 2, d), **defaults(name)) for d in (dtype, precise)
    )
    assert got.dtype == precise
    assert torch.equal(got, expected)


@each
def test_lengths_may_be_integers(name: str) -> None:
    """As a sum over a mask gives them."""
    policy, reference = random_answers()
    whole = policy._replace(chosen_length=policy[2].long(), rejected_length=policy[3].long())  # type: ignore[union-attr]
    got, expected = (FREE[name](x, reference, **extras(name, 8), **defaults(name)) for x in (whole, policy))
    assert got.dtype == torch.float64
    assert torch.equal(got, expected)


@each
@pytest.mark.parametrize("other", [{}, {"beta": 1.3, "gamma": 0.7, "length_normalized": True}])
def test_gradient_is_the_derivative(name: str, other: dict[str, float]) -> None:
    """Finite differences in float64, clear of the hinges' kinks; the extra tensors are leaves too."""
    policy, reference = random_answers()
    options = defaults(name)
    options |= {key: value for key, value in other.items() if key in options}
    names = list(extras(name, 8))
    leaves = [x.requires_grad_() for x in (*policy[:2], *extras(name, 8).values())]
    torch.autograd.gradcheck(
        lambda chosen, rejected, *more: FREE[name](
            PairLogps(chosen, rejected, *policy[2:]), reference, **dict(zip(names, more, strict=True)), **options
        ),
        leaves,
    )


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["default", "surrogate"])
@pytest.mark.parametrize("length", [0.0, 1.0, 512.0])
def test_extreme_values_stay_finite(name: str, dtype: torch.dtype, kind: str, length: float) -> None:
    """Value and gradient for log-likelihoods and ratios up to ±1e5, also of an empty answer and at p = 1."""
    edges = torch.tensor([0.0, 1e-6, 1.0, 100.0, 1e5, -1e-9, -1e-7, -1e-6, -1.0, -100.0, -1e5])
    grid = torch.cartesian_prod(edges, edges)
    zero = torch.zeros(len(grid))
    policy, reference = with_lengths((grid[:, 0], grid[:, 1], zero, zero, zero + length, zero + length), dtype)
    extra = extras(name, len(grid), dtype)
    for tensor in value_and_all_gradients(FREE[name], policy, reference, **extra, **defaults(name, kind)):
        assert tensor.isfinite().all()


@each
def test_need_of_a_reference_is_as_the_table_says(name: str) -> None:
    policy, reference = random_answers()
    given = {**extras(name, 8), **defaults(name)}
    if ENTRIES[name].needs_reference:
        with pytest.raises(ValueError, match="reference: expected"):
            FREE[name](policy, None, **given)
        with pytest.raises(ValueError, match=r"reference\.chosen: expected shape \[8\]"):
            FREE[name](policy, reference._replace(chosen=torch.zeros(1)), **given)
    else:
        assert torch.equal(*(FREE[name](policy, x, **given) for x in (reference, None)))


def test_no_gradient_through_the_reference() -> None:
    policy, reference = random_answers()
    leaves = [side.requires_grad_() for side in policy[:2]]
    attached = PairLogps(*(r + 3 * (leaf - leaf.detach()) for r, leaf in zip(reference[:2], leaves, strict=True)))
    loss = FREE["length_normalized_dpo"]
    got = torch.autograd.grad(loss(policy, attached, beta=5.0).sum(), leaves)
    expected = value_and_all_gradients(loss, policy, reference, beta=5.0)[1:]
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@each
@pytest.mark.parametrize("shape", [[], [8, 1], [2, 4]])
def test_only_one_number_per_candidate_is_accepted(name: str, shape: list[int]) -> None:
    x = PairLogps(torch.zeros(shape), torch.zeros(shape), torch.ones(shape), torch.ones(shape))
    with pytest.raises(ValueError, match=r"policy\.chosen: expected shape \[B\], got \["):
        FREE[name](x, x, **extras(name, 8), **defaults(name))


@each
@pytest.mark.parametrize("shape", [[1], [7], [8, 8], []])
def test_other_shapes_are_refused_by_name(name: str, shape: list[int]) -> None:
    """Also those that would broadcast to a wrong answer in silence, such as [1]."""
    policy, reference = random_answers()
    given = {**extras(name, 8), **defaults(name)}
    with pytest.raises(ValueError, match=r"policy\.rejected: expected shape \[8\]"):
        FREE[name](policy._replace(rejected=torch.zeros(shape)), reference, **given)
    for key in extras(name, 8):
        with pytest.raises(ValueError, match=rf"{key}: expected .*, shape \[8\], got \["):
            FREE[name](policy, reference, **{**given, key: torch.zeros(shape)})


@each_with_lengths
@pytest.mark.parametrize("side", ["chosen_length", "rejected_length"])
def test_lengths_are_asked_for_by_name(name: str, side: str) -> None:
    policy, reference = random_answers()
    with pytest.raises(ValueError, match=rf"policy\.{side}: expected the number of scored tokens, .*got None"):
        FREE[name](policy._replace(**{side: None}), reference, **defaults(name))
    with pytest.raises(ValueError, match=rf"policy\.{side}: expected .*shape \[8\], got \[1\]"):
        FREE[name](policy._replace(**{side: torch.ones(1)}), reference, **defaults(name))


@pytest.mark.parametrize("name", ["cpo", "triple_po"])
def test_lengths_of_another_shape_are_refused_where_they_are_used(name: str) -> None:
    policy, _ = random_answers()
    given = {**extras(name, 8), **defaults(name)}
    if name == "triple_po":
        given["length_normalized"] = True
    with pytest.raises(ValueError, match=r"policy\.chosen_length: expected .*shape \[8\], got \[1\]"):
        FREE[name](policy._replace(chosen_length=torch.ones(1)), None, **given)


@each_number
@pytest.mark.parametrize("value", [0.0, -0.1, float("inf"), float("nan")])
def test_function_and_table_refuse_the_same_numbers(name: str, option: str, value: float) -> None:
    """The error names the option and what came; a weight or a margin may be 0, a strength may not."""
    policy, reference = random_answers()
    given = {**extras(name, 8), **defaults(name), option: value}
    if ENTRIES[name].options[option].fault(value):
        with pytest.raises(ValueError, match=rf"{option}: expected a finite number .*, got {value}"):
            FREE[name](policy, reference, **given)
    else:
        assert value == 0
        assert FREE[name](policy, reference, **given).isfinite().all()
