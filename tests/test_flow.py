"""Flow matching: the surrogate against the formula written out, its noise levels, and diffusers."""

from __future__ import annotations

import math

import pytest
import torch
from surrogates import Recorder, TinyNet, make_batch, seen

from mmpo.adapters import Flow
from mmpo.contracts import Draw


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
