"""`mmpo train`: a recipe to weights."""

from __future__ import annotations

import platform
import shlex
from pathlib import Path
from typing import Any

from mmpo.data.readers import OpenPairs
from mmpo.files import write_bytes, write_json
from mmpo.models.checkpoint import CheckpointConfig, read_config
from mmpo.models.loading import load_pipeline, weights_hash
from mmpo.models.saving import save_lora, save_pipeline
from mmpo.recipe import Recipe
from mmpo.recipe_files import dump, load_recipe
from mmpo.records import content_id
from mmpo.training import folders
from mmpo.training.folders import check_output, clear_leftovers
from mmpo.training.loop import Outcome, Trainer, finished
from mmpo.training.run import Run
from mmpo.training.snapshot import flatten
from mmpo.training.trackers import check_trackers
from pipelines.build import build_accelerator, build_run
from pipelines.checks import check_recipe
from pipelines.model_card import push, write_model_card
from pipelines.report_push import check_name

SUMMARY = "train.json"
RECIPE = "recipe.yaml"
PIPELINE = "pipeline"


def train(recipe: Recipe, *, resume: bool = False, checked: bool = False) -> Path:
    """Runs a recipe and returns its folder.

    The folder then holds recipe.yaml, metrics.jsonl, tensorboard/, checkpoint-*/, train.json and the weights:
    pytorch_lora_weights.safetensors, or pipeline/ after a full fine-tune.

    Args:
        recipe: what to do.
        resume: go on from the newest whole checkpoint.
        checked: `check_output` and `check_recipe` were called; the latter opens the data, on the hub too.
    Raises:
        ValueError: anything a user can mend, with where and how.
        Interrupted: stopped by Ctrl-C, a checkpoint is written.
    """
    folder = Path(recipe.output)
    if not checked:
        check_output(folder, resume=resume)
        check_recipe(recipe)
    config = read_config(recipe.model.path, recipe.model.revision, recipe.model.config)
    return train_from(recipe, config, resume=resume)


def train_from(
    recipe: Recipe,
    config: CheckpointConfig,
    *,
    resume: bool = False,
    pipeline: Any = None,
    opened: OpenPairs | None = None,
) -> Path:
    """The checked part of `train`: builds, trains, saves.

    Args:
        config: of the checkpoint.
        pipeline: loaded already, in place of the recipe's checkpoint.
        opened: pairs that were found already, in place of the recipe's data.
    """
    folder = Path(recipe.output)
    check_trackers(recipe.train.report_to)
    if recipe.push_to_hub is not None:
        check_push(recipe.push_to_hub)
    accelerator = build_accelerator(recipe)

    def say(text: str) -> None:
        accelerator.print(text, flush=True)

    if accelerator.is_main_process and not resume:
        clear_leftovers(folder)
    run, pipeline_class = build_run(recipe, config, accelerator, folder, say, pipeline=pipeline, opened=opened)
    trainer = Trainer(run, resume=resume)  # refuses a checkpoint of another recipe before that one's file is replaced
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / RECIPE, dump(recipe).encode())
    accelerator.wait_for_everyone()
    count = sum(p.numel() for p in run.parameters().values())
    say(f"training {count:,} parameters on {accelerator.num_processes} x {accelerator.device.type}")
    outcome = trainer.train()
    if accelerator.is_main_process:
        weights = save_weights(run, config, pipeline_class, outcome.weights_step, pipeline)
        write_json(folder / SUMMARY, summary(run, config, outcome))
        say(f"weights: {weights}")
        write_model_card(folder)
        if recipe.push_to_hub is not None:
            say(_upload(folder, recipe.push_to_hub))
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return folder


def check_push(name: str) -> None:
    """Refuses an upload that cannot work, before the training and not after it.

    Raises:
        ValueError: the name is not USER/NAME, or nobody is logged in at the hub.
    """
    from huggingface_hub import get_token
    from huggingface_hub.constants import is_offline_mode

    check_name(name)
    if is_offline_mode():
        raise ValueError("push_to_hub: HF_HUB_OFFLINE is set; unset it, or upload later with `mmpo push`")
    if get_token() is None:
        raise ValueError(
            "push_to_hub: not logged in at the hub; run `hf auth login` or set HF_TOKEN, or leave push_to_hub out and "
            "upload later with `mmpo push`"
        )


