"""What a recipe names besides the model, checked before anything long starts. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import rewards
from mmpo.data.readers import detect, is_local
from mmpo.data.shards import columns_of
from mmpo.recipe import Recipe
from mmpo.suggest import one_of
from pipelines.prompts import load_prompts


def check_recipe(recipe: Recipe, *, data_is_here: bool = True) -> None:
    """Refuses rewards, prompts, local data or columns that are not there, before hours of training and not after.

    Args:
        recipe: what is to be run.
        data_is_here: a local data path must exist; a dry run may come before the data.
    Raises:
        ValueError: names what is missing and the nearest valid name.
    """
    known = rewards.names()
    for spec in [*recipe.evaluation.rewards, *([recipe.data.make.reward] if recipe.data.make else [])]:
        if spec.name not in known:
            raise ValueError(f"reward: {one_of(spec.name, known)}")
    if recipe.evaluation.prompts is not None:
        load_prompts(recipe.evaluation.prompts, recipe.evaluation.limit)
    data = recipe.data
    if data.make is None and is_local(data.path) and (data_is_here or Path(data.path).exists()):
        detect(columns_of(Path(data.path)), data.path, data.format)
    if recipe.data.make is not None:
        load_prompts(recipe.data.make.prompts, recipe.data.make.limit)
