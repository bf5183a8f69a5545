"""The samplers' Gaussians against torch.distributions and diffusers' own schedulers, for every setting."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from mmpo.sampling.ddim import Ddim
from mmpo.sampling.flow_sde import FlowSde
from mmpo.sampling.stepper import Stepper, divergence, log_density, refuse_deterministic, trainable_steps

BASE = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "num_train_timesteps": 1000,
}
SCHEDULES = [
    {"timestep_spacing": spacing, "steps_offset": offset, "set_alpha_to_one": one, "prediction_type": kind}
    for spacing, offset in (("leading", 0), ("leading", 1), ("trailing", 0), ("linspace", 0))
    for one, kind in product((True, False), ("epsilon", "v_prediction"))
]
COUNTS = (1, 2, 3, 7, 20, 50)
each_schedule = pytest.mark.parametrize(
    "config",
    [{**BASE, **c} for c in SCHEDULES],
    ids=lambda c: "-".join(
        str(c[key]) for key in ("timestep_spacing", "steps_offset", "set_alpha_to_one", "prediction_type")
    ),
)


def numbers(count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Random (prediction, state, noise), each [count, 4, 4, 4]."""
    random = torch.Generator().manual_seed(count)
    return tuple(torch.randn(3, count, 4, 4, 4, generator=random, dtype=dtype))


def every(stepper: Stepper) -> Tensor:
    """[S] all of its steps, as a batch of one image for each."""
    return torch.arange(stepper.count)


@lru_cache(maxsize=1)
def steppers() -> list[Stepper]:
    """Every sampler setting: noise level, number of steps, prediction, spacing, end of the schedule."""
    found: list[Stepper] = [
        Ddim.from_config({**BASE, **config}, steps=count, eta=eta)
        for config, count, eta in product(SCHEDULES, COUNTS, (0.1, 0.5, 1.0))
    ]
    for count, a, shift in product(COUNTS, (0.3, 0.7, 1.0), (1.0, 3.0)):
        found.append(FlowSde.from_config({"shift": shift, "num_train_timesteps": 1000}, steps=count, eta=a))
    return found


# ---- log-densities ----


def test_log_densities_are_those_of_an_independent_gaussian() -> None:
    """Of every setting's steps that have one, averaged and summed over the dimensions, to 1e-6."""
    seen = 0
    for stepper in steppers():
        steps = torch.tensor(trainable_steps(stepper), dtype=torch.int64)
        prediction, x, noise = numbers(len(steps), torch.float64)
        mean, std = stepper.mean(prediction, x, steps), stepper.std[steps].double()
        wide = std.view(-1, 1, 1, 1)
        following = mean + wide * noise
        independent = Normal(mean, wide.expand_as(mean)).log_prob(following)
        for reduce in ("mean", "sum"):
            ours = log_density(following, mean, std, reduce)
            torch.testing.assert_close(ours, getattr(independent, reduce)((1, 2, 3)), rtol=1e-6, atol=1e-6)
        seen += len(steps)
    assert seen > 4000


def test_float32_log_densities_are_as_good_as_their_inputs() -> None:
    """Given the very same float32 mean, deviation and state, float64 finds the same to 1e-6 of its size."""
    for stepper in steppers():
        steps = torch.tensor(trainable_steps(stepper), dtype=torch.int64)
        prediction, x, noise = numbers(len(steps))
        mean, std = stepper.mean(prediction, x, steps), stepper.std[steps]
        following = mean + std.view(-1, 1, 1, 1) * noise
        ours = log_density(following, mean, std)
        independent = Normal(mean.double(), std.double().view(-1, 1, 1, 1)).log_prob(following.double()).mean((1, 2, 3))
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), independent, rtol=1e-6, atol=1e-6)


def test_the_divergence_is_that_of_two_gaussians() -> None:
    """KL has a closed form where the deviations are equal."""
    mean, other, _ = numbers(3, torch.float64)
    std = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    wide = std.view(-1, 1, 1, 1)
    independent = torch.distributions.kl_divergence(Normal(mean, wide), Normal(other, wide))
    for reduce in ("mean", "sum"):
        torch.testing.assert_close(divergence(mean, other, std, reduce), getattr(independent, reduce)((1, 2, 3)))


def test_half_precision_is_only_what_the_model_gives() -> None:
    """Transition maths of bfloat16 predictions is float32, and float64 stays."""
    for stepper in (steppers()[3], steppers()[-1]):
        for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
            prediction, x, _ = (tensor.to(dtype) for tensor in numbers(stepper.count))
            assert stepper.mean(prediction, x, every(stepper)).dtype == expected
            assert stepper.clean(prediction, x, every(stepper)).dtype == expected


# ---- diffusion ----


