"""The command line. Nothing heavy is imported before a command's input is valid."""

from __future__ import annotations

import os
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from mmpo import __version__

app = typer.Typer(
    name="mmpo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Align image generators with preferences, and see by a verified reward that it worked.",
)
_launcher: list[str] = []

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the recipe, such as train.steps=500.")
]


def _version(show: bool) -> None:
    if show:
        typer.echo(f"mmpo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    output: Annotated[str, typer.Option(help="Folder of the run.")] = "runs/demo",
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
) -> None:
    """Own samples, pairs, Diffusion-DPO with LoRA and evaluation, on the built-in world, in a few minutes."""
    from pipelines.demo import run_demo

    run_demo(output, seed)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe file, a run's folder, or the name of a shipped recipe.")],
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint of the output folder.")
    ] = False,
) -> None:
    """Trains a recipe. Options after `--` go to accelerate: mmpo train RECIPE -- --num_processes 2."""
    from mmpo.recipe_files import load_recipe

    resolved = load_recipe(recipe, overrides or [])
    if dry_run:
        from pipelines.dry_run import describe

        for line in describe(resolved):
            typer.echo(line)
        typer.echo(f"\nnothing was run; next: {shlex.join(['mmpo', 'train', recipe, *(overrides or [])])}")
        return
    from mmpo.training.folders import check_output
    from pipelines.checks import check_recipe
    from pipelines.launch import launch, should_launch

    check_output(Path(resolved.output), resume=resume)
    check_recipe(resolved)
    if should_launch(_launcher):
        from mmpo.models.checkpoint import read_config

        read_config(
            resolved.model.path, resolved.model.revision, resolved.model.config
        )  # one message now, not one from each process
        arguments = ["train", recipe, *(overrides or []), *(["--resume"] if resume else [])]
        raise typer.Exit(launch(arguments, _launcher))
    from pipelines.train import train as run_training

    folder = run_training(resolved, resume=resume)
    if int(os.environ.get("RANK", "0")) == 0:
        typer.echo(f"next: mmpo eval {folder}")


@app.command("eval")
def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    overrides: Overrides = None,
) -> None:
    """Compares a run's weights with their base: the same prompts and noise, any reward, intervals over prompts."""
    from pipelines.evaluation import evaluate as run_evaluation
    from pipelines.tables import evaluation_lines

    result = run_evaluation(run, overrides or [])
    for line in evaluation_lines(result):
        typer.echo(line)
    typer.echo(f"written: {run / 'evaluation.json'} and {run / 'evaluation.png'}")


def main() -> None:
    """Entry point: splits off launcher options after `--`, turns user errors into one message without a traceback."""
    arguments = sys.argv[1:]
    if "--" in arguments:
        at = arguments.index("--")
        arguments, _launcher[:] = arguments[:at], arguments[at + 1 :]
    _check_packages()
    try:
        app(args=arguments, prog_name="mmpo")
    except ValueError as error:
        if os.environ.get("MMPO_DEBUG"):
            raise
        rank = int(os.environ.get("RANK", "0"))
        _fail(f"error{f' (process {rank})' if rank else ''}: {error}", 2)
    except OSError as error:
        if os.environ.get("MMPO_DEBUG") or error.filename is None:
            raise
        _fail(f"error: {error.strerror}: {error.filename}", 2)
    except KeyboardInterrupt:
        _fail("stopped; finished shards and checkpoints are kept (add --resume once a checkpoint is there)", 130)
    except Exception as error:
        if type(error).__name__ != "Interrupted":
            raise
        again = [*arguments, *([] if "--resume" in arguments else ["--resume"])]
        if int(os.environ.get("RANK", "0")) == 0:
            _fail(f"{error}; go on with: {shlex.join(['mmpo', *again])} (and the same launcher options)", 130)
        raise SystemExit(130) from None


def _check_packages() -> None:
    """A user's own rewards.py or pipelines.py in the working folder comes before ours."""
    ours = Path(__file__).resolve().parent.parent
    for name in ("rewards", "mmpo"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if found is not None and found.parent.parent != ours:
            _fail(f"error: {found} hides mmpo's package '{name}'; rename it, or run mmpo from another folder", 2)


def _fail(text: str, code: int) -> None:
    print(text, file=sys.stderr)
    raise SystemExit(code) from None


if __name__ == "__main__":
    main()
