"""What a run was and how it ended, in words and short numbers; shared by the report and the model card."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mmpo.citations import DIFFUSION_DPO, papers_of
from mmpo.recipe import Recipe, Term
from pipelines.report_numbers import raised
from pipelines.report_run import RunData, RunFiles


def method_title(recipe: Recipe) -> str:
    """The method's common name: "Diffusion-DPO, LoRA", "Identity preference optimisation, all weights"."""
    titles = ["Diffusion-DPO" if DIFFUSION_DPO in papers_of(p.loss) else p.entry.title for p in recipe.method.parts]
    name = " + ".join(titles)
    return f"{name}, {'LoRA' if recipe.model.lora is not None else 'all weights'}"


def cell(recipe: Recipe) -> str:
    """The cell of the table of methods: loss × log-likelihood × reference, with the loss's options."""
    method = recipe.method
    loss = " + ".join(_loss(part, method.beta_convention) for part in method.parts)
    own = "the checkpoint's kind" if recipe.rollout is None else "the sampler's transitions"
    adapter = f"log-likelihood by {own}" if method.adapter == "auto" else method.adapter
    return f"{loss} × {adapter} × {reference_name(recipe)}"


def _loss(part: Term, convention: str) -> str:
    """ "0.1 × dpo (beta 5000)"."""
    options = [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in part.options.items()
    ]
    options += [f"{name} {list(value)}" for name, value in part.given.items()]
    words = ", ".join(options) + (f" ({convention})" if options and convention != "half_mean" else "")
    weight = f"{part.weight:g} × " if part.weight != 1 else ""
    return f"{weight}{part.loss} ({words})" if words else f"{weight}{part.loss}"


def reference_name(recipe: Recipe) -> str:
    """The reference in words; `auto` as the training resolves it."""
    kind, lora = recipe.method.reference, recipe.model.lora
    if kind != "auto":
        return f"reference {kind}"
    if lora is None:
        return "reference frozen_copy" if recipe.method.needs_reference else "no reference"
    moves = recipe.rollout is not None and recipe.rollout.refresh_reference is not None
    return "reference frozen_adapter" if lora.start or moves else "reference adapters_off"


def unit(recipe: Recipe) -> str:
    """What an optimiser step counts."""
    return "pairs" if recipe.rollout is None else "groups"


def data_name(recipe: Recipe) -> str:
    """Where the preferences came from."""
    spec = recipe.rollout
    if spec is None:
        return recipe.data.path
    by = (
        "people" if spec.labels == "votes" else " and ".join(reward.name for reward in spec.rewards) or "what is stored"
    )
    kind = "whole trajectories" if spec.kind == "trajectories" else "single steps"
    return f"own samples for {spec.prompts}, {spec.candidates} candidates, {kind} compared by {by}"


def main_measure(evaluation: Mapping[str, Any] | None) -> tuple[str, Mapping[str, Any]] | None:
    """The first reward's own row of an evaluation; parts of rewards come after it."""
    measures = (evaluation or {}).get("measures") or {}
    return next(iter(measures.items()), None)


def verdict(row: Mapping[str, Any]) -> str:
    """ "better", "worse" or "unclear": on which side of no difference the whole interval lies."""
    sign = 1 if row.get("higher_is_better", True) else -1
    low, high = sorted((sign * row["low"], sign * row["high"]))
    return "better" if low > 0 else "worse" if high < 0 else "unclear"


def outcome(run: RunFiles) -> tuple[str, str]:
    """(kind, sentence) of how the run ended: kind is "good", "bad" or "soft", for its colour."""
    if run.stopped:
        return "bad", f"The guard stopped the run at {run.stopped}."
    if run.summary is None:
        total, done = run.recipe.train.steps, run.steps
        last = f" Its newest checkpoint is of step {int(run.checkpoint.name.split('-')[-1])}." if run.checkpoint else ""
        return "soft", f"The run is not finished: {done:,} of {total:,} steps are done.{last}"
    best = main_measure(run.evaluation)
    if best is not None:
        return _scored(run, *best)
    held_out = run.summary.get("held_out")
    if held_out and math.isfinite(held_out["accuracy"]["mean"]):
        accuracy = held_out["accuracy"]
        return "soft", (
            f"On {held_out['pairs']:,} held-out pairs the trained model prefers the chosen image in "
            f"{percent(accuracy['mean'])} [{percent(accuracy['low'])}, {percent(accuracy['high'])}]. "
            "No samples have been scored yet."
        )
    return "soft", f"The run finished after {run.steps:,} steps. No samples have been scored yet."


