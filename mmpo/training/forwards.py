"""One forward of policy and reference on a batch, each in an autocast context of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from mmpo.contracts import Batch, Draw
from mmpo.training.feeds import Forward, under_other_prompts
from mmpo.training.run import Run
from mmpo.training.sharding import exchange, is_sharded

Logps = Callable[[Batch, Draw], Tensor]
"""`(batch, draw) -> [B, K]`."""


def policy_logps(run: Run, module: nn.Module, batch: Batch, draw: Draw) -> Tensor:
    """[B, K] of the policy, with gradient."""
    with run.accelerator.autocast():
        return run.adapter.logp(run.bind(module), batch, draw)


@torch.no_grad()
def reference_logps(run: Run, batch: Batch, draw: Draw) -> Tensor:
    """[B, K] of the reference.

    In an autocast context of its own: autocast keeps low-precision copies of weights until the context ends, and
    copies made here, without gradient, must not serve the policy.
    """
    assert run.reference is not None
    with run.reference.active() as module, run.accelerator.autocast():
        return run.adapter.logp(run.bind(module), batch, draw)


@dataclass(frozen=True)
class Models:
    """Policy and reference of a step.

    Args:
        run: the parts.
        module: the policy as accelerate wraps it.
        known: [B, K] log-likelihoods of the reference where they were computed before; None where it is live or absent.
    """

    run: Run
    module: nn.Module
    known: Tensor | None = None

    @contextmanager
    def averaging(self, on: bool) -> Iterator[None]:
        """Whether a backward pass inside averages gradients over the processes."""
        if is_sharded(self.module):
            exchange(self.module, on)
            yield
        else:
            with nullcontext() if on else self.run.accelerator.no_sync(self.module):
                yield

    @property
    def asked(self) -> set[str]:
        """What the losses want computed besides log-likelihoods."""
        return {feed for term in self.run.terms for feed in term.extra.values()}

    def forward(self, batch: Batch, draw: Draw) -> Forward:
        """One forward of each; the policy's has a gradient."""
        if self.run.reference is not None and ("chosen_drift" in self.asked or batch.transition is not None):
            ours, theirs = self._with_predictions(batch, draw)
            return replace(self.given(batch, draw, ours[0], theirs[0]), predictions=(ours[1], theirs[1]))
        # the reference first: its memory is free again when the policy's activations are kept
        reference = self.reference(batch, draw, partial(reference_logps, self.run))
        return self.given(batch, draw, policy_logps(self.run, self.module, batch, draw), reference)

    def reference(self, batch: Batch, draw: Draw, live: Logps) -> Tensor | None:
        """[B, K] of the reference: known, computed by `live`, or None where there is none."""
        if self.known is not None:
            return self.known
        return live(batch, draw) if self.run.reference is not None else None

    def given(self, batch: Batch, draw: Draw, policy: Tensor, reference: Tensor | None) -> Forward:
        """What the losses are fed from, with these log-likelihoods."""
        several = self.run.accelerator.num_processes > 1
        return Forward(
            batch,
            policy,
            reference,
            mismatched=partial(self._mismatched, batch, draw) if "mismatched_z0" in self.asked else None,
            add_up=partial(self.run.accelerator.reduce, reduction="sum") if several else _same,
        )

    @torch.no_grad()
    def _mismatched(self, batch: Batch, draw: Draw) -> tuple[Tensor, Tensor]:
        """([B·K], [B·K]) of both models for the candidates under other groups' prompts."""
        other = under_other_prompts(batch)
        # not the wrapper of several processes, which expects a backward pass after each forward
        policy = policy_logps(self.run, self.run.policy, other, draw)
        return policy.flatten(), reference_logps(self.run, other, draw).flatten()

    def _with_predictions(self, batch: Batch, draw: Draw) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """(log-likelihoods, predictions) of the policy, then of the reference."""
        run = self.run
        assert run.reference is not None
        with torch.no_grad(), run.reference.active() as module, run.accelerator.autocast():
            theirs = run.adapter.logp_and_prediction(run.bind(module), batch, draw)
        with run.accelerator.autocast():
            ours = run.adapter.logp_and_prediction(run.bind(self.module), batch, draw)
        return ours, theirs


def _same(x: Tensor) -> Tensor:
    return x
