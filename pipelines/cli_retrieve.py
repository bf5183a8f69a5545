"""`mmpo retrieve`. Nothing heavy is imported before the recipe is valid."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from pipelines import cli_runs


def retrieve(
    recipe: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ANSWERS | RECIPE] [KEY=VALUE]...",
            help="Rows of an image, a question and a good answer, or what mmpo respond wrote; or a recipe (YAML, or a "
            "shipped one's name). Then changes, such as retrieval.tau=0.9.",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Folder or hub name of the model to align.")] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder of the pairs; one that is there goes on.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done.")] = False,
) -> None:
    """Finds a similar image and a wrong answer for each good answer.

    Re-Align's way; rDPO, mDPO and DPO train on the pairs. Options after `--` go to accelerate.
    """
    from mmpo.recipe_files import load_as, shipped_recipes
    from mmpo.retrieve_recipe import RetrieveRecipe
    from pipelines.data_next import override
    from pipelines.flags import split_recipe

    name, overrides = split_recipe(recipe or [])
    said = {"model.path": model, "output": output}
    if name is not None and Path(name).suffix not in (".yaml", ".yml") and name not in shipped_recipes(RetrieveRecipe):
        name, said = None, {"data.path": name, **said}
    overrides = [*(override(key, value) for key, value in said.items() if value is not None), *overrides]
    if name is None and not overrides:
        raise ValueError("retrieve: give answers with --model and --output, or a recipe, such as llava_retrieval")
    resolved = load_as(RetrieveRecipe, name, overrides)
    again = ["retrieve", *([name] if name is not None else []), *overrides]
    if dry_run:
        from pipelines.retrieve_plan import plan_lines

        for line in plan_lines(resolved):
            typer.echo(line)
        typer.echo(f"\nnothing was asked; next: {shlex.join(['mmpo', *again])}")
        return
    from pipelines.launch import launch, should_launch

    if should_launch(cli_runs.LAUNCHER):
        raise typer.Exit(launch(again, cli_runs.LAUNCHER))
    from pipelines.retrieve import retrieve as run
    from pipelines.retrieve_plan import done_lines

    done = run(resolved)
    if done is not None and int(os.environ.get("RANK", "0")) == 0:
        for line in done_lines(resolved, done):
            typer.echo(line)
