"""`mmpo train-reward`. Nothing heavy is imported before the recipe is valid."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from pipelines import cli_runs


def train_reward(
    recipe: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [KEY=VALUE]...",
            help="A recipe file, a run's folder, or the name of a shipped recipe; then changes to it, such as "
            "train.steps=500.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint of the output folder.")
    ] = False,
) -> None:
    """Trains a reward on preferences.

    A CLIP on pairs, ties, votes or ranked lists, by PickScore's, HPS's or ImageReward's objective.
    """
    from mmpo.recipe_files import load_as
    from mmpo.reward_recipe import RewardRecipe
    from pipelines.flags import split_recipe

    name, overrides = split_recipe(recipe or [])
    if name is None and not overrides:
        raise ValueError("train-reward: give a recipe, or at least model.path=..., data.path=... and output=...")
    resolved = load_as(RewardRecipe, name, overrides)
    again = [*([name] if name is not None else []), *overrides, *(["--resume"] if resume else [])]
    from mmpo.training.folders import check_output
    from pipelines.reward_checks import check_reward_recipe, describe_reward

    if dry_run:
        for line in describe_reward(resolved):
            typer.echo(line)
        typer.echo(f"\nnothing was run; next: {shlex.join(['mmpo', 'train-reward', *again])}")
        return
    check_output(Path(resolved.output), resume=resume)
    check_reward_recipe(resolved)
    from pipelines.launch import launch, should_launch

    if should_launch(cli_runs.LAUNCHER):
        raise typer.Exit(launch(["train-reward", *again], cli_runs.LAUNCHER))
    from pipelines.train_reward import train_reward as run_training

    folder = run_training(resolved, resume=resume, checked=True)
    if int(os.environ.get("RANK", "0")) == 0:
        typer.echo(f'next: rewards.load("{resolved.model.kind}", weights={str(folder)!r})')
