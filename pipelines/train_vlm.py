"""`mmpo train` of a vision-language model: the same loop, its own weights and card."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmpo.files import write_bytes, write_json
from mmpo.models.checkpoint import resolve
from mmpo.models.loading import weights_hash
from mmpo.models.vlm_saving import save_vlm
from mmpo.recipe_files import dump
from mmpo.records import content_id
from mmpo.training.folders import check_output, clear_leftovers
from mmpo.training.loop import Outcome, Trainer, finished
from mmpo.training.run import Run
from mmpo.training.trackers import check_trackers
from mmpo.vlm_recipe import VlmRecipe
from pipelines.build import build_accelerator
from pipelines.build_vlm import build_vlm_run
from pipelines.report_run import ADAPTER, MODEL, RECIPE, SUMMARY
from pipelines.vlm_card import write_vlm_card


def train_vlm(recipe: VlmRecipe, *, resume: bool = False) -> Path:
    """Runs a recipe and returns its folder.

    The folder then holds recipe.yaml, metrics.jsonl, tensorboard/, checkpoint-*/, train.json, README.md and the
    weights: adapter/ for `PeftModel.from_pretrained`, or model/ after a full fine-tune.

    Raises:
        ValueError: anything a user can mend, with where and how.
        Interrupted: stopped by Ctrl-C, a checkpoint is written.
    """
    folder = Path(recipe.output)
    check_output(folder, resume=resume)
    check_trackers(recipe.train.report_to)
    accelerator = build_accelerator(recipe)

    def say(text: str) -> None:
        accelerator.print(text, flush=True)

    if accelerator.is_main_process and not resume:
        clear_leftovers(folder)
    run, vlm = build_vlm_run(recipe, accelerator, folder, say)
    trainer = Trainer(run, resume=resume)  # refuses a checkpoint of another recipe before that one's file is replaced
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / RECIPE, dump(recipe).encode())
    accelerator.wait_for_everyone()
    outcome = trainer.train()
    if accelerator.is_main_process:
        place = save_vlm(folder / (ADAPTER if recipe.model.lora else MODEL), vlm, about(run, outcome))
        write_json(folder / SUMMARY, summary(run, outcome))
        write_vlm_card(folder)
        say(f"weights: {place}")
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return folder


def about(run: Run, outcome: Outcome) -> dict[str, Any]:
    """What stands beside the weights."""
    return {
        "base_model": run.recipe.model.path,
        "base_weights": run.identity["base weights"],
        "method": run.recipe.method.name,
        "recipe": content_id(run.recipe.model_dump(mode="json")),
        "data": run.identity["training rows"],
        "steps": outcome.weights_step,
    }


def summary(run: Run, outcome: Outcome) -> dict[str, Any]:
    """What train.json says: how it ended, on what, with which versions."""
    from importlib.metadata import version

    packages = ("mmpo", "torch", "transformers", "accelerate", "peft")
    return {
        **finished(outcome),
        "base_source": "folder" if Path(resolve(run.recipe.model.path)).exists() else "hub",
        "identity": dict(run.identity),
        "weights": weights_hash(run.policy),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "processes": run.accelerator.num_processes,
        "device": run.accelerator.device.type,
    }


def describe_vlm(recipe: VlmRecipe) -> Iterator[str]:
    """Lines that describe a run, without weights.

    Raises:
        ValueError: as training would, of what can be seen without the model.
    """
    check_output(Path(recipe.output), resume=False)
    yield dump(recipe).rstrip()
    yield ""
    yield f"checkpoint   {recipe.model.path}"
    for number, part in enumerate(recipe.method.parts, 1):
        reads = part.chosen if part.loss in ("anchor", "sft") else f"{part.chosen} over {part.rejected}"
        options = ", ".join(f"{name} {value}" for name, value in part.options.items())
        yield f"term {number}       {part.weight:g} x {part.loss}: {reads} ({options})"
    yield f"steps        {recipe.train.steps} of {recipe.train.batch_size} pairs, {recipe.train.precision}"
    yield f"data         {recipe.data.path}"
    yield f"output       {recipe.output}"
