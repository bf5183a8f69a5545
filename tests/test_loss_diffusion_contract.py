"""The contract of the losses of denoising errors: shapes, precision, gradients, invariances, and what is refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from loss_cases import pair, random_pairs
from torch import Tensor

from mmpo.loss_entries.diffusion import ENTRIES
from mmpo.losses import PairLogps, diffusion_only

LOSSES: dict[str, Callable[..., Tensor]] = {name: getattr(diffusion_only, name) for name in ENTRIES}
PAIRS = [name for name, entry in ENTRIES.items() if entry.family == "pair"]
each = pytest.mark.parametrize("name", list(ENTRIES))
each_pair_loss = pytest.mark.parametrize("name", PAIRS)
with_reference = pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.needs_reference])


def extras(name: str, count: int) -> dict[str, Tensor]:
    """The further tensors of a loss, random."""
    generator = torch.Generator().manual_seed(5)
    uniform = torch.rand(count, generator=generator, dtype=torch.float64)
    given = {"chosen_drift": uniform, "preference": uniform, "photo_wins": uniform < 0.5, "desirable": uniform < 0.5}
    return {key: given[key] for key in ENTRIES[name].extra if key != "z0"}


def settings(name: str, kind: str = "surrogate") -> dict[str, Any]:
    """A loss's options, and the baseline 0.1 where it takes one (a single number for the whole batch)."""
    values = {option: getattr(value, kind) for option, value in ENTRIES[name].options.items()}
    return {**values, **({"z0": torch.tensor(0.1, dtype=torch.float64)} if "z0" in ENTRIES[name].extra else {})}


def arguments(name: str, policy: PairLogps, reference: PairLogps | None) -> tuple[Any, Any]:
    """Pairs as a loss takes them: a loss of single samples gets the chosen sides."""
    if name in PAIRS:
        return policy, reference
    return policy.chosen, None if reference is None else reference.chosen


def call(name: str, policy: PairLogps, reference: PairLogps | None, **changes: Any) -> Tensor:
    """The loss [B] with random further tensors and the surrogates' options, or these."""
    given = {**extras(name, len(policy.chosen)), **settings(name), **changes}
    return LOSSES[name](*arguments(name, policy, reference), **given)


def gradients(name: str, policy: PairLogps, reference: PairLogps | None, **changes: Any) -> tuple[Tensor, ...]:
    """Loss [B] and derivatives by both sides."""
    leaves = [side.detach().clone().requires_grad_() for side in policy[:2]]
    value = call(name, PairLogps(*leaves), reference, **changes)
    return value.detach(), *torch.autograd.grad(value.sum(), leaves, allow_unused=True, materialize_grads=True)


def small(count: int = 8, seed: int = 0) -> tuple[PairLogps, PairLogps]:
    """Log-likelihoods −½·error of errors around 0.1, policy and reference within about 1e-4."""
    noise = torch.randn(4, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values = -0.05 - 1e-4 * noise
    return pair(values[0], values[1]), pair(values[2], values[3])


@each
def test_signature_is_as_the_table_says(name: str) -> None:
    """`loss(policy, reference, *, extra, options)`, with defaults that the row itself allows."""
    parameters = inspect.signature(LOSSES[name]).parameters
    assert list(parameters)[:2] == ["policy", "reference"]
    rest = {key: p for key, p in parameters.items() if key not in ("policy", "reference")}
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in rest.values())
    assert rest.keys() == {*ENTRIES[name].extra, *ENTRIES[name].options}
    for kind in ("default", "surrogate"):
        assert not [o for o in ENTRIES[name].options.values() if o.fault(getattr(o, kind))]
    assert not ENTRIES[name].not_for_surrogates


@each
@pytest.mark.parametrize("count", [0, 1, 5])
def test_one_value_per_sample_and_no_coupling(name: str, count: int) -> None:
    """[B] unreduced, each as alone (a baseline is an argument, not computed inside)."""
    policy, reference = small(count)
    further = extras(name, count)
    values = call(name, policy, reference, **further)
    assert values.shape == (count,)
    for i in range(count):
        one = [PairLogps(x.chosen[i : i + 1], x.rejected[i : i + 1]) for x in (policy, reference)]
        alone = call(name, *one, **{key: value[i : i + 1] for key, value in further.items()})
        torch.testing.assert_close(alone, values[i : i + 1], rtol=1e-13, atol=0)


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_arithmetic_is_float32_or_better(name: str, dtype: torch.dtype) -> None:
    """Half-precision log-likelihoods give what the same numbers give in float32, bit for bit."""
    precise = torch.float64 if dtype == torch.float64 else torch.float32
    policy, reference = (pair(*(side.to(dtype) for side in x[:2]), dtype) for x in small())
    wide = [pair(*(side.to(precise) for side in x[:2]), precise) for x in (policy, reference)]
    changes = {k: v.to(precise) for k, v in extras(name, 8).items() if v.dtype != torch.bool}
    got = call(name, policy, reference, **changes)
    assert got.dtype == precise
    assert torch.equal(got, call(name, *wide, **changes))


