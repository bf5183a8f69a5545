"""The step where candidates are answers of a vision-language model: all branches in one forward of each model.

The loop is the one for images; `Run.answers` takes the place of its forward and backward pass.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmpo.answer_batch import AnswerBatch, TokenLogps
from mmpo.losses.baselines import baseline, kl_baseline
from mmpo.training.answer_cache import KnownReference, fill
from mmpo.training.answer_terms import (
    MISMATCHED,
    AnswerTerm,
    BothScores,
    Scores,
    TermValue,
    log_ratios,
    needs_divergence,
    term_value,
    wanted,
)
from mmpo.training.forwards import Models
from mmpo.training.order import MicroBatch, Plan
from mmpo.training.run import Run

Sums = dict[str, tuple[Tensor, Tensor]]
"""By name a sum and what it is a sum over: means over processes and forwards of unequal size are exact."""


class AnswerAdapter(Protocol):
    """How a model says log-probabilities of answers; `mmpo.adapters.autoregressive` is one."""

    def shared_features(self, model: Any, batch: AnswerBatch) -> Any:
        """What both models' forwards share, or None."""
        ...

    def logps(
        self,
        model: Any,
        batch: AnswerBatch,
        *,
        features: Any = None,
        asked: Mapping[str, Sequence[str]] | None = None,
        reference: Any = None,
        keep_states: bool = False,
    ) -> Any:
        """Scores of every branch, by name."""
        ...


class AnswerGroups(Protocol):
    """Rows by position."""

    def __len__(self) -> int: ...

    def keys(self, index: int) -> Mapping[str, str]:
        """By branch what the reference's log-probabilities are kept by."""
        ...

    def answers(self, indices: Sequence[int]) -> AnswerBatch:
        """The rows at these positions, encoded."""
        ...

    def mismatched(self, indices: Sequence[int]) -> AnswerBatch | None:
        """The same with the answers of one another."""
        ...


