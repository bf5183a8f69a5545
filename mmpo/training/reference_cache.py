"""The reference's log-likelihoods, computed once for draws that repeat, and kept on disk.

A draw is a function of seed, group and visit. With `method.cache_reference: N` the visits of a group repeat after N, so
the reference is asked N times per group at most, for all epochs and for every later run on the same data. A full
fine-tune then needs no frozen copy: before its first step the policy is the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from accelerate.utils import gather_object
from torch import Tensor

from mmpo.training.forwards import policy_logps, reference_logps
from mmpo.training.metrics import Console
from mmpo.training.order import MicroBatch, Plan
from mmpo.training.run import Run, Store
from mmpo.training.size_order import chunks_by_size

Place = tuple[int, int]
"""(position of a group, its visit)."""


class CachedReference:
    """The reference's [K] log-likelihoods by group and visit.

    Args:
        draws: N, after which visits repeat.
        values: by (position, visit).
    """

    def __init__(self, draws: int, values: dict[Place, Tensor]) -> None:
        self._draws = draws
        self._values = values

    def visits(self, visits: Sequence[int]) -> list[int]:
        """The visits whose draws stand for these."""
        return [visit % self._draws for visit in visits]

    def logps(self, part: MicroBatch, candidates: int) -> Tensor:
        """[B, K] for the longest list of a batch, on the CPU."""
        rows = [self._values[place] for place in zip(part.indices, self.visits(part.visits), strict=True)]
        return torch.stack([row[:candidates] for row in rows])


def needed(plan: Plan, steps: int, draws: int) -> list[Place]:
    """What the whole run will ask for, over all processes, each once."""
    visited = plan.visited(0, steps * plan.batch_size)
    return list(dict.fromkeys((index, visit % draws) for index, visit in visited))


def prepare_reference(run: Run, plan: Plan) -> CachedReference | None:
    """Reads what is kept, computes the rest, and keeps it; called while the policy is where it starts.

    Returns:
        None where candidates are answers, whose pass knows it itself.
    """
    assert run.reference_cache is not None
    if run.answers is not None:
        run.answers.prepare(run, plan)
        return None
    draws = run.recipe.method.cache_reference
    cache = run.reference_cache
    places = needed(plan, run.recipe.train.steps, draws)
    missing = [place for place in places if _key(run, place) not in cache]
    if missing:
        _compute(run, missing, cache)
    return CachedReference(draws, {place: cache.get(_key(run, place))["logp"] for place in places})


@torch.no_grad()
def _compute(run: Run, places: Sequence[Place], cache: Store) -> None:
    accelerator, size = run.accelerator, run.recipe.train.micro_batch_size or min(run.recipe.train.batch_size, 32)
    own = places[accelerator.process_index :: accelerator.num_processes]
    sizes = run.train.sizes
    values = torch.zeros(len(own), run.train.longest, dtype=run.dtype)
    done = 0
    with Console(len(own), start=0, enabled=accelerator.is_main_process, title="reference") as console:
        for chunk in chunks_by_size(range(len(own)), [sizes[index] for index, _ in own], size):
            indices, visits = [own[at][0] for at in chunk], [own[at][1] for at in chunk]
            batch = run.train.batch(indices, visits).to(accelerator.device, run.dtype)
            draw = run.adapter.draw(batch, run.recipe.train.seed)
            live = run.reference is not None
            logps = (reference_logps(run, batch, draw) if live else policy_logps(run, run.policy, batch, draw)).cpu()
            values[chunk, : logps.shape[1]] = logps.to(values)
            done += len(chunk)
            console.advance(done, "pairs")
    for rank, share in enumerate(gather_object([values])):
        _add(run, cache, places[rank :: accelerator.num_processes], share)
    if accelerator.is_main_process:
        cache.flush()
    accelerator.wait_for_everyone()


def _add(run: Run, cache: Store, places: Iterable[Place], values: Tensor) -> None:
    keys = [_key(run, place) for place in places]
    if keys:
        cache.add(keys, {"logp": values})


def _key(run: Run, place: Place) -> str:
    return f"{run.train.name(place[0])}/{place[1]}"
