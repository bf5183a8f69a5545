"""The surrogates against the papers' formulas written out, their draws, and the reference policies."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpo.adapters import AdaptersOff, Denoising, Flow, FrozenCopy
from mmpo.contracts import Adapter, Batch, Condition, Draw, Predict
from mmpo.losses import LOSSES, PairLogps
from mmpo.models.lora import add_lora, trainable_parameters
from mmpo.models.sd import FAMILY, predict
from mmpo.recipe import Lora

STEPS = 1000
# Stable Diffusion's schedule: β linear in its square root from 0.00085 to 0.012; ᾱ is the product of 1 − β.
ALPHAS = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float64) ** 2).cumprod(0)

each_adapter = pytest.mark.parametrize("adapter", [Denoising(ALPHAS), Flow(shift=3.0)], ids=["denoising", "flow"])
each_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


class TinyNet(nn.Module):
    """A random convolution that depends on the image, the time and the condition, each sample for itself."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.kernel = nn.Parameter(0.2 * torch.randn(4, 4, 3, 3, generator=generator, dtype=torch.float64).to(dtype))
        self.text = nn.Parameter(0.5 * torch.randn(6, 4, generator=generator, dtype=torch.float64).to(dtype))

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        dtype = self.kernel.dtype
        time = (timesteps.double() / STEPS).to(dtype).view(-1, 1, 1, 1)
        text = (condition["prompt_embeds"].to(dtype).mean(1) @ self.text)[:, :, None, None]
        return torch.tanh(F.conv2d(noisy.to(dtype), self.kernel, padding=1) * (1 + time) + text)


def make_batch(
    count: int = 3,
    candidates: int = 2,
    *,
    captions: int = 1,
    dtype: torch.dtype = torch.float64,
    size: int = 4,
    std: float = 0.1,
    features: int = 6,
) -> Batch:
    """Random groups "0", "1", ... with one caption a group, or one per candidate where `captions` is K."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    mean = random(count, candidates, 4, size, size)
    return Batch(
        ids=[str(i) for i in range(count)],
        visits=[0] * count,
        latent_mean=mean,
        latent_std=torch.full_like(mean, std),
        condition={"prompt_embeds": random(count, captions, 5, features)},
        null_condition={"prompt_embeds": random(5, features)},
    )


def take(batch: Batch, at: list[int]) -> Batch:
    """The groups at these positions, in this order."""
    return Batch(
        ids=[batch.ids[i] for i in at],
        visits=[batch.visits[i] for i in at],
        latent_mean=batch.latent_mean[at],
        latent_std=batch.latent_std[at],
        condition={name: value[at] for name, value in batch.condition.items()},
        null_condition=batch.null_condition,
    )


def parts(draw: Draw) -> tuple[Tensor, ...]:
    """The tensors of a draw."""
    return draw.time, draw.noise, draw.posterior_noise, draw.drop_prompt


class Recorder:
    """A model that keeps what it was called with and predicts `answer`, or zero."""

    def __init__(self, answer: Callable[[Tensor], Tensor] = torch.zeros_like) -> None:
        self.calls: list[tuple[Tensor, Tensor, Condition]] = []
        self._answer = answer

    def __call__(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        self.calls.append((noisy, timesteps, condition))
        return self._answer(noisy)


def seen(adapter: Adapter, batch: Batch, draw: Draw) -> tuple[Tensor, Tensor, Condition]:
    """What the model is given: x_t [B, K, C, H, W], timesteps [B, K], condition [B, K, ...], of a single forward."""
    model = Recorder()
    adapter.logp(model, batch, draw)
    assert len(model.calls) == 1
    noisy, timesteps, condition = model.calls[0]
    shape = batch.latent_mean.shape[:2]
    return (
        noisy.unflatten(0, shape),
        timesteps.unflatten(0, shape),
        {k: v.unflatten(0, shape) for k, v in condition.items()},
    )


# ---- Diffusion-DPO, written out ----


def naive_errors(model: Predict, batch: Batch, draw: Draw, steps: list[int]) -> list[list[float]]:
    """[B][K] mean squared ε-error, one sample and one latent element at a time, in float64.

    x_t = √ᾱ_t·x_0 + √(1−ᾱ_t)·ε with the group's t and ε; e = (1/CHW)·Σ (ε̂ − ε)².
    """
    table = []
    for b, t in enumerate(steps):
        row = []
        for k in range(batch.latent_mean.shape[1]):
            x0 = (
                batch.latent_mean[b, k].double() + batch.latent_std[b, k].double() * draw.posterior_noise[b, k].double()
            )
            noise = draw.noise[b].double()
            noisy = torch.empty_like(x0)
            for c, h, w in torch.cartesian_prod(*(torch.arange(n) for n in x0.shape)).tolist():
                alpha = float(ALPHAS[t])
                noisy[c, h, w] = math.sqrt(alpha) * x0[c, h, w] + math.sqrt(1 - alpha) * noise[c, h, w]
            text = {"prompt_embeds": batch.condition["prompt_embeds"][b].double()}
            prediction = model(noisy[None], torch.tensor([t]), text)[0]
            squares = [
                (p - n) ** 2 for p, n in zip(prediction.flatten().tolist(), noise.flatten().tolist(), strict=True)
            ]
            row.append(sum(squares) / len(squares))
        table.append(row)
    return table


def naive_logit(policy: list[list[float]], reference: list[list[float]], beta: float) -> list[float]:
    """−0.5·β·((e_w − e_l) − (ref_w − ref_l)): the authors' `inside_term`; chosen first."""
    pairs = zip(policy, reference, strict=True)
    return [-0.5 * beta * ((e_w - e_l) - (ref_w - ref_l)) for (e_w, e_l), (ref_w, ref_l) in pairs]


