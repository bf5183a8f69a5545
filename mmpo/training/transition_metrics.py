"""What a step on a sampler's transitions reports."""

from __future__ import annotations

import torch
from torch import Tensor

from mmpo.contracts import Diverges
from mmpo.losses.diagnostics import accuracies, implied_rewards
from mmpo.training.feeds import Forward
from mmpo.training.run import Run
from mmpo.training.terms import as_pair


@torch.no_grad()
def of_transitions(run: Run, forward: Forward, loss: Tensor) -> dict[str, Tensor]:
    """Detached scalars by name.

    `ratios/behaviour`: how far log-densities moved since the states were sampled, |log-ratio| (0 before the round's
    first update, up to rounding); `divergence/reference`: mean KL of the steps from the reference's.
    """
    came = forward.batch.transition
    assert came is not None
    policy = forward.policy.detach()
    values = {
        "loss": loss.detach(),
        "logps/mean": policy.mean(),
        "ratios/behaviour": (policy - came.behaviour.to(policy)).abs().mean(),
    }
    if forward.reference is None:
        return values
    pair, against = as_pair(policy), as_pair(forward.reference)
    chosen, rejected = implied_rewards(pair, against, beta=run.scale)
    values |= {
        "rewards/margins": (chosen - rejected).mean(),
        "rewards/accuracies": accuracies(pair, against).mean(),
        "ratios/reference": (policy - forward.reference).abs().mean(),
    }
    if forward.predictions is not None and isinstance(run.adapter, Diverges):
        ours, theirs = (prediction.detach() for prediction in forward.predictions)
        values["divergence/reference"] = run.adapter.divergence(forward.batch, ours, theirs).mean()
    return values
