"""The losses: one contract for all, golden values from the formulas, properties, and the table that describes them."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmpo.loss_table import LOSS_TABLE
from mmpo.losses import LOSSES, PairLogps
from mmpo.losses.diagnostics import accuracies, implied_rewards

each_loss = pytest.mark.parametrize("name", sorted(LOSSES))
each_option = pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name, entry in sorted(LOSS_TABLE.items()) for option in entry.options]
)
needing_reference = pytest.mark.parametrize("name", [name for name, e in LOSS_TABLE.items() if e.needs_reference])
properties = settings(max_examples=60, deadline=None, derandomize=True, database=None)
number = st.floats(-50, 50)
strength = st.floats(0.01, 2)

CASES = {  # chosen and rejected of the policy, then of the reference
    "A": (-12.0, -15.0, -13.0, -14.5),  # δ_w = +1, δ_l = −0.5, Δ = +1.5
    "B": (-20.0, -18.0, -19.2, -18.4),  # δ_w = −0.8, δ_l = +0.4, Δ = −1.2
    "C": (-12.0, -15.0, -12.0, -15.0),  # policy == reference
}


def defaults(name: str) -> dict[str, float]:
    """A loss's options for sums over tokens."""
    return {option: value.default for option, value in LOSS_TABLE[name].options.items()}


def pair(chosen: object, rejected: object, dtype: torch.dtype = torch.float64) -> PairLogps:
    """Log-likelihoods from numbers; one number becomes [1]."""
    return PairLogps(*(torch.atleast_1d(torch.as_tensor(side, dtype=dtype)) for side in (chosen, rejected)))


