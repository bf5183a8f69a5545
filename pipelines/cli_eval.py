"""`mmpo eval`: base against tuned, here or by a benchmark's own tool; answers of VLMs. Heavy imports come later."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_vlm_eval import VLM_KINDS, VlmOptions, compare_run
from pipelines.cli_vlm_eval import run as run_vlm

KINDS = "geneval, t2i_compbench or dpg"


def evaluate(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="The folder of a finished run.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the recipe's section evaluation."),
    ] = None,
    export: Annotated[
        str | None,
        typer.Option(metavar="KIND", help=f"Images for a benchmark's own tool instead of scores: {KINDS}."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Of the export, default: RUN/export/KIND; with --benchmark a JSON file."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option("--read-results", metavar="DIR", help="An export's folder, after its tool ran on base and tuned."),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"Answers of a vision-language model, of RUN or of files: {VLM_KINDS}."),
    ] = None,
    questions: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="The benchmark's own file or folder; may be repeated.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With RUN and --benchmark: the images; default: beside the FILE.")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Answers: rows, or a folder of mmpo respond.")
    ] = None,
    against: Annotated[Path | None, typer.Option(metavar="FILE", help="Answers of the base, to compare with.")] = None,
    write_questions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the questions for mmpo respond (JSONL) and stop.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="With --write-questions, or a benchmark of RUN: so many at random.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of --limit, and of the intervals of --benchmark.")] = 0,
    synonyms: Annotated[Path | None, typer.Option(metavar="FILE", help="CHAIR's words for objects.")] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="WHO", help="yes_no, a URL (.../v1), or a file of replies {id, reply}.")
    ] = None,
    judge_model: Annotated[str | None, typer.Option(metavar="NAME", help="The model's name at the URL.")] = None,
    judge_key: Annotated[str, typer.Option(metavar="VARIABLE", help="Environment variable with the judge's key.")] = "",
    partial: Annotated[bool, typer.Option("--partial", help="Score the questions that are answered.")] = False,
) -> None:
    """Compares a run's weights with their base.

    The same prompts and noise for both, any reward, 95 % intervals over prompts, and the same by category where the
    prompts are a benchmark's (PartiPrompts, HPDv2, DrawBench, GenEval, GenEval 2, T2I-CompBench, DPG-Bench).
    Of a vision-language model: the built-in world's test of hallucination, and held-out rows of its data; or, with
    --benchmark, that benchmark's questions; without RUN, from files of answers.
    """
    if benchmark is not None:
        if export is not None or results is not None:
            raise ValueError("--benchmark: scores answers; leave --export and --read-results out")
        options = VlmOptions(
            benchmark,
            questions or [],
            answers,
            against,
            synonyms=synonyms,
            judge=judge,
            judge_model=judge_model,
            judge_key=judge_key,
            partial=partial,
            write=write_questions,
            limit=limit,
            seed=seed,
            output=output,
            run=run,
            images=images,
            overrides=overrides or [],
        )
        run_vlm(options)
        return
    alone = {
        "--questions": questions,
        "--images": images,
        "--answers": answers,
        "--against": against,
        "--write-questions": write_questions,
    }
    given = next((name for name, value in alone.items() if value), None)
    if given is not None or run is None:
        raise ValueError(
            f"{given}: add --benchmark, one of {VLM_KINDS}" if given else "RUN: name a finished run's folder"
        )
    if export is not None and results is not None:
        raise ValueError("--export and --read-results: give one of them; the tool runs between the two")
    if output is not None and export is None:
        raise ValueError("--output: is the folder of an export; add --export KIND")
    if export is not None:
        _export(run, export, output or run / "export" / export, overrides or [])
    elif results is not None:
        _results(run, results, overrides or [])
    else:
        _compare(run, overrides or [])


def _compare(run: Path, overrides: list[str]) -> None:
    from pipelines.report_run import RECIPE, read_vlm_run

    if (run / RECIPE).is_file() and read_vlm_run(run) is not None:
        return compare_run(run, overrides)
    from pipelines.evaluation import evaluate as run_evaluation
    from pipelines.tables import evaluation_lines

    result = run_evaluation(run, overrides)
    for line in evaluation_lines(result):
        typer.echo(line)
    typer.echo(f"written: {run / 'evaluation.json'} and {run / 'evaluation.png'}")
    typer.echo(f"next: {shlex.join(['mmpo', 'report', str(run)])}")


def _export(run: Path, kind: str, output: Path, overrides: list[str]) -> None:
    from pipelines.benchmark_layouts import check_kind

    check_kind(kind)
    from pipelines.benchmark_export import export_images
    from pipelines.benchmark_tools import tool_lines

    manifest = export_images(run, kind, output, overrides)
    typer.echo(f"written: {output / 'base'} and {output / 'tuned'}")
    for line in tool_lines(manifest, output):
        typer.echo(line)
    typer.echo(f"next: run these, then {shlex.join(['mmpo', 'eval', str(run), '--read-results', str(output)])}")


def _results(run: Path, output: Path, overrides: list[str]) -> None:
    if overrides:
        raise ValueError(f"'{overrides[0]}': --read-results reads what is there; it takes no changes to the recipe")
    from pipelines.benchmark_scores import read_results
    from pipelines.tables import evaluation_lines

    result = read_results(run, output)
    for line in evaluation_lines(result):
        typer.echo(line)
    typer.echo(f"note: {result['note']}")
    if result["one side only"]:
        typer.echo(f"note: left out, results of one side alone: {', '.join(result['one side only'])}")
    for name, row in result["measures"].items():
        if row["failed"]:
            typer.echo(f"note: {name}: {row['failed']} images without a result on both sides are left out")
    kind = result["kind"]
    typer.echo(f"written: {run / f'evaluation-{kind}.json'}")
