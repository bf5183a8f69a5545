"""What a recipe names besides the model, checked before anything long starts. Imports no torch."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import rewards
from mmpo.data.list_scores import list_scores
from mmpo.data.readers import check_first, open_pairs
from mmpo.data.source_paths import is_here, is_local, local_path
from mmpo.recipe import Data, Recipe
from mmpo.records import Group
from mmpo.reward_recipe import RewardData
from mmpo.vlm_recipe import VlmData
from pipelines.prompts import load_prompts


def check_recipe(recipe: Recipe, *, data_is_here: bool = True) -> None:
    """Refuses what is not there or cannot be written, before hours of training and not after.

    Args:
        recipe: what is to be run.
        data_is_here: the data must exist, here or on the hub; a dry run may come before the data.
    Raises:
        ValueError: names what is missing and the nearest valid name.
    """
    check_folder("output", recipe.output, "output=FOLDER")
    if not recipe.data.path.strip():
        raise ValueError("data.path: is empty; name a folder, a file or a data set on the hub")
    check_folder("data.cache", str(cache_folder(recipe.data)), "data.cache=FOLDER")
    for spec in [*recipe.evaluation.rewards, *([recipe.data.make.reward] if recipe.data.make else [])]:
        rewards.check(spec.name, spec.options)
    if recipe.evaluation.prompts is not None:
        load_prompts(recipe.evaluation.prompts, recipe.evaluation.limit)
    previews = recipe.evaluation.previews
    if previews.count and isinstance(previews.prompts, str):
        load_prompts(previews.prompts)
    if recipe.evaluation.validation is not None:
        for spec in recipe.evaluation.validation.rewards:
            rewards.check(spec.name, spec.options)
        load_prompts(recipe.evaluation.validation.prompts, recipe.evaluation.validation.limit)
    if recipe.rollout is not None:
        for spec in recipe.rollout.rewards:
            rewards.check(spec.name, spec.options)
        load_prompts(recipe.rollout.prompts, recipe.rollout.limit)
        return
    if recipe.data.make is not None:
        needs = [f"the column {name}" for name in recipe.method.columns]
        needs += [f"lists of at least {recipe.method.fewest} candidates"] if recipe.method.fewest > 2 else []
        if needs:
            raise ValueError(
                f"method: {recipe.method.name} needs {', '.join(needs)}, and data.make gives pairs alone; put the data "
                "at data.path and leave data.make out"
            )
        load_prompts(recipe.data.make.prompts, recipe.data.make.limit)
    elif data_is_here or is_here(recipe.data.path):
        opened = open_pairs(recipe.data.path, **pair_options(recipe.data), **loss_needs(recipe))
        if is_local(recipe.data.path):  # the first rows of a stream may be many megabytes
            check_first(opened, recipe.data.path, check=partial(check_scores, recipe))


def check_scores(recipe: Recipe, group: Group) -> None:
    """Refuses a group whose scores are not what the recipe and its losses of lists ask for.

    Raises:
        ValueError: names the row and the key `data.list_scores`.
    """
    wanting = [part.loss for part in recipe.method.parts if part.entry.unit_scores]
    if not any(part.entry.family == "list" for part in recipe.method.parts):
        return
    scores = list_scores(group, recipe.data.list_scores)
    if wanting and not all(0 <= score <= 1 for score in scores):
        raise ValueError(
            f"{group.source}: data.list_scores: loss '{wanting[0]}' takes scores from 0 to 1, this list has "
            f"{min(scores):g} to {max(scores):g}; use wins (of each reward) or rank"
        )


def check_folder(key: str, path: str, fix: str) -> None:
    """Refuses a folder that cannot be made or written to.

    Args:
        key: of the recipe.
        path: its value.
        fix: what else to give.
    Raises:
        ValueError: says what is in the way.
    """
    if not path.strip():
        raise ValueError(f"{key}: is empty; name a folder with {fix}")
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{key} {path}: is a file; give a folder with {fix}")
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ValueError(f"{key} {path}: {there} is a file, so no folder can be made in it; choose another with {fix}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"{key} {path}: no permission to write in {there}; choose another folder with {fix}")


def cache_folder(data: Data | RewardData | VlmData) -> Path:
    """Where the latent and text caches are: `data.cache`, or beside the data."""
    if data.cache:
        return Path(data.cache)
    place = local_path(data.path)
    return (place if place.is_dir() else place.parent if place.exists() else Path("runs")) / ".cache"


def pair_options(data: Data | RewardData) -> dict[str, Any]:
    """What a recipe says of how its pairs are read, as `open_pairs` and `read_pairs` take it."""
    return {
        "format": data.format,
        "split": data.split,
        "columns": data.columns,
        "rejected": data.rejected,
        "streaming": data.streaming,
    }


def loss_needs(recipe: Recipe) -> dict[str, Any]:
    """What the losses ask of the rows, as `open_pairs` and `with_format` take it."""
    method = recipe.method
    given = {"extra": method.columns, "lists": method.takes_lists, "fewest": method.fewest}
    return {**given, "each_pair": recipe.data.list_pairs == "all"}


def describe_data(recipe: Recipe) -> str:
    """What stands at `data.path`, in words; a data set on the hub is not asked for.

    Raises:
        ValueError: it is there and cannot be read as pairs.
    """
    data = recipe.data
    if not is_here(data.path):
        where = "still to be put there" if is_local(data.path) else "a data set on the hub, or still to be put there"
        return f"not on this machine ({where})"
    opened = open_pairs(data.path, **pair_options(data), **loss_needs(recipe))
    rows = f", {opened.source.total:,} rows" if opened.source.total is not None else ""
    note = f"; {opened.source.note}" if opened.source.note else ""
    return f"format {opened.format.name} ({opened.source.layout}{rows}){note}"
