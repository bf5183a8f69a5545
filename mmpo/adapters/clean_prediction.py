"""What a denoiser takes the clean latent to be: x̂0 from one prediction at one noise level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mmpo.contracts import Condition, Predict
from mmpo.sampling.guidance import guided


@dataclass(frozen=True)
class CleanPrediction:
    """x_t = a_t·x_0 + s_t·ε and back, for t in 0 .. T−1.

    x̂0 is (x_t − s·ε̂)/a of an ε-prediction, a·x_t − s·v̂ of a v-prediction (a² + s² = 1), and x_t − s·v̂ of a flow's
    velocity (a + s = 1).

    Args:
        signal, sigma: [T] float64 on the CPU: a_t and s_t.
        kind: what the model predicts.
    """

    signal: Tensor
    sigma: Tensor
    kind: Literal["epsilon", "v_prediction", "flow"]

    @classmethod
    def from_config(cls, scheduler: Mapping[str, Any]) -> CleanPrediction:
        """Of a checkpoint, from its scheduler's config; a flow's σ_t is t/T, without the shift its sampler has.

        Raises:
            ValueError: its noise schedule or what it predicts is not supported.
        """
        name = scheduler.get("_class_name", "")
        if "FlowMatch" in name:
            count = int(scheduler.get("num_train_timesteps", 1000))
            sigma = torch.arange(count, dtype=torch.float64) / count
            return cls(1 - sigma, sigma, "flow")
        kind = scheduler.get("prediction_type", "epsilon")
        if "EDM" in name or kind not in ("epsilon", "v_prediction"):
            raise ValueError(
                f"scheduler: {name or 'it'} predicts '{kind}'; supported are variance-preserving schedules with "
                "epsilon or v_prediction, and flow matching"
            )
        from diffusers import DDPMScheduler

        alphas = DDPMScheduler.from_config(dict(scheduler)).alphas_cumprod.double().cpu()
        return cls(alphas.sqrt(), (1 - alphas).sqrt(), kind)

    @property
    def count(self) -> int:
        """T."""
        return len(self.sigma)

    def noisy(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t [N, C, H, W].

        Args:
            clean, noise: [N, C, H, W].
            timesteps: [N] whole numbers in 0 .. T−1, on the CPU.
        """
        signal, sigma = self._levels(timesteps, clean)
        return signal * clean + sigma * noise

    def clean(self, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """x̂0 [N, C, H, W] in float32 or better.

        Args:
            prediction, noisy: [N, C, H, W].
            timesteps: [N] whole numbers in 0 .. T−1, on the CPU.
        """
        if prediction.element_size() < 4:
            prediction, noisy = prediction.float(), noisy.float()
        signal, sigma = self._levels(timesteps, prediction)
        if self.kind == "epsilon":
            return (noisy - sigma * prediction) / signal
        return (signal if self.kind == "v_prediction" else 1) * noisy - sigma * prediction

    def guided(
        self,
        model: Predict,
        noisy: Tensor,
        timesteps: Tensor,
        condition: Condition,
        empty: Condition,
        guidance: float,
    ) -> Tensor:
        """x̂0 [N, C, H, W] of empty + guidance·(prompt − empty), both predicted in one forward.

        Args:
            model: the denoiser.
            noisy: [N, C, H, W].
            timesteps: [N] whole numbers in 0 .. T−1, on the CPU.
            condition, empty: per name [N, ...] of the prompts, and of the empty prompt.
            guidance: up to 1 is none; then the empty prompt is not asked for.
        """
        return self.clean(guided(model, noisy, timesteps, condition, empty, guidance), noisy, timesteps)

    def _levels(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        signal, sigma = (values[timesteps].to(like).view(-1, 1, 1, 1) for values in (self.signal, self.sigma))
        return signal, sigma
