"""A noise schedule, a tiny network and random batches for the tests of the surrogates."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpo.adapters import Denoising, Flow
from mmpo.contracts import Adapter, Batch, Condition, Draw

STEPS = 1000
# Stable Diffusion's schedule: β linear in its square root from 0.00085 to 0.012; ᾱ is the product of 1 − β.
ALPHAS = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float64) ** 2).cumprod(0)

each_adapter = pytest.mark.parametrize("adapter", [Denoising(ALPHAS), Flow(shift=3.0)], ids=["denoising", "flow"])


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