def _upload(folder: Path, name: str) -> str:
    """What to say after the upload. A finished training does not fail because the hub did."""
    try:
        return f"uploaded: {push(folder, name, private=False)}"
    except Exception as error:
        again = shlex.join(["mmpo", "push", str(folder), name])
        return (
            f"warning: the upload failed ({type(error).__name__}: {error}); everything is in {folder}; later: {again}"
        )


def save_weights(run: Run, config: CheckpointConfig, pipeline_class: Any, steps: int, pipeline: Any = None) -> Path:
    """The trained weights, of so many steps, in the form other tools load.

    Args:
        pipeline: the one that holds the policy, where it was given and not loaded from `config`.
    """
    about = {
        "base_model": run.recipe.model.path,
        "base_weights": run.identity["base weights"],
        "method": run.recipe.method.name,
        "recipe": content_id(run.recipe.model_dump(mode="json")),
        "data": run.identity["training rows"],
        "steps": steps,
    }
    if run.recipe.model.lora is not None:
        return save_lora(run.folder, pipeline_class, config.family.denoiser, run.policy, about)
    if pipeline is not None:
        return save_pipeline(run.folder / PIPELINE, pipeline, about)
    import torch

    assert isinstance(run.recipe, Recipe)
    dtype = torch.float64 if run.dtype == torch.float64 else torch.float32
    pipeline = load_pipeline(config, dtype=dtype, revision=run.recipe.model.revision, variant=run.recipe.model.variant)
    state = {name: tensor.detach().cpu() for name, tensor in run.policy.state_dict().items()}
    getattr(pipeline, config.family.denoiser).load_state_dict(state)
    return save_pipeline(run.folder / PIPELINE, pipeline, about)


def summary(run: Run, config: CheckpointConfig, outcome: Outcome) -> dict[str, Any]:
    """What train.json says: how it ended, on what, with which versions."""
    from importlib.metadata import version

    packages = ("mmpo", "torch", "diffusers", "transformers", "accelerate", "peft")
    return {
        **finished(outcome),
        "identity": dict(run.identity),
        "base_source": _base_source(config),
        "weights": weights_hash(run.policy),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "processes": run.accelerator.num_processes,
        "device": run.accelerator.device.type,
    }


def _base_source(config: CheckpointConfig) -> str:
    """Where the base came from, so that a model card does not take a local path for a name on the hub."""
    if config.source == "pipeline":
        hub = "/" in config.path and not Path(config.path).exists()
        return "hub" if hub else "pipeline"
    return "single file" if config.configs is not None else config.source


def finished_before(recipe: Recipe) -> bool:
    """Whether the output folder holds this very run, finished (its evaluation section may differ).

    Raises:
        ValueError: it holds a finished run of another recipe; names the first key that differs.
    """
    folder = Path(recipe.output)
    if not (folder / SUMMARY).is_file():
        return False
    saved, wanted = (
        {k: v for k, v in flatten(r.model_dump(mode="json")).items() if not k.startswith(("evaluation.", "output"))}
        for r in (load_recipe(str(folder / RECIPE)), recipe)
    )
    changed = [key for key in sorted(saved.keys() | wanted.keys()) if saved.get(key) != wanted.get(key)]
    if changed:
        key = changed[0]
        raise ValueError(
            f"output {folder}: holds a run in which {key} was {saved.get(key)!r}, not {wanted.get(key)!r}; choose "
            "another folder, or delete that one"
        )
    return True


def read_summary(folder: Path) -> dict[str, Any]:
    """train.json of a finished run.

    Raises:
        ValueError: the folder is no finished run.
    """
    file = folder / SUMMARY
    if not file.is_file():
        raise ValueError(
            f"{folder}: no finished run there ({SUMMARY} is missing); run `mmpo train` first, or --resume it"
        )
    return folders.read_summary(folder)
