"""Rounds of own samples: which one a step belongs to, so that a resumed run goes on inside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import nn

from mmpo.training.heldout import Groups

MOST_EMPTY = 5


@dataclass(frozen=True)
class Gathered:
    """What a round gave.

    Args:
        groups: to train on, possibly none.
        identity: of the stored round: a resumed run must find the same.
        metrics: means of the rewards, counts of ties and of what was left out.
        note: a line for the terminal.
    """

    groups: Groups
    identity: str
    metrics: Mapping[str, float]
    note: str


class Rounds(Protocol):
    """Makes a round's groups with the policy as it is, or reads what is stored of it."""

    def gather(self, number: int, policy: nn.Module, identity: str | None, stop: Callable[[], bool]) -> Gathered | None:
        """The groups of round `number`, counted from 0; None where sampling was asked to stop before it was whole.

        Args:
            identity: of a round that was trained on before, which must then be stored; None: sample what is missing.
            stop: whether to stop before the next chunk; what was sampled is kept.
        """
        ...


class Waiting(Exception):
    """A round needs people before it can be trained on; the message says what to do. A checkpoint is written first."""


@dataclass(frozen=True, slots=True)
class Round:
    """Where a run is.

    Args:
        number: of the round, counted from 0.
        first: the optimiser step that it began with.
        count: of its optimiser steps.
        identity: see `Gathered`; None before it is gathered.
    """

    number: int = 0
    first: int = 0
    count: int = 0
    identity: str | None = None

    def is_over(self, step: int) -> bool:
        """Whether the next round is due before this step."""
        return self.identity is not None and step >= self.first + self.count

    def following(self, step: int) -> Round:
        """The next round, not gathered yet."""
        return Round(self.number + 1, step)

    def state(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def steps_of(groups: int, passes: int, batch_size: int) -> int:
    """Optimiser steps of a round: whole batches; a round smaller than one batch gives one, none gives none."""
    return max(1, passes * groups // batch_size) if groups else 0
