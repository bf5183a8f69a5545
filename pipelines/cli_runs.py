"""Commands of a run's life, demo to push. Nothing heavy is imported before the input is valid."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

LAUNCHER: list[str] = []
"""Options after `--`; `main` fills it."""

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]


def demo(
    output: Annotated[str, typer.Option(help="Folder of the run.")] = "runs/demo",
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
    model: Annotated[str, typer.Option(help="The tiny checkpoint: sd, sdxl or sd3.")] = "sd",
) -> None:
    """Shows it work, in minutes, on the built-in world.

    Own samples, pairs, DPO, evaluation; no GPU, no network.
    """
    from pipelines.demo import run_demo

    run_demo(output, seed, model)


def train(
    recipe: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [KEY=VALUE]...",
            help="A recipe file, a run's folder, or the name of a shipped recipe; then changes to it, such as "
            "train.steps=500. Flags of diffusers' scripts, such as --learning_rate, are understood.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would be done.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint of the output folder.")
    ] = False,
) -> None:
    """Trains a recipe.

    Options after `--` go to accelerate: mmpo train RECIPE -- --num_processes 2.
    """
    from mmpo.recipe import Recipe
    from mmpo.recipe_files import load_training
    from pipelines.flags import split_recipe

    name, overrides = split_recipe(recipe or [])
    if name is None and not overrides:
        raise ValueError(
            "train: give a recipe (`mmpo init` writes one), or at least model.path=..., data.path=... and output=..."
        )
    resolved = load_training(name, overrides)
    if not isinstance(resolved, Recipe):
        from pipelines.cli_vlm import train_answers

        train_answers(resolved, [*([name] if name is not None else []), *overrides], LAUNCHER, dry_run, resume)
        return
    again = [*([name] if name is not None else []), *overrides]
    if dry_run:
        from pipelines.dry_run import describe, first_do

        for line in describe(resolved):
            typer.echo(line)
        command = shlex.join(["mmpo", "train", *again, *(["--resume"] if resume else [])])
        first = first_do(resolved, resume=resume)
        typer.echo(f"\nnothing was run; next: {f'{first}; then: ' if first else ''}{command}")
        return
    from mmpo.training.folders import check_output
    from pipelines.checks import check_recipe
    from pipelines.launch import launch, should_launch

    check_output(Path(resolved.output), resume=resume)
    check_recipe(resolved)  # before torch is imported, and one message, not one from each process
    if should_launch(LAUNCHER):
        from mmpo.models.checkpoint import read_config

        model = resolved.model
        read_config(model.path, model.revision, model.config)  # one message now, not one from each process
        raise typer.Exit(launch(["train", *again, *(["--resume"] if resume else [])], LAUNCHER))
    from pipelines.train import train as run_training

    folder = run_training(resolved, resume=resume, checked=True)
    if int(os.environ.get("RANK", "0")) == 0:
        section = resolved.evaluation
        command = "eval" if section.prompts and section.rewards else "report"
        typer.echo(f"next: {shlex.join(['mmpo', command, str(folder)])}")


def report(run: Run) -> None:
    """Writes a run's report.html.

    Samples, curves, scores, recipe, hashes, how to use the weights, citations: one file, nothing to load.
    """
    from pipelines.report import next_command, write_report

    file = write_report(run)
    typer.echo(f"written: {file} (open it in a browser)")
    typer.echo(f"next: {next_command(run)}")


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="KIND",
            help="diffusers, comfyui, kohya (sd-scripts), or merged: the whole model; of a VLM merged or peft.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder, or FILE.safetensors of a LoRA; default: RUN/export/KIND."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Load it in a fresh process and compare weights and images with the run's.")
    ] = False,
) -> None:
    """Writes a run's weights for other tools.

    A LoRA for diffusers, ComfyUI or sd-scripts, or a whole pipeline, or a VLM to be served, with the LoRA merged in.
    """
    from pipelines.export import export_run

    place = export_run(run, to, output)
    typer.echo(f"written: {place}")
    if not verify:
        again = ["mmpo", "export", str(run), "--to", to, *(["--output", str(output)] if output else []), "--verify"]
        typer.echo(f"next: {shlex.join(again)}")
        return
    from pipelines.export_verify import lines
    from pipelines.export_verify import verify as verify_export

    checks = verify_export(run, to, place)
    for line in lines(checks):
        typer.echo(line)
    if not all(check.passed for check in checks):
        typer.echo(f"{place} is not what the run trained; do not use it", err=True)
        raise typer.Exit(1)


def push(
    run: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder of a finished run, or of a data set of mmpo synth.")
    ],
    name: Annotated[str, typer.Argument(metavar="USER/NAME", help="Name of the model or data set on the hub.")],
    private: Annotated[bool, typer.Option("--private", help="Only you can see it.")] = False,
) -> None:
    """Uploads a run's weights, or a data set, to the hub.

    Weights with their model card, recipe and scores; rows with their card and report. What is for resuming stays here.
    """
    from pipelines.synth_places import is_data_set

    if is_data_set(run):
        from pipelines.synth_push import push as push_data

        typer.echo(f"uploaded: {push_data(run, name, private=private)}")
        typer.echo("next: open it, and see that the card states the licences of prompts and generators")
        return
    from pipelines.model_card import push as push_run
    from pipelines.report_push import check_name
    from pipelines.report_run import read_vlm_run
    from pipelines.vlm_card import push_vlm

    check_name(name)
    answers = read_vlm_run(run)
    url = push_run(run, name, private=private) if answers is None else push_vlm(answers, name, private=private)
    typer.echo(f"uploaded: {url}")
    typer.echo("next: open it, and add the licence of your base model and data to the card")
