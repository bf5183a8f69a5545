"""`mmpo train` of a recipe for a vision-language model. Nothing heavy is imported before the input is valid."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import typer

from mmpo.vlm_recipe import VlmRecipe


def train_answers(
    recipe: VlmRecipe, arguments: Sequence[str], launcher: Sequence[str], dry_run: bool, resume: bool
) -> None:
    """Checks, then trains, here or in processes of its own.

    Args:
        arguments: that gave the recipe, for the processes that are started and for what is to be typed next.
        launcher: options for accelerate.
    """
    from mmpo.training.folders import check_output
    from pipelines.checks import check_folder
    from pipelines.launch import launch, should_launch

    command = ["train", *arguments, *(["--resume"] if resume else [])]
    check_output(Path(recipe.output), resume=resume)
    check_folder("output", recipe.output, "output=FOLDER")
    if dry_run:
        from pipelines.train_vlm import describe_vlm

        for line in describe_vlm(recipe):
            typer.echo(line)
        typer.echo(f"\nnothing was run; next: {shlex.join(['mmpo', *command])}")
        return
    if should_launch(launcher):
        raise typer.Exit(launch(command, launcher))
    from pipelines.train_vlm import train_vlm

    folder = train_vlm(recipe, resume=resume)
    if int(os.environ.get("RANK", "0")) == 0:
        typer.echo(f"next: {shlex.join(['mmpo', 'eval', str(folder)])}")
