"""What the loop computes for losses that need more than log-likelihoods, by the name of the loss's argument."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmpo.contracts import Batch
from mmpo.losses.baselines import baseline, kl_baseline
from mmpo.losses.types import precise


@dataclass(frozen=True)
class Forward:
    """One forward of policy and reference, and what a feed may ask besides.

    Args:
        batch: B groups of K candidates.
        policy: [B, K] log-likelihoods with gradient.
        reference: [B, K], or None.
        predictions: [B, K, C, H, W] of policy and reference, where a loss asks for them.
        mismatched: computes ([B·K], [B·K]) of policy and reference for candidates under other groups' prompts.
        add_up: sums a small tensor over all processes.
    """

    batch: Batch
    policy: Tensor
    reference: Tensor | None
    predictions: tuple[Tensor, Tensor] | None = None
    mismatched: Callable[[], tuple[Tensor, Tensor]] | None = None
    add_up: Callable[[Tensor], Tensor] = lambda x: x


def desirable(forward: Forward) -> Tensor:
    """[B·K] bool: the chosen candidates, which stand first."""
    first = torch.zeros_like(forward.policy, dtype=torch.bool)
    first[:, 0] = True
    return first.flatten()


def z0(forward: Forward) -> Tensor:
    """[]: max(0, mean log-ratio) over this forward of all processes (Diffusion-KTO's)."""
    assert forward.reference is not None
    return _baseline(forward, forward.policy.detach().flatten(), forward.reference.flatten())


def mismatched_z0(forward: Forward) -> Tensor:
    """[]: the same for candidates under other groups' prompts (KTO's own)."""
    assert forward.mismatched is not None
    return _baseline(forward, *forward.mismatched())


def _baseline(forward: Forward, policy: Tensor, reference: Tensor) -> Tensor:
    whole = forward.add_up(torch.stack(kl_baseline(policy, reference)))
    return baseline(whole[0], whole[1])


def chosen_drift(forward: Forward) -> Tensor:
    """[B]: mean squared difference of the two models' predictions for the chosen candidate, with gradient."""
    assert forward.predictions is not None
    policy, reference = (precise(prediction[:, 0]) for prediction in forward.predictions)
    return (policy - reference.detach()).square().flatten(1).mean(1)


def gold_nll(forward: Forward) -> Tensor:
    """[B]: −logp of the best of three or more."""
    return -forward.policy[:, 0]


def wins(forward: Forward) -> Tensor:
    """[B, K, K] bool: which candidates of a sampler's step are preferred to which."""
    assert forward.batch.transition is not None
    return forward.batch.transition.wins


def online(forward: Forward) -> Tensor:
    """[B, K]: log-likelihoods of the policy's own samples, with gradient."""
    return forward.policy


def online_reference(forward: Forward) -> Tensor:
    """[B, K]: the same under the reference."""
    assert forward.reference is not None
    return forward.reference


FEEDS: Mapping[str, Callable[[Forward], Tensor]] = {
    "desirable": desirable,
    "z0": z0,
    "mismatched_z0": mismatched_z0,
    "chosen_drift": chosen_drift,
    "gold_nll": gold_nll,
    "wins": wins,
    "online": online,
    "online_reference": online_reference,
}


def under_other_prompts(batch: Batch) -> Batch:
    """Each group's candidates under the prompt of the group before it, for KTO's baseline; B of at least 2."""
    moved = {name: value.roll(1, dims=0) for name, value in batch.condition.items()}
    return replace(batch, condition=moved)
