"""What a round's candidates are scored by, with failures that name the reward and the prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmpo.models.families import decode_pixels, images_at_once


class RewardFault(ValueError):
    """A reward did not score a candidate."""


@dataclass
class Failures:
    """Candidates that a reward did not score, where the recipe leaves their prompts out.

    Args:
        fatal: raise at the first one.
    """

    fatal: bool
    messages: list[str] = field(default_factory=list)

    def add(self, message: str) -> None:
        """Counts one.

        Raises:
            RewardFault: where failures are fatal.
        """
        if self.fatal:
            raise RewardFault(f"{message}; rollout.on_bad_reward: skip leaves such prompts out")
        self.messages.append(message)


def score_images(reward: Any, images: Sequence[Any], prompts: Sequence[str], failures: Failures) -> np.ndarray:
    """[N] float32, NaN where it failed; `images` are PIL images."""
    return _checked(reward.name, lambda: reward.score(images, prompts), prompts, failures)


def score_predictions(
    reward: Any, pixels: Tensor, prompts: Sequence[str], timestep: float, processor: Any, failures: Failures
) -> np.ndarray:
    """[N] float32 of predicted images at a timestep; a reward that is not step-aware sees pictures.

    Args:
        pixels: [N, 3, H, W], mostly in [−1, 1].
        timestep: 0 is a finished image.
        processor: the pipeline's, to make pictures.
    """
    if hasattr(reward, "score_pixels"):
        times = [timestep] * len(prompts)

        def by_pixels() -> Any:
            with torch.no_grad():
                return reward.score_pixels(pixels, prompts, times).float().cpu().numpy()

        return _checked(reward.name, by_pixels, prompts, failures)
    images = processor.postprocess(pixels, output_type="pil")
    return score_images(reward, images, prompts, failures)


def decoded(vae: Any, latents: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, 3, H, W] float32 of latents [N, C, h, w], as many at once as fit."""
    parts = latents.split(images_at_once(*size))
    return torch.cat([decode_pixels(vae, part).float() for part in parts])


def _checked(name: str, ask: Callable[[], Any], prompts: Sequence[str], failures: Failures) -> np.ndarray:
    try:
        given = ask()
    except RewardFault:
        raise
    except Exception as error:
        failures.add(f"reward {name}: failed on prompt '{prompts[0]}' and {len(prompts) - 1} more: {error}")
        return np.full(len(prompts), np.nan, np.float32)
    values = np.asarray(getattr(given, "values", given), np.float32)
    errors = list(getattr(given, "errors", [None] * len(prompts)))
    if values.shape != (len(prompts),):
        failures.add(
            f"reward {name}: gave {list(values.shape)} scores for {len(prompts)} candidates (first prompt: "
            f"'{prompts[0]}'); expected one each"
        )
        return np.full(len(prompts), np.nan, np.float32)
    for row in np.flatnonzero(~np.isfinite(values)).tolist():
        reason = errors[row] or f"its score is {values[row]}"
        failures.add(f"reward {name}: no score for prompt '{prompts[row]}': {reason}")
        values[row] = np.nan
    return values
