"""`mmpo train --dry-run`: what a recipe would do, without weights, data or the network where configs are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from mmpo import beta as beta_units
from mmpo.data.buckets import Size, image_sizes
from mmpo.data.source_paths import is_here, is_local
from mmpo.models.checkpoint import CheckpointConfig, read_config
from mmpo.models.lora import add_lora, trainable_parameters
from mmpo.models.lora_start import find_start
from mmpo.recipe import Recipe
from mmpo.recipe_files import dump
from mmpo.training.folders import check_output
from pipelines.build import build_adapter, build_reference, check_resolution, reference_class
from pipelines.checks import check_recipe, describe_data
from pipelines.prompts import load_prompts
from pipelines.rollout_counts import rollout_lines, validation_lines


def describe(recipe: Recipe) -> Iterator[str]:
    """Lines that describe the run, after checking everything that can be checked without weights.

    Raises:
        ValueError: as training would.
    """
    config = read_config(recipe.model.path, recipe.model.revision, recipe.model.config)
    adapter = build_adapter(recipe, config)
    resolution = check_resolution(recipe, config)
    check_recipe(recipe, data_is_here=False)
    denoiser = empty_denoiser(config)
    total = sum(p.numel() for p in denoiser.parameters())
    lora = recipe.model.lora
    start = find_start(lora.start) if lora is not None and lora.start is not None else None
    if start is not None:
        kind, trained = reference_class(recipe), start.numbers
        reference = getattr(kind, "__name__", str(kind))
    else:
        if lora is not None:
            add_lora(denoiser, lora, config.family, seed=0)
        reference = type(build_reference(recipe, denoiser)).__name__
        trained = sum(p.numel() for p in trainable_parameters(denoiser).values())
    yield dump(recipe).rstrip()
    yield ""
    predicts = f"{config.family.name}, predicts {config.prediction_type}"
    yield f"checkpoint   {recipe.model.path} ({predicts}; configs: {config.source})"
    if start is not None:
        yield f"starts from  {start.file}, a LoRA of rank {start.rank} in {start.tensors} tensors"
    yield f"trains       {trained:,} of {total:,} parameters of the {config.family.denoiser}"
    yield f"method       {recipe.method.name} x {type(adapter).__name__} x {reference}"
    elements = config.latent_elements(resolution)
    for part in recipe.method.parts:
        options = part.converted(recipe.method.beta_convention, elements)
        for name in beta_units.strengths(part.entry.options):
            what = f"{part.loss} {name}" if len(recipe.method.parts) > 1 else name
            said = f"{float(options[name]):g}, of {recipe.rollout.density} log-densities" if recipe.rollout else None
            yield f"{what:<12} {said or beta_units.describe(float(options[name]), elements)}"
        if part.entry.on_surrogates and recipe.rollout is None:
            yield f"note         {part.loss}: {part.entry.on_surrogates}"
    yield f"resolution   {resolution} pixels, {elements} latent numbers"
    if recipe.data.buckets:
        yield _buckets(image_sizes(resolution, config.downscale * config.cells, buckets=True))
    unit = "groups" if recipe.rollout else "lists" if recipe.method.takes_lists else "pairs"
    yield f"steps        {recipe.train.steps} of {recipe.train.batch_size} {unit}, {recipe.train.precision}"
    if recipe.rollout is None:
        yield f"data         {recipe.data.path}: {_data_state(recipe)}"
    else:
        yield from rollout_lines(recipe, config, elements, reference_class(recipe) is not None)
    yield from validation_lines(recipe)
    yield f"output       {recipe.output}"


def first_do(recipe: Recipe, *, resume: bool) -> str:
    """What must be done before the recipe can be trained, or nothing."""
    try:
        check_output(Path(recipe.output), resume=resume)
    except ValueError as error:
        return str(error)
    if (
        recipe.rollout is None
        and recipe.data.make is None
        and is_local(recipe.data.path)
        and not is_here(recipe.data.path)
    ):
        return f"put the pairs at {recipe.data.path}"
    return ""


def empty_denoiser(config: CheckpointConfig) -> Any:
    """The denoiser's architecture on the meta device: shapes without memory."""
    import diffusers

    with torch.device("meta"):
        return getattr(diffusers, config.denoiser["_class_name"]).from_config(config.denoiser)


def _buckets(sizes: Sequence[Size]) -> str:
    by_shape = sorted(sizes, key=lambda size: size.height / size.width)
    ends = " to ".join(f"{size.width}x{size.height}" for size in (by_shape[0], by_shape[-1]))
    return f"buckets      {len(sizes)} sizes, {ends} (width x height)"


def _data_state(recipe: Recipe) -> str:
    data = recipe.data
    if data.make is not None:
        count = len(load_prompts(data.make.prompts, data.make.limit))
        return f"made from {count} prompts x {data.make.per_prompt} own samples, ranked by {data.make.reward.name}"
    return describe_data(recipe)