@torch.no_grad()
def denoising_delta(policy: Predict, reference: Predict, batch: Batch, draw: Draw) -> tuple[PairLogps, PairLogps]:
    """The surrogates of both models as the losses take them."""
    adapter = Denoising(ALPHAS)
    logps = [adapter.logp(model, batch, draw) for model in (policy, reference)]
    assert all(x.shape == batch.latent_mean.shape[:2] for x in logps)
    return PairLogps(*logps[0].unbind(1)), PairLogps(*logps[1].unbind(1))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
@torch.no_grad()
def test_denoising_is_the_papers_formula(dtype: torch.dtype, tolerance: float) -> None:
    """logp = −e/2 and the DPO logit at β = 1, against explicit loops in float64 over samples and elements."""
    batch = make_batch(dtype=dtype)
    draw = Denoising(ALPHAS).draw(batch, seed=3)
    steps = [math.floor(t * STEPS) for t in draw.time.tolist()]
    assert len(set(steps)) == 3
    errors = [naive_errors(TinyNet(seed), batch, draw, steps) for seed in (1, 2)]
    policy, reference = denoising_delta(TinyNet(1, dtype), TinyNet(2, dtype), batch, draw)
    for logps, table in zip((policy, reference), errors, strict=True):
        assert logps.chosen.tolist() == pytest.approx([-row[0] / 2 for row in table], rel=0, abs=tolerance)
        assert logps.rejected.tolist() == pytest.approx([-row[1] / 2 for row in table], rel=0, abs=tolerance)
    logit = (policy.chosen - reference.chosen) - (policy.rejected - reference.rejected)
    assert logit.tolist() == pytest.approx(naive_logit(*errors, beta=1.0), rel=0, abs=tolerance)


@torch.no_grad()
def test_dpo_on_the_surrogate_is_the_official_loss() -> None:
    """`dpo(beta=5000)` is log(1 + e^(−inside)) with the authors' inside term: sign, ½ and mean at once."""
    batch = make_batch()
    draw = Denoising(ALPHAS).draw(batch, seed=3)
    policy, reference = TinyNet(1), TinyNet(1)
    reference.kernel += 1e-4 * torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(5)).double()
    steps = [math.floor(t * STEPS) for t in draw.time.tolist()]
    inside = naive_logit(*(naive_errors(m, batch, draw, steps) for m in (policy, reference)), beta=5000.0)
    assert max(abs(z) for z in inside) > 0.05  # else ln 2 would pass
    loss = LOSSES["dpo"](*denoising_delta(policy, reference, batch, draw), beta=5000.0)
    assert loss.tolist() == pytest.approx([math.log1p(math.exp(-z)) for z in inside], rel=1e-9)


@torch.no_grad()
def test_v_error_in_epsilon_space() -> None:
    """‖ε − ε̂‖² = ᾱ·‖v − v̂‖² for ε̂ = √ᾱ·v̂ + √(1−ᾱ)·x_t, whatever v̂ is: the two errors differ by ᾱ_t only."""
    batch = make_batch(count=8)
    plain, converted = (Denoising(ALPHAS, "v_prediction", error) for error in ("prediction", "epsilon"))
    draw = plain.draw(batch, seed=0)
    alpha = ALPHAS[plain.timestep(draw)][:, None]
    errors = [adapter.logp(TinyNet(1), batch, draw) for adapter in (plain, converted)]
    torch.testing.assert_close(errors[1], alpha * errors[0], rtol=1e-12, atol=0)
    assert not torch.allclose(*errors, rtol=0.05)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@torch.no_grad()
