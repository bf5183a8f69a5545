"""Validation while training: looks at the same samples, kept in the run's folder; their metrics and their alarms."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from mmpo.files import write_json
from mmpo.recipe import Recipe
from mmpo.training.guard import LEAST_PROMPTS
from mmpo.training.hacking import WORDS, Look, alarms, begun, change, mean_of
from mmpo.training.run import Run

FILE = "validation.json"


@dataclass(frozen=True)
class Told:
    """What a look tells.

    Args:
        metrics: for logs.
        lines: for the terminal.
        alarms: those that speak now.
        calm: whether no sign of a gamed reward was seen, spoken of or not.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    calm: bool = True


class Validation:
    """The looks of one run.

    All that alarms depend on stands in the run's `validation.json`, so a resumed run goes on as if it had not stopped.

    Args:
        run: with `look`.
        step: optimiser steps done; looks of later steps are of a run that was killed.
    """

    def __init__(self, run: Run, step: int) -> None:
        assert run.recipe.evaluation.validation is not None
        self._run, self._section = run, run.recipe.evaluation.validation
        self._file = run.folder / FILE
        kept = json.loads(self._file.read_text(encoding="utf-8"))["looks"] if step and self._file.is_file() else []
        self._looks = [Look.of(plain) for plain in kept if plain["step"] <= step]
        self._off = False

    @property
    def begins(self) -> bool:
        """Whether there is nothing to compare with yet."""
        return not self._looks and not self._off

    def is_due(self, step: int) -> bool:
        """Whether a look is wanted after so many steps."""
        return not self._off and step % (self._section.every or self._run.recipe.evaluation.every) == 0

    def look(self, step: int) -> Told:
        """Samples, scores and compares. Where that fails there will be no more: no reason to end a training."""
        run = self._run
        assert run.look is not None
        if self._off or (self._looks and self._looks[-1].step == step):
            return Told()
        try:
            now = run.look(run.policy, step)
        except Exception as error:
            self._off = True
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            reason = f"{type(error).__name__}: {error}"
            return Told(lines=[f"warning: the validation of step {step} failed ({reason}), so there will be no more"])
        lines = []
        if self._looks and self._looks[0].identity != now.identity:
            lines.append(f"validation: its settings changed, so changes count from step {step}")
            self._looks = []
        self._looks.append(now)
        if run.accelerator.is_main_process:
            write_json(self._file, {"looks": [look.as_dict() for look in self._looks]})
        if len(self._looks) == 1 and now.prompts < LEAST_PROMPTS:
            lines.append(f"note: validation has {now.prompts} prompts, alarms need {LEAST_PROMPTS}")
        if now.failures:
            lines.append(f"warning: {len(now.failures)} validation scores failed; the first: {now.failures[0]}")
        first, settings = self._looks[0], self._section.alarms
        spoken = begun(self._looks, settings)
        todo = advice(run.recipe)
        return Told(
            metrics=metrics(first, now),
            lines=[*lines, line(first, now)],
            alarms=[f"{sentence}: {_meaning(what)}; {todo[_kind(what)]}" for what, sentence in spoken.items()],
            calm=not alarms(first, now, settings),
        )


def metrics(first: Look, now: Look) -> dict[str, float]:
    """Flat numbers: `validation/REWARD` and its change since the first look with the 95 % interval, `images/NAME`."""
    found: dict[str, float] = {}
    for name, values in now.rewards.items():
        if (mean := mean_of(values)) == mean:
            found[f"validation/{name}"] = mean
        if now is not first and (moved := change(first.rewards[name], values, now.clusters)) is not None:
            found |= {
                f"validation/{name}_change": moved.mean,
                f"validation/{name}_change_low": moved.low,
                f"validation/{name}_change_high": moved.high,
            }
    return found | {f"images/{name}": mean for name in WORDS if (mean := mean_of(now.images[name])) == mean}


def line(first: Look, now: Look) -> str:
    """One line for the terminal."""
    return "validation: " + "  ".join([*_rewards_told(first, now), *_images_told(first, now)])


def _rewards_told(first: Look, now: Look) -> Iterator[str]:
    for name, values in now.rewards.items():
        text = f"{name} {mean_of(values):.4g}"
        if now is not first and (moved := change(first.rewards[name], values, now.clusters)) is not None:
            text += f" ({moved.mean:+.3g} [{moved.low:+.3g}, {moved.high:+.3g}] since step {first.step})"
        yield text


def _images_told(first: Look, now: Look) -> Iterator[str]:
    for name in WORDS:
        before, after = mean_of(first.images[name]), mean_of(now.images[name])
        if after == after:
            yield f"{name} {after:.3g}" if now is first else f"{name} {before:.3g} → {after:.3g}"


def _kind(what: str) -> str:
    return "reward" if what.startswith("reward ") else "diversity" if what.startswith("diversity") else "look"


def _meaning(what: str) -> str:
    meanings = {
        "reward": "what is trained on may be gamed",
        "diversity": "the samples become alike",
        "look": "the policy may be leaving the look of real images to please the reward",
    }
    return meanings[_kind(what)]


def advice(recipe: Recipe) -> dict[str, str]:
    """What to do about an alarm, by its kind, in the keys that this recipe has."""
    leash = ["raise method.beta", "stop earlier"]
    rollout = recipe.rollout
    if rollout is not None and rollout.refresh_reference is not None:
        leash.insert(1, "refresh the reference less often (rollout.refresh_reference)")
    held = ", ".join(leash)
    if rollout is None or not rollout.rewards:
        return dict.fromkeys(("reward", "diversity", "look"), held)
    return {
        "reward": f"{held}, or add that reward to rollout.rewards",
        "diversity": held,
        "look": f"{held}, or add a reward that sees it to rollout.rewards",
    }


def untrained_note(trained: Sequence[str], named: Sequence[str]) -> str | None:
    """What to say where every reward that is watched is also trained on."""
    if set(named) - set(trained):
        return None
    return (
        "note: evaluation.validation.rewards names no reward besides those trained on; name one more, so that a gamed "
        "reward shows"
    )
