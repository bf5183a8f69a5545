"""Commands that take data with --model and --output, or a recipe: `mmpo respond` and `mmpo retrieve`."""

from __future__ import annotations

import importlib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import typer

from mmpo.recipe_files import Schema, load_as, shipped_recipes
from pipelines import cli_runs
from pipelines.data_next import override
from pipelines.flags import split_recipe


def run_command(
    command: str,
    schema: type[Schema],
    words: Sequence[str],
    *,
    model: str | None,
    output: str | None,
    dry_run: bool,
    missing: str,
) -> None:
    """Resolves the recipe, then says what would be done or does it, here or in processes of accelerate.

    Args:
        command: its function is `pipelines.COMMAND.COMMAND`, its words are in `pipelines.COMMAND_plan`.
        schema: of its recipes.
        words: data or a recipe, then `section.key=value`.
        missing: what to say where there is nothing to go by.
    """
    name, overrides = split_recipe(list(words))
    said = {"model.path": model, "output": output}
    if name is not None and Path(name).suffix not in (".yaml", ".yml") and name not in shipped_recipes(schema):
        name, said = None, {"data.path": name, **said}
    overrides = [*(override(key, value) for key, value in said.items() if value is not None), *overrides]
    if name is None and not overrides:
        raise ValueError(f"{command}: {missing}")
    resolved = load_as(schema, name, overrides)
    again = [command, *([name] if name is not None else []), *overrides]
    plan = f"pipelines.{command}_plan"
    if dry_run:
        for line in importlib.import_module(plan).plan_lines(resolved):
            typer.echo(line)
        typer.echo(f"\nnothing was asked; next: {shlex.join(['mmpo', *again])}")
        return
    from pipelines.launch import launch, should_launch

    if should_launch(cli_runs.LAUNCHER):
        raise typer.Exit(launch(again, cli_runs.LAUNCHER))
    done = getattr(importlib.import_module(f"pipelines.{command}"), command)(resolved)
    if done is not None and int(os.environ.get("RANK", "0")) == 0:
        for line in importlib.import_module(plan).done_lines(resolved, done):
            typer.echo(line)