@dataclass
class AnswerStep:
    """Forward and backward passes over branches of answers.

    A term is a mean over all rows of the batch, to which rows without its branches add 0: so the gradient does not
    depend on how rows are split over forwards and processes.

    Args:
        adapter: says the log-probabilities.
        terms: the losses.
        train, held_out: rows.
        known: what the reference said before, where the recipe wants it computed once.
    """

    adapter: AnswerAdapter
    terms: Sequence[AnswerTerm]
    train: AnswerGroups
    held_out: AnswerGroups
    known: KnownReference | None = None

    def prepare(self, run: Run, plan: Plan) -> None:
        """Computes once what the reference says of all rows that the run will ask for, as far as it is not kept."""
        assert run.reference_cache is not None
        self.known = KnownReference(run.reference_cache)
        rows = [self.train, *([self.held_out] if run.reference is not None else [])]
        fill(run, self.known, rows, plan, plan.micro_batch_size, partial(self._of_start, run))

    @torch.no_grad()
    def _of_start(self, run: Run, batch: AnswerBatch) -> dict[tuple[str, int], Tensor]:
        """Log-probabilities of the reference by branch and row; without one, of the policy where it starts."""
        with run.accelerator.autocast():
            features = self.adapter.shared_features(run.policy, batch)
        reference = nullcontext(run.policy) if run.reference is None else run.reference.active()
        with reference as frozen, run.accelerator.autocast():
            scores = self.adapter.logps(frozen, batch, features=features)
        return {
            (name, int(row)): logps[mask].cpu()
            for name, said in scores.items()
            for row, logps, mask in zip(said.rows, said.logps, said.mask, strict=True)
        }

    def scores(self, run: Run, module: nn.Module, batch: AnswerBatch, known: Scores | None = None) -> BothScores:
        """Both models' scores of a batch; the policy's with gradient where that is on.

        Args:
            known: the reference's, where they were computed before.
        """
        # one autocast context each: low-precision copies of weights made without gradient must not serve the policy
        with torch.no_grad(), run.accelerator.autocast():
            features = self.adapter.shared_features(run.policy, batch)
        of_reference = None
        if known is None and run.reference is not None:
            with run.reference.active() as frozen, torch.no_grad(), run.accelerator.autocast():
                of_reference = self.adapter.logps(
                    frozen,
                    batch,
                    features=features,
                    asked=self._asked(batch, of_reference=True),
                    keep_states=needs_divergence(self.terms),
                )
        asked = self._asked(batch, of_reference=False)
        with run.accelerator.autocast():
            policy = self.adapter.logps(module, batch, features=features, asked=asked, reference=of_reference)
        return BothScores(batch, policy, of_reference if known is None else known)

    @torch.no_grad()
    def _mismatched(self, run: Run, indices: Sequence[int]) -> BothScores | None:
        """Both models' scores of the rows with one another's answers, where a term asks for them."""
        if not any(term.z0 == "mismatched_z0" for term in self.terms):
            return None
        if len(indices) < 2:
            raise ValueError(
                "train.micro_batch_size: a forward has 1 row, and kto compares with other rows' answers; raise it or "
                "train.batch_size (diffusion_kto does without)"
            )
        batch = self.train.mismatched(indices)
        # the bare policy: the wrapper of several processes expects a backward pass after each forward
        return None if batch is None else replace(self, terms=[MISMATCHED]).scores(run, run.policy, batch)

    def _baseline(self, run: Run, term: AnswerTerm, both: BothScores, other: BothScores | None) -> Tensor | None:
        """[] z0 of a point loss over this forward of all processes; None of other losses."""
        if not term.z0:
            return None
        total = torch.zeros(2, dtype=torch.float64, device=run.accelerator.device)
        if term.z0 == "z0":
            total += torch.stack(kl_baseline(*log_ratios(term, both))).to(total)
        elif other is not None:
            total += torch.stack(kl_baseline(*log_ratios(MISMATCHED, other))).to(total)
        return baseline(*run.accelerator.reduce(total, reduction="sum")).to(run.dtype)

    def _known(self, rows: AnswerGroups, indices: Sequence[int], batch: AnswerBatch, device: Any) -> Scores | None:
        if self.known is None:
            return None
        return {name: scores.to(device) for name, scores in self.known.scores(rows, indices, batch).items()}

    def _asked(self, batch: AnswerBatch, *, of_reference: bool) -> dict[str, list[str]]:
        asked = wanted(self.terms, of_reference=of_reference)
        return {name: reads for name, reads in asked.items() if name in batch.branches}

    def forward_backward(self, run: Run, module: nn.Module, micro: Sequence[MicroBatch]) -> dict[str, Tensor]:
        """Accumulates the gradient of the mean loss over this process's share of the global batch.

        Returns:
            Metrics over all processes, scalars.
        """
        began = time.monotonic()
        sums: Sums = {}
        models = Models(run, module)
        for number, part in enumerate(micro):
            batch = self.train.answers(part.indices)
            other = self._mismatched(run, part.indices)
            with models.averaging(number == len(micro) - 1):
                known = self._known(self.train, part.indices, batch, run.accelerator.device)
                both = self.scores(run, module, batch, known)
                values = [term_value(term, both, self._baseline(run, term, both, other)) for term in self.terms]
                parts = [
                    term.weight * value.loss.sum() / len(batch.ids)
                    for term, value in zip(self.terms, values, strict=True)
                    if value is not None
                ]
                loss = torch.stack(parts).sum()
                run.accelerator.backward(loss / len(micro))
            _add(sums, self._metrics(run, both, values, loss.detach()))
        metrics = _means(run, sums)
        tokens = sums["tokens"][0] * run.accelerator.num_processes
        metrics["tokens_per_second"] = tokens.double() / (time.monotonic() - began)
        return metrics

    def _metrics(self, run: Run, both: BothScores, values: Sequence[TermValue | None], loss: Tensor) -> Sums:
        """Every name is there on every process and forward; what no row has is a sum over none."""
        batch, nothing = both.batch, torch.zeros((), device=loss.device, dtype=torch.float64)
        rows = torch.tensor(float(len(batch.ids)), device=loss.device, dtype=torch.float64)
        tokens = sum(int(branch.lengths.sum()) for branch in batch.branches.values())
        found: Sums = {"loss": (loss.double() * rows, rows), "tokens": (nothing + tokens, nothing + 1)}
        for number, (term, value) in enumerate(zip(self.terms, values, strict=True), 1):
            told = {} if value is None else _of_term(term, value)
            mark = "" if number == 1 else f"@{number}-{term.name}"
            names = ["margins", "accuracies"] if both.reference is not None and not term.one_sided else []
            for name in [*(f"rewards/{name}{mark}" for name in names), f"loss/{number}-{term.name}"]:
                key = name.partition("/")[2].partition("@")[0] if name.startswith("rewards/") else "loss"
                found[name] = _sum(told.get(key), nothing)
        for name in dict.fromkeys(["chosen", "rejected", *(b for term in self.terms for b in term.branches)]):
            mine, theirs = both.policy.get(name), None if both.reference is None else both.reference.get(name)
            found[f"logps/{name}"] = _sum(None if mine is None else mine.sums.detach(), nothing)
            if both.reference is not None:
                found[f"rewards/{name}"] = _sum(_reward(mine, theirs, run.scale), nothing)
        return found

    @torch.no_grad()
    def pair_logps(self, run: Run, module: nn.Module | None, indices: Sequence[int], size: int) -> Tensor:
        """[N, 1, 2] log-likelihoods of held-out pairs: of chosen and rejected answer, or of the chosen one under the
        row's and the rejected image where only the images differ.

        Args:
            module: the policy, or None for the reference.
            indices: N positions of held-out rows.
            size: rows of a forward.
        """
        found = []
        for start in range(0, len(indices), size):
            chunk = indices[start : start + size]
            batch = self.held_out.answers(chunk)
            scores: Scores | None = None
            if module is None:
                scores = self._known(self.held_out, chunk, batch, run.accelerator.device)
            if module is None and scores is None:
                assert run.reference is not None
                with run.reference.active() as frozen, run.accelerator.autocast():
                    scores = self.adapter.logps(frozen, batch)
            elif scores is None:
                with run.accelerator.autocast():
                    scores = self.adapter.logps(module, batch)
            whole = torch.full((len(batch.ids), 1, 2), float("nan"), dtype=torch.float64)
            for column, name in ((0, "chosen"), (1, "visual"), (1, "rejected")):
                if name in scores:
                    whole[scores[name].rows, 0, column] = scores[name].sums.cpu().double()
            found.append(whole)
        return torch.cat(found) if found else torch.zeros(0, 1, 2, dtype=torch.float64)