def theirs(config: dict[str, Any], count: int) -> Any:
    """diffusers' scheduler, set."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_config(config)
    scheduler.set_timesteps(count)
    return scheduler


@each_schedule
@pytest.mark.parametrize("clip", [False, True])
def test_without_noise_ddim_is_diffusers_bit_for_bit(config: dict[str, Any], clip: bool) -> None:
    """Next state and x̂0 of every step."""
    for count in COUNTS:
        config = {**config, "clip_sample": clip, "clip_sample_range": 1.5}
        scheduler, stepper = theirs(config, count), Ddim.from_config(config, steps=count, eta=0.0)
        assert torch.equal(stepper.timesteps, scheduler.timesteps)
        assert not stepper.std.any()
        prediction, x, _ = numbers(count)
        mean, clean = stepper.mean(prediction, x, every(stepper)), stepper.clean(prediction, x, every(stepper))
        for step, t in enumerate(scheduler.timesteps):
            told = scheduler.step(prediction[step], t, x[step])
            assert torch.equal(mean[step], told.prev_sample)
            assert torch.equal(clean[step], told.pred_original_sample)


@each_schedule
@pytest.mark.parametrize("eta", [0.1, 0.5, 1.0])
def test_with_noise_ddim_is_diffusers_given_the_same_noise(config: dict[str, Any], eta: float) -> None:
    """On every step but the last, where the next timestep is 0 at least: there the clamp alone differs."""
    for count in COUNTS:
        scheduler, stepper = theirs(config, count), Ddim.from_config(config, steps=count, eta=eta)
        prediction, x, noise = numbers(count)
        mean = stepper.mean(prediction, x, every(stepper))
        following = mean + stepper.std.view(-1, 1, 1, 1) * noise
        clean = stepper.clean(prediction, x, every(stepper))
        for step, t in enumerate(scheduler.timesteps):
            if step == count - 1:  # the clamp, and nothing else
                scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
            told = scheduler.step(prediction[step], t, x[step], eta=eta, variance_noise=noise[step])
            torch.testing.assert_close(following[step], told.prev_sample, rtol=1e-6, atol=1e-6)
            assert torch.equal(clean[step], told.pred_original_sample)


def test_the_clamp_gives_the_last_step_a_density() -> None:
    """diffusers' own last step has none where its schedule ends at ᾱ = 1; of SD's spacing all 20 steps are trained."""
    config = {**BASE, "timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": True}
    stepper = Ddim.from_config(config, steps=20, eta=1.0)
    assert stepper.timesteps.tolist() == list(range(951, 0, -50))
    assert trainable_steps(stepper) == list(range(20))
    alphas = theirs(config, 20).alphas_cumprod.double()
    last = (1 - alphas[0]) / (1 - alphas[1]) * (1 - alphas[1] / alphas[0])
    assert float(stepper.std[-1]) == pytest.approx(float(last) ** 0.5, rel=1e-3)
    assert float(theirs(config, 20)._get_variance(1, -49)) == 0
    assert trainable_steps(Ddim.from_config(config, steps=20, eta=0.0)) == []


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_all_steps_with_full_noise_are_ddpm(kind: str) -> None:
    """η = 1 over all T timesteps: mean and variance of the ancestral sampler with variance fixed_small."""
    from diffusers import DDPMScheduler

    config = {**BASE, "prediction_type": kind, "steps_offset": 0, "timestep_spacing": "leading"}
    stepper = Ddim.from_config(config, steps=1000, eta=1.0)
    scheduler = DDPMScheduler.from_config({**config, "variance_type": "fixed_small"})
    scheduler.set_timesteps(1000)
    assert torch.equal(stepper.timesteps, scheduler.timesteps)
    prediction, x, _ = numbers(1000, torch.float64)
    mean = stepper.mean(prediction, x, every(stepper))
    alphas = scheduler.alphas_cumprod.double()
    for step, t in list(enumerate(scheduler.timesteps.tolist()))[:-1]:
        # the scheduler adds noise of its own; its variance is a function, its mean the published posterior's
        variance = float(scheduler._get_variance(t))
        assert float(stepper.std[step]) ** 2 == pytest.approx(variance, rel=1e-3)
        clean = stepper.clean(prediction[step : step + 1], x[step : step + 1], torch.tensor([step]))[0]
        now, before = alphas[t], alphas[t - 1]
        beta = 1 - now / before
        posterior = (before**0.5 * beta * clean + (now / before) ** 0.5 * (1 - before) * x[step]) / (1 - now)
        torch.testing.assert_close(mean[step], posterior, rtol=0, atol=2e-3 if t < 10 else 2e-4)
    assert not stepper.std[-1] > 0


@pytest.mark.parametrize(
    ("changes", "count", "message"),
    [
        ({"prediction_type": "sample"}, 5, "predicts 'sample'; expected epsilon or v_prediction"),
        ({"thresholding": True}, 5, "dynamic thresholding"),
        ({}, 1001, "steps: expected 1 to 1000, got 1001"),
        ({}, 0, "steps: expected 1 to 1000, got 0"),
    ],
)
def test_schedules_without_gaussian_steps_are_refused(changes: dict[str, Any], count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ddim.from_config({**BASE, **changes}, steps=count, eta=1.0)


# ---- flow ----


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_without_noise_the_flow_is_diffusers_euler_bit_for_bit(shift: float) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    for count in COUNTS:
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
        scheduler.set_timesteps(count)
        stepper = FlowSde.from_config(scheduler.config, steps=count, eta=0.0)
        assert torch.equal(stepper.timesteps, scheduler.timesteps)
        prediction, x, _ = numbers(count)
        mean, clean = stepper.mean(prediction, x, every(stepper)), stepper.clean(prediction, x, every(stepper))
        for step, t in enumerate(scheduler.timesteps):
            assert torch.equal(mean[step], scheduler.step(prediction[step], t, x[step]).prev_sample)
            torch.testing.assert_close(clean[step], x[step] - scheduler.sigmas[step] * prediction[step])


@pytest.mark.parametrize("a", [0.3, 0.7, 1.0])
def test_the_flows_noise_keeps_the_marginals(a: float) -> None:
    """Flow-GRPO's equation 9 as published: v and the score of the marginal, x̂1 = x + (1 − σ)·v the noise's estimate."""
    stepper = FlowSde.from_config({"shift": 3.0}, steps=10, eta=a)
    prediction, x, _ = numbers(10, torch.float64)
    mean = stepper.mean(prediction, x, every(stepper))
    sigmas = stepper.sigmas.double()
    for step in range(10):
        sigma, dt = sigmas[step], sigmas[step + 1] - sigmas[step]
        below = sigmas[1] if step == 0 else sigma
        spread = a * (sigma / (1 - below)) ** 0.5
        noise = x[step] + (1 - sigma) * prediction[step]
        score = -noise / sigma
        expected = x[step] + (prediction[step] - spread**2 / 2 * score) * dt
        torch.testing.assert_close(mean[step], expected, rtol=1e-5, atol=1e-5)
        assert float(stepper.std[step]) == pytest.approx(float(spread * (-dt) ** 0.5), rel=1e-5)
    assert trainable_steps(stepper) == list(range(10))


def test_a_shift_by_the_images_size_is_refused() -> None:
    with pytest.raises(ValueError, match="use_dynamic_shifting is not supported"):
        FlowSde.from_config({"use_dynamic_shifting": True}, steps=4, eta=0.7)


@pytest.mark.parametrize("eta", [0.0, -1.0, float("nan")])
def test_a_sampler_without_noise_is_refused_with_what_to_use_instead(eta: float) -> None:
    with pytest.raises(ValueError, match=r"rollout.sampling.eta: .*ODE.*use 1.*stored pairs"):
        refuse_deterministic("rollout.sampling.eta", eta, "use 1")
    refuse_deterministic("rollout.sampling.eta", 0.1, "use 1")


# ---- schedules that sampling meets outside of the tests ----


@pytest.mark.parametrize("steps", [50, 1000])
def test_a_schedule_that_begins_with_pure_noise_gives_numbers(steps: int) -> None:
    """1 − ᾱ_p − σ² is 0 at its first step, and below it by rounding."""
    zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
    stepper = Ddim.from_config({**BASE, **zero}, steps=steps, eta=1.0)
    x = torch.ones(1, 1, 1, 1)
    means = torch.stack([stepper.mean(x, x, torch.tensor([step])) for step in range(steps)])
    assert means.isfinite().all()


def test_more_noise_than_a_step_has_room_for_is_refused() -> None:
    with pytest.raises(ValueError, match=r"eta: 1\.5 is more noise .* use 1 \(DDPM\) or less"):
        Ddim.from_config(BASE, steps=20, eta=1.5)


def test_steps_beyond_the_schedule_are_refused() -> None:
    with pytest.raises(ValueError, match=r"steps: 1000 of this schedule begin at 1000, which it lacks; take fewer"):
        Ddim.from_config({**BASE, "steps_offset": 1, "timestep_spacing": "leading"}, steps=1000, eta=1.0)


def test_predictions_of_a_scheduler_that_says_nothing_of_clipping_are_not_cut_off() -> None:
    """Such as an SDXL's EulerDiscreteScheduler; DDIMScheduler's own default is for pixels."""
    config = {name: value for name, value in BASE.items() if name != "clip_sample"}
    assert Ddim.from_config(config, steps=4, eta=1.0).clip is None
    assert Ddim.from_config({**config, "clip_sample": True}, steps=4, eta=1.0).clip == 1.0
