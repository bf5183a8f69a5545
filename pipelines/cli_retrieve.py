"""`mmpo retrieve`. Nothing heavy is imported before the recipe is valid."""

from __future__ import annotations

from typing import Annotated

import typer


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
    from mmpo.retrieve_recipe import RetrieveRecipe
    from pipelines.cli_recipe_or_data import run_command

    missing = "give answers with --model and --output, or a recipe, such as llava_retrieval"
    run_command("retrieve", RetrieveRecipe, recipe or [], model=model, output=output, dry_run=dry_run, missing=missing)