def test_denoising_agrees_with_diffusers(prediction_type: str) -> None:
    """`add_noise` gives the model's input, `get_velocity` the target of a v-prediction."""
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    adapter = Denoising(scheduler.alphas_cumprod.double(), prediction_type)  # type: ignore[arg-type]
    batch, model = make_batch(count=5, dtype=torch.float32), TinyNet(1, torch.float32)
    draw = adapter.draw(batch, seed=2)
    noisy, timesteps, condition = seen(adapter, batch, draw)
    x0 = batch.latent_mean + batch.latent_std * draw.posterior_noise
    for k in range(2):
        steps = timesteps[:, k]
        torch.testing.assert_close(noisy[:, k], scheduler.add_noise(x0[:, k], draw.noise, steps), rtol=0, atol=2e-6)
        target = scheduler.get_velocity(x0[:, k], draw.noise, steps)
        if prediction_type == "epsilon":
            target = draw.noise
        text = {"prompt_embeds": condition["prompt_embeds"][:, k]}
        expected = -0.5 * (model(noisy[:, k], steps, text) - target).pow(2).mean(dim=(1, 2, 3))
        torch.testing.assert_close(adapter.logp(model, batch, draw)[:, k], expected, atol=2e-6, rtol=0)


def test_unknown_prediction_types_are_refused() -> None:
    """A flow-matching checkpoint in the denoising adapter would train in silence towards noise."""
    with pytest.raises(ValueError, match=r"prediction_type: expected .*got 'flow_prediction'.*'flow'"):
        Denoising(ALPHAS, "flow_prediction")  # type: ignore[arg-type]


# ---- flow matching ----


@torch.no_grad()
def test_flow_is_the_mean_squared_velocity_error() -> None:
    """x_σ = (1−σ)·x_0 + σ·ε and target v = ε − x_0; logp = −½ of the mean squared error, with loops over samples."""
    batch, adapter, model = make_batch(), Flow(shift=3.0), TinyNet(1)
    draw = adapter.draw(batch, seed=0)
    got, sigma = adapter.logp(model, batch, draw), adapter.sigma(draw)
    for b in range(3):
        for k in range(2):
            s = float(sigma[b])
            x0 = batch.latent_mean[b, k] + batch.latent_std[b, k] * draw.posterior_noise[b, k]
            noisy = (1 - s) * x0 + s * draw.noise[b]
            text = {"prompt_embeds": batch.condition["prompt_embeds"][b]}
            velocity = model(noisy[None], torch.tensor([1000 * s], dtype=torch.float64), text)[0]
            error = float(sum((velocity - (draw.noise[b] - x0)).flatten() ** 2)) / x0.numel()
            assert got[b, k].item() == pytest.approx(-error / 2, rel=1e-12)


@torch.no_grad()
def test_flow_velocity_identities() -> None:
    """x̂_0 = x_σ − σ·v̂ and ε̂ = x_σ + (1−σ)·v̂: the velocity error is ‖x_0 − x̂_0‖²/σ² and ‖ε − ε̂‖²/(1−σ)²."""
    batch, adapter, model = make_batch(), Flow(shift=3.0), TinyNet(1)
    draw = adapter.draw(batch, seed=0)
    noisy, timesteps, condition = seen(adapter, batch, draw)
    velocity = model(
        noisy.flatten(0, 1), timesteps.flatten(), {k: v.flatten(0, 1) for k, v in condition.items()}
    ).view_as(noisy)
    sigma = adapter.sigma(draw).view(-1, 1, 1, 1, 1)
    x0 = batch.latent_mean + batch.latent_std * draw.posterior_noise
    x0_hat, noise_hat = noisy - sigma * velocity, noisy + (1 - sigma) * velocity
    error = -2 * adapter.logp(model, batch, draw)
    sigma = sigma.view(-1, 1)
    mean = {"dim": (2, 3, 4)}
    torch.testing.assert_close((x0 - x0_hat).square().mean(**mean), sigma**2 * error, rtol=1e-10, atol=0)
    torch.testing.assert_close(
        (draw.noise[:, None] - noise_hat).square().mean(**mean), (1 - sigma) ** 2 * error, rtol=1e-10, atol=0
    )