@each
def test_gradient_is_the_derivative(name: str) -> None:
    """Finite differences in float64, at token-sized log-ratios with mild options and away from δ_w = 0."""
    policy, reference = random_pairs()
    leaves = [side.requires_grad_() for side in policy[:2]]
    mild = {key: 0.7 for key in settings(name) if key not in ("utility", "z0")}
    torch.autograd.gradcheck(lambda *sides: call(name, PairLogps(*sides), reference, **mild), leaves)


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["default", "surrogate"])
def test_extreme_ratios_stay_finite(name: str, dtype: torch.dtype, kind: str) -> None:
    """Value and gradient for log-ratios up to ±1e5 on either side."""
    edges = torch.tensor([0.0, 1e-6, 1.0, 100.0, 1e5, -1e-6, -1.0, -100.0, -1e5])
    grid = torch.cartesian_prod(edges, edges).unbind(1)
    zero = torch.zeros(len(grid[0]))
    for tensor in gradients(name, pair(*grid, dtype), pair(zero, zero, dtype), **settings(name, kind)):
        assert tensor.isfinite().all()


@with_reference
def test_no_gradient_through_the_reference(name: str) -> None:
    """A reference on the policy's own graph is a constant; so are a baseline and a preference, a drift is not."""
    policy, reference = small()
    leaves = [side.detach().clone().requires_grad_() for side in policy[:2]]
    attached = PairLogps(*(r + 3 * (leaf - leaf.detach()) for r, leaf in zip(reference[:2], leaves, strict=True)))
    tied = (leaves[0] - leaves[0].detach()).sum()
    changes = {key: settings(name)[key] + tied for key in settings(name).keys() & {"z0"}}
    changes |= {key: extras(name, 8)[key] + tied for key in ENTRIES[name].extra if key == "preference"}
    value = call(name, PairLogps(*leaves), attached, **changes)
    got = torch.autograd.grad(value.sum(), leaves, allow_unused=True, materialize_grads=True)
    assert all(torch.equal(a, b) for a, b in zip(got, gradients(name, policy, reference)[1:], strict=True))


def test_the_drift_carries_gradient() -> None:
    """It is a distance of the policy: ∂/∂D = −c·(1 − c)."""
    policy, reference = small()
    drift = extras("dspo", 8)["chosen_drift"].requires_grad_()
    (gradient,) = torch.autograd.grad(call("dspo", policy, reference, chosen_drift=drift, beta=1e-6).sum(), drift)
    torch.testing.assert_close(gradient, torch.full_like(gradient, -0.5e-6), rtol=1e-5, atol=0)


def test_dspo_reaches_the_rejected_through_its_factor_only() -> None:
    """∂L/∂logp_rejected has the sign of ∂L/∂c = 2·δ_w − (1 − 2c)·D: with a drift it lifts the rejected as well."""
    policy, _ = small()
    reference = PairLogps(policy.chosen - 1e-4, policy.rejected)
    for drift, sign in ((0.0, 1), (1e-3, -1)):
        _, _, rejected = gradients("dspo", policy, reference, chosen_drift=torch.full((8,), drift))
        assert (rejected.sign() == sign).all()


@each_pair_loss
def test_a_shift_by_the_prompt(name: str) -> None:
    """c(x) on chosen and rejected cancels in SmPO only: the others also hold the chosen's own error or sign."""
    policy, reference = small()
    shifted = PairLogps(policy.chosen - 2e-4, policy.rejected - 2e-4)
    before, after = call(name, policy, reference), call(name, shifted, reference)
    if name == "sm_po":
        torch.testing.assert_close(after, before, rtol=1e-9, atol=0)
    else:
        assert not torch.allclose(after, before, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ["sm_po", "subject_rpo"])
def test_swapping_the_pair_and_its_label_changes_nothing(name: str) -> None:
    """p to 1 − p, or the photo's win to a loss (without its error): the same comparison."""
    policy, reference = small()
    swapped = [PairLogps(x.rejected, x.chosen) for x in (policy, reference)]
    key, changes = ("preference", {}) if name == "sm_po" else ("photo_wins", {"sft_weight": 0.0})
    label = extras(name, 8)[key]
    other = 1 - label if name == "sm_po" else ~label
    torch.testing.assert_close(
        call(name, *swapped, **{key: other}, **changes), call(name, policy, reference, **{key: label}, **changes)
    )


