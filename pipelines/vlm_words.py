"""What a run of a vision-language model was and how it ended, in words; shared by its report and its model card."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from typing import Any

from mmpo.citations import CITATIONS, LORA, papers_of
from mmpo.vlm_methods import METHODS, VLM_TABLE
from mmpo.vlm_recipe import VlmRecipe, VlmTerm
from pipelines.report_run import VlmRun
from pipelines.report_words import interval, main_measure, number, percent, signed, verdict

PAPERS = {"rdpo": "2502.13146", "rdpo_released": "2502.13146", "mdpo": "2406.11839", "povid": "2402.11411"}
"""Papers of the methods that are sums of terms; a loss's own stands in its table."""


def vlm_title(recipe: VlmRecipe) -> str:
    """The method's name: "rdpo, LoRA", "Direct preference optimisation, all weights"."""
    method = recipe.method
    name = method.loss if method.loss in METHODS else " + ".join(part.entry.title for part in method.parts)
    return f"{name}, {'LoRA' if recipe.model.lora is not None else 'all weights'}"


def vlm_cell(recipe: VlmRecipe) -> str:
    """The cell of the table of methods: its terms × tokens' log-probabilities × reference."""
    terms = " + ".join(term_name(part) for part in recipe.method.parts)
    return f"{terms} × {recipe.method.adapter} × {_reference(recipe)}"


def term_name(part: VlmTerm) -> str:
    """ "0.5 × dpo of chosen over visual (beta 0.1)"."""
    reads = part.chosen if part.loss in ("anchor", "sft") else f"{part.chosen} over {part.rejected}"
    options = ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in part.options.items()
    )
    weight = f"{part.weight:g} × " if part.weight != 1 else ""
    return f"{weight}{part.loss} of {reads}" + (f" ({options})" if options else "")


def _reference(recipe: VlmRecipe) -> str:
    kind = recipe.method.reference
    if kind != "auto":
        return f"reference {kind}"
    if not any(part.entry.needs_reference for part in recipe.method.parts):
        return "no reference"
    return f"reference {'frozen_copy' if recipe.model.lora is None else 'adapters_off'}"


def vlm_papers(recipe: VlmRecipe) -> list[str]:
    """arXiv ids behind a run, each once, of those that can be cited."""
    parts, name = recipe.method.parts, recipe.method.loss
    wanted = [PAPERS[name]] if name in PAPERS else []
    wanted += [paper for part in parts for paper in papers_of(part.loss, VLM_TABLE)]
    wanted += [LORA] if recipe.model.lora is not None else []
    diffusion = {"2311.12908"}  # what DPO's row names for images
    return [paper for paper in dict.fromkeys(wanted) if paper in CITATIONS and paper not in diffusion]


def vlm_outcome(run: VlmRun) -> tuple[str, str]:
    """(kind, sentence) of how the run ended: kind is "good", "bad" or "soft", for its colour."""
    if run.stopped:
        return "bad", f"The guard stopped the run at {run.stopped}."
    if run.summary is None:
        last = f" Its newest checkpoint is of step {int(run.checkpoint.name.split('-')[-1])}." if run.checkpoint else ""
        return "soft", f"The run is not finished: {run.steps:,} of {run.recipe.train.steps:,} steps are done.{last}"
    best = main_measure(run.evaluation)
    if best is not None:
        name, row = best
        words = {
            "better": ("good", "better than"),
            "worse": ("bad", "worse than"),
            "unclear": ("soft", "not told from"),
        }
        kind, than = words[verdict(row)] if row["low"] is not None else words["unclear"]
        over = "scenes" if (run.evaluation or {}).get("questions") else "questions"
        shown = f"{interval(row)} (95 % interval)" if row["low"] is not None else "without an interval"
        return kind, (
            f"By the measure {name}{direction(row)}, the tuned model is {than} its base: {number(row['base'])} → "
            f"{number(row['tuned'])}, a difference of {signed(row['difference'])} {shown}, over {row['prompts']:,} "
            f"{over}."
        )
    held_out = run.summary.get("held_out")
    done = f"The run finished after {run.steps:,} steps."
    if held_out and math.isfinite(held_out["accuracy"]["mean"]):
        accuracy = held_out["accuracy"]
        shown = f"{percent(accuracy['mean'])} [{percent(accuracy['low'])}, {percent(accuracy['high'])}]"
        done = (
            f"Of {held_out['pairs']:,} held-out pairs the training raised the chosen side above the rejected one, "
            f"against the reference, in {shown}."
        )
    return "soft", f"{done} Base and tuned have not been asked anything yet."


def direction(row: dict[str, Any] | Any) -> str:
    """What is said behind a measure's name, where higher is not better."""
    better = row.get("higher_is_better", True)
    return "" if better else " (lower is better)" if better is False else " (describes)"


def vlm_missing(run: VlmRun) -> Iterator[tuple[str, str]]:
    """(what is not there, the command that gives it) for each part that a whole report would show."""
    folder = shlex.quote(str(run.folder))
    if run.summary is None:
        yield (
            "the rest of the training, and the weights",
            f"mmpo train {folder}" + (" --resume" if run.checkpoint else ""),
        )
    elif run.evaluation is None:
        yield "base and tuned asked the same questions", f"mmpo eval {folder}"
    if not run.series("eval/accuracy") and run.lines:
        held = "held-out preference curves (only a new run can give them)"
        yield held, f"mmpo train {folder} output={folder}-2 evaluation.held_out_pairs=256"
