"""What a training run is made of. `pipelines/build.py` wires it; the loop knows the parts by their contracts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from mmpo.contracts import Adapter, Predict, Reference
from mmpo.recipe import Recipe
from mmpo.training.hacking import Look
from mmpo.training.heldout import Groups
from mmpo.training.order import MicroBatch, Plan
from mmpo.training.rounds import Rounds
from mmpo.training.sharding import Spread
from mmpo.training.terms import Term
from mmpo.vlm_recipe import VlmRecipe

Preview = Callable[[nn.Module, int], NDArray[np.uint8]]
"""`preview(policy, step) -> [H, W, 3]`: writes a grid of samples of the policy after `step` steps, and returns it."""
LookAt = Callable[[nn.Module, int], Look]
"""`look(policy, step) -> Look`: samples the policy and scores it; every process calls it and gets the same."""


@runtime_checkable
class HoldsCopy(Protocol):
    """A reference with a model of its own."""

    @property
    def copy(self) -> nn.Module:
        """That model."""
        ...


class Store(Protocol):
    """Named tensors by key, kept on disk."""

    def __contains__(self, key: str) -> bool: ...

    def add(self, keys: Sequence[str], values: Mapping[str, Tensor]) -> None:
        """Keeps one row per key of each tensor [N, ...]."""
        ...

    def get(self, key: str) -> Mapping[str, Tensor]:
        """The tensors of one key."""
        ...

    def flush(self) -> None:
        """Writes what is pending."""
        ...


class Answers(Protocol):
    """Passes over answers of a vision-language model, in place of those over latents."""

    def prepare(self, run: Run, plan: Plan) -> None:
        """Before the first step of a run with a `reference_cache`: fills it."""
        ...

    def forward_backward(self, run: Run, module: nn.Module, micro: Sequence[MicroBatch]) -> dict[str, Tensor]:
        """Accumulates a step's gradient; metrics over all processes."""
        ...

    def pair_logps(self, run: Run, module: nn.Module | None, indices: Sequence[int], size: int) -> Tensor:
        """[N, 1, 2] log-likelihoods of held-out pairs; module None is the reference."""
        ...


@dataclass
class Run:
    """The parts of one run.

    Args:
        accelerator: devices, processes, mixed precision.
        policy: the unwrapped denoiser with its trainable parameters.
        bind: module -> `predict(x_t, timesteps, condition)`.
        adapter: how the model says log-likelihood.
        reference: the frozen model, or None for losses without one.
        terms: the losses whose weighted sum is minimised; the recipe's `method.weight` not applied.
        scale: β (or its like) by which log-ratios become implied rewards.
        train: training groups.
        held_out: held-out groups, possibly none.
        clusters: per held-out group the name of its prompt.
        dtype: of the latents given to the adapter.
        recipe: the resolved recipe.
        folder: of the run.
        identity: hashes that a resume must find unchanged: base weights, training rows, held-out rows.
        reference_cache: keeps the reference's log-likelihoods, where the recipe wants them computed once.
        rounds: own samples, which take the place of `train` round after round; None: `train` stays.
        preview: draws the policy's samples, or None; called on the main process alone.
        look: looks at the validation samples, or None.
        answers: takes forward and backward passes where candidates are answers; bind, adapter and terms are then not
            looked at.
        spread: how fsdp2 takes the policy apart; None: block by block, all of it.
    """

    accelerator: Accelerator
    policy: nn.Module
    bind: Callable[[nn.Module], Predict]
    adapter: Adapter
    reference: Reference | None
    terms: Sequence[Term]
    scale: float
    train: Groups
    held_out: Groups
    clusters: Sequence[str]
    dtype: torch.dtype
    recipe: Recipe | VlmRecipe
    folder: Path
    identity: Mapping[str, Any]
    reference_cache: Store | None = None
    preview: Preview | None = None
    look: LookAt | None = None
    rounds: Rounds | None = None
    answers: Answers | None = None
    spread: Spread | None = None

    def parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name."""
        return {name: p for name, p in self.policy.named_parameters() if p.requires_grad}
