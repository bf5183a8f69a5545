"""What the parts pass to each other. Losses, adapters and data know these, never one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Condition = Mapping[str, Tensor]
"""What a denoiser is conditioned on, by name; the leading dimension counts samples."""

Predict = Callable[[Tensor, Tensor, Condition], Tensor]
"""`predict(x_t [N, C, H, W], timesteps [N], condition) -> prediction [N, C, H, W]`."""


@dataclass(frozen=True)
class Transition:
    """Where the candidates of a batch of sampler steps came from: candidate x_{i+1}, parent x_i.

    Args:
        parents: [U, C, H, W] distinct parents; siblings share one, and one forward.
        group: [U] int64, the group of each.
        parent: [B, K] int64, the parent of each candidate.
        step: [B] int64 on the CPU, the sampler's step, the same for a group's candidates.
        behaviour: [B, K] float32 log-density when it was sampled.
        wins: [B, K, K] bool, whether the first is preferred to the second; neither way: a tie.
    """

    parents: Tensor
    group: Tensor
    parent: Tensor
    step: Tensor
    behaviour: Tensor
    wins: Tensor

    def to(self, device: object, dtype: object | None = None) -> Transition:
        """On another device; the states in `dtype` if one is given."""
        states = self.parents.to(device=device)  # type: ignore[call-overload]
        return Transition(
            parents=states if dtype is None else states.to(dtype),
            group=self.group.to(device=device),  # type: ignore[call-overload]
            parent=self.parent.to(device=device),  # type: ignore[call-overload]
            step=self.step,
            behaviour=self.behaviour.to(device=device),  # type: ignore[call-overload]
            wins=self.wins.to(device=device),  # type: ignore[call-overload]
        )


@dataclass(frozen=True)
class Batch:
    """B groups of K candidates, encoded.

    Args:
        ids: B group ids; draws are counted by them.
        visits: B integers, how often each group was visited before.
        latent_mean: [B, K, C, H, W], mean of the VAE's posterior, scaled as the denoiser expects it.
        latent_std: [B, K, C, H, W], its deviation, in the same scale.
        condition: per name [B, 1 or K, ...]: one condition for all candidates of a group, or one each.
        null_condition: per name [...]: the empty prompt; what it lacks, such as an image's size, is never dropped.
        scores: [B, K], higher is better, for losses of lists; None where nothing asks for them.
        mask: [B, K] bool, which candidates are there; None where all are. Others are copies that fill the tensor.
        extra: [B, ...] each: columns of the data that the loss asks for, by name.
        mirrored_mean, mirrored_std: [B, K, C, H, W] of the images mirrored left to right, or None where draws do not
            mirror.
        transition: for candidates that are states of a sampler, where each came from; None for images.
    """

    ids: Sequence[str]
    visits: Sequence[int]
    latent_mean: Tensor
    latent_std: Tensor
    condition: Condition
    null_condition: Condition
    scores: Tensor | None = None
    mask: Tensor | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    mirrored_mean: Tensor | None = None
    mirrored_std: Tensor | None = None
    transition: Transition | None = None

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        latents: Tensor,
        condition: Condition,
        *,
        std: Tensor | None = None,
        null_condition: Condition | None = None,
        visit: int = 0,
    ) -> Batch:
        """A batch from tensors at hand.

        Args:
            ids: B names; the same name and visit give the same noise again.
            latents: [B, K, C, H, W], scaled as the denoiser expects it.
            condition: per name [B, 1 or K, ...].
            std: deviation of the VAE's posterior; None takes the latents as they are.
            null_condition: per name [...], the empty prompt; needed for prompt dropout alone.
            visit: how often these groups were visited before, such as the step's number.
        """
        return cls(
            ids=list(ids),
            visits=[visit] * len(ids),
            latent_mean=latents,
            latent_std=torch.zeros_like(latents) if std is None else std,
            condition=condition,
            null_condition=null_condition or {name: torch.zeros_like(x[0, 0]) for name, x in condition.items()},
        )

    def to(self, device: object, dtype: object | None = None) -> Batch:
        """The batch on another device; floating tensors in `dtype` if one is given."""

        def move(x: Tensor) -> Tensor:
            x = x.to(device=device)  # type: ignore[call-overload]
            return x.to(dtype) if dtype is not None and x.is_floating_point() else x  # type: ignore[call-overload]

        return replace(
            self,
            latent_mean=move(self.latent_mean),
            latent_std=move(self.latent_std),
            condition={name: move(x) for name, x in self.condition.items()},
            null_condition={name: move(x) for name, x in self.null_condition.items()},
            scores=None if self.scores is None else self.scores.to(device=device),  # type: ignore[call-overload]
            mask=None if self.mask is None else self.mask.to(device=device),  # type: ignore[call-overload]
            extra={name: x.to(device=device) for name, x in self.extra.items()},  # type: ignore[call-overload]
            mirrored_mean=None if self.mirrored_mean is None else move(self.mirrored_mean),
            mirrored_std=None if self.mirrored_std is None else move(self.mirrored_std),
            transition=None if self.transition is None else self.transition.to(device, dtype),
        )


@dataclass(frozen=True)
class Draw:
    """The randomness of one evaluation of a surrogate, shared by policy and reference, and by a group's candidates.

    Time, dropped prompt and mirroring are always the group's; noise is where the method says so.

    Args:
        time: [B] in (0, 1) on the CPU, the noise level's quantile: 0 clean, 1 pure noise.
        noise: [B, C, H, W] standard normal, or [B, K, C, H, W] where each candidate has its own.
        posterior_noise: [B, K, C, H, W] standard normal, for the VAE's posterior.
        drop_prompt: [B] bool, whether the group is trained on the empty prompt.
        mirror: [B] bool, whether all of the group's images are mirrored; None: none is.
    """

    time: Tensor
    noise: Tensor
    posterior_noise: Tensor
    drop_prompt: Tensor
    mirror: Tensor | None = None

    @property
    def has_own_noise(self) -> bool:
        """Whether each candidate has a noise of its own."""
        return self.noise.dim() == 5

    def with_one_noise(self) -> Draw:
        """All candidates under the noise of the first, which is the one that they share where the method says so."""
        return replace(self, noise=self.noise[:, 0]) if self.has_own_noise else self


class Adapter(Protocol):
    """How a model says log-likelihood."""

    def draw(
        self,
        batch: Batch,
        seed: int,
        visit: int | Sequence[int] | None = None,
        *,
        band: tuple[float, float] | None = None,
    ) -> Draw:
        """Counter-based randomness of each group's id and visit; `band` restricts the noise level's quantile."""
        ...

    def logp(self, model: Predict, batch: Batch, draw: Draw) -> Tensor:
        """[B, K] log-likelihoods in float32 or better."""
        ...

    def logp_and_prediction(self, model: Predict, batch: Batch, draw: Draw) -> tuple[Tensor, Tensor]:
        """`logp`, and the prediction [B, K, C, H, W] behind it, for losses that compare the two models' own."""
        ...


class Reference(Protocol):
    """The frozen model that the policy is compared with."""

    def active(self) -> AbstractContextManager[nn.Module]:
        """A context in which the returned module computes the reference's predictions."""
        ...


@runtime_checkable
class Refreshable(Protocol):
    """A reference that can become what the policy is now."""

    def tensors(self) -> Mapping[str, Tensor]:
        """Its own weights, by name, for checkpoints."""
        ...

    def refresh(self) -> None:
        """Copies the policy's weights."""
        ...


@runtime_checkable
class Diverges(Protocol):
    """An adapter of Gaussians, whose divergence has a closed form."""

    def divergence(self, batch: Batch, prediction: Tensor, reference: Tensor) -> Tensor:
        """[B, K] KL of the policy's Gaussians from the reference's, of `logp_and_prediction`'s second results."""
        ...
