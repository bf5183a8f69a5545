"""The training loop: one for every method."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from accelerate.utils import DistributedType, set_seed
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mmpo.contracts import Refreshable
from mmpo.files import write_bytes
from mmpo.training import snapshot
from mmpo.training.checkpoints import load_latest, save_checkpoint
from mmpo.training.ema import MovingAverage
from mmpo.training.evidence import Evidence
from mmpo.training.guard import OF_ANSWERS, OF_IMAGES, CollapseGuard
from mmpo.training.heldout import HeldOut
from mmpo.training.interrupt import Interrupted, InterruptFlag
from mmpo.training.metrics import Console, MetricsLog
from mmpo.training.optim import build_optimizer, learning_rate, set_learning_rate
from mmpo.training.order import Plan, unit_of
from mmpo.training.reference_cache import prepare_reference
from mmpo.training.rounds import MOST_EMPTY, Round, Rounds, Waiting, steps_of
from mmpo.training.run import HoldsCopy, Run
from mmpo.training.sharding import gather, like, shard, whole
from mmpo.training.size_order import size_order
from mmpo.training.step import forward_backward, update
from mmpo.training.terms import fewest_groups
from mmpo.training.validation import Validation

SUPPORTED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
LAST_GOOD = "last_good.safetensors"


@dataclass
class Outcome:
    """How a run ended.

    Args:
        steps: optimiser steps done.
        weights_step: the step whose weights the policy now holds.
        stopped: the guard's sentence where it stopped the run.
        held_out: the last held-out evaluation.
        warnings: what the guard said.
    """

    steps: int = 0
    weights_step: int = 0
    stopped: str | None = None
    held_out: HeldOut | None = None
    warnings: list[str] = field(default_factory=list)


class Trainer:
    """Runs the steps of a recipe.

    Args:
        run: the parts.
        resume: go on from the newest whole checkpoint in the run's folder.
    Raises:
        ValueError: no checkpoint to resume from, one of another run, or an unsupported kind of distribution.
    """

    def __init__(self, run: Run, *, resume: bool = False) -> None:
        accelerator, recipe = run.accelerator, run.recipe
        if accelerator.distributed_type not in SUPPORTED:
            raise ValueError(f"distribution {accelerator.distributed_type}: not supported yet; use one process or DDP")
        set_seed(recipe.train.seed + accelerator.process_index)
        self._run = run
        self._parameters = run.parameters()
        share = recipe.train.batch_size // accelerator.num_processes
        micro = recipe.train.micro_batch_size or max(1, share)
        if micro < (fewest := fewest_groups(run.terms)):
            raise ValueError(
                f"train.micro_batch_size: a forward has {micro} group, and the loss needs {fewest}, since it compares "
                "with other groups' prompts; raise train.batch_size or this (diffusion_kto does without)"
            )
        self._micro = micro
        self._round = Round()
        self._plan = self._plan_of(recipe.train.seed) if run.rounds is None else None
        cached = run.reference_cache is not None
        self._cached = prepare_reference(run, self._plan) if cached and self._plan else None  # before the policy moves
        self._module, self._optimizer = self._distribute()
        self._ema = MovingAverage(self._parameters, recipe.train.ema) if recipe.train.ema else None
        self._guard = CollapseGuard(recipe.evaluation.guard, OF_IMAGES if run.answers is None else OF_ANSWERS)
        self._messages: list[str] = []
        self._good: tuple[int, HeldOut | None] | None = None
        self._saved_step = -1
        self._step = self._restore() if resume else 0
        self._module.train()
        self._evidence = Evidence(run, fresh=self._step == 0) if len(run.held_out) else None
        self._validation = Validation(run, self._step) if run.look is not None else None
        self._calm = True
        self.outcome = Outcome(steps=self._step, weights_step=self._step)

    def _plan_of(self, seed: int | str) -> Plan:
        """How the batches of the groups at hand are split."""
        train, accelerator, groups = self._run.recipe.train, self._run.accelerator, self._run.train
        return Plan(
            groups=len(groups),
            batch_size=train.batch_size,
            micro_batch_size=self._micro,
            rank=accelerator.process_index,
            processes=accelerator.num_processes,
            seed=seed,
            by_size=size_order(groups.sizes, unit_of(train), train.seed),
        )

    def _distribute(self) -> tuple[nn.Module, Any]:
        """(the policy, the optimiser) as the processes share them."""
        run, accelerator = self._run, self._run.accelerator
        spread = run.recipe.train.distribution == "fsdp2" and accelerator.num_processes > 1
        if spread:
            for module in (run.policy, *([run.reference.copy] if isinstance(run.reference, HoldsCopy) else [])):
                shard(module, accelerator.num_processes, accelerator.device, run.spread)
            self._parameters = run.parameters()  # spread ones have taken the places of the whole
        fused = accelerator.device.type == "cuda"
        optimizer = build_optimizer(self._parameters.values(), run.recipe.optim, fused=fused)
        if spread:
            return run.policy, accelerator.prepare(optimizer)
        module, prepared = accelerator.prepare(run.policy, optimizer)
        return module, prepared

    def train(self) -> Outcome:
        """All remaining steps; at the end the policy holds the weights to save (the average where there is one).

        Raises:
            Interrupted: after Ctrl-C or SIGTERM, once a checkpoint is written.
        """
        run, steps = self._run, self._run.recipe.train.steps
        main = run.accelerator.is_main_process
        log = MetricsLog(
            run.folder,
            start=self._step,
            enabled=main,
            report_to=run.recipe.train.report_to,
            config=run.recipe.model_dump(mode="json"),
        )
        with log, InterruptFlag() as flag, Console(steps, start=self._step, enabled=main) as console:
            for message in self._messages:
                console.say(message)
            if self._step == 0:
                self._preview(log, console)
            if self._validation is not None and self._validation.begins:
                self._validate(self._validation, log, console)
            if self._step == 0 and self._evidence is not None:
                self._evaluate(log, console)
            while self._step < steps and self.outcome.stopped is None:
                if run.rounds is not None:
                    self._next_round(run.rounds, log, console, flag)
                began = time.monotonic()
                metrics = self._one_step()
                self._after_step(metrics, time.monotonic() - began, log, console)
                if flag.on_any_process(run.accelerator.device):
                    self._save()
                    raise Interrupted(f"stopped after step {self._step}; a checkpoint is in {run.folder}")
        if self._ema is not None and self.outcome.stopped is None:
            self._ema.copy_to(self._parameters)
        gather(run.policy)
        return self.outcome

    def _next_round(self, rounds: Rounds, log: MetricsLog, console: Console, flag: InterruptFlag) -> None:
        """Before a step: the groups of its round are at hand.

        Raises:
            Interrupted: asked to stop while sampling; a checkpoint is written, and what was sampled is kept.
            Waiting: the round needs people; a checkpoint is written.
            ValueError: one round after another gives nothing to train on.
        """
        if self._plan is not None and not self._round.is_over(self._step):
            return
        run, train, empty = self._run, self._run.recipe.train, 0
        assert run.recipe.rollout is not None
        while True:
            if self._round.is_over(self._step):
                self._round = self._round.following(self._step)
                self._refresh(run.recipe.rollout.refresh_reference)
            try:
                found = rounds.gather(self._round.number, run.policy, self._round.identity, flag.on_this_process)
            except Waiting:
                self._save(even_if_saved=True)
                raise
            if found is None:
                self._save(even_if_saved=True)
                raise Interrupted(f"stopped in round {self._round.number}; a checkpoint is in {run.folder}")
            new = self._round.identity is None
            count = steps_of(len(found.groups), run.recipe.rollout.passes, train.batch_size)
            self._round = replace(self._round, count=count, identity=found.identity)
            console.say(f"round {self._round.number}: {found.note}")
            if new:
                log.write(self._step, {"rollout/round": self._round.number, **found.metrics})
            if count:
                break
            if (empty := empty + 1) == MOST_EMPTY:
                raise ValueError(
                    f"rollout: {empty} rounds in a row gave nothing to train on ({found.note}); the candidates tie or "
                    "lie within rollout.threshold: lower it, raise rollout.candidates, or take a finer reward"
                )
        run.train = found.groups
        self._plan = self._plan_of(f"{train.seed}/round {self._round.number}")

    def _refresh(self, every: int | None) -> None:
        reference = self._run.reference
        if every is not None and self._round.number % every == 0:
            assert isinstance(reference, Refreshable)
            reference.refresh()

    def _one_step(self) -> dict[str, float]:
        run = self._run
        assert self._plan is not None
        rate = learning_rate(self._step, run.recipe.train.steps, run.recipe.optim)
        set_learning_rate(self._optimizer, rate)
        micro = self._plan.micro_batches(self._step - self._round.first)
        sums = forward_backward(run, self._module, micro, self._cached)
        norm = update(run, self._optimizer, list(self._parameters.values()))
        if self._ema is not None:
            self._ema.update(self._parameters, self._step)
        self._step += 1
        self.outcome.steps = self.outcome.weights_step = self._step
        names = sorted(sums)
        means = run.accelerator.reduce(torch.stack([sums[name] for name in names]), reduction="mean")
        return {
            **dict(zip(names, means.tolist(), strict=True)),
            "grad_norm": norm,
            "learning_rate": rate,
            "epoch": self._plan.epoch(self._step - self._round.first),
        }

    def _after_step(self, metrics: Mapping[str, float], seconds: float, log: MetricsLog, console: Console) -> None:
        train, step = self._run.recipe.train, self._step
        last = step == train.steps
        if step % train.log_every == 0 or last:
            log.write(step, {**metrics, "pairs_per_second": train.batch_size / seconds})
        accuracy = metrics.get("rewards/accuracies")
        note = f"loss {metrics['loss']:.4f}" + (f"  accuracy {accuracy:.2f}" if accuracy is not None else "")
        console.advance(step, note)
        if not self._run.accelerator.optimizer_step_was_skipped:
            self._heed(self._guard.see_gradient(metrics["grad_norm"]), console)
        if self.outcome.stopped is not None:
            return
        if step == 1:
            self._heed(self._tiny_gradient(metrics["grad_norm"]), console, fatal=False)
        section = self._run.recipe.evaluation
        if step % (section.previews.every or section.every) == 0 or last:
            self._preview(log, console)
        if self._validation is not None and (self._validation.is_due(step) or last):
            self._validate(self._validation, log, console)
        if self.outcome.stopped is None and self._evidence is not None and (step % section.every == 0 or last):
            self._evaluate(log, console)
        if (step % train.checkpoint_every == 0 or last) and self.outcome.stopped is None:
            self._save()

    def _preview(self, log: MetricsLog, console: Console) -> None:
        """Samples of the weights that would be saved. Pictures to look at are no reason to end a training."""
        run = self._run
        if run.preview is None or not run.accelerator.is_main_process:
            return
        try:
            with self._averaged():
                pixels = run.preview(run.policy, self._step)
            log.image(self._step, "previews", pixels, f"step {self._step}")
        except Exception as error:
            run.preview = None
            reason = (
                "no memory left" if isinstance(error, torch.OutOfMemoryError) else f"{type(error).__name__}: {error}"
            )
            console.say(
                f"warning: the previews of step {self._step} failed ({reason}), so there will be no more; lower "
                "evaluation.previews.count, or turn them off with 0"
            )
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _averaged(self) -> AbstractContextManager[None]:
        return self._ema.applied(self._parameters) if self._ema is not None else nullcontext()

    def _evaluate(self, log: MetricsLog, console: Console) -> None:
        assert self._evidence is not None
        with self._averaged():
            result = self._evidence.evaluate()  # of the weights that would be saved
            healthy, sentence = self._guard.see_evaluation(result)
            if healthy and self._calm:
                self._keep_good(result)
        self.outcome.held_out = result
        log.write(self._step, result.metrics())
        accuracy = result.accuracy
        console.say(
            f"held-out accuracy {accuracy.mean:.3f} [{accuracy.low:.3f}, {accuracy.high:.3f}] on {result.pairs} pairs, "
            f"chosen error {result.rise:+.1%} against the reference"
        )
        self._heed(sentence, console)

    def _validate(self, validation: Validation, log: MetricsLog, console: Console) -> None:
        """A look at samples of the weights that would be saved, and its alarms."""
        with self._averaged():
            told = validation.look(self._step)
            self._calm = told.calm
            if told.calm and self._evidence is None:
                self._keep_good(None)
        if told.metrics:
            log.write(self._step, told.metrics)
        for line in told.lines:
            console.say(line)
        for sentence in told.alarms:
            if self.outcome.stopped is None:
                self._heed(sentence, console)

    def _keep_good(self, result: HeldOut | None) -> None:
        """Remembers the weights to go back to, where the recipe asks the guard to stop a run."""
        if self._run.recipe.evaluation.guard.action != "stop":
            return
        self._good = (self._step, result)
        trained = whole({name: p.detach() for name, p in self._parameters.items()})
        if self._run.accelerator.is_main_process:
            write_bytes(self._run.folder / LAST_GOOD, _bytes(trained, self._step))

    def _heed(self, sentence: str | None, console: Console, *, fatal: bool = True) -> None:
        """Says what the guard found; where the recipe asks for it, goes back to the last good weights and stops."""
        if sentence is None:
            return
        text = f"step {self._step}: {sentence}"
        self.outcome.warnings.append(text)
        if not fatal or self._run.recipe.evaluation.guard.action == "warn":
            console.say(f"warning: {text}")
            return
        self.outcome.stopped = f"{text}; {self._go_back()}"
        console.say(f"stopped: {self.outcome.stopped}")

    @torch.no_grad()
    def _go_back(self) -> str:
        self._run.accelerator.wait_for_everyone()
        file = self._run.folder / LAST_GOOD
        if not file.is_file():
            return "no healthy evaluation came before, so the weights are as they were"
        for name, tensor in load_file(file).items():
            self._parameters[name].copy_(like(tensor, self._parameters[name]))
        with safe_open(file, framework="pt") as opened:
            self.outcome.weights_step = int(opened.metadata()["step"])
        self.outcome.held_out = self._good[1] if self._good is not None else None
        return f"the weights of the last healthy evaluation, at step {self.outcome.weights_step}, were restored"

    def _tiny_gradient(self, norm: float) -> str | None:
        count = sum(p.numel() for p in self._parameters.values())
        typical = norm / max(1, count) ** 0.5
        if 0 < typical < self._run.recipe.optim.eps:
            return (
                f"a typical gradient ({typical:.1e}) is below AdamW's eps ({self._run.recipe.optim.eps:.0e}), which "
                "then decides the step; raise method.weight or lower optim.eps"
            )
        return None

    def _save(self, *, even_if_saved: bool = False) -> None:
        run = self._run
        if self._saved_step == self._step and not even_if_saved:
            return
        self._saved_step = self._step
        state = snapshot.take(run, self._optimizer, self._ema, self._guard, self._step, self._round)
        if run.accelerator.is_main_process:
            save_checkpoint(run.folder, state, keep=run.recipe.train.keep_checkpoints)
        run.accelerator.wait_for_everyone()

    def _restore(self) -> int:
        run = self._run
        checkpoint, refused = load_latest(run.folder)
        self._messages += [f"warning: refused {reason}" for reason in refused]
        if checkpoint is None:
            reasons = "".join(f"\n  {reason}" for reason in refused)
            raise ValueError(f"--resume: no usable checkpoint in {run.folder}; start without --resume{reasons}")
        self._round = snapshot.put_back(run, self._optimizer, self._ema, self._guard, checkpoint)
        self._messages.append(f"resumed after step {checkpoint.step}")
        return checkpoint.step


def _bytes(tensors: Mapping[str, Tensor], step: int) -> bytes:
    """A safetensors file."""
    return save({name: t.cpu().contiguous() for name, t in tensors.items()}, metadata={"step": str(step)})


def finished(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON."""
    held_out = outcome.held_out.as_dict() if outcome.held_out else None
    return {
        "steps": outcome.steps,
        "weights_step": outcome.weights_step,
        "stopped": outcome.stopped,
        "warnings": outcome.warnings,
        "held_out": held_out,
    }


__all__ = ["Interrupted", "Outcome", "Trainer", "finished"]
