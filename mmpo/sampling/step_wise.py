"""SPO's resampler: at each step several candidates from one state, compared by what they promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmpo.random_streams import generator
from mmpo.sampling.chains import Chains, Prompts, Sampler

Score = Callable[[Tensor, float], Tensor]
"""`(x̂0 [B, K, C, H, W], timestep) -> scores [B, K]`, NaN where one could not be scored; timestep 0 is the image."""


@dataclass(frozen=True)
class Compared:
    """Candidates that branched from one state, with their scores [B, K]."""

    chains: Chains
    scores: Tensor


@torch.no_grad()
def step_wise(
    sampler: Sampler,
    prompts: Prompts,
    candidates: int,
    latent: Sequence[int],
    device: torch.device,
    score: Score,
    *,
    first: int = 4,
    inner: int = 1,
) -> Iterator[Compared]:
    """Comparisons along one trajectory per prompt.

    Up to step `first` the trajectory is an ordinary one. From there K candidates branch from its state and go `inner`
    steps each on their own; their x̂0 is scored (the last ones' images themselves), and a random one goes on. The
    prediction that x̂0 is made of also takes the chosen candidate's next step, so no forward is done twice.

    Args:
        candidates: K.
        latent: C, H, W.
        score: see `Score`.
        first: steps before the first branch.
        inner: steps of a branch; 1 is SPO, 4 its multi-step variant for SDXL.
    References:
        Liang et al., arXiv 2406.04314, algorithm 1 and code (a random candidate goes on, not the best).
    """
    x = sampler.start(prompts, 1, latent, shared=True).to(device)
    prediction = sampler.predict(x, prompts, 0)
    step, count = 0, sampler.stepper.count
    while step < first:
        x, _ = sampler.advance(sampler.mean(prediction, x, step), sampler.noise(prompts, 1, step, x), step)
        step += 1
        prediction = sampler.predict(x, prompts, step)
    while step < count:
        chains, prediction = _branch(sampler, prompts, x, prediction, candidates, step, min(step + inner, count))
        step += chains.steps
        ends = chains.states[:, :, -1]
        if step == count:
            yield Compared(chains, score(ends, 0.0))
            return
        clean = sampler.clean(prediction, ends, step)
        yield Compared(chains, score(clean, float(sampler.stepper.timesteps[step])))
        chosen = _chosen(sampler, prompts, candidates, step).to(device)
        rows = torch.arange(len(chosen), device=device)
        x, prediction = ends[rows, chosen].unsqueeze(1), prediction[rows, chosen].unsqueeze(1)


def _branch(
    sampler: Sampler, prompts: Prompts, x: Tensor, prediction: Tensor, candidates: int, start: int, stop: int
) -> tuple[Chains, Tensor]:
    """(chains from x [B, 1, C, H, W], predictions [B, K, C, H, W] at their ends; of the last step's, unused ones)."""
    at = x
    states, logps = [x.expand(-1, candidates, -1, -1, -1)], []
    for step in range(start, stop):
        mean = sampler.mean(prediction, at, step)
        at, logp = sampler.advance(mean, sampler.noise(prompts, candidates, step, mean), step)
        states.append(at)
        logps.append(logp)
        if step + 1 < sampler.stepper.count:
            prediction = sampler.predict(at, prompts, step + 1)
    return Chains(torch.stack(states, 2).float(), torch.stack(logps, 2).float(), first=start, shared=True), prediction


def _chosen(sampler: Sampler, prompts: Prompts, candidates: int, step: int) -> Tensor:
    """[B] the candidate of each group that goes on."""
    drawn = [
        torch.randint(candidates, (), generator=generator(sampler.seed, group, sampler.visit, f"goes on {step}"))
        for group in prompts.ids
    ]
    return torch.stack(drawn)