@torch.no_grad()
def _of_term(term: AnswerTerm, value: TermValue) -> dict[str, Tensor]:
    told = {"loss": value.loss.detach()}
    if value.sides is not None:
        chosen, rejected, reference_chosen, reference_rejected = value.sides
        margin = (chosen - reference_chosen) - (rejected - reference_rejected)
        told |= {"margins": margin, "accuracies": 0.5 + 0.5 * torch.sign(margin)}
    return told


def _reward(policy: TokenLogps | None, reference: TokenLogps | None, scale: float) -> Tensor | None:
    return None if policy is None or reference is None else scale * (policy.sums.detach() - reference.sums)


def _sum(values: Tensor | None, nothing: Tensor) -> tuple[Tensor, Tensor]:
    return (nothing, nothing) if values is None else (values.double().sum(), nothing + len(values))


def _add(total: Sums, more: Sums) -> None:
    for name, (value, count) in more.items():
        before = total.get(name, (torch.zeros_like(value), torch.zeros_like(count)))
        total[name] = (before[0] + value, before[1] + count)


def _means(run: Run, sums: Sums) -> dict[str, Tensor]:
    """Means over all processes; 0 where there was nothing, as JSON has no NaN."""
    names = sorted(sums)
    pairs = run.accelerator.reduce(torch.stack([torch.stack(sums[name]) for name in names]), reduction="sum")
    return {name: pair[0] / pair[1].clamp(min=1) for name, pair in zip(names, pairs, strict=True) if name != "tokens"}