def _scored(run: RunFiles, name: str, row: Mapping[str, Any]) -> tuple[str, str]:
    words = {"better": ("good", "better than"), "worse": ("bad", "worse than"), "unclear": ("soft", "not told from")}
    kind, than = words[verdict(row)]
    per_prompt = (run.evaluation or {}).get("samples_per_prompt")
    samples = f" × {per_prompt} samples" if per_prompt else ""
    return kind, (
        f"By the measure {name}, the tuned model is {than} its base: {number(row['base'])} → {number(row['tuned'])}, "
        f"a difference of {signed(row['difference'])} {interval(row)} on {row['prompts']:,} prompts{samples} "
        "(95 % interval)."
    )


def missing(run: RunFiles) -> list[tuple[str, str]]:
    """(what is not there, the command that gives it) for each part that a whole report would show."""
    folder, recipe = str(run.folder), run.recipe
    found = []
    if run.summary is None:
        command = f"mmpo train {folder}" + (" --resume" if run.checkpoint else "")
        found.append(("the rest of the training, and the weights", command))
    elif run.evaluation is None:
        command = f"mmpo eval {folder}"
        if recipe.evaluation.prompts is None or not recipe.evaluation.rewards:
            command += " evaluation.prompts=prompts.txt evaluation.rewards=[my_reward]"
        found.append(("scores and samples of base and tuned", command))
    elif not run.evaluation.get("grid") or run.grid is None:
        found.append(("samples with their prompts", f"mmpo eval {folder}"))
    again = f"mmpo train {folder} output={folder}-2"
    if not run.strips:
        found.append(("samples along training (only a new run can give them)", f"{again} evaluation.previews.count=4"))
    if recipe.rollout is not None and recipe.evaluation.validation is None:
        validation = "rewards of the same samples while training, and alarms (only a new run can give them)"
        found.append((validation, f"{again} evaluation.validation.prompts=prompts.txt"))
    if recipe.rollout is None and not run.series("eval/accuracy") and run.lines:
        held = "held-out preference curves (only a new run can give them)"
        found.append((held, f"{again} evaluation.held_out_pairs=256"))
    return found


def not_finite(run: RunData[Any]) -> list[str]:
    """A sentence for the loss and for the held-out evaluation, where it was not a finite number at some step."""
    sentences = []
    for metric, name in (("loss", "the loss"), ("eval/accuracy", "the held-out accuracy")):
        steps = [step for step, value in run.series(metric) if not math.isfinite(value)]
        if steps:
            sentences.append(f"{name} is not a finite number at {len(steps):,} steps, first at step {steps[0]:g}")
    return sentences


def number(value: float) -> str:
    """Three significant places, or a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"


def signed(value: float) -> str:
    """As `number`, with a sign."""
    return number(value) if value is None or not math.isfinite(value) else f"{value:+.3f}".replace("-", "−")


def compact(value: float) -> str:
    """A signed number of any size in three significant digits, with a power of ten where decimals would be zeros."""
    if not math.isfinite(value):
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:+.3g}".replace("-", "−")
    digits, power = f"{value:+.1e}".split("e")
    return f"{digits}×10{raised(int(power))}".replace("-", "−")


def interval(row: Mapping[str, Any]) -> str:
    """The 95 % interval of a row's difference."""
    return f"[{signed(row['low'])}, {signed(row['high'])}]"


def percent(value: float) -> str:
    """A share as per cent."""
    return f"{100 * value:.1f} %" if math.isfinite(value) else "–"


def made_pairs(recipe: Recipe, measure: str) -> bool:
    """Whether a measure's reward also chose what was trained on, as far as the recipe says."""
    make, rollout = recipe.data.make, recipe.rollout
    trained = [make.reward] if make is not None else rollout.rewards if rollout is not None else []
    return measure.split("/")[0].split("#")[0] in [reward.name for reward in trained]