@torch.no_grad()
def test_a_perfect_velocity_has_no_error() -> None:
    """v = ε − x_0 (noise minus data, as diffusers signs it), not its negative."""
    batch, adapter = make_batch(candidates=1, std=0.0), Flow()
    draw = adapter.draw(batch, seed=0)
    velocity = draw.noise - batch.latent_mean[:, 0]
    assert adapter.logp(Recorder(lambda _: velocity), batch, draw).eq(0).all()


@torch.no_grad()
def test_flow_agrees_with_diffusers_where_they_coincide() -> None:
    """Shifted levels on diffusers' grid: σ_i of a shift-3 scheduler comes from 1 − i/1000 before the shift.

    σ = sigmoid(n) with n standard normal, so the quantile that gives u is Φ(ln(u / (1−u))).
    """
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    at = list(range(10, 991, 98))
    batch = make_batch(count=len(at), dtype=torch.float32, std=0.0)
    before = 1 - torch.tensor(at, dtype=torch.float64) / 1000
    adapter = Flow(shift=3.0)
    draw = adapter.draw(batch, seed=0)
    draw = Draw(torch.special.ndtr(torch.logit(before)), draw.noise, draw.posterior_noise, draw.drop_prompt)
    noisy, timesteps, _ = seen(adapter, batch, draw)
    torch.testing.assert_close(adapter.sigma(draw).float(), scheduler.sigmas[at], rtol=0, atol=1e-6)
    for k in range(2):
        torch.testing.assert_close(timesteps[:, k], scheduler.timesteps[at], rtol=0, atol=1e-3)
        expected = scheduler.scale_noise(batch.latent_mean[:, k], scheduler.timesteps[at], draw.noise)
        torch.testing.assert_close(noisy[:, k], expected, rtol=0, atol=5e-6)


def test_flow_levels_are_logit_normal_then_shifted() -> None:
    """The median is ½ before the shift and s/(1 + s) after; one deviation is sigmoid(±1); 0 and 1 stay inside."""
    noise = torch.zeros(1)
    time = torch.special.ndtr(torch.tensor([0.0, -1.0, 1.0], dtype=torch.float64))
    draw = Draw(torch.cat([time, torch.tensor([0.0, 1.0])]), noise, noise, noise)
    plain, shifted = Flow().sigma(draw), Flow(shift=3.0).sigma(draw)
    assert plain[:3].tolist() == pytest.approx([0.5, 1 / (1 + math.e), math.e / (1 + math.e)], rel=1e-12)
    # 3u/(1 + 2u) at u = e^n/(1 + e^n) is 3e^n/(1 + 3e^n)
    assert shifted[:3].tolist() == pytest.approx([0.75, 3 / (3 + math.e), 3 * math.e / (1 + 3 * math.e)], rel=1e-12)
    for levels in (plain, shifted):
        assert levels.min() > 0
        assert levels.max() < 1
    with pytest.raises(ValueError, match="shift: expected a number above 0, got -1"):
        Flow(shift=-1.0)


# ---- draws ----


@pytest.fixture(scope="module")
def many() -> Batch:
    """Five thousand groups of one number each."""
    return make_batch(count=5000, size=1, features=1)


def uniform_statistic(values: Tensor, bins: int) -> float:
    """Pearson's χ² of values in [0, 1) against equal bins; its mean is bins − 1."""
    counts = torch.histc(values.float(), bins, 0, 1)
    expected = len(values) / bins
    return float(((counts - expected) ** 2 / expected).sum())


def test_timesteps_are_uniform_over_the_whole_schedule(many: Batch) -> None:
    """t in 0 .. T−1 with equal probability: each quantile (i + ½)/T is t = i, and quantiles are uniform.

    χ² with 49 degrees of freedom exceeds 85.4 with probability 0.001; the draws are fixed by their seed.
    """
    adapter = Denoising(ALPHAS)
    middle = (torch.arange(STEPS, dtype=torch.float64) + 0.5) / STEPS
    noise = torch.zeros(1)
    assert adapter.timestep(Draw(middle, noise, noise, noise)).tolist() == list(range(STEPS))
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert adapter.timestep(Draw(ends, noise, noise, noise)).tolist() == [0, STEPS - 1]
    for seed in (0, 1):
        steps = adapter.timestep(adapter.draw(many, seed))
        assert steps.dtype == torch.int64
        assert 0 <= steps.min() < 5
        assert STEPS - 5 <= steps.max() < STEPS
        assert uniform_statistic((steps + 0.5) / STEPS, 50) < 85.4


