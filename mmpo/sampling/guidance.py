"""Classifier-free guidance, the same when sampling, when scoring and when training."""

from __future__ import annotations

import torch
from torch import Tensor

from mmpo.contracts import Condition, Predict
from mmpo.sampling.stepper import precise


def guided(
    model: Predict, x: Tensor, timesteps: Tensor, condition: Condition, empty: Condition, guidance: float
) -> Tensor:
    """empty + guidance·(prompt − empty) [N, C, H, W], both predicted in one forward, combined in float32 or better.

    Args:
        model: the denoiser.
        x: [N, C, H, W].
        timesteps: [N].
        condition: per name [N, ...] of the prompts.
        empty: per name [N, ...] of the empty prompt; what it lacks, such as an image's size, is the prompt's own.
        guidance: up to 1 is none, as in diffusers' pipelines; then the empty prompt is not asked for.
    """
    timesteps = timesteps.to(x.device)
    if guidance <= 1:
        return precise(model(x, timesteps, condition))
    both = {name: torch.cat([empty.get(name, value), value]) for name, value in condition.items()}
    away, toward = precise(model(torch.cat([x, x]), torch.cat([timesteps, timesteps]), both)).chunk(2)
    return away + guidance * (toward - away)
