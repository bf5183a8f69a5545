"""The held-out evaluation of a run: the reference's part once, the policy's each time, over all processes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from accelerate.utils import gather_object
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mmpo.contracts import Batch
from mmpo.files import write_bytes
from mmpo.recipe import Recipe
from mmpo.training.forwards import policy_logps, reference_logps
from mmpo.training.heldout import HeldOut, held_out_logps, summarise
from mmpo.training.run import Run

DRAW_SEED = 20_231_121
FILE = "held_out_reference.safetensors"


class Evidence:
    """Held-out evaluations of one run.

    The draws never change, so the reference's log-likelihoods are computed once, before the first step, and kept in
    the run's folder: a resume compares with the same numbers. A loss without a reference is compared with the
    policy as it was then.

    Args:
        run: with held-out groups.
        fresh: whether no step was done yet.
    """

    def __init__(self, run: Run, *, fresh: bool) -> None:
        self._run = run
        file = run.folder / FILE
        known = not fresh and file.is_file()
        if not fresh and not known and run.reference is None:
            raise ValueError(f"--resume: {file} is missing, and the policy has moved since; start a new output folder")
        self._reference = load_file(file)["logps"] if known else self._compute(reference=run.reference is not None)
        if not known and run.accelerator.is_main_process:
            write_bytes(Path(file), save({"logps": self._reference}))

    def evaluate(self) -> HeldOut:
        """The policy's figures now; the same on every process."""
        policy = self._compute(reference=False)
        return summarise(policy, self._reference, self._run.clusters, beta=self._run.scale)

    @torch.no_grad()
    def _compute(self, *, reference: bool) -> Tensor:
        run = self._run
        accelerator = run.accelerator
        module: nn.Module = run.policy  # not its wrapper: processes may have unequal numbers of forwards
        training = module.training
        module.eval()
        try:
            indices = list(range(len(run.held_out)))[accelerator.process_index :: accelerator.num_processes]
            most = -(-len(run.held_out) // accelerator.num_processes)
            # as many forwards on every process: with spread weights each is one of all of them
            padded = (indices + [0] * most)[:most]
            own = self._own(reference, padded)[: len(indices)]
        finally:
            module.train(training)
        parts = gather_object([own])
        whole = torch.zeros(len(run.held_out), *own.shape[1:], dtype=own.dtype)
        for rank, part in enumerate(parts):
            whole[rank :: accelerator.num_processes] = part
        return whole

    def _own(self, reference: bool, indices: list[int]) -> Tensor:
        """[N, draws, 2] of these pairs."""
        run, train = self._run, self._run.recipe.train
        size = train.micro_batch_size or min(train.batch_size, 32)
        if run.answers is not None:
            return run.answers.pair_logps(run, None if reference else run.policy, indices, size)
        assert isinstance(run.recipe, Recipe)
        return held_out_logps(
            partial(reference_logps, run) if reference else partial(policy_logps, run, run.policy),
            run.adapter,
            run.held_out,
            indices,
            seed=DRAW_SEED,
            draws=run.recipe.evaluation.draws,
            batch_size=size,
            prepare=self._prepare,
        )

    def _prepare(self, batch: Batch) -> Batch:
        return batch.to(self._run.accelerator.device, self._run.dtype)
