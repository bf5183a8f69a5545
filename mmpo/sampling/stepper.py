"""The contract of a stochastic sampler: what its model is asked at each step, and the Gaussian of the next state."""

from __future__ import annotations

import math
from typing import Literal, Protocol

import torch
from torch import Tensor

Reduce = Literal["mean", "sum"]


class Stepper(Protocol):
    """x_{i+1} ~ N(mean(prediction, x_i), std_i²), for steps i = 0 .. count−1 from noise to image. No model inside.

    Transition maths is in float32 or better, whatever the model computes in.
    """

    @property
    def count(self) -> int:
        """Steps."""
        ...

    @property
    def timesteps(self) -> Tensor:
        """[count] on the CPU: what the model is given as time at each step."""
        ...

    @property
    def std(self) -> Tensor:
        """[count] float32 on the CPU, of each step's Gaussian; 0 where a step is deterministic."""
        ...

    def clean(self, prediction: Tensor, x: Tensor, step: Tensor) -> Tensor:
        """x̂0 [N, C, H, W] that a prediction stands for.

        Args:
            prediction, x: [N, C, H, W].
            step: [N] whole numbers, on the CPU.
        """
        ...

    def mean(self, prediction: Tensor, x: Tensor, step: Tensor) -> Tensor:
        """[N, C, H, W] of the next state; arguments as in `clean`."""
        ...


def precise(x: Tensor) -> Tensor:
    """Half precision as float32; float64 stays."""
    return x.float() if x.element_size() < 4 else x


def per_image(values: Tensor, step: Tensor, like: Tensor) -> Tensor:
    """[N, 1, 1, 1] in the precision and on the device of `like`: the values [count] of these steps [N]."""
    return values[step].to(like).view(-1, 1, 1, 1)


def log_density(x: Tensor, mean: Tensor, std: Tensor, reduce: Reduce = "mean") -> Tensor:
    """log N(x; mean, std²) over C, H, W: −(x−mean)²/(2·std²) − log std − ½·log 2π, averaged or summed.

    Args:
        x, mean: [..., C, H, W].
        std: [...] above 0.
        reduce: "mean" over the dimensions, as D3PO's and SPO's code have it, or their "sum".
    Returns:
        [...].
    """
    std = std.to(mean).view(*std.shape, 1, 1, 1)
    density = -((x - mean) ** 2) / (2 * std**2) - std.log() - 0.5 * math.log(2 * math.pi)
    flat = density.flatten(-3)
    return flat.mean(-1) if reduce == "mean" else flat.sum(-1)


def divergence(mean: Tensor, reference_mean: Tensor, std: Tensor, reduce: Reduce = "mean") -> Tensor:
    """KL of two Gaussians of one deviation: (mean − reference_mean)²/(2·std²) over C, H, W, averaged or summed.

    Args:
        mean, reference_mean: [..., C, H, W].
        std: [...] above 0.
    Returns:
        [...].
    """
    std = std.to(mean).view(*std.shape, 1, 1, 1)
    flat = ((mean - reference_mean) ** 2 / (2 * std**2)).flatten(-3)
    return flat.mean(-1) if reduce == "mean" else flat.sum(-1)


def refuse_deterministic(name: str, value: float, what: str) -> None:
    """Refuses a sampler without noise where log-densities are asked of it.

    Raises:
        ValueError: says what to use instead.
    """
    if not value > 0:
        raise ValueError(
            f"{name}: {value:g} makes the sampler an ODE, whose steps have no density to compare; {what}, or train on "
            "stored pairs (adapter denoising or flow), which takes samples of any sampler"
        )


def trainable_steps(stepper: Stepper) -> list[int]:
    """The steps that have a density."""
    return torch.nonzero(stepper.std > 0).flatten().tolist()