@each
def test_gradients_point_at_the_better(name: str) -> None:
    """Near policy == reference the liked image's likelihood rises; the other's falls, or, where stated, is left."""
    policy, reference = small()
    reference = PairLogps(policy.chosen - 1e-6, policy.rejected - 1e-6)
    sure = {"preference": torch.full((8,), 0.7), "photo_wins": torch.ones(8, dtype=torch.bool)}
    sure |= {"desirable": torch.ones(8, dtype=torch.bool), "chosen_drift": torch.zeros(8)}
    changes = {key: value for key, value in sure.items() if key in ENTRIES[name].extra}
    _, chosen, rejected = gradients(name, policy, reference, **changes)
    # KTO's baseline of 0.1 lies far above these ratios, where its gradient is e^-1000: put it at 0.
    if name == "diffusion_kto":
        chosen = gradients(name, policy, reference, z0=torch.tensor(0.0), **changes)[1]
        disliked = gradients(name, policy, reference, z0=torch.tensor(0.0), desirable=~sure["desirable"])[1]
        assert (disliked > 0).all()
    assert (chosen < 0).all()
    assert (rejected > 0).all() if name in PAIRS else (rejected == 0).all()


@each_pair_loss
@pytest.mark.parametrize("shape", [[], [8, 1], [2, 4]])
def test_only_one_number_per_candidate_is_accepted(name: str, shape: list[int]) -> None:
    x = PairLogps(torch.zeros(shape), torch.zeros(shape))
    with pytest.raises(ValueError, match=r"policy\.chosen: expected shape \[B\], got \["):
        LOSSES[name](x, x, **extras(name, 8), **settings(name))


@each
def test_other_shapes_are_refused_by_name(name: str) -> None:
    """Also those that would broadcast to a wrong answer in silence, such as [1]."""
    policy, reference = small()
    for shape in ([1], [7], [8, 8], []):
        for key in ENTRIES[name].extra:
            if key == "z0" and not shape:
                continue
            kind = torch.bool if key in ("photo_wins", "desirable") else torch.float64
            with pytest.raises(ValueError, match=rf"{key}: expected .*shape \[8\], got"):
                call(name, policy, reference, **{key: torch.zeros(shape, dtype=kind)})
        if ENTRIES[name].needs_reference:
            wrong = reference._replace(chosen=torch.zeros(shape))
            with pytest.raises(ValueError, match=r"reference(\.chosen)?: expected .*shape \[8\]"):
                call(name, policy, wrong)


def test_a_baseline_per_sample_is_accepted() -> None:
    """[] and [B] with the same number are the same."""
    policy, reference = small()
    one = call("diffusion_kto", policy, reference, z0=torch.tensor(1e-5, dtype=torch.float64))
    many = call("diffusion_kto", policy, reference, z0=torch.full((8,), 1e-5, dtype=torch.float64))
    assert torch.equal(one, many)
    with pytest.raises(ValueError, match=r"policy: expected shape \[B\]"):
        LOSSES["diffusion_kto"](
            torch.zeros(2, 2), torch.zeros(2, 2), **extras("diffusion_kto", 2), **settings("diffusion_kto")
        )


@with_reference
def test_a_missing_reference_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="reference: expected"):
        call(name, small()[0], None)


def test_mapo_needs_no_reference() -> None:
    policy, reference = small()
    assert torch.equal(call("mapo", policy, None), call("mapo", policy, reference))


@pytest.mark.parametrize(("name", "key"), [("diffusion_kto", "desirable"), ("subject_rpo", "photo_wins")])
def test_labels_are_true_or_false(name: str, key: str) -> None:
    """0 and 1 as numbers would index or weigh in silence."""
    with pytest.raises(ValueError, match=rf"^{key}: expected true or false"):
        call(name, *small(), **{key: torch.ones(8)})


@pytest.mark.parametrize("value", [1.2, -0.1, float("nan")])
def test_a_preference_is_a_probability(value: float) -> None:
    preference = torch.full((8,), 0.6)
    preference[3] = value
    with pytest.raises(ValueError, match=r"preference: expected probabilities, 0 to 1"):
        call("sm_po", *small(), preference=preference)


def bad_options() -> list[tuple[str, str, Any]]:
    """Every option with values that may be outside its bounds; names for names, numbers for numbers."""
    numbers: tuple[Any, ...] = (0.0, -0.1, float("inf"), float("nan"))
    every = [(name, key, option) for name, entry in ENTRIES.items() for key, option in entry.options.items()]
    return [(name, key, value) for name, key, o in every for value in (("no such name",) if o.choices else numbers)]


@pytest.mark.parametrize(("name", "option", "value"), bad_options())
def test_options_have_bounds(name: str, option: str, value: Any) -> None:
    """The function refuses what its row of the table refuses, naming the option and what came."""
    if ENTRIES[name].options[option].fault(value):
        with pytest.raises(ValueError, match=rf"^{option}: expected .*, got "):
            call(name, *small(), **{option: value})
    else:
        assert call(name, *small(), **{option: value}).isfinite().all()