@each_adapter
def test_a_band_restricts_the_noise_level(many: Batch, adapter: Denoising | Flow) -> None:
    """Uniform in [low, high); the argument wins over the adapter's own range, which wins over the whole."""
    narrow = type(adapter)(**{**vars(adapter), "timesteps": (0.5, 0.6)})
    for draw, low, high in (
        (adapter.draw(many, 0, band=(0.25, 0.5)), 0.25, 0.5),
        (narrow.draw(many, 0), 0.5, 0.6),
        (narrow.draw(many, 0, band=(0.0, 0.1)), 0.0, 0.1),
    ):
        assert low <= draw.time.min()
        assert draw.time.max() < high
        assert uniform_statistic((draw.time - low) / (high - low), 50) < 85.4


def test_a_band_restricts_timesteps_and_sigmas(many: Batch) -> None:
    """The second quarter of 1000 steps is 250 .. 499; of the flow, everything between the quarter's quantiles."""
    steps = Denoising(ALPHAS).timestep(Denoising(ALPHAS).draw(many, 0, band=(0.25, 0.5)))
    assert 250 <= steps.min() < steps.max() <= 499
    sigma = Flow().sigma(Flow().draw(many, 0, band=(0.25, 0.5)))
    low = torch.sigmoid(torch.tensor(-0.6744897501960817))  # Φ^−1(¼)
    assert low <= sigma.min() < sigma.max() <= 0.5


@each_adapter
def test_a_draw_depends_on_seed_group_and_visit_alone(adapter: Adapter) -> None:
    """Not on the other groups of the batch, its order, or the group's place in it."""
    batch = make_batch(count=6)
    whole = parts(adapter.draw(batch, seed=7))
    for at in ([4], [5, 4, 3, 2, 1, 0], [1, 4, 2]):
        for part, value in zip(parts(adapter.draw(take(batch, at), seed=7)), whole, strict=True):
            assert torch.equal(part, value[at])


@each_adapter
def test_seed_group_and_visit_each_change_a_draw(adapter: Adapter) -> None:
    """And no two quantities of a draw are the same stream."""
    batch = make_batch(count=2)
    renamed = Batch(**{**vars(batch), "ids": ["0x", "1x"]})
    base = adapter.draw(batch, seed=1)
    for other in (
        adapter.draw(batch, seed=2),
        adapter.draw(batch, seed=1, visit=1),
        adapter.draw(batch, seed=11, visit=0),
        adapter.draw(renamed, seed=1),
    ):
        for part, value in zip(parts(other)[:3], parts(base)[:3], strict=True):
            assert not (part == value).any()
    assert not (base.noise[0] == base.noise[1]).any()
    assert not (base.noise[:, None] == base.posterior_noise).any()
    assert not (base.posterior_noise[:, 0] == base.posterior_noise[:, 1]).any()


def test_seed_group_and_visit_are_kept_apart() -> None:
    """Numbers that read the same when written one after another are different draws."""

    def noise(seed: int, group: str, visit: int) -> Tensor:
        batch = Batch(**{**vars(make_batch(count=1)), "ids": [group]})
        return Flow().draw(batch, seed, visit).noise

    assert not torch.equal(noise(1, "12", 0), noise(11, "2", 0))
    assert not torch.equal(noise(1, "1", 11), noise(1, "11", 1))
    assert torch.equal(noise(1, "12", 0), noise(1, "12", 0))


@each_adapter
def test_visits_come_from_the_batch_or_the_argument(adapter: Adapter) -> None:
    """None: the batch's own; a number: the same for all; a sequence: one a group; a wrong count is an error."""
    batch = Batch(**{**vars(make_batch(count=3)), "visits": [0, 5, 2]})
    expected = parts(adapter.draw(batch, 1))
    assert all(torch.equal(a, b) for a, b in zip(parts(adapter.draw(batch, 1, [0, 5, 2])), expected, strict=True))
    same = parts(adapter.draw(batch, 1, 5))
    assert torch.equal(same[1][1], expected[1][1])
    assert not torch.equal(same[1][0], expected[1][0])
    with pytest.raises(ValueError, match="shorter"):
        adapter.draw(batch, 1, [0, 5])


@each_adapter
def test_precision_does_not_change_a_draw(adapter: Adapter) -> None:
    """Times are float64 and noise float32 in every run, so runs in other precisions see the same randomness."""
    batch = make_batch()
    low, high = (adapter.draw(batch.to("cpu", dtype), 1) for dtype in (torch.float32, torch.float64))
    assert torch.equal(low.time, high.time)
    assert (low.noise.dtype, high.noise.dtype) == (torch.float32, torch.float64)
    assert torch.equal(low.noise.double(), high.noise)
    assert torch.equal(low.posterior_noise.double(), high.posterior_noise)


