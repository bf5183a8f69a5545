"""SPO's step-aware preference model: a PickScore for predictions of the clean image, made at a timestep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rewards.clip_model import cosine_scores
from rewards.pixel_views import shortest_side_crop
from rewards.scores import Candidate, Scores
from rewards.staged import score_by_views
from rewards.step_aware_files import load_step_aware
from rewards.views import ShortestSideCrop
from rewards.weight_places import hub_file, local_place
from rewards.weights_hash import identity_of, weights_identity

WEIGHTS = "SPO-Diffusion-Models/Step-Aware_Preference_Models/sd-v1-5_step-aware_preference_model.bin"
Timesteps = Sequence[float] | Tensor


class StepAware:
    """exp(logit_scale) · cos(image at t, text) of a `StepAwareClip`.

    Args:
        weights: see `rewards.step_aware_files.load_step_aware`; a plain CLIP scores as itself at every timestep.
        revision: on the hub.
        timestep: at which candidates are scored that come without; 0 is a finished image.
        config: hub name or folder of the CLIP whose config a state dict's file has.
        device, dtype: of the model.
        batch_size: rows at once.
        sha256: of a state dict's file.
    References:
        Liang et al., Aesthetic Post-Training Diffusion Models from Generic Preferences with Step-by-step Preference
        Optimization, arXiv 2406.04314.
    """

    name = "step_aware"

    def __init__(
        self,
        weights: str = WEIGHTS,
        revision: str | None = None,
        timestep: float = 0,
        config: str = "yuvalkirstain/PickScore_v1",
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int = 32,
        sha256: str | None = None,
    ) -> None:
        self.timestep = _checked([timestep], 1)[0].item()
        self.clip = load_step_aware(
            weights, revision=revision, config=config, sha256=sha256, device=device, dtype=dtype
        )
        self.view = ShortestSideCrop(self.clip.size)
        self.batch_size = batch_size
        self._weights, self._revision, self._config, self._dtype = weights, revision, config, dtype

    @property
    def identity(self) -> Mapping[str, str]:
        """What its scores depend on."""
        place = local_place(self._weights)
        alone = place.is_file() if place is not None else hub_file(self._weights) is not None
        config = weights_identity(self._config) if alone else None
        return identity_of(
            self._weights, self._revision, self._dtype, self.view, timestep=f"{self.timestep:g}", config=config
        )

    def score(
        self, candidates: Sequence[Candidate], prompts: Sequence[str], timesteps: Timesteps | None = None
    ) -> Scores:
        """See `rewards.scores.Reward.score`; pictures are resized by PIL, as PickScore's are.

        Args:
            timesteps: [N] in 0 .. T−1; None: the option's for all.
        """
        times = _checked([self.timestep] * len(prompts) if timesteps is None else timesteps, len(prompts))
        return score_by_views(self, candidates, prompts, timesteps=times)  # type: ignore[arg-type]  # a Tensor slices too

    def score_views(
        self,
        views: Sequence[Any],
        prompts: Sequence[str],
        responses: Sequence[str | None],
        timesteps: Timesteps | None = None,
    ) -> Scores:
        """See `rewards.scores.Staged.score_views`."""
        times = _checked([self.timestep] * len(prompts) if timesteps is None else timesteps, len(prompts))
        return cosine_scores(self.clip, views, prompts, responses, self.clip.scale, timesteps=times)

    def score_pixels(self, pixels: Tensor, prompts: Sequence[str], timesteps: Timesteps) -> Tensor:
        """[N] float32 scores of a batch of pixels, through which a gradient reaches the pixels.

        Args:
            pixels: [N, 3, H, W], mostly in [−1, 1]; resized as SPO's resampler does, see `rewards.pixel_views`.
            prompts: N texts.
            timesteps: [N] in 0 .. T−1.
        Raises:
            ValueError: other shapes, numbers or timesteps, or a text is empty.
        """
        if len(pixels) != len(prompts):
            raise ValueError(f"pixels: {len(pixels)} of them, {len(prompts)} prompts; give one prompt each")
        if empty := [row for row, text in enumerate(prompts) if not text.strip()]:
            raise ValueError(f"prompts[{empty[0]}]: the text is empty; nothing to compare the image with")
        times = _checked(timesteps, len(prompts))
        said = self.clip.texts(prompts)[0].clone()  # out of inference mode, so that a gradient may keep it
        parts = zip(pixels.split(self.batch_size), times.split(self.batch_size), strict=True)
        seen = torch.cat(
            [self.clip.pixels(shortest_side_crop(part, self.clip.size), timesteps=at) for part, at in parts]
        )
        return self.clip.scale * (seen * said).sum(-1)


def _checked(timesteps: Timesteps, count: int) -> Tensor:
    """[N] float32."""
    times = torch.as_tensor(timesteps, dtype=torch.float32)
    if times.shape != (count,):
        raise ValueError(f"timesteps: expected {count}, one per row, got shape {list(times.shape)}")
    if bad := [value for value in times.tolist() if not (value >= 0 and math.isfinite(value))]:
        raise ValueError(f"timesteps: expected numbers from 0 up, got {bad[0]:g}")
    return times
