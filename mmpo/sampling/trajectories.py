"""Whole trajectories from noise to image, K for a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmpo.sampling.chains import Chains, Prompts, Sampler


@dataclass(frozen=True)
class Visit:
    """What a sampler sees before a step, so that a scorer can look on, branch or stop.

    Args:
        step: the sampler's.
        x: [B, K, C, H, W].
        clean: [B, K, C, H, W] x̂0.
        following: [B, K, C, H, W] the next state.
        logp: [B, K] its log-density.
    """

    step: int
    x: Tensor
    clean: Tensor
    following: Tensor
    logp: Tensor


@torch.no_grad()
def walk(sampler: Sampler, prompts: Prompts, x: Tensor, *, shared: bool = False) -> Iterator[Visit]:
    """All steps from x, one forward each.

    Args:
        x: [B, K, C, H, W] pure noise.
        shared: a group's candidates start from one state, whose prediction serves all at the first step.
    """
    candidates = x.shape[1]
    for step in range(sampler.stepper.count):
        seen = x[:, :1] if shared and step == 0 else x
        prediction = sampler.predict(seen, prompts, step)
        mean, clean = sampler.mean(prediction, seen, step), sampler.clean(prediction, seen, step)
        noise = sampler.noise(prompts, candidates, step, mean)
        following, logp = sampler.advance(mean, noise, step)
        yield Visit(step, x, clean.expand_as(x), following, logp)
        x = following


def trajectories(
    sampler: Sampler, prompts: Prompts, candidates: int, latent: Sequence[int], device: torch.device, *, shared: bool
) -> Chains:
    """K trajectories for each of B prompts; the last state is the image's latent.

    Args:
        candidates: K.
        latent: C, H, W.
        shared: one starting noise for a prompt's candidates (D3PO), or one each (Flow-GRPO).
    """
    x = sampler.start(prompts, candidates, latent, shared=shared).to(device)
    states, logps = [x], []
    for visit in walk(sampler, prompts, x, shared=shared):
        states.append(visit.following)
        logps.append(visit.logp)
    return Chains(torch.stack(states, 2).float(), torch.stack(logps, 2).float(), first=0, shared=shared)
