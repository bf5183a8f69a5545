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

    def ask(rows: Sequence[int]) -> Any:
        return reward.score([images[row] for row in rows], [prompts[row] for row in rows])

    return _scored(reward.name, ask, prompts, failures)


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

        @torch.no_grad()
        def ask(rows: Sequence[int]) -> Any:
            texts = [prompts[row] for row in rows]
            return reward.score_pixels(pixels[list(rows)], texts, [timestep] * len(rows)).float().cpu().numpy()

        return _scored(reward.name, ask, prompts, failures)
    images = processor.postprocess(pixels, output_type="pil")
    return score_images(reward, images, prompts, failures)


def decoded(vae: Any, latents: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, 3, H, W] float32 of latents [N, C, h, w], as many at once as fit."""
    parts = latents.split(images_at_once(*size))
    return torch.cat([decode_pixels(vae, part).float() for part in parts])


Ask = Callable[[Sequence[int]], Any]
"""What a reward says of some rows, asked for at once."""


def _scored(name: str, ask: Ask, prompts: Sequence[str], failures: Failures) -> np.ndarray:
    """[N] of all rows at once; where that fails, prompt by prompt, so that the failure names the right one."""
    values, fault = _asked(name, ask, range(len(prompts)), prompts, failures)
    if fault is None:
        return values
    by_prompt: dict[str, list[int]] = {}
    for row, text in enumerate(prompts):
        by_prompt.setdefault(text, []).append(row)
    faults = {}
    for text, rows in by_prompt.items() if len(by_prompt) > 1 else ():
        values[rows], why = _asked(name, ask, rows, prompts, failures)
        if why is not None:
            faults[text] = why
    if not faults:  # of one prompt, or of several at once and of none alone: such scores are not to be trusted
        values[:] = np.nan
        more = f" and {len(by_prompt) - 1} more prompts at once" if len(by_prompt) > 1 else ""
        failures.add(f"reward {name}: prompt '{prompts[0]}'{more}: {fault}")
    for text, why in faults.items():
        failures.add(f"reward {name}: prompt '{text}': {why}")
    return values


def _asked(
    name: str, ask: Ask, rows: Sequence[int], prompts: Sequence[str], failures: Failures
) -> tuple[np.ndarray, str | None]:
    """([N] of these rows, NaN where one failed; None, or why there is not one score for each)."""
    try:
        given = ask(rows)
        values = np.array(getattr(given, "values", given), np.float32)
    except torch.OutOfMemoryError:
        raise  # no fault of a candidate
    except Exception as error:
        return np.full(len(rows), np.nan, np.float32), f"raised {type(error).__name__}: {error}"
    if values.shape != (len(rows),):
        fault = f"gave scores of shape {list(values.shape)} for {len(rows)} candidates; expected one each"
        return np.full(len(rows), np.nan, np.float32), fault
    errors = dict(enumerate(getattr(given, "errors", ())))
    for place in np.flatnonzero(~np.isfinite(values)).tolist():
        reason = errors.get(place) or f"its score is {values[place]}"
        failures.add(f"reward {name}: prompt '{prompts[rows[place]]}': {reason}")
        values[place] = np.nan
    return values, None
