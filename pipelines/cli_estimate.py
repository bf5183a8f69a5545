"""The command estimate. Nothing heavy is imported before its input is valid."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import Annotated

import typer


def estimate(
    recipe: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE [KEY=VALUE]...",
            help="A recipe file, a run's folder (its own pace is then used), or the name of a shipped recipe; then "
            "changes to it, such as train.micro_batch_size=2.",
        ),
    ] = None,
    memory: Annotated[float | None, typer.Option("--memory", help="GiB to fit in; default: the device's.")] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="Such as H100 or 4090, or cpu; default: the one here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Says what a recipe needs: memory, time, disk.

    From the checkpoint's configs alone, without weights; and what to turn where it does not fit.
    """
    from mmpo.recipe import Recipe
    from mmpo.recipe_files import load_training
    from pipelines.devices import find_device
    from pipelines.flags import split_recipe

    name, overrides = split_recipe(recipe or [])
    if name is None and not overrides:
        raise ValueError("estimate: give a recipe (`mmpo init` writes one), or a run's folder")
    if memory is not None and not (math.isfinite(memory) and memory > 0):
        raise ValueError(f"--memory: expected GiB above 0, got {memory:g}")
    resolved = load_training(name, overrides)
    if not isinstance(resolved, Recipe):
        raise ValueError(
            "estimate: counts image models alone so far, and this is a recipe for a vision-language model; "
            "`mmpo train RECIPE --dry-run` checks it, and train.steps=2 in a folder of its own shows memory and pace"
        )
    found = find_device(device)
    from pipelines.estimate import estimate as estimated

    run = Path(name) if name is not None and Path(name).is_dir() else None
    result = estimated(resolved, found, memory, run)
    if as_json:
        typer.echo(json.dumps(result.as_dict(), indent=2))
        return
    from pipelines.estimate_lines import estimate_lines

    for line in estimate_lines(result):
        typer.echo(line)
    again = [*([name] if name is not None else []), *overrides, *(result.fits_with or ())]
    typer.echo(f"next: {shlex.join(['mmpo', 'train', *again, '--dry-run'])}")
