"""Exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """A shadow of the trainable parameters.

    Args:
        parameters: by name.
        decay: of the average; the first steps use min(decay, (1 + n) / (10 + n)) so that it forgets the start.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._decay = decay
        self.shadow: dict[str, Tensor] = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: Mapping[str, nn.Parameter], step: int) -> None:
        """Moves the shadow towards the parameters after step `step` (from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, parameter in parameters.items():
            self.shadow[name].lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def applied(self, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
        """A context in which the parameters hold the average; afterwards they are as they were, bit for bit."""
        own = {name: p.detach().clone() for name, p in parameters.items()}
        self.copy_to(parameters)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(own[name])

    @torch.no_grad()
    def copy_to(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Writes the shadow into the parameters."""
        for name, parameter in parameters.items():
            parameter.copy_(self.shadow[name])
