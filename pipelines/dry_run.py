"""`mmpo train --dry-run`: what a recipe would do, without weights, data or the network where configs are known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import rewards
from mmpo import beta as beta_units
from mmpo.models.checkpoint import CheckpointConfig, read_config
from mmpo.models.lora import add_lora, trainable_parameters
from mmpo.recipe import Recipe
from mmpo.recipe_files import dump
from mmpo.suggest import one_of
from pipelines.build import build_adapter, build_reference, check_resolution
from pipelines.prompts import load_prompts


def describe(recipe: Recipe) -> Iterator[str]:
    """Lines that describe the run, after checking everything that can be checked without weights.

    Raises:
        ValueError: as training would.
    """
    config = read_config(recipe.model.path, recipe.model.revision)
    adapter = build_adapter(recipe, config)
    resolution = check_resolution(recipe, config)
    check_names(recipe)
    denoiser = empty_denoiser(config)
    total = sum(p.numel() for p in denoiser.parameters())
    if recipe.model.lora is not None:
        add_lora(denoiser, recipe.model.lora, config.family, seed=0)
    reference = build_reference(recipe, denoiser)
    trained = sum(p.numel() for p in trainable_parameters(denoiser).values())
    yield dump(recipe).rstrip()
    yield ""
    predicts = f"{config.family.name}, predicts {config.prediction_type}"
    yield f"checkpoint   {recipe.model.path} ({predicts}; configs: {config.source})"
    yield f"trains       {trained:,} of {total:,} parameters of the {config.family.denoiser}"
    yield f"method       {recipe.method.loss} x {type(adapter).__name__} x {type(reference).__name__}"
    elements = config.latent_elements(resolution)
    if "beta" in recipe.method.options:
        beta = beta_units.to_half_mean(recipe.method.options["beta"], recipe.method.beta_convention, elements)
        yield "beta         " + ", ".join(f"{v:g} ({n})" for n, v in beta_units.equivalents(beta, elements).items())
    yield f"resolution   {resolution} pixels, {elements} latent numbers"
    yield f"steps        {recipe.train.steps} of {recipe.train.batch_size} pairs, {recipe.train.precision}"
    yield f"data         {recipe.data.path}: {_data_state(recipe)}"
    yield f"output       {recipe.output}"


def check_names(recipe: Recipe) -> None:
    """Refuses rewards and prompts that are not there, before hours of training and not after."""
    for spec in [*recipe.evaluation.rewards, *([recipe.data.make.reward] if recipe.data.make else [])]:
        if spec.name not in rewards.names():
            raise ValueError(f"reward: {one_of(spec.name, rewards.names())}")
    if recipe.evaluation.prompts is not None:
        load_prompts(recipe.evaluation.prompts, recipe.evaluation.limit)


def empty_denoiser(config: CheckpointConfig) -> Any:
    """The denoiser's architecture on the meta device: shapes without memory."""
    import diffusers

    with torch.device("meta"):
        return getattr(diffusers, config.denoiser["_class_name"]).from_config(config.denoiser)


def _data_state(recipe: Recipe) -> str:
    data = recipe.data
    if data.make is not None:
        count = len(load_prompts(data.make.prompts, data.make.limit))
        return f"made from {count} prompts x {data.make.per_prompt} own samples, ranked by {data.make.reward.name}"
    if not Path(data.path).exists():
        return "not on this machine (a data set on the hub, or still to be put there)"
    from mmpo.data.readers import detect
    from mmpo.data.shards import columns_of

    columns = columns_of(Path(data.path))
    return f"format {detect(columns, data.path, data.format).name}"
