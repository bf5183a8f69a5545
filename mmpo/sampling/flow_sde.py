"""Flow-matching models sampled by the SDE of Flow-GRPO, which has the marginals of their ODE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmpo.sampling.stepper import per_image, precise


@dataclass(frozen=True)
class FlowSde:
    """mean = x·(1 + s²/(2σ)·dt) + v·(1 + s²(1−σ)/(2σ))·dt, std = s·√(−dt); s = a·√(σ/(1−σ)), dt = σ_next − σ < 0.

    a = 0 is the Euler step of the ODE, bit for bit. At σ = 1 the denominator 1−σ is that of the next level.

    Args:
        sigmas: [S + 1] float32 from noise to 0.
        timesteps: [S] float32: what the model is given, σ times the training timesteps.
        eta: a, the noise level.
    References:
        Liu et al., Flow-GRPO: Training Flow Matching Models via Online RL, arXiv 2505.05470, eq. 9 and code.
    """

    sigmas: Tensor
    timesteps: Tensor
    eta: float

    @classmethod
    def from_config(cls, scheduler: Mapping[str, Any], *, steps: int, eta: float) -> FlowSde:
        """Of a checkpoint, from its scheduler's config, as diffusers' FlowMatchEulerDiscreteScheduler reads it.

        Raises:
            ValueError: a schedule that depends on the image's size.
        """
        from diffusers import FlowMatchEulerDiscreteScheduler

        made = FlowMatchEulerDiscreteScheduler.from_config(dict(scheduler))
        if made.config.use_dynamic_shifting:
            raise ValueError("scheduler: use_dynamic_shifting is not supported for own samples yet; set a fixed shift")
        made.set_timesteps(steps)
        return cls(made.sigmas.cpu(), made.timesteps.cpu(), eta)

    @property
    def count(self) -> int:
        """See `Stepper.count`."""
        return len(self.timesteps)

    @property
    def std(self) -> Tensor:
        """See `Stepper.std`."""
        return self._spread * (-self._dt) ** 0.5

    def clean(self, prediction: Tensor, x: Tensor, step: Tensor) -> Tensor:
        """See `Stepper.clean`."""
        return precise(x) - per_image(self.sigmas[:-1], step, precise(x)) * precise(prediction)

    def mean(self, prediction: Tensor, x: Tensor, step: Tensor) -> Tensor:
        """See `Stepper.mean`."""
        prediction, x = precise(prediction), precise(x)
        sigma, squared = self.sigmas[:-1], self._spread**2
        keep = per_image(1 + squared / (2 * sigma) * self._dt, step, x)
        move = per_image(1 + squared * (1 - sigma) / (2 * sigma), step, x)
        return x * keep + prediction * move * per_image(self._dt, step, x)

    @property
    def _dt(self) -> Tensor:
        return self.sigmas[1:] - self.sigmas[:-1]

    @property
    def _spread(self) -> Tensor:
        """[S] std_t of the SDE, before √(−dt)."""
        sigma = self.sigmas[:-1]
        below = torch.where(sigma >= 1 - 1e-6, self.sigmas[1:], sigma)
        return self.eta * (sigma / (1 - below)) ** 0.5
