"""Images as a diffusion model predicts them from their noised latents: what a step-aware reward judges."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmpo.adapters.clean_prediction import CleanPrediction
from mmpo.models.checkpoint import CheckpointConfig
from mmpo.models.families import decode_pixels, encode_images, images_at_once
from mmpo.random_streams import generator

KEPT_PROMPTS = 1024  # SDXL's embeddings of so many take 640 MB in float32


@dataclass(frozen=True)
class NoiseDraw:
    """The randomness of one visit of B groups of K images.

    Args:
        timesteps: [B] whole numbers, on the CPU; one for all images of a group.
        noise: [B, C, h, w], one for all images of a group.
        posterior: [B, K, C, h, w], of the VAE.
    """

    timesteps: Tensor
    noise: Tensor
    posterior: Tensor


class PredictedImages:
    """Encode, noise, predict the clean latent once under classifier-free guidance, decode.

    Args:
        pipeline: of diffusers, on its device; its weights are not trained.
        config: of the same checkpoint.
        guidance: 1 is none.
        resolution: pixels a side of the images.
        seed: of what is drawn.
    References:
        Liang et al., Aesthetic Post-Training Diffusion Models from Generic Preferences with Step-by-step Preference
        Optimization, arXiv 2406.04314, and its code: both images of a pair get one timestep and one noise.
    """

    def __init__(
        self, pipeline: Any, config: CheckpointConfig, *, guidance: float, resolution: int, seed: int = 0
    ) -> None:
        self._pipeline, self._family = pipeline, config.family
        self._denoiser = getattr(pipeline, config.family.denoiser).eval().requires_grad_(False)
        self._vae = pipeline.vae.eval().requires_grad_(False)
        self._schedule = CleanPrediction.from_config(config.scheduler)
        self._guidance, self._seed, self.resolution = guidance, seed, resolution
        side = resolution // config.downscale
        self._latent = (int(config.vae["latent_channels"]), side, side)
        self._prompts: OrderedDict[str, dict[str, Tensor]] = OrderedDict()

    @property
    def count(self) -> int:
        """T: timesteps are below it."""
        return self._schedule.count

    def draw(
        self,
        ids: Sequence[str],
        visits: Sequence[int],
        images: int,
        *,
        band: tuple[int, int] | None = None,
        timestep: int | None = None,
    ) -> NoiseDraw:
        """Randomness counted by group and visit, whatever the batch, its order and the process.

        Args:
            ids, visits: of B groups.
            images: K.
            band: t is uniform from its first to below its last; None: 0 to T.
            timestep: in place of a drawn one. The noise is as it would be.
        """
        low, high = band or (0, self.count)
        times, noises, posteriors = [], [], []
        for group, visit in zip(ids, visits, strict=True):
            time, noise, posterior = (generator(self._seed, group, visit, f"predicted {s}") for s in "tnp")
            drawn = int(torch.randint(low, high, (), generator=time))
            times.append(drawn if timestep is None else timestep)
            noises.append(torch.randn(self._latent, generator=noise))
            posteriors.append(torch.randn((images, *self._latent), generator=posterior))
        return NoiseDraw(torch.tensor(times), torch.stack(noises), torch.stack(posteriors))

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str], draw: NoiseDraw) -> Tensor:
        """[B, K, 3, H, W] float32, mostly in [−1, 1].

        Args:
            images: [B, K, 3, H, W] uint8, of this `resolution`.
            prompts: B texts.
            draw: see `draw`.
        """
        groups, count = images.shape[:2]
        device = self._denoiser.device
        mean, std = encode_images(self._vae, images.flatten(0, 1).to(device).float() / 127.5 - 1)
        clean = mean + std * draw.posterior.flatten(0, 1).to(mean)
        times = draw.timesteps.repeat_interleave(count)
        noisy = self._schedule.noisy(clean, draw.noise.to(mean).repeat_interleave(count, 0), times)
        condition = self._conditions(prompts, count)
        empty = self._conditions([""], groups * count)
        predicted = self._schedule.guided(
            self._predict, noisy.to(self._denoiser.dtype), times, condition, empty, self._guidance
        )
        parts = predicted.split(images_at_once(self.resolution, self.resolution))
        return torch.cat([decode_pixels(self._vae, part).float() for part in parts]).unflatten(0, (groups, count))

    def _predict(self, noisy: Tensor, timesteps: Tensor, condition: Any) -> Tensor:
        return self._family.predict(self._denoiser, noisy, timesteps, condition)

    def _conditions(self, prompts: Sequence[str], count: int) -> dict[str, Tensor]:
        """Per name [B·count, ...], each prompt's `count` times; an image's own size is said to be the resolution."""
        new = [text for text in dict.fromkeys(prompts) if text not in self._prompts]
        if new:
            encoded = self._family.encode_prompts(self._pipeline, new)
            rows = [{name: value[row] for name, value in encoded.items()} for row in range(len(new))]
            self._prompts.update(zip(new, rows, strict=True))
        rows = [self._prompts[text] for text in prompts]
        for text in dict.fromkeys(prompts):
            self._prompts.move_to_end(text)
        while len(self._prompts) > KEPT_PROMPTS:
            self._prompts.popitem(last=False)
        found = {name: torch.stack([row[name] for row in rows]).repeat_interleave(count, 0) for name in rows[0]}
        if "time_ids" in self._family.image_conditions:
            side = self.resolution
            ids = torch.tensor([side, side, 0, 0, side, side], device=self._denoiser.device)
            found["time_ids"] = ids.expand(len(prompts) * count, 6)
        return found
