"""Wires a recipe into a run: the only module that names concrete models, adapters and rewards together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from mmpo import beta as beta_units
from mmpo.adapters import AdaptersOff, Denoising, Flow, FrozenAdapter, FrozenCopy, Transitions
from mmpo.contracts import Adapter, Condition, Predict, Reference
from mmpo.data.buckets import image_sizes
from mmpo.data.cache import TensorCache
from mmpo.data.readers import OpenPairs
from mmpo.loss_feeds import feeds_of
from mmpo.losses import LOSSES
from mmpo.losses.loss_shares import SHARES
from mmpo.models.checkpoint import CheckpointConfig
from mmpo.models.families import Family
from mmpo.models.loading import checkpoint_hash, component_hashes, load_pipeline, weights_hash
from mmpo.models.lora import add_lora
from mmpo.models.lora_start import StartLora, find_start, start_lora
from mmpo.recipe import Recipe
from mmpo.reward_recipe import RewardRecipe
from mmpo.training.run import Run
from mmpo.training.terms import Term
from pipelines.build_rollout import rollout_feed, stepper_of
from pipelines.build_stored import stored_feed
from pipelines.checks import cache_folder
from pipelines.previews import Previews, preview_texts
from pipelines.validation import build_validation

REFERENCES: dict[str, Callable[[nn.Module], Reference]] = {
    "adapters_off": AdaptersOff,
    "frozen_adapter": FrozenAdapter,
    "frozen_copy": FrozenCopy,
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
Say = Callable[[str], None]


def build_accelerator(recipe: Recipe | RewardRecipe) -> Accelerator:
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
    recipe: Recipe,
    config: CheckpointConfig,
    accelerator: Accelerator,
    folder: Path,
    say: Say,
    *,
    pipeline: Any = None,
    opened: OpenPairs | None = None,
) -> tuple[Run, Any]:
    """(the parts of a run, the pipeline's class). Data is made and encoded on the way.

    Args:
        pipeline: one that is loaded already, in place of the recipe's checkpoint. Its denoiser becomes the policy.
        opened: pairs that were found already, in place of the recipe's data.
    Raises:
        ValueError: what the checkpoint, the data or the recipe cannot do together.
    """
    resolution = check_resolution(recipe, config)
    adapter = build_adapter(recipe, config)  # refuses a wrong combination before anything is loaded
    base = load_base(recipe, config, accelerator, pipeline, say)
    pipeline, denoiser = base.pipeline, base.denoiser
    feed = rollout_feed if recipe.rollout is not None else partial(stored_feed, opened=opened)
    fed = feed(recipe, config, base, accelerator, resolution, folder, say)
    spread = recipe.train.distribution == "fsdp2" and accelerator.num_processes > 1
    if spread and recipe.evaluation.previews.count:
        say("no previews: with fsdp2 no process holds the weights to sample with alone")
    texts = [] if spread else preview_texts(recipe, *fed.prompts)
    preview = Previews(pipeline, config.family, texts, recipe, folder, accelerator.autocast) if texts else None
    look = build_validation(recipe, pipeline, config.family, accelerator, fed.rewards, say)
    for part in pipeline.components.values():  # the VAE and the text encoders leave the device, and memory if ours
        if isinstance(part, nn.Module) and part is not denoiser:
            part.to("cpu")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if recipe.train.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    if recipe.train.channels_last:
        denoiser.to(memory_format=torch.channels_last)
    if recipe.model.lora is None:
        denoiser.requires_grad_(True)
    elif base.start is None:
        add_lora(denoiser, recipe.model.lora, config.family, seed=recipe.train.seed)
    terms, scale = build_terms(recipe, config.latent_elements(resolution), accelerator.device, say)
    identity = {
        "base weights": base.weights,
        "checkpoint": base.checkpoint,
        **fed.identity,
    }
    if base.start is not None:
        identity["starting LoRA"] = base.start.hash
    dtype, bind = weights_dtype(recipe), partial(_bind, config.family, weights_dtype(recipe))
    reference = build_reference(recipe, denoiser)
    if recipe.train.compile:
        denoiser.compile()
    run = Run(
        accelerator=accelerator,
        policy=denoiser,
        bind=bind,
        adapter=adapter,
        reference=reference,
        terms=terms,
        scale=scale,
        train=fed.train,
        held_out=fed.held_out,
        clusters=fed.clusters,
        dtype=torch.float64 if dtype == torch.float64 else torch.float32,
        recipe=recipe,
        folder=folder,
        identity=identity,
        preview=preview,
        look=look,
        reference_cache=reference_store(recipe, config, base, resolution) if recipe.method.cache_reference else None,
        rounds=fed.rounds(bind) if fed.rounds is not None else None,
    )
    return run, type(pipeline)


@dataclass(frozen=True)
class Base:
    """What training begins from.

    Args:
        pipeline: on the device, a LoRA to go on from loaded.
        denoiser: its part that is trained.
        weights: hash of the denoiser without the LoRA.
        hashes: of every component, the LoRA included.
        checkpoint: hash of everything that decides what the pipeline samples.
        start: the LoRA to go on from.
    """

    pipeline: Any
    denoiser: Any
    weights: str
    hashes: Mapping[str, str]
    checkpoint: str
    start: StartLora | None


def load_base(recipe: Recipe, config: CheckpointConfig, accelerator: Accelerator, pipeline: Any, say: Say) -> Base:
    """The recipe's checkpoint, or `pipeline` where that is given, with the LoRA that the recipe starts from."""
    lora = recipe.model.lora
    start = find_start(lora.start) if lora and lora.start else None
    if pipeline is None:
        pipeline = load_pipeline(
            config,
            dtype=weights_dtype(recipe),
            revision=recipe.model.revision,
            variant=recipe.model.variant,
            quantize=recipe.model.quantize,
        )
    pipeline.to(accelerator.device)
    denoiser = getattr(pipeline, config.family.denoiser)
    refuse_adapters(pipeline)
    hashes = component_hashes(pipeline)
    weights = hashes[config.family.denoiser]
    if lora and start is not None:
        start_lora(pipeline, denoiser, lora, config.family)
        hashes[config.family.denoiser] = weights_hash(denoiser)
        say(f"goes on from the LoRA {start.file}, rank {start.rank}; its rank, alpha and layers are kept")
    return Base(pipeline, denoiser, weights, hashes, checkpoint_hash(pipeline, hashes), start)


def refuse_adapters(pipeline: Any) -> None:
    """Refuses a pipeline that carries a LoRA: it would be trained, hashed and saved as if it were the base.

    Raises:
        ValueError: names the component and what to do.
    """
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module) and any(isinstance(module, BaseTunerLayer) for module in part.modules()):
            raise ValueError(
                f"the pipeline's {name} carries a LoRA already; take it off with pipe.unload_lora_weights() (after "
                "pipe.fuse_lora() to keep its effect in the base), or go on from its file with lora={'start': FILE}"
            )