@each_adapter
def test_logp_takes_all_randomness_from_the_draw(adapter: Adapter) -> None:
    """The same draw gives the same numbers whatever the global generator did in between."""
    batch = make_batch()
    draw = adapter.draw(batch, seed=0)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = adapter.logp(TinyNet(1), batch, draw)
        state = torch.get_rng_state()
        torch.manual_seed(2)
        assert torch.equal(adapter.logp(TinyNet(1), batch, draw), first)
        torch.manual_seed(1)
        assert torch.equal(torch.get_rng_state(), state)


@each_adapter
def test_candidates_of_a_group_share_time_and_noise(adapter: Adapter) -> None:
    """With equal clean latents the candidates' inputs are equal; groups differ."""
    batch = make_batch(count=3, candidates=4, std=0.0)
    batch = Batch(**{**vars(batch), "latent_mean": batch.latent_mean[:, :1].expand(-1, 4, -1, -1, -1)})
    noisy, timesteps, _ = seen(adapter, batch, adapter.draw(batch, seed=0))
    assert torch.equal(noisy, noisy[:, :1].expand_as(noisy))
    assert torch.equal(timesteps, timesteps[:, :1].expand_as(timesteps))
    assert len(timesteps[:, 0].unique()) == 3
    assert not torch.equal(noisy[0], noisy[1])


@each_adapter
def test_the_posterior_of_the_vae_is_sampled(adapter: Adapter) -> None:
    """x_0 = mean + std·noise, per candidate: a batch of those x_0 without deviation gives the same log-likelihoods."""
    batch = make_batch(std=0.7)
    draw = adapter.draw(batch, seed=0)
    sampled = batch.latent_mean + 0.7 * draw.posterior_noise
    fixed = Batch(**{**vars(batch), "latent_mean": sampled, "latent_std": torch.zeros_like(sampled)})
    with torch.no_grad():
        got, expected = (adapter.logp(TinyNet(1), x, draw) for x in (batch, fixed))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)


# ---- conditions ----


@each_adapter
@pytest.mark.parametrize("captions", [1, 2])
def test_a_dropped_prompt_is_the_empty_one_for_all_candidates(adapter: Adapter, captions: int) -> None:
    """One decision a group; the others keep their captions, one each where a group has several."""
    batch = make_batch(count=4, captions=captions)
    draw = adapter.draw(batch, seed=0)
    draw = Draw(draw.time, draw.noise, draw.posterior_noise, torch.tensor([True, False, True, False]))
    _, _, condition = seen(adapter, batch, draw)
    given, null = batch.condition["prompt_embeds"], batch.null_condition["prompt_embeds"]
    for b in range(4):
        for k in range(2):
            expected = null if b in (0, 2) else given[b, k % captions]
            assert torch.equal(condition["prompt_embeds"][b, k], expected)


@pytest.mark.parametrize("kind", [Denoising, Flow])
def test_the_share_of_dropped_prompts(many: Batch, kind: Any) -> None:
    """0.2 of 5000 has a deviation of 28; never at 0, always at 1; the other draws do not depend on the share."""
    make = (lambda p: Denoising(ALPHAS, prompt_dropout=p)) if kind is Denoising else (lambda p: Flow(prompt_dropout=p))
    draws = {share: make(share).draw(many, 0) for share in (0.0, 0.2, 1.0)}
    assert draws[0.0].drop_prompt.sum() == 0
    assert abs(int(draws[0.2].drop_prompt.sum()) - 1000) < 4 * 28
    assert draws[1.0].drop_prompt.all()
    assert torch.equal(draws[0.0].noise, draws[0.2].noise)
    assert torch.equal(draws[0.0].time, draws[0.2].time)


@each_adapter
@torch.no_grad()
def test_each_candidate_is_judged_under_its_own_caption(adapter: Adapter) -> None:
    """Dual captions: [B, K, ...] gives for candidate k what a group of k alone with its caption gives."""
    batch = make_batch(captions=2)
    draw = adapter.draw(batch, seed=0)
    together = adapter.logp(TinyNet(1), batch, draw)
    for k in range(2):
        alone = Batch(
            **{
                **vars(batch),
                "latent_mean": batch.latent_mean[:, k : k + 1],
                "latent_std": batch.latent_std[:, k : k + 1],
                "condition": {name: value[:, k : k + 1] for name, value in batch.condition.items()},
            }
        )
        part = Draw(draw.time, draw.noise, draw.posterior_noise[:, k : k + 1], draw.drop_prompt)
        torch.testing.assert_close(adapter.logp(TinyNet(1), alone, part)[:, 0], together[:, k], rtol=1e-12, atol=0)
    swapped = Batch(**{**vars(batch), "condition": {"prompt_embeds": batch.condition["prompt_embeds"].flip(1)}})
    assert not (adapter.logp(TinyNet(1), swapped, draw) == together).any()


