"""Counter-based randomness: what a group draws depends on seed, group id and visit, never on batch, rank or order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mmpo.contracts import Batch, Draw
from mmpo.random_streams import generator

Noise = Literal["shared", "per_candidate"]
"""Whether a group's candidates are under one noise, or each under its own; the timestep is one in both."""


def draw_groups(
    batch: Batch,
    seed: int,
    visit: int | Sequence[int] | None,
    *,
    band: tuple[float, float],
    prompt_dropout: float,
    flip: float = 0.0,
    noise: Noise = "shared",
) -> Draw:
    """One draw per group of the batch; tensors on the batch's device, the times on the CPU (float64 is not everywhere).

    Args:
        batch: B groups of K candidates with latents [B, K, C, H, W].
        seed: of the run.
        visit: one number for all groups, one per group, or None for `batch.visits`.
        band: the noise level's quantile is uniform in [low, high).
        prompt_dropout: probability that a group is trained on the empty prompt.
        flip: probability that a group's images are mirrored, all or none; only where the batch holds both ways.
        noise: "shared" gives [B, C, H, W]; "per_candidate" [B, K, C, H, W], of which the first is the shared one.
    """
    count, candidates, *latent = batch.latent_mean.shape
    visits = _visits(batch, visit)
    times, noises, posteriors, drops = [], [], [], []
    for group, number in zip(batch.ids, visits, strict=True):
        # The precision of a draw is fixed (float64 for the time, float32 for the noise), so that runs in
        # different precisions see the same draws.
        times.append(torch.rand((), generator=generator(seed, group, number, "time"), dtype=torch.float64))
        own = _each(candidates if noise == "per_candidate" else 1, latent, generator(seed, group, number, "noise"))
        noises.append(own if noise == "per_candidate" else own[0])
        posteriors.append(_each(candidates, latent, generator(seed, group, number, "posterior")))
        drops.append(torch.rand((), generator=generator(seed, group, number, "drop")) < prompt_dropout)
    low, high = band
    assert count == len(times)
    return Draw(
        time=low + (high - low) * torch.stack(times),
        noise=torch.stack(noises).to(batch.latent_mean),
        posterior_noise=torch.stack(posteriors).to(batch.latent_mean),
        drop_prompt=torch.stack(drops).to(batch.latent_mean.device),
        mirror=_mirror(batch, seed, visits, flip),
    )


def _each(count: int, latent: Sequence[int], random: torch.Generator) -> Tensor:
    """[count, C, H, W], one after another, so that filling a list up changes no noise."""
    return torch.stack([torch.randn(*latent, generator=random) for _ in range(count)])


def _mirror(batch: Batch, seed: int, visits: Sequence[int], flip: float) -> Tensor | None:
    if batch.mirrored_mean is None or not flip:
        return None
    each = zip(batch.ids, visits, strict=True)
    draws = [torch.rand((), generator=generator(seed, group, number, "flip")) < flip for group, number in each]
    return torch.stack(draws).to(batch.latent_mean.device)


def _visits(batch: Batch, visit: int | Sequence[int] | None) -> Sequence[int]:
    if visit is None:
        return batch.visits
    if isinstance(visit, int):
        return [visit] * len(batch.ids)
    return visit