def check_resolution(recipe: Recipe, config: CheckpointConfig) -> int:
    """Pixels per side of the training images.

    Raises:
        ValueError: a denoiser that takes more than latents, or a size that it and the VAE cannot halve so often.
    """
    channels = {int(config.denoiser["in_channels"]), int(config.denoiser["out_channels"])}
    latent = int(config.vae.get("latent_channels", 4))
    if channels != {latent}:
        raise ValueError(
            f"model.path {recipe.model.path}: its denoiser takes and gives {sorted(channels)} channels, the VAE makes "
            f"{latent}; inpainting and editing models are not supported"
        )
    resolution = recipe.data.resolution or config.resolution
    step = config.downscale * config.cells
    if resolution % step:
        raise ValueError(f"data.resolution: {resolution} does not fit {recipe.model.path}; use a multiple of {step}")
    largest = step * int(config.denoiser.get("pos_embed_max_size") or 10**6)
    longest = max(max(size) for size in image_sizes(resolution, step, buckets=recipe.data.buckets))
    if longest > largest:
        bucket = f" with data.buckets has sides of {longest}, which" if longest > resolution else ""
        raise ValueError(
            f"data.resolution: {resolution}{bucket} is more than {recipe.model.path} has positions for: {largest}"
        )
    return resolution


