"""One optimiser step: reference without gradient, policy with it, loss, backward, clip, update."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmpo.losses.diagnostics import accuracies, implied_rewards
from mmpo.losses.types import PairLogps
from mmpo.training.by_candidate import backward
from mmpo.training.forwards import Models
from mmpo.training.order import MicroBatch
from mmpo.training.reference_cache import CachedReference
from mmpo.training.run import Run
from mmpo.training.sharding import whole
from mmpo.training.terms import as_pair
from mmpo.training.terms import total as total_loss
from mmpo.training.transition_metrics import of_transitions


def forward_backward(
    run: Run, module: nn.Module, micro: list[MicroBatch], cached: CachedReference | None = None
) -> dict[str, Tensor]:
    """Accumulates the gradient of the mean loss over this process's share of the global batch.

    Args:
        module: the policy as accelerate wraps it (gradients are averaged over processes in the last backward).
        micro: what this process computes.
        cached: the reference's log-likelihoods where they were computed before.
    Returns:
        Metrics averaged over the micro-batches, detached scalars.
    """
    total: dict[str, Tensor] = {}
    for number, part in enumerate(micro):
        visits = part.visits if cached is None else cached.visits(part.visits)
        batch = run.train.batch(part.indices, visits).to(run.accelerator.device, run.dtype)
        draw = run.adapter.draw(batch, run.recipe.train.seed)
        known = None if cached is None else cached.logps(part, batch.latent_mean.shape[1]).to(batch.latent_mean.device)
        models = Models(run, module, known)
        last = number == len(micro) - 1
        if run.recipe.train.one_candidate_at_a_time:
            total_of = partial(total_loss, run.terms, weight=run.recipe.method.weight)
            both, loss, metrics = backward(models, batch, draw, total_of, share=1 / len(micro), last=last)
        else:
            with models.averaging(last):
                both = models.forward(batch, draw)
                loss, metrics = total_loss(run.terms, both, weight=run.recipe.method.weight)
                run.accelerator.backward(loss / len(micro))
        policy, reference = as_pair(both.policy, batch.mask), both.reference
        against = as_pair(reference, batch.mask) if reference is not None else None
        told = _metrics(run, loss, policy, against) if batch.transition is None else of_transitions(run, both, loss)
        for name, value in (metrics | told).items():
            total[name] = total.get(name, torch.zeros_like(value)) + value / len(micro)
    return total


@torch.no_grad()
def _metrics(run: Run, loss: Tensor, policy: PairLogps, reference: PairLogps | None) -> dict[str, Tensor]:
    values = {
        "loss": loss.detach(),
        "errors/chosen": -2 * policy.chosen.mean(),
        "errors/rejected": -2 * policy.rejected.mean(),
    }
    if reference is not None:
        chosen, rejected = implied_rewards(policy, reference, beta=run.scale)
        values |= {
            "rewards/chosen": chosen.mean(),
            "rewards/rejected": rejected.mean(),
            "rewards/margins": (chosen - rejected).mean(),
            "rewards/accuracies": accuracies(policy, reference).mean(),
            "errors/chosen_vs_reference": -2 * (policy.chosen - reference.chosen).mean(),
            "errors/rejected_vs_reference": -2 * (policy.rejected - reference.rejected).mean(),
        }
    return {name: value.detach() for name, value in values.items()}


def update(run: Run, optimizer: Any, parameters: list[nn.Parameter]) -> float:
    """Clips, steps, clears; returns the gradient's norm before clipping.

    A gradient that is not finite is not applied; in fp16 the scaler then lowers its scale, which is normal.
    """
    norm = run.accelerator.clip_grad_norm_(parameters, run.recipe.optim.max_grad_norm)
    value = float(whole({"norm": norm})["norm"]) if norm is not None else float("nan")
    if math.isfinite(value) or run.accelerator.scaler is not None:
        optimizer.step()
    optimizer.zero_grad()
    return value
