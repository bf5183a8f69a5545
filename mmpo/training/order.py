"""Which groups a step sees: a pure function of seed and step, so that a resume continues where it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mmpo.recipe import Train
from mmpo.training.shuffle import permutation
from mmpo.training.size_order import SizeOrder


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """One forward of one process: positions of groups and how often each was visited before."""

    indices: Sequence[int]
    visits: Sequence[int]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a global batch is split.

    Args:
        groups: number of training groups.
        batch_size: groups per optimiser step, over all processes and accumulation.
        micro_batch_size: groups per forward and process.
        rank, processes: of this process.
        seed: of the order; a round of own samples has a name of its own.
        by_size: the order where images are of several sizes; its unit is a multiple of `micro_batch_size`.
    """

    groups: int
    batch_size: int
    micro_batch_size: int
    rank: int
    processes: int
    seed: int | str
    by_size: SizeOrder | None = None

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise ValueError("data: no training pairs are left; see the counts of ties, bad and held-out rows")
        if self.batch_size % (self.micro_batch_size * self.processes):
            raise ValueError(
                f"train.batch_size: {self.batch_size} is not a multiple of micro_batch_size x processes = "
                f"{self.micro_batch_size} x {self.processes}"
            )

    @property
    def accumulation(self) -> int:
        """Micro-batches per optimiser step and process."""
        return self.batch_size // (self.micro_batch_size * self.processes)

    def epoch(self, step: int) -> float:
        """Passes over the data before this step."""
        return step * self.batch_size / self.groups

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """What this process computes in a step (counted from 0).

        The global batch is a contiguous piece of an endless sequence of permutations, one per epoch; micro-batch m
        of rank r is its piece m·processes + r, so the whole is the same for every split. With images of several sizes
        the sequence is that of `SizeOrder`.
        """
        batches = []
        for micro in range(self.accumulation):
            start = step * self.batch_size + (micro * self.processes + self.rank) * self.micro_batch_size
            at = list(self.visited(start, start + self.micro_batch_size))
            batches.append(MicroBatch([index for index, _ in at], [visit for _, visit in at]))
        return batches

    def visited(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """(position of a group, its visit) for this piece of the endless sequence, which begins with a forward."""
        if self.by_size is not None:
            for first in range(start, stop, self.micro_batch_size):
                yield from self.by_size.visits(first, self.micro_batch_size)
            return
        for number in range(start, stop):
            epoch, place = divmod(number, self.groups)
            yield _permutation(self.seed, epoch, self.groups)[place], epoch


def unit_of(train: Train) -> int:
    """How many groups in a row are of one size: a stated micro-batch's, else a step's, on any number of processes."""
    return train.micro_batch_size or train.batch_size


@lru_cache(maxsize=4)
def _permutation(seed: int | str, epoch: int, size: int) -> list[int]:
    return permutation(f"order/{seed}/{epoch}", size)
