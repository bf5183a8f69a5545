"""States of a sampler as they were visited, and how one step is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmpo.contracts import Condition, Predict
from mmpo.random_streams import generator
from mmpo.sampling.guidance import guided
from mmpo.sampling.stepper import Reduce, Stepper, log_density


@dataclass(frozen=True)
class Chains:
    """K chains of n steps for each of B groups.

    Args:
        states: [B, K, n + 1, C, H, W] float32.
        behaviour: [B, K, n] float32 log-densities of the steps under the policy that sampled them.
        first: the sampler's step that leads from state 0 to state 1.
        shared: whether a group's chains start from one state.
    """

    states: Tensor
    behaviour: Tensor
    first: int
    shared: bool

    @property
    def steps(self) -> int:
        """n."""
        return self.behaviour.shape[2]


@dataclass(frozen=True)
class Prompts:
    """What B groups are sampled for.

    Args:
        ids: B names; noise is counted by them.
        condition: per name [B, ...].
        empty: per name [...] of the empty prompt.
    """

    ids: Sequence[str]
    condition: Condition
    empty: Condition

    def repeated(self, count: int) -> tuple[Condition, Condition]:
        """(conditions, the empty prompt's), per name [B·count, ...], each group's `count` times."""
        said = {name: value.repeat_interleave(count, 0) for name, value in self.condition.items()}
        total = len(self.ids) * count
        return said, {name: value.expand(total, *value.shape) for name, value in self.empty.items() if name in said}


@dataclass(frozen=True)
class Sampler:
    """A stepper with the model that it asks.

    Args:
        model: `predict(x, timesteps, condition)`.
        stepper: the transition maths.
        guidance: classifier-free.
        reduce: of log-densities.
        seed, visit: noise is counted by these, a group's id, the candidate and the step; never by batch or order.
        at_once: states in one forward at most, of which guidance makes two rows each; None: all.
    """

    model: Predict
    stepper: Stepper
    guidance: float
    reduce: Reduce = "mean"
    seed: int = 0
    visit: int = 0
    at_once: int | None = None

    def start(self, prompts: Prompts, candidates: int, latent: Sequence[int], *, shared: bool) -> Tensor:
        """[B, K, C, H, W] pure noise: one for a group's candidates, or one each; the first is the same in both."""
        rows = []
        for group in prompts.ids:
            random = generator(self.seed, group, self.visit, "start")
            drawn = [torch.randn(*latent, generator=random) for _ in range(1 if shared else candidates)]
            rows.append(torch.stack(drawn * candidates if shared else drawn))
        return torch.stack(rows)

    def predict(self, x: Tensor, prompts: Prompts, step: int) -> Tensor:
        """[B, P, C, H, W] guided predictions at one step, one forward for each `at_once` states.

        Args:
            x: [B, P, C, H, W].
        """
        flat = x.flatten(0, 1)
        said, empty = prompts.repeated(x.shape[1])
        times = self.stepper.timesteps[step].expand(len(flat))
        size = self.at_once or len(flat)
        parts = [
            guided(
                self.model,
                flat[at : at + size],
                times[at : at + size],
                {name: value[at : at + size] for name, value in said.items()},
                {name: value[at : at + size] for name, value in empty.items()},
                self.guidance,
            )
            for at in range(0, len(flat), size)
        ]
        return torch.cat(parts).unflatten(0, x.shape[:2])

    def mean(self, prediction: Tensor, x: Tensor, step: int) -> Tensor:
        """[B, P, C, H, W] mean of the next state."""
        return self.stepper.mean(prediction.flatten(0, 1), x.flatten(0, 1), _steps(x, step)).unflatten(0, x.shape[:2])

    def clean(self, prediction: Tensor, x: Tensor, step: int) -> Tensor:
        """[B, P, C, H, W] x̂0."""
        return self.stepper.clean(prediction.flatten(0, 1), x.flatten(0, 1), _steps(x, step)).unflatten(0, x.shape[:2])

    def noise(self, prompts: Prompts, candidates: int, step: int, like: Tensor) -> Tensor:
        """[B, K, C, H, W] standard normal: each candidate's own."""
        rows = []
        for group in prompts.ids:
            drawn = [
                torch.randn(*like.shape[-3:], generator=generator(self.seed, group, self.visit, f"step {step}/{k}"))
                for k in range(candidates)
            ]
            rows.append(torch.stack(drawn))
        return torch.stack(rows).to(like)

    def advance(self, mean: Tensor, noise: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(next states [B, K, C, H, W], their log-densities [B, K]; 0 where the step is deterministic).

        Args:
            mean: [B, 1 or K, C, H, W].
            noise: [B, K, C, H, W].
        """
        std = self.stepper.std[step].to(mean)
        following = mean + std * noise
        if not std > 0:
            return following, following.new_zeros(following.shape[:2])
        return following, log_density(
            following, mean.expand_as(following), std.expand(following.shape[:2]), self.reduce
        )


def _steps(x: Tensor, step: int) -> Tensor:
    return torch.full((x.shape[0] * x.shape[1],), step, dtype=torch.int64)
