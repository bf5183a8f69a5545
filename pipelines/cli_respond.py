"""`mmpo respond`. Nothing heavy is imported before the recipe is valid."""

from __future__ import annotations

from typing import Annotated

import typer


def respond(
    recipe: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[QUESTIONS | RECIPE] [KEY=VALUE]...",
            help="Rows of an image and a question, a folder of images, or a name on the hub; or a recipe (YAML, or a "
            "shipped one's name). Then changes, such as responses.count=8.",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Folder or hub name of the model that answers.")] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder of the answers; one that is there goes on.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done.")] = False,
) -> None:
    """Draws several answers of a VLM to each question.

    To label and pair them: mmpo label DIR --reward vqascore, then mmpo data pair. Options after `--` go to accelerate.
    """
    from mmpo.respond_recipe import RespondRecipe
    from pipelines.cli_recipe_or_data import run_command

    missing = "give questions with --model and --output, or a recipe, such as llava_responses"
    run_command("respond", RespondRecipe, recipe or [], model=model, output=output, dry_run=dry_run, missing=missing)
