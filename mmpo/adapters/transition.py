"""The log-density of a sampler's own steps (D3PO, SPO and their like)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmpo.contracts import Batch, Draw, Predict, Transition
from mmpo.sampling.guidance import guided
from mmpo.sampling.stepper import Reduce, Stepper, divergence, log_density


@dataclass(frozen=True)
class Transitions:
    """logp := log N(x_{i+1}; mean_θ(x_i), std_i²), averaged over C, H, W; under the guidance it was sampled with.

    A group is one prompt at one step. Its candidates are states x_{i+1}; those with one parent x_i share one forward.
    Nothing is drawn: the states are what was sampled. With policy == reference the log-ratio is exactly 0.

    Args:
        stepper: the sampler that made the states.
        guidance: classifier-free; the branch of the empty prompt is not detached.
        reduce: "mean" over C, H, W as the sources have it, or their "sum", which multiplies β by C·H·W.
    References:
        Yang et al., Using Human Feedback to Fine-tune Diffusion Models without Any Reward Model (D3PO), arXiv
        2311.13231; Liang et al., Aesthetic Post-Training Diffusion Models from Generic Preferences with Step-by-step
        Preference Optimization (SPO), arXiv 2406.04314, and their code.
    """

    stepper: Stepper
    guidance: float = 1.0
    reduce: Reduce = "mean"

    def draw(
        self,
        batch: Batch,
        seed: int,
        visit: int | Sequence[int] | None = None,
        *,
        band: tuple[float, float] | None = None,
    ) -> Draw:
        """Nothing is random here; the time is the step's, as a share of the sampler."""
        step = _of(batch).step
        nothing = batch.latent_mean.new_zeros(0)
        keep = torch.zeros(len(batch.ids), dtype=torch.bool)
        return Draw(1 - step.double() / self.stepper.count, nothing, nothing, keep)

    def logp(self, model: Predict, batch: Batch, draw: Draw) -> Tensor:
        """[B, K] in float32 or better; one forward for the distinct parents."""
        return self.logp_and_prediction(model, batch, draw)[0]

    def logp_and_prediction(self, model: Predict, batch: Batch, draw: Draw) -> tuple[Tensor, Tensor]:
        """`logp`, and [B, K, C, H, W]: the mean of each candidate's Gaussian."""
        came = _of(batch)
        step = came.step[came.group.cpu()]
        condition = {name: value[:, 0][came.group] for name, value in batch.condition.items()}
        count = len(came.parents)
        empty = {
            name: value.expand(count, *value.shape) for name, value in batch.null_condition.items() if name in condition
        }
        prediction = guided(model, came.parents, self.stepper.timesteps[step], condition, empty, self.guidance)
        mean = self.stepper.mean(prediction, came.parents, step)[came.parent]
        std = self.stepper.std[came.step].to(mean).unsqueeze(1).expand(mean.shape[:2])
        return log_density(batch.latent_mean.to(mean), mean, std, self.reduce), mean

    def divergence(self, batch: Batch, prediction: Tensor, reference: Tensor) -> Tensor:
        """See `mmpo.contracts.Diverges`."""
        std = self.stepper.std[_of(batch).step].to(prediction).unsqueeze(1).expand(prediction.shape[:2])
        return divergence(prediction, reference, std, self.reduce)


def _of(batch: Batch) -> Transition:
    if batch.transition is None:
        raise ValueError("adapter transition: takes states of a sampler (a recipe's rollout), and this batch has none")
    return batch.transition