def build_adapter(recipe: Recipe, config: CheckpointConfig) -> Adapter:
    """The surrogate that fits the checkpoint.

    Raises:
        ValueError: the recipe names another one.
    """
    method, kind = recipe.method, config.prediction_type
    if recipe.rollout is not None:
        return Transitions(stepper_of(recipe, config), recipe.rollout.sampling.guidance, recipe.rollout.density)
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
            shift=config.shift(recipe.data.resolution or config.resolution),
            num_train_timesteps=int(config.scheduler.get("num_train_timesteps", 1000)),
            prompt_dropout=method.prompt_dropout,
            timesteps=method.timesteps,
            flip=recipe.data.flip,
            noise=method.noise,
        )
    if "EDM" in config.scheduler.get("_class_name", ""):
        raise ValueError(
            f"model.path {recipe.model.path}: its {config.scheduler['_class_name']} has no noise schedule that "
            "is supported; supported are variance-preserving ones (DDIM, Euler, ...) and flow matching"
        )
    return Denoising.from_config(
        config.scheduler,
        error=method.error,
        prompt_dropout=method.prompt_dropout,
        timesteps=method.timesteps,
        flip=recipe.data.flip,
        noise=method.noise,
    )


def build_reference(recipe: Recipe, denoiser: nn.Module) -> Reference | None:
    """Adapters off for a new LoRA, a frozen adapter for one that goes on, a frozen copy for a full fine-tune.

    None where nothing is compared with, or where a full fine-tune's comparison is computed before its first step.
    """
    kind = reference_class(recipe)
    if kind is FrozenCopy:
        return None if recipe.method.cache_reference else FrozenCopy(denoiser, offload=recipe.method.offload_reference)
    return kind(denoiser) if kind is not None else None


def reference_class(recipe: Recipe) -> Callable[[nn.Module], Reference] | None:
    """What makes the recipe's reference of the denoiser, or None where there is none."""
    lora, kind = recipe.model.lora, recipe.method.reference
    if kind == "auto":
        if lora is None and not recipe.method.needs_reference:
            return None  # a LoRA's base costs nothing and lets the metrics compare with it; a copy would cost a model
        moves = recipe.rollout is not None and recipe.rollout.refresh_reference is not None
        kind = "frozen_copy" if lora is None else "frozen_adapter" if lora.start or moves else "adapters_off"
    return REFERENCES[kind]


def reference_store(recipe: Recipe, config: CheckpointConfig, base: Base, resolution: int) -> TensorCache:
    """Where the reference's log-likelihoods are kept: keyed by all that they depend on besides group and visit."""
    method, train = recipe.method, recipe.train
    made_by = {
        "components": dict(base.hashes),
        "scheduler": config.scheduler,
        "method": [method.adapter, method.error, method.prompt_dropout, list(method.timesteps), method.noise],
        "resolution": resolution,
        "seed": train.seed,
        "precision": train.precision,
        "quantize": recipe.model.quantize,
        "lists": method.takes_lists,
        "forward": train.micro_batch_size or train.batch_size,  # kernels round by the shape of their batch
        "data": [recipe.data.buckets, recipe.data.flip, recipe.data.captions],
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
    }
    return TensorCache(cache_folder(recipe.data), "reference", made_by)


def build_terms(recipe: Recipe, elements: int, device: torch.device, say: Say) -> tuple[list[Term], float]:
    """(the losses with their options bound, the scale of implied rewards). Prints β in every convention."""
    terms, scale = [], None
    several = len(recipe.method.parts) > 1
    for part in recipe.method.parts:
        options = part.converted(recipe.method.beta_convention, elements)
        for name in beta_units.strengths(part.entry.options):
            scale = float(options[name]) if scale is None else scale
            said = "of mean log-densities" if recipe.rollout else beta_units.describe(float(options[name]), elements)
            say(f"{part.loss + ' ' if several else ''}{name} {said}")
        terms.append(
            Term(
                name=part.loss,
                loss=partial(LOSSES[part.loss], **options),
                family=part.entry.family,
                extra=feeds_of(part.entry) | ({name: name for name in part.entry.optional} if recipe.rollout else {}),
                weight=part.weight,
                given={name: torch.tensor(value, device=device) for name, value in part.given.items()},
                shares={name: partial(share, **options) for name, share in SHARES.get(part.loss, {}).items()},
            )
        )
    return terms, 1.0 if scale is None else scale


def _say_nothing(text: str) -> None:
    pass


def _bind(family: Family, dtype: torch.dtype, module: nn.Module) -> Predict:
    """The family's forward through this module, inputs in the dtype of its weights."""

    def predict(noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        inputs = {name: value.to(dtype) if value.is_floating_point() else value for name, value in condition.items()}
        return family.predict(module, noisy.to(dtype), timesteps, inputs)

    return predict