# ---- precision ----

HALF = {
    "epsilon": Denoising(ALPHAS),
    "v": Denoising(ALPHAS, "v_prediction"),
    "v as epsilon": Denoising(ALPHAS, "v_prediction", "epsilon"),
    "flow": Flow(shift=3.0),
}


@pytest.mark.parametrize("name", HALF)
@torch.no_grad()
def test_errors_are_float32_when_the_model_answers_in_bfloat16(name: str) -> None:
    """The prediction is widened before anything is computed with it: bit for bit as if float32 had come."""
    batch = make_batch(dtype=torch.float32)
    adapter = HALF[name]
    draw = adapter.draw(batch, seed=0)
    low = Recorder(lambda noisy: (0.9 * noisy).bfloat16())
    wide = Recorder(lambda noisy: (0.9 * noisy).bfloat16().float())
    got = adapter.logp(low, batch, draw)
    assert got.dtype == torch.float32
    assert torch.equal(got, adapter.logp(wide, batch, draw))


def unet_predict(unet: nn.Module, dtype: torch.dtype) -> Predict:
    """The Stable Diffusion forward with inputs in the dtype of the weights, as a run binds it."""
    return lambda noisy, t, condition: predict(
        unet, noisy.to(dtype), t, {name: value.to(dtype) for name, value in condition.items()}
    )


