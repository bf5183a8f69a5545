"""DDIM with noise (η = 1 is DDPM's ancestral sampling) for ε- and v-prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mmpo.sampling.stepper import per_image, precise


@dataclass(frozen=True)
class Ddim:
    """mean = √ᾱ_p·x̂0 + √(1−ᾱ_p−σ²)·ε̂, σ = η·√((1−ᾱ_p)/(1−ᾱ_t)·(1−ᾱ_t/ᾱ_p)), p the next timestep.

    The order of operations is diffusers' DDIMScheduler's, so that η = 0 gives its numbers bit for bit. With η > 0 the
    last step's p is max(t − T/steps, 0): a schedule that ends at ᾱ = 1 would have σ = 0 there.

    Args:
        timesteps: [S] int64, falling.
        alpha, alpha_next: [S] float32: ᾱ_t and ᾱ_p.
        eta: η.
        kind: what the model predicts.
        clip: x̂0 is cut off at ± this, where the checkpoint's scheduler says so; where it says nothing it is not, as in
            diffusers' pipelines of latents (its scheduler's own default is ±1).
    References:
        Song et al., Denoising Diffusion Implicit Models, arXiv 2010.02502, eq. 12 and 16. The clamp of the last step:
        the code of Black et al. (DDPO), Yang et al. (D3PO) and Liang et al. (SPO).
    """

    timesteps: Tensor
    alpha: Tensor
    alpha_next: Tensor
    eta: float
    kind: Literal["epsilon", "v_prediction"]
    clip: float | None = None

    @classmethod
    def from_config(cls, scheduler: Mapping[str, Any], *, steps: int, eta: float) -> Ddim:
        """Of a checkpoint, from its scheduler's config, as diffusers' DDIMScheduler reads it.

        Args:
            scheduler: says the noise schedule and what the model predicts.
            steps: of the sampler.
            eta: 0 is deterministic, 1 is DDPM.
        Raises:
            ValueError: what the schedule is not made for.
        """
        from diffusers import DDIMScheduler

        made = DDIMScheduler.from_config({"clip_sample": False, **scheduler})  # latents are not cut off at ±1
        if made.config.thresholding:
            raise ValueError("scheduler: dynamic thresholding has no Gaussian steps; set thresholding to false")
        kind = made.config.prediction_type
        if kind not in ("epsilon", "v_prediction"):
            raise ValueError(f"scheduler: predicts '{kind}'; expected epsilon or v_prediction")
        if not 1 <= steps <= made.config.num_train_timesteps:
            raise ValueError(f"steps: expected 1 to {made.config.num_train_timesteps}, got {steps}")
        made.set_timesteps(steps)
        times = made.timesteps.long().cpu()
        if times.max() >= made.config.num_train_timesteps:  # so many that steps_offset leads beyond the schedule
            raise ValueError(f"steps: {steps} of this schedule begin at {int(times.max())}, which it lacks; take fewer")
        following = times - made.config.num_train_timesteps // steps
        known = made.alphas_cumprod.cpu()
        final = known[0] if eta > 0 else made.final_alpha_cumprod.cpu()
        made_of = cls(
            timesteps=times,
            alpha=known[times],
            alpha_next=torch.where(following >= 0, known[following.clamp(min=0)], final),
            eta=eta,
            kind=kind,
            clip=made.config.clip_sample_range if made.config.clip_sample else None,
        )
        if (made_of._left < -1e-5).any():
            raise ValueError(
                f"eta: {eta:g} is more noise than a step of this schedule has room for; use 1 (DDPM) or less"
            )
        return made_of

    @property
    def count(self) -> int:
        """See `Stepper.count`."""
        return len(self.timesteps)

    @property
    def std(self) -> Tensor:
        """See `Stepper.std`."""
        variance = ((1 - self.alpha_next) / (1 - self.alpha)) * (1 - self.alpha / self.alpha_next)
        return self.eta * variance.clamp(min=0) ** 0.5

    def clean(self, prediction: Tensor, x: Tensor, step: Tensor) -> Tensor:
        """See `Stepper.clean`."""
        return self._clean_and_noise(prediction, x, step)[0]

    def mean(self, prediction: Tensor, x: Tensor, step: Tensor) -> Tensor:
        """See `Stepper.mean`."""
        clean, noise = self._clean_and_noise(prediction, x, step)
        signal = per_image(self.alpha_next**0.5, step, clean)
        direction = per_image(self._left.clamp(min=0) ** 0.5, step, clean)  # 0 may be below it by rounding
        return signal * clean + direction * noise

    @property
    def _left(self) -> Tensor:
        """[S] the next state's noise variance that is not new."""
        return 1 - self.alpha_next - self.std**2

    def _clean_and_noise(self, prediction: Tensor, x: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """(x̂0, ε̂)."""
        prediction, x = precise(prediction), precise(x)
        signal = per_image(self.alpha**0.5, step, x)
        sigma = per_image((1 - self.alpha) ** 0.5, step, x)
        if self.kind == "epsilon":
            clean, noise = (x - sigma * prediction) / signal, prediction
        else:
            clean, noise = signal * x - sigma * prediction, signal * prediction + sigma * x
        return (clean if self.clip is None else clean.clamp(-self.clip, self.clip)), noise
