"""The command label. Nothing heavy is imported before its input is valid."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines import cli_runs
from pipelines.data_cli import Columns, Format, Rejected, Split


def label(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            help="Preferences of any format, tables with an image a row or with text answers, a folder of images with "
            "captions beside them, or a name on the hub. Or a recipe: its data.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the labels; one that is there goes on.")],
    reward: Annotated[
        list[str] | None,
        typer.Option("--reward", "-r", metavar="NAME[,option=value]...", help="May be repeated; ,as=COLUMN renames."),
    ] = None,
    format: Format = "auto",
    split: Split = None,
    columns: Columns = None,
    rejected: Rejected = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many candidates.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Candidates at once; default: each reward's own.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Threads that decode; default: the cores, at most 16."),
    ] = None,
    on_bad_row: Annotated[
        str, typer.Option("--on-bad-row", help="skip: its score is null, and it is counted; error: stop at the first.")
    ] = "skip",
    shard_rows: Annotated[
        int, typer.Option("--shard-rows", min=1, help="Candidates of a shard: what a call that is killed does again.")
    ] = 1024,
    redo: Annotated[bool, typer.Option("--redo", help="Score these rewards' columns again.")] = False,
) -> None:
    """Scores every candidate of a data set by rewards.

    Writes shards beside the data, which are never rewritten; a call that was interrupted goes on, and a reward that is
    added later scores alone. Options after `--` go to accelerate: mmpo label ... -- --num_processes 2.
    """
    from pipelines.data_source import locate

    if on_bad_row not in ("skip", "error"):
        raise ValueError(f"--on-bad-row: expected skip or error, got '{on_bad_row}'")
    source = locate(dataset, format=format, split=split, columns=columns or [], rejected=rejected)
    reading = {name: value for name, value in source.options.items() if name != "limit"}
    from mmpo.data.candidates import open_candidates
    from pipelines.label_folder import check_folder, prepare_folder
    from pipelines.label_spec import parse_specs

    opened = open_candidates(source.path, **reading)
    specs = parse_specs(reward or [], opened.kind)
    limit = limit or source.options.get("limit")
    described = {"path": _placed(source.path), "kind": opened.kind, "limit": limit, "shard_rows": shard_rows, **reading}
    from pipelines.launch import inside_launcher, launch, should_launch

    if redo and inside_launcher():
        raise ValueError("--redo: give the launcher's options to mmpo: mmpo label ... --redo -- --num_processes 2")
    check_folder(output, described, specs, redo=redo)
    if not inside_launcher():
        prepare_folder(output, described, specs, redo=redo)
        if should_launch(cli_runs.LAUNCHER):
            again = [text for text in _arguments() if text != "--redo"]
            code = launch(again, cli_runs.LAUNCHER)
            raise typer.Exit(code)
    from pipelines.label_run import LabelJob, run_labels

    job = LabelJob(opened, specs, output, described, limit, batch_size, workers, on_bad_row == "error", shard_rows)
    marker = run_labels(job)
    if marker is not None:
        _say(marker, [spec.column for spec in specs], output)
        if opened.source.note:
            typer.echo(f"note: {opened.source.note}")
        from pipelines.data_next import as_flags, command

        typer.echo(
            f"next: {command('data', 'pair', dataset, *as_flags(source), '--labels', output, '--output', 'PAIRS')}"
        )


def _say(marker: dict, columns: list[str], output: Path) -> None:
    from pipelines.label_summary import summary_lines

    for line in summary_lines(marker, columns):
        typer.echo(line)
    call = marker["last_call"]
    if call["candidates"]:
        typer.echo(f"this call: {call['candidates']:,} in {call['seconds']:.1f} s, {call['per_second']:,.1f} a second")
    typer.echo(f"written: {output}")


def _placed(path: str) -> str:
    """A path that means the same from any folder; names on the hub stay."""
    from mmpo.data.source_paths import is_here, local_path

    return str(local_path(path).resolve()) if is_here(path) else path


def _arguments() -> list[str]:
    """The command line without what belongs to the launcher."""
    given = sys.argv[1:]
    return given[: given.index("--")] if "--" in given else given
