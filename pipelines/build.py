"""Wires a recipe into a run: the only module that names concrete models, adapters and rewards together."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, nn

from mmpo import beta as beta_units
from mmpo.adapters import AdaptersOff, Denoising, Flow, FrozenCopy
from mmpo.contracts import Adapter, Condition, Predict, Reference
from mmpo.data.encoded import EncodedGroups
from mmpo.data.split import hold_out
from mmpo.loss_table import LOSS_TABLE
from mmpo.losses import LOSSES
from mmpo.models.checkpoint import CheckpointConfig
from mmpo.models.families import Family
from mmpo.models.loading import checkpoint_hash, load_pipeline, weights_hash
from mmpo.models.lora import add_lora
from mmpo.recipe import Recipe
from mmpo.records import content_id
from mmpo.training.run import Run
from pipelines.prepare import encode_data, make_data

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
Say = Callable[[str], None]


def build_accelerator(recipe: Recipe) -> Accelerator:
    """The devices and processes of a run.

    Raises:
        ValueError: fp16 without a GPU.
    """
    precision = recipe.train.precision
    if precision == "fp16" and not torch.cuda.is_available():
        raise ValueError("train.precision: fp16 needs a GPU; use bf16 or fp32 here")
    AcceleratorState._reset_state()  # an earlier run in this process may have had another precision
    patient = InitProcessGroupKwargs(timeout=timedelta(hours=12))  # the others wait while one makes the data
    # accelerate starts CPU process groups only when told that the CPU is meant
    on_cpu = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available()
    return Accelerator(
        mixed_precision=precision if precision in ("bf16", "fp16") else "no", cpu=on_cpu, kwargs_handlers=[patient]
    )


def weights_dtype(recipe: Recipe) -> torch.dtype:
    """Half precision only for the frozen base of a LoRA; whatever is trained keeps float32 master weights."""
    precision = recipe.train.precision
    return DTYPES[precision] if recipe.model.lora is not None or precision == "fp64" else torch.float32


def build_run(
    recipe: Recipe, config: CheckpointConfig, accelerator: Accelerator, folder: Path, say: Say
) -> tuple[Run, Any]:
    """(the parts of a run, the pipeline's class). Data is made and encoded on the way.

    Raises:
        ValueError: what the checkpoint, the data or the recipe cannot do together.
    """
    dtype = weights_dtype(recipe)
    resolution = check_resolution(recipe, config)
    adapter = build_adapter(recipe, config)  # refuses a wrong combination before anything is loaded
    pipeline = load_pipeline(config, dtype=dtype, revision=recipe.model.revision, variant=recipe.model.variant)
    pipeline.to(accelerator.device)
    denoiser = getattr(pipeline, config.family.denoiser)
    base_hash, whole_hash = weights_hash(denoiser), checkpoint_hash(pipeline)
    with accelerator.main_process_first():
        make_data(recipe, pipeline, whole_hash, say if accelerator.is_main_process else lambda text: None)
    rows, caches = encode_data(recipe, config, pipeline, accelerator, resolution, say)
    train_rows, held_rows = hold_out(rows, recipe.evaluation.held_out_pairs)
    say(f"{len(train_rows)} training pairs, {len(held_rows)} held out")
    pipeline_class = type(pipeline)
    del pipeline  # the VAE and the text encoders leave memory
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if recipe.train.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    if recipe.model.lora is not None:
        add_lora(denoiser, recipe.model.lora, config.family, seed=recipe.train.seed)
    else:
        denoiser.requires_grad_(True)
    loss, scale = build_loss(recipe, config.latent_elements(resolution), say)
    run = Run(
        accelerator=accelerator,
        policy=denoiser,
        bind=partial(_bind, config.family, dtype),
        adapter=adapter,
        reference=build_reference(recipe, denoiser),
        loss=loss,
        scale=scale,
        train=EncodedGroups(train_rows, caches),
        held_out=EncodedGroups(held_rows, caches),
        clusters=[row.prompt.cluster for row in held_rows],
        dtype=torch.float64 if dtype == torch.float64 else torch.float32,
        recipe=recipe,
        folder=folder,
        identity={
            "base weights": base_hash,
            "checkpoint": whole_hash,
            "training rows": content_id([row.id for row in train_rows]),
            "held-out rows": content_id([row.id for row in held_rows]),
        },
    )
    return run, pipeline_class


def check_resolution(recipe: Recipe, config: CheckpointConfig) -> int:
    """Pixels per side of the training images.

    Raises:
        ValueError: not a multiple of what the VAE and the denoiser shrink an image by.
    """
    resolution = recipe.data.resolution or config.resolution
    step = config.downscale * 2 ** (len(config.denoiser.get("block_out_channels", [0])) - 1)
    if resolution % step:
        raise ValueError(f"data.resolution: {resolution} does not fit {recipe.model.path}; use a multiple of {step}")
    return resolution


def build_adapter(recipe: Recipe, config: CheckpointConfig) -> Adapter:
    """The surrogate that fits the checkpoint.

    Raises:
        ValueError: the recipe names another one.
    """
    method, kind = recipe.method, config.prediction_type
    fitting = "flow" if kind == "flow" else "denoising"
    if method.adapter not in ("auto", fitting):
        raise ValueError(
            f"method.adapter: '{method.adapter}' does not fit {recipe.model.path}, which predicts {kind}; "
            f"use '{fitting}'"
        )
    if fitting == "flow":
        if method.error != "prediction":
            raise ValueError(f"method.error: '{method.error}' is for v-prediction; the flow surrogate has one error")
        return Flow(
            shift=float(config.scheduler.get("shift", 1.0)),
            num_train_timesteps=int(config.scheduler.get("num_train_timesteps", 1000)),
            prompt_dropout=method.prompt_dropout,
            timesteps=method.timesteps,
        )
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler.from_config(config.scheduler)
    return Denoising(
        alphas_cumprod=scheduler.alphas_cumprod.double().cpu(),
        prediction_type=kind,  # type: ignore[arg-type]
        error=method.error,
        prompt_dropout=method.prompt_dropout,
        timesteps=method.timesteps,
    )


def build_reference(recipe: Recipe, denoiser: nn.Module) -> Reference | None:
    """Adapters off for a LoRA, a frozen copy for a full fine-tune, nothing for a loss that needs none."""
    kind = recipe.method.reference
    if not LOSS_TABLE[recipe.method.loss].needs_reference and kind == "auto":
        # A LoRA's base costs nothing and lets the metrics compare with it; a full copy would cost a model.
        return AdaptersOff(denoiser) if recipe.model.lora is not None else None
    if kind == "auto":
        kind = "adapters_off" if recipe.model.lora is not None else "frozen_copy"
    return AdaptersOff(denoiser) if kind == "adapters_off" else FrozenCopy(denoiser)


def build_loss(recipe: Recipe, elements: int, say: Say) -> tuple[Callable[..., Tensor], float]:
    """(the loss with its options bound, the scale of implied rewards). Prints β in every convention."""
    options = recipe.method.options
    for name in beta_units.SCALES & options.keys():
        options[name] = beta_units.to_half_mean(options[name], recipe.method.beta_convention, elements)
        say(f"{name} {beta_units.describe(options[name], elements)}")
    scale = next(iter(options.values()), 1.0)
    return partial(LOSSES[recipe.method.loss], **options), scale


def _bind(family: Family, dtype: torch.dtype, module: nn.Module) -> Predict:
    """The family's forward through this module, inputs in the dtype of its weights."""

    def predict(noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        inputs = {name: value.to(dtype) if value.is_floating_point() else value for name, value in condition.items()}
        return family.predict(module, noisy.to(dtype), timesteps, inputs)

    return predict
