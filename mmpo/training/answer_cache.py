"""The reference's log-probabilities of answers, computed once before the first step and kept on disk.

Nothing is drawn when a row is visited: the rejected image is made by the row's id and the seed. So what the reference
says of a branch is a function of its tokens and its images' bytes, which are its key (`AnswerTokens.key`, and its name,
since branches stand in rows of unequal length), and of what is stated of the whole cache: weights, dtype, kernels,
tricks, processor. A changed text, image or template misses.

The forwards of the pass are those of the first epoch, row for row: there the log-ratios are what they are live, exactly
0 at the start. In later epochs a row has other neighbours, and a live forward would round otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from accelerate.utils import gather_object
from torch import Tensor

from mmpo.answer_batch import AnswerBatch, TokenLogps, score_columns
from mmpo.training.metrics import Console
from mmpo.training.order import Plan
from mmpo.training.run import Run, Store

BLOCK = 32
"""Forwards of each process between two writes."""

Found = dict[str, Tensor]
"""By a branch's key the log-probabilities of its scored tokens, [T]."""
Score = Callable[[AnswerBatch], Mapping[tuple[str, int], Tensor]]
"""The same of a batch by (branch, row of the batch)."""


class Keyed(Protocol):
    """Rows by position, and by which names their branches are known."""

    def __len__(self) -> int: ...

    def keys(self, index: int) -> Mapping[str, str]:
        """Key by branch."""
        ...

    def answers(self, indices: Sequence[int]) -> AnswerBatch:
        """The rows at these positions, encoded."""
        ...


@dataclass
class KnownReference:
    """What the reference said, by the key of a branch.

    Args:
        store: on disk.
        fresh: what this run computed.
    """

    store: Store
    fresh: Found = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.fresh or key in self.store

    def keep(self, found: Found, *, write: bool) -> None:
        """Keeps what is new, and writes it as one shard where this is the process that writes."""
        new = {key: logps for key, logps in found.items() if key not in self}
        self.fresh |= new
        if write and new:
            longest = max(len(logps) for logps in new.values())
            padded = [torch.cat([logps, logps.new_zeros(longest - len(logps))]) for logps in new.values()]
            counts = torch.tensor([len(logps) for logps in new.values()])
            self.store.add(list(new), {"logps": torch.stack(padded), "count": counts})
            self.store.flush()

    def scores(self, rows: Keyed, indices: Sequence[int], batch: AnswerBatch) -> dict[str, TokenLogps]:
        """What the reference says of a batch of these rows, on the CPU.

        Raises:
            ValueError: what is kept is of another number of tokens.
        """
        found = {}
        for name, branch in batch.branches.items():
            columns = score_columns(branch)
            counts = columns.mask.sum(-1).tolist()
            keys = [rows.keys(indices[row])[name] for row in branch.rows.tolist()]
            known = [self._get(key, count) for key, count in zip(keys, counts, strict=True)]
            logps = torch.zeros(columns.mask.shape, dtype=known[0].dtype)
            logps[columns.mask] = torch.cat(known)
            found[name] = TokenLogps(logps, columns.mask, columns.weights, branch.rows)
        return found

    def _get(self, key: str, count: int) -> Tensor:
        if key in self.fresh:
            return self.fresh[key]
        kept = self.store.get(key)
        if int(kept["count"]) != count:
            raise ValueError(
                f"reference cache: {int(kept['count'])} log-probabilities are kept for an answer of {count} tokens "
                f"({key}); the cache is damaged: delete its folder"
            )
        return kept["logps"][:count]


def fill(run: Run, known: KnownReference, rows: Sequence[Keyed], plan: Plan, size: int, score: Score) -> int:
    """Computes what the run will ask for and is not kept yet; every process takes its share and gets all.

    A kill loses at most the forwards since the last write.

    Args:
        rows: the training rows, then others of which all are needed.
        size: rows of a forward over those.
        score: what the reference says of a batch.
    Returns:
        How many forwards there were, over all processes.
    """
    accelerator = run.accelerator
    parts = [(0, part) for part in _missing(known, rows[0], _planned(plan, run.recipe.train.steps))]
    for number, others in enumerate(rows[1:], 1):
        chunks = (list(range(at, min(at + size, len(others)))) for at in range(0, len(others), size))
        parts += [(number, part) for part in _missing(known, others, chunks)]
    # a process that started later may have found more on disk: all compute what any of them lacks
    parts = list(dict.fromkeys(gather_object(parts)))
    with Console(
        len(parts), start=0, enabled=accelerator.is_main_process and bool(parts), title="reference"
    ) as console:
        stride = BLOCK * accelerator.num_processes
        for start in range(0, len(parts), stride):
            block = parts[start : start + stride]
            mine: Found = {}
            for number, part in block[accelerator.process_index :: accelerator.num_processes]:
                mine |= _computed(rows[number], part, score)
            for share in gather_object([mine]):
                known.keep(share, write=accelerator.is_main_process)
            console.advance(start + len(block), "forwards")
    accelerator.wait_for_everyone()
    return len(parts)


def _planned(plan: Plan, steps: int) -> Iterator[list[int]]:
    """The forwards of the whole run over all processes, in order, each as positions of rows."""
    for start in range(0, steps * plan.batch_size, plan.micro_batch_size):
        yield [index for index, _ in plan.visited(start, start + plan.micro_batch_size)]


def _missing(known: KnownReference, rows: Keyed, forwards: Iterator[Sequence[int]]) -> list[tuple[int, ...]]:
    """The first forward of every row of which something is not kept."""
    seen: set[int] = set()
    found = []
    for part in forwards:
        new = set(part) - seen
        if any(key not in known for index in new for key in rows.keys(index).values()):
            found.append(tuple(part))
        seen |= new
        if len(seen) == len(rows):
            break
    return found


def _computed(rows: Keyed, part: Sequence[int], score: Score) -> Found:
    keys = [rows.keys(index) for index in part]
    return {keys[row][name]: logps for (name, row), logps in score(rows.answers(part)).items()}
