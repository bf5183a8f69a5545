"""The training loop of every stage: Adam, moving average of weights, a log, and resuming."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn


def generator(seed: int, step: int) -> torch.Generator:
    """Randomness of one step, the same whether or not the run was resumed before it."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def _rate(step: int, steps: int, warmup: int = 100, tail: float = 0.3) -> float:
    """Warm up, hold, then a cosine to 2 % over the last `tail` of the steps."""
    left = max(0.0, (step - (1 - tail) * steps) / (tail * steps))
    return min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, left))))


def save(path: Path, state: dict) -> None:
    """Write `state` so that a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def fit(
    model: nn.Module,
    loss_of: Callable[[nn.Module, torch.Generator], torch.Tensor],
    folder: Path,
    *,
    steps: int,
    lr: float,
    seed: int,
    ema: float = 0.999,
    every: int = 500,
    until: int | None = None,
    after_save: Callable[[int, nn.Module], None] | None = None,
) -> nn.Module:
    """Train `model` in place to step `until` of `steps`, resuming from `folder/state.pt`; returns its moving average.

    Args:
        loss_of: `loss_of(model, generator)` -> scalar loss of one step; all randomness from the generator.
        folder: holds `state.pt` (weights, average, optimiser, step) and `log.jsonl`.
        ema: decay of the moving average, reached gradually.
        until: stop here, as if killed; None goes on to `steps`, on which the learning rate's schedule rests.
        every: steps between saves; `after_save(step, average)` is called then.
    """
    average = copy.deepcopy(model).requires_grad_(False).eval()
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0, betas=(0.9, 0.99))
    path, start = folder / "state.pt", 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["step"]
    until = steps if until is None else until
    model.train()
    began, total = time.time(), 0.0
    for step in range(start, until):
        for group in optimiser.param_groups:
            group["lr"] = lr * _rate(step, steps)
        loss = loss_of(model, generator(seed, step))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        decay = min(ema, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        total += loss.item()
        if (step + 1) % every == 0 or step + 1 == until:
            done = (step + 1 - start) % every or every
            line = {"step": step + 1, "loss": round(total / done, 5), "seconds": round(time.time() - began, 1)}
            print(folder.name, json.dumps(line), flush=True)
            save(path, {"model": model.state_dict(), "average": average.state_dict(),
                        "optimiser": optimiser.state_dict(), "step": step + 1})  # fmt: skip
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            total = 0.0
            if after_save is not None:
                after_save(step + 1, average)
                model.train()
    return average
