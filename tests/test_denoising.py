"""Diffusion-DPO: the surrogate against the paper's formula written out, and against diffusers."""

from __future__ import annotations

import math

import pytest
import torch
from surrogates import ALPHAS, STEPS, TinyNet, make_batch, seen

from mmpo.adapters import Denoising
from mmpo.contracts import Batch, Draw, Predict
from mmpo.losses import LOSSES, PairLogps


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
