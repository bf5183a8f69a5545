"""The optimiser, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from mmpo.recipe import Optim


def build_optimizer(parameters: Iterable[nn.Parameter], optim: Optim, *, fused: bool) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, with the recipe's settings; one fused kernel where the device has it."""
    return torch.optim.AdamW(
        parameters, lr=optim.lr, betas=optim.betas, eps=optim.eps, weight_decay=optim.weight_decay, fused=fused
    )


def learning_rate(step: int, steps: int, optim: Optim) -> float:
    """Learning rate of a step counted from 0.

    Warm-up is linear from lr/warmup_steps to lr; then constant, or linear or half-cosine to 0 at `steps`.
    """
    if optim.schedule != "constant" and step < optim.warmup_steps:
        return optim.lr * (step + 1) / optim.warmup_steps
    if optim.schedule in ("constant", "constant_with_warmup"):
        return optim.lr
    done = (step - optim.warmup_steps) / max(1, steps - optim.warmup_steps)
    if optim.schedule == "linear":
        return optim.lr * max(0.0, 1 - done)
    return optim.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Writes the rate into every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