def random_pairs(count: int = 8, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[PairLogps, PairLogps]:
    """Policy and reference around −20, log-ratios of either sign."""
    values = torch.randn(4, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 20
    return pair(values[0], values[1], dtype), pair(values[2], values[3], dtype)


def value_and_gradients(
    loss: Callable[..., Tensor], policy: PairLogps, reference: PairLogps | None, **options: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss [B] and its derivatives by chosen and rejected, each [B] (a sum over B separates them)."""
    leaves = [side.detach().clone().requires_grad_() for side in policy[:2]]
    value = loss(PairLogps(*leaves), reference, **options)
    chosen, rejected = torch.autograd.grad(value.sum(), leaves, allow_unused=True, materialize_grads=True)
    return value.detach(), chosen, rejected


def of(name: str, numbers: tuple[float, ...], **options: float) -> float:
    """A loss on one pair of (l_w, l_l, r_w, r_l) in float64."""
    l_w, l_l, r_w, r_l = numbers
    return LOSSES[name](pair(l_w, l_l), pair(r_w, r_l), **options).item()


# ---- the contract ----


@each_loss
@pytest.mark.parametrize("count", [0, 1, 5])
def test_one_value_per_pair_and_no_coupling_between_pairs(name: str, count: int) -> None:
    """[B] unreduced: each value is what the pair gives alone, and the arguments are left as they were."""
    policy, reference = random_pairs(count)
    before = [side.clone() for side in (*policy[:2], *reference[:2])]
    values = LOSSES[name](policy, reference, **defaults(name))
    assert values.shape == (count,)
    for i in range(count):
        one = [PairLogps(x.chosen[i : i + 1], x.rejected[i : i + 1]) for x in (policy, reference)]
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
    rough = PairLogps(*(side.bfloat16() for side in reference[:2]))
    same = PairLogps(*(side.bfloat16().double() for side in reference[:2]))
    got = LOSSES[name](policy, rough, **defaults(name))
    torch.testing.assert_close(got, LOSSES[name](policy, same, **defaults(name)), rtol=1e-12, atol=0)


@each_loss
def test_gradient_is_the_derivative(name: str) -> None:
    """Finite differences in float64; random log-ratios keep clear of the kinks at δ_l = 0 and β·Δ = 1."""
    policy, reference = random_pairs()
    leaves = [side.requires_grad_() for side in policy[:2]]
    for options in (defaults(name), dict.fromkeys(defaults(name), 1.3)):
        torch.autograd.gradcheck(lambda *sides, o=options: LOSSES[name](PairLogps(*sides), reference, **o), leaves)


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
    values = LOSSES[name](PairLogps(*leaves), attached, **defaults(name))
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
        shifted = PairLogps(reference.chosen + 0.3, reference.rejected)
        assert not torch.equal(*(LOSSES[name](policy, x, **defaults(name)) for x in (reference, shifted)))
    else:
        assert torch.equal(*(LOSSES[name](policy, x, **defaults(name)) for x in (reference, None)))


@each_option
@pytest.mark.parametrize("value", [0.0, -0.1, float("inf"), float("nan")])
def test_options_must_be_positive(name: str, option: str, value: float) -> None:
    """β ≤ 0 would train against the preferences; the error names the option and what came."""
    with pytest.raises(ValueError, match=rf"{option}: expected .* above 0, got {value}"):
        LOSSES[name](*random_pairs(), **{option: value})


# ---- the table ----


def test_table_and_functions_have_the_same_names() -> None:
    """A recipe can name exactly what can be computed."""
    assert LOSS_TABLE.keys() == LOSSES.keys()


@each_loss
def test_table_options_are_the_keyword_only_parameters(name: str) -> None:
    """`loss(policy, reference, *, ...)`, and the table knows each option, with defaults the function accepts."""
    parameters = inspect.signature(LOSSES[name]).parameters
    assert list(parameters)[:2] == ["policy", "reference"]
    rest = {key: p for key, p in parameters.items() if key not in ("policy", "reference")}
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in rest.values())
    assert rest.keys() == LOSS_TABLE[name].options.keys()
    for option in LOSS_TABLE[name].options.values():
        assert option.default > option.above
        assert option.surrogate > option.above


def test_losses_load_torch_and_nothing_else() -> None:
    """The core can be used in any trainer: beyond what `import torch` brings, only mmpo and the standard library."""
    program = (
        "import sys, torch, torch.nn.functional\n"
        "before = {name.split('.')[0] for name in sys.modules}\n"
        "import mmpo.losses, mmpo.losses.diagnostics\n"
        "after = {name.split('.')[0] for name in sys.modules}\n"
        "new = after - before - set(sys.stdlib_module_names) - {'mmpo'}\n"
        "assert not new, new\n"
        "heavy = {'diffusers', 'transformers', 'peft', 'accelerate', 'pydantic', 'yaml', 'rewards', 'pipelines'}\n"
        "assert not heavy & after, heavy & after\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_recipe_loads_no_torch() -> None:
    """A recipe is checked, and `--help` printed, before anything heavy is imported."""
    program = (
        "import sys, mmpo.recipe, mmpo.loss_table, mmpo.beta\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'peft', 'accelerate', 'numpy', 'rewards', 'pipelines'}\n"
        "assert not heavy & {name.split('.')[0] for name in sys.modules}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# ---- golden values ----

GOLDEN = [
    ("dpo", {"beta": 0.1}, "A", 0.62095704779, -0.046257015, 0.046257015),  # z = 0.15
    ("dpo", {"beta": 1.0}, "A", 0.201413277983, -0.18242552, 0.18242552),  # z = 1.5
    ("dpo", {"beta": 0.1}, "B", 0.754946101596, -0.052996405, 0.052996405),  # z = −0.12
    ("dpo", {"beta": 1.0}, "B", 1.46328246734, -0.76852478, 0.76852478),  # z = −1.2
    ("dpo", {"beta": 0.1}, "C", 0.69314718056, -0.05, 0.05),
    ("dpo", {"beta": 1.0}, "C", 0.69314718056, -0.5, 0.5),
    ("minor_dpo", {"beta": 0.1}, "A", 0.644396660074, -0.047502081, 0.0),  # z = 0.1: the rejected side is clamped
    ("minor_dpo", {"beta": 1.0}, "A", 0.313261687518, -0.26894142, 0.0),  # z = 1
    ("minor_dpo", {"beta": 0.1}, "B", 0.754946101596, -0.052996405, 0.052996405),  # δ_l > 0: DPO
    ("minor_dpo", {"beta": 1.0}, "B", 1.46328246734, -0.76852478, 0.76852478),
    ("minor_dpo", {"beta": 0.1}, "C", 0.69314718056, -0.05, 0.0),
    ("minor_dpo", {"beta": 1.0}, "C", 0.69314718056, -0.5, 0.0),
    ("ipo", {"tau": 0.1}, "A", 12.25, -7.0, 7.0),  # (1.5 − 5)², 2·(1.5 − 5)
    ("ipo", {"tau": 0.1}, "B", 38.44, -12.4, 12.4),  # (−1.2 − 5)²
    ("ipo", {"tau": 0.1}, "C", 25.0, -10.0, 10.0),
    ("hinge", {"beta": 0.1}, "A", 0.85, -0.1, 0.1),  # 1 − 0.15
    ("hinge", {"beta": 0.1}, "B", 1.12, -0.1, 0.1),  # 1 + 0.12
    ("hinge", {"beta": 0.1}, "C", 1.0, -0.1, 0.1),
    ("hinge", {"beta": 1.0}, "A", 0.0, 0.0, 0.0),  # z = 1.5 is beyond the hinge
    ("sft", {}, "A", 12.0, -1.0, 0.0),
    ("sft", {}, "B", 20.0, -1.0, 0.0),
]


@pytest.mark.parametrize(("name", "options", "case", "value", "chosen", "rejected"), GOLDEN)
def test_golden_values(
    name: str, options: dict[str, float], case: str, value: float, chosen: float, rejected: float
) -> None:
    """Value and both derivatives on three pairs, from the formulas.

    DPO: log(1 + e^(−z)) with z = β·Δ, derivative by logp_chosen −β/(1 + e^z), by logp_rejected its negative.
    MinorDPO: z = β·δ_w − β·max(0, δ_l), rejected derivative only where δ_l > 0. IPO: (Δ − 1/(2τ))², derivative
    2·(Δ − 1/(2τ)). Hinge: max(0, 1 − z), derivative −β below z = 1. At C every logistic loss is ln 2. The DPO, IPO
    and hinge numbers were also obtained by running the methods' published code on the same pairs.
    """
    l_w, l_l, r_w, r_l = CASES[case]
    got = value_and_gradients(LOSSES[name], pair(l_w, l_l), pair(r_w, r_l), **options)
    expected = torch.tensor([[value], [chosen], [rejected]], dtype=torch.float64)
    torch.testing.assert_close(torch.stack(got), expected, rtol=1e-10, atol=5e-9)
    assert got[0].item() == pytest.approx(value, rel=2e-11, abs=1e-11)


MINOR_MORE = [  # δ_w, δ_l, β, then value and derivatives
    (2.0, 3.0, 0.5, 0.97407698418, -0.311229665601, 0.311229665601),
    (2.0, -3.0, 0.5, 0.313261687518, -0.134470710685, 0.0),
    (1.0, 1e-9, 0.1, 0.644396660121, -0.0475020812546, 0.0475020812546),
    (1.0, -1e-9, 0.1, 0.644396660074, -0.0475020812521, 0.0),
    (1.0, 0.0, 0.1, 0.644396660074, -0.0475020812521, 0.0),
]


@pytest.mark.parametrize(("delta_w", "delta_l", "beta", "value", "chosen", "rejected"), MINOR_MORE)
def test_minor_dpo_on_both_sides_of_the_gate(
    delta_w: float, delta_l: float, beta: float, value: float, chosen: float, rejected: float
) -> None:
    """z = β·(δ_w − max(0, δ_l)): −0.5, 1, then 0.1 from just above, just below and at the gate."""
    got = value_and_gradients(LOSSES["minor_dpo"], pair(delta_w, delta_l), pair(0.0, 0.0), beta=beta)
    assert [x.item() for x in got] == pytest.approx([value, chosen, rejected], rel=1e-11, abs=1e-13)


@pytest.mark.parametrize(
    ("errors", "dpo", "minor"),
    [
        ((0.1000, 0.1200, 0.1002, 0.1197), 0.251929081345, 0.47407698418),
        ((0.1000, 0.1200, 0.0999, 0.1202), 1.13687100611, 1.13687100611),
    ],
    ids=["D1", "D2"],
)
def test_official_diffusion_beta(errors: tuple[float, ...], dpo: float, minor: float) -> None:
    """β = 5000 on logp := −½·error is the authors' code, −log σ(−0.5·5000·((e_w − e_l) − (ref_w − ref_l))).

    D1: −2500·(−0.0200 + 0.0195) = 1.25 and log(1 + e^−1.25) = 0.2519; there the rejected image is denoised worse than
    by the reference, so MinorDPO keeps δ_w alone: z = 2500·0.0002 = 0.5. D2: −2500·(−0.0200 + 0.0203) = −0.75, and
    the rejected image is denoised better, so MinorDPO is DPO.
    """
    logps = tuple(-0.5 * error for error in errors)
    assert of("dpo", logps, beta=5000.0) == pytest.approx(dpo, rel=1e-9)
    assert of("minor_dpo", logps, beta=5000.0) == pytest.approx(minor, rel=1e-9)


# ---- properties ----


@pytest.mark.parametrize(("name", "option"), [("dpo", "beta"), ("ipo", "tau"), ("hinge", "beta")])
@properties
@given(st.tuples(number, number, number, number), number, strength)
def test_a_shift_by_the_prompt_changes_nothing(
    name: str, option: str, numbers: tuple[float, ...], shift: float, value: float
) -> None:
    """c(x) added to the policy's chosen and rejected cancels in Δ."""
    l_w, l_l, r_w, r_l = numbers
    before = of(name, numbers, **{option: value})
    after = of(name, (l_w + shift, l_l + shift, r_w, r_l), **{option: value})
    assert after == pytest.approx(before, rel=1e-9, abs=1e-9)


@properties
@given(st.floats(-5, 5), st.floats(-5, -0.1), st.floats(0.1, 5), strength)
def test_a_shift_by_the_prompt_changes_minor_dpo(delta_w: float, delta_l: float, shift: float, beta: float) -> None:
    """Below the gate a shift up moves δ_w more than max(0, δ_l), so the loss falls: it is not invariant."""
    before = of("minor_dpo", (delta_w, delta_l, 0.0, 0.0), beta=beta)
    assert of("minor_dpo", (delta_w + shift, delta_l + shift, 0.0, 0.0), beta=beta) < before


@needing_reference
@properties
@given(st.tuples(number, number, number, number), number, number)
def test_only_log_ratios_count(name: str, numbers: tuple[float, ...], chosen: float, rejected: float) -> None:
    """What is added to policy and reference alike, differently on each side, changes nothing (gates included)."""
    l_w, l_l, r_w, r_l = numbers
    before = of(name, numbers, **defaults(name))
    after = of(name, (l_w + chosen, l_l + rejected, r_w + chosen, r_l + rejected), **defaults(name))
    assert after == pytest.approx(before, rel=1e-9, abs=1e-9)


@properties
@given(st.tuples(number, number, number, number), strength)
def test_swapping_the_pair_flips_the_logit(numbers: tuple[float, ...], value: float) -> None:
    """softplus(z) − softplus(−z) = z for DPO; (Δ + t)² − (Δ − t)² = 4·Δ·t with t = 1/(2τ) for IPO."""
    l_w, l_l, r_w, r_l = numbers
    delta = (l_w - r_w) - (l_l - r_l)
    swapped = (l_l, l_w, r_l, r_w)
    difference = of("dpo", swapped, beta=value) - of("dpo", numbers, beta=value)
    assert difference == pytest.approx(value * delta, rel=1e-9, abs=1e-9)
    difference = of("ipo", swapped, tau=value) - of("ipo", numbers, tau=value)
    assert difference == pytest.approx(2 * delta / value, rel=1e-7, abs=1e-7)


@properties
@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(0.01, 1))
def test_minor_dpo_is_at_least_dpo(delta_w: float, delta_l: float, beta: float) -> None:
    """Equal where δ_l ≥ 0, above DPO below it, and there independent of δ_l: log(1 + e^(−β·δ_w))."""
    numbers = (delta_w, delta_l, 0.0, 0.0)
    minor, dpo = of("minor_dpo", numbers, beta=beta), of("dpo", numbers, beta=beta)
    if delta_l >= 0:
        assert minor == dpo
    else:
        assert minor >= dpo
        assert minor > dpo or beta * -delta_l < 1e-6
        assert minor == F.softplus(torch.tensor(-beta * delta_w, dtype=torch.float64)).item()


@properties
@given(st.floats(-1e5, 1e5), st.floats(-1e5, 0), st.floats(0.01, 5000))
def test_minor_dpo_never_pushes_the_rejected_below_the_reference(delta_w: float, delta_l: float, beta: float) -> None:
    """The rejected side's gradient is exactly 0 at δ_l ≤ 0; the chosen side's is −β·σ(−β·δ_w)."""
    policy, reference = pair(delta_w, delta_l), pair(0.0, 0.0)
    _, chosen, rejected = value_and_gradients(LOSSES["minor_dpo"], policy, reference, beta=beta)
    assert rejected.item() == 0.0
    expected = -beta * torch.sigmoid(torch.tensor(-beta * delta_w, dtype=torch.float64)).item()
    assert chosen.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_first_step_of_minor_dpo_moves_the_chosen_side_only(dtype: torch.dtype) -> None:
    """policy == reference is the tie δ_l = 0 exactly, in every dtype: maximum(δ, 0) would pass half a gradient."""
    policy, _ = random_pairs(dtype=dtype)
    _, chosen, rejected = value_and_gradients(LOSSES["minor_dpo"], policy, policy, beta=0.1)
    assert rejected.eq(0).all()
    torch.testing.assert_close(chosen, torch.full_like(chosen, -0.05))


@pytest.mark.parametrize("name", ["dpo", "hinge"])
@properties
@given(st.tuples(number, number, number, number), strength)
def test_chosen_is_raised_and_rejected_lowered(name: str, numbers: tuple[float, ...], beta: float) -> None:
    """Opposite gradients of at most β: the bound keeps a wrong pair from dominating a batch."""
    l_w, l_l, r_w, r_l = numbers
    _, chosen, rejected = value_and_gradients(LOSSES[name], pair(l_w, l_l), pair(r_w, r_l), beta=beta)
    assert -beta <= chosen.item() <= 0
    assert rejected.item() == -chosen.item()


def test_the_mean_is_taken_after_the_logistic() -> None:
    """−log σ is convex: the mean of the losses is above the loss of the mean logit, and the first is right."""
    policy, reference = pair([3.0, -3.0], [0.0, 0.0]), pair([0.0, 0.0], [0.0, 0.0])
    losses = LOSSES["dpo"](policy, reference, beta=1.0)
    # ln(1 + e^−3) = 0.04858735…, ln(1 + e^3) = 3.04858735…; the mean logit is 0, whose loss is ln 2
    assert losses.tolist() == pytest.approx([0.0485873515737, 3.0485873515737], rel=1e-11)
    assert losses.mean().item() == pytest.approx(1.5485873515737)


# ---- what is reported beside the loss ----


def test_implied_rewards_and_accuracies() -> None:
    """β·δ of both sides, unclamped; an untrained policy (Δ = 0) counts a half. No gradient."""
    policy = PairLogps(torch.tensor([-12.0, -20.0, -1.0], requires_grad=True), torch.tensor([-15.0, -18.0, -2.0]))
    reference = PairLogps(torch.tensor([-13.0, -19.2, -1.0]), torch.tensor([-14.5, -18.4, -2.0]))
    chosen, rejected = implied_rewards(policy, reference, beta=10.0)
    torch.testing.assert_close(chosen, torch.tensor([10.0, -8.0, 0.0]), rtol=0, atol=1e-4)
    torch.testing.assert_close(rejected, torch.tensor([-5.0, 4.0, 0.0]), rtol=0, atol=1e-4)
    assert accuracies(policy, reference).tolist() == [1.0, 0.0, 0.5]
    assert not any(x.requires_grad for x in (chosen, rejected, accuracies(policy, reference)))