def load_unet(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The tiny checkpoint's denoiser."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype)


def with_lora(folder: Path, dtype: torch.dtype = torch.float32, *, dropout: float = 0.0) -> Any:
    """The same with a fresh LoRA."""
    unet = load_unet(folder, dtype)
    add_lora(unet, Lora(rank=2, dropout=dropout), FAMILY, seed=0)
    return unet.train()


@torch.no_grad()
def perturb(unet: nn.Module) -> None:
    """Moves the trainable weights, as steps do."""
    generator = torch.Generator().manual_seed(9)
    for parameter in trainable_parameters(unet).values():
        parameter += 0.3 * torch.randn(parameter.shape, generator=generator).to(parameter)


def sd_batch() -> Batch:
    """Latents and embeddings of the tiny checkpoint's sizes, in float32 as runs hold them."""
    return make_batch(dtype=torch.float32, size=8, features=16)


@each_precision
def test_an_untrained_lora_has_log_ratio_exactly_0(sd_folder: Path, dtype: torch.dtype) -> None:
    """Policy with gradient and LoRA dropout, reference without: B = 0 leaves not one bit of difference."""
    unet = with_lora(sd_folder, dtype, dropout=0.1)
    adapter, batch = Denoising(ALPHAS), sd_batch()
    draw = adapter.draw(batch, seed=0)
    with torch.no_grad(), AdaptersOff(unet).active() as base:
        reference = adapter.logp(unet_predict(base, dtype), batch, draw)
    policy = adapter.logp(unet_predict(unet, dtype), batch, draw)
    assert policy.requires_grad
    assert not reference.requires_grad
    assert policy.dtype == reference.dtype == torch.float32
    assert torch.equal(policy, reference)
    perturb(unet)
    assert not (adapter.logp(unet_predict(unet, dtype), batch, draw) == reference).any()


@each_precision
def test_an_untrained_copy_has_log_ratio_exactly_0(sd_folder: Path, dtype: torch.dtype) -> None:
    """A full fine-tune before its first step."""
    unet = load_unet(sd_folder, dtype).train()
    adapter, batch = Denoising(ALPHAS), sd_batch()
    draw = adapter.draw(batch, seed=0)
    with torch.no_grad(), FrozenCopy(unet).active() as frozen:
        reference = adapter.logp(unet_predict(frozen, dtype), batch, draw)
    assert torch.equal(adapter.logp(unet_predict(unet, dtype), batch, draw), reference)


# ---- reference policies ----


@torch.no_grad()
def answer(unet: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    """What the denoiser predicts for one fixed input."""
    batch = sd_batch()
    condition = {"prompt_embeds": batch.condition["prompt_embeds"][:, 0]}
    return unet_predict(unet, dtype)(batch.latent_mean[:, 0], torch.tensor([10, 500, 990]), condition)


def gradients_wanted(module: nn.Module) -> dict[str, bool]:
    """requires_grad by name."""
    return {name: parameter.requires_grad for name, parameter in module.named_parameters()}


@each_precision
def test_adapters_off_is_the_base_bit_for_bit(sd_folder: Path, dtype: torch.dtype) -> None:
    """Also after the LoRA has moved; outside of the context the policy answers as before."""
    base = answer(load_unet(sd_folder, dtype), dtype)
    unet = with_lora(sd_folder, dtype)
    reference = AdaptersOff(unet)
    perturb(unet)
    policy = answer(unet, dtype)
    assert not torch.equal(policy, base)
    for _ in range(2):
        with reference.active() as module:
            assert torch.equal(answer(module, dtype), base)
        assert torch.equal(answer(unet, dtype), policy)


@pytest.mark.parametrize("fails", [False, True])
def test_adapters_and_gradients_come_back(sd_folder: Path, fails: bool) -> None:
    """Also when the forward raises, else the rest of the run would train nothing; accumulated gradients stay."""
    unet = with_lora(sd_folder)
    reference = AdaptersOff(unet)
    perturb(unet)
    policy, wanted = answer(unet), gradients_wanted(unet)
    assert set(wanted.values()) == {True, False}
    for parameter in trainable_parameters(unet).values():
        parameter.grad = torch.ones_like(parameter)

    def use() -> None:
        with reference.active():
            if fails:
                raise RuntimeError("out of memory")

    if fails:
        with pytest.raises(RuntimeError, match="out of memory"):
            use()
    else:
        use()
    assert gradients_wanted(unet) == wanted
    assert torch.equal(answer(unet), policy)
    assert all(p.grad is not None and p.grad.eq(1).all() for p in trainable_parameters(unet).values())


def test_a_frozen_part_of_the_lora_stays_frozen(sd_folder: Path) -> None:
    """requires_grad comes back as it was, not as peft would set it: A may be frozen on purpose."""
    unet = with_lora(sd_folder)
    for name, parameter in unet.named_parameters():
        if "lora_A" in name:
            parameter.requires_grad_(False)
    wanted = gradients_wanted(unet)
    with AdaptersOff(unet).active():
        pass
    assert gradients_wanted(unet) == wanted


def test_the_backward_pass_after_the_reference_reaches_the_lora(sd_folder: Path) -> None:
    """The reference before the policy, as a step does it: every B gets a gradient, the base none."""
    unet = with_lora(sd_folder)
    adapter, batch = Denoising(ALPHAS), sd_batch()
    draw = adapter.draw(batch, seed=0)
    with torch.no_grad(), AdaptersOff(unet).active() as base:
        reference = adapter.logp(unet_predict(base, torch.float32), batch, draw)
    policy = adapter.logp(unet_predict(unet, torch.float32), batch, draw)
    pairs = [PairLogps(*x.unbind(1)) for x in (policy, reference)]
    LOSSES["dpo"](*pairs, beta=5000.0).mean().backward()
    for name, parameter in unet.named_parameters():
        if "lora_B" in name:
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0
        elif "lora_" not in name:
            assert parameter.grad is None


def test_adapters_off_needs_a_lora(sd_folder: Path) -> None:
    """Without one the reference would be the policy itself, and nothing would be learnt."""
    with pytest.raises(ValueError, match=r"no LoRA.*frozen_copy"):
        AdaptersOff(load_unet(sd_folder))


def test_adapters_off_refuses_a_base_that_moves(sd_folder: Path) -> None:
    """With a trained weight outside of the LoRA the base is no reference; the error names it."""
    unet = with_lora(sd_folder)
    unet.conv_in.weight.requires_grad_(True)
    with pytest.raises(ValueError, match=r"conv_in\.weight, 1 in all.*frozen_copy"):
        AdaptersOff(unet)


def test_a_frozen_copy_stays_when_the_policy_moves(sd_folder: Path) -> None:
    """No shared storage, nothing trainable, the dtype of the policy's weights."""
    unet = load_unet(sd_folder).train().requires_grad_(True)
    reference = FrozenCopy(unet)
    before, weights = answer(unet), copy.deepcopy(unet.state_dict())
    perturb(unet)
    with reference.active() as frozen:
        assert frozen is not unet
        assert torch.equal(answer(frozen), before)
        assert not any(gradients_wanted(frozen).values())
        assert not frozen.training
        assert all(torch.equal(weights[name], value) for name, value in frozen.state_dict().items())
    assert all(gradients_wanted(unet).values())
    assert unet.training
    assert not torch.equal(answer(unet), before)
