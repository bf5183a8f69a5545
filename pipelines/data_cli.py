"""`mmpo data ...`: look at preference pairs, count, split, convert and make them. Imports no torch at its top."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from pipelines.data_answers import answers_in, refuse_answers
from pipelines.data_next import as_flags, as_overrides, command, of_output
from pipelines.data_source import Source, bad_lines, locate, none_left

data_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at preference pairs before a GPU is touched, or make them from labels.",
)

Place = Annotated[
    str,
    typer.Argument(metavar="PATH", help="Data: a folder, file or hub name. Or a recipe: its data and model are used."),
]
Output = Annotated[Path, typer.Argument(metavar="OUTPUT", help="A new folder; nothing is overwritten.")]
Format = Annotated[str, typer.Option("--format", help="Name of the format; auto goes by the columns.")]
Split = Annotated[str | None, typer.Option("--split", help="Read this split of the data only.")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--columns", metavar="OURS=THEIRS", help="A column of another name; may be repeated."),
]
Rejected = Annotated[str | None, typer.Option("--rejected", help="Folder of the rejected images; PATH has the chosen.")]
Images = Annotated[
    str | None, typer.Option("--images", help="Rows of answers: the folder that paths of images are relative to.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Read only the first so many pairs.")]
ModelName = Annotated[
    str | None, typer.Option("--model", help="Checkpoint (folder or hub name) whose tokenizers and resolution count.")
]
Resolution = Annotated[
    int | None, typer.Option("--resolution", min=8, help="Pixels per side; default: the checkpoint's, or 512.")
]
Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="The data that `mmpo label` scored.")]
Labels = Annotated[Path, typer.Option("--labels", help="The folder that `mmpo label` wrote.")]
NewFolder = Annotated[Path | None, typer.Option("--output", "-o", help="A new folder; nothing is overwritten.")]
Rewards = Annotated[
    list[str] | None,
    typer.Option("--reward", metavar="COLUMN[=WEIGHT]", help="A column of the labels; default: all, alike."),
]
By = Annotated[str | None, typer.Option("--by", help="score, win_rate, zscore, bradley_terry, expected_win or pareto.")]
Scales = Annotated[
    list[str] | None,
    typer.Option("--scale", metavar="COLUMN=X", help="For expected_win: differences times X are log-odds."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count; no image is read, nothing written.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Another seed, other choices.")]


@data_app.command("inspect")
def inspect_command(
    path: Place,
    rows: Annotated[int, typer.Option("--rows", min=1, help="So many random pairs.")] = 12,
    seed: Seed = 0,
    resolution: Resolution = None,
    model: ModelName = None,
    output: Annotated[Path, typer.Option("--output", help="The page.")] = Path("inspect.html"),
    images: Images = None,
    format: Format = "auto",
    split: Split = None,
    columns: Columns = None,
    rejected: Rejected = None,
    limit: Limit = None,
) -> None:
    """Shows random pairs as the model will see them.

    Writes one HTML page that needs no network. Reads all pairs once, or the first --limit. Pairs of answers about
    images are shown with their conversation; --model then counts the tokens of each.
    """
    source = locate(path, format=format, split=split, columns=columns or [], rejected=rejected, limit=limit)
    if (answers := answers_in(source, images)) is not None:
        from pipelines.data_answer_cli import inspect_lines

        return _say(inspect_lines(answers, output, rows=rows, seed=seed, model=model))
    from pipelines.data_inspect import inspect_pairs, summary_lines, write_page
    from pipelines.data_output import check_file, places

    check_file(output, places(source))

    tokenizers, pixels, notes = _model_of(source, model, resolution)
    found = inspect_pairs(source, rows=rows, seed=seed, resolution=pixels, tokenizers=tokenizers, notes=tuple(notes))
    write_page(found, output)
    _say(summary_lines(found))
    _say(bad_lines(found.report))
    typer.echo(f"written: {output} (open it in a browser)")
    shown = [("--model", model), ("--resolution", resolution)]
    same = [part for flag, value in shown if value for part in (flag, value)]
    _next("data", "stats", path, *as_flags(source), *same)


@data_app.command("stats")
def stats_command(
    path: Place,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")] = None,
    images: Images = None,
    resolution: Resolution = None,
    model: ModelName = None,
    format: Format = "auto",
    split: Split = None,
    columns: Columns = None,
    rejected: Rejected = None,
    limit: Limit = None,
) -> None:
    """Counts pairs, prompts, sizes, duplicates, score gaps.

    Also captions by length, contradictions (the same two images in both orders), models and splits. Reads the headers
    of images and does not decode them, so damage further inside is not noticed here.
    """
    source = locate(path, format=format, split=split, columns=columns or [], rejected=rejected, limit=limit)
    if (answers := answers_in(source, images)) is not None:
        from pipelines.data_answer_cli import stats_lines as answer_stats_lines

        return _say(answer_stats_lines(answers, json_file, model=model))
    from mmpo.data.readers import ReadReport
    from mmpo.files import write_json
    from pipelines.data_output import check_file, places
    from pipelines.data_stats import gather, stats_lines, summarise

    if json_file is not None:
        check_file(json_file, places(source))

    tokenizers, pixels, notes = _model_of(source, model, resolution)
    report = ReadReport()
    tally = gather(source.read(report, lists=True), report, tokenizers)
    opened = source.open()
    found = summarise(
        tally,
        report,
        path=source.path,
        format=opened.format.name,
        layout=opened.source.layout,
        resolution=pixels,
    )
    _say(stats_lines(found))
    _say([*notes, *_note(report.note)])
    _say(bad_lines(report))
    if not found["pairs"]:
        raise ValueError(none_left(source.path, report))
    if json_file is not None:
        write_json(json_file, found)
        typer.echo(f"written: {json_file}")
    if set(found["splits"]) <= {"none", "train"} and not source.recipe:
        _next("data", "split", path, "OUTPUT", *as_flags(source))
    else:
        _next("train", source.recipe or "RECIPE", *as_overrides(source), "--dry-run")


@data_app.command("split")
def split_command(
    path: Place,
    output: Output,
    tune: Annotated[float, typer.Option("--tune", help="Share of the pairs to choose settings on.")] = 0.0,
    test: Annotated[float, typer.Option("--test", help="Share of the pairs to test on.")] = 0.1,
    seed: Seed = 0,
    similarity: Annotated[
        str, typer.Option("--similarity", help="Prompts that share so much of their words are one.")
    ] = "0.8",
    format: Format = "auto",
    split: Split = None,
    columns: Columns = None,
    rejected: Rejected = None,
    limit: Limit = None,
) -> None:
    """Puts each pair, or whole ranked list, on a train, tune or test side.

    Near-duplicates are kept on one side, so that a test set holds nothing that was trained on.
    Prompts are kept together when they have the same key, the same text, nearly the same words (the share of words in
    common, order and punctuation aside), or an image in common (the same file, or the same picture in another format
    or size). A paraphrase in other words looks like another prompt to this command: only a key column keeps it with
    the first.
    """
    source = locate(path, format=format, split=split, columns=columns or [], rejected=rejected, limit=limit)
    refuse_answers(source, "split")
    from pipelines.data_output import check_output, places
    from pipelines.data_split import split_lines, split_pairs

    check_output(output, places(source))
    found, report = split_pairs(source, output, shares={"test": test, "tune": tune}, seed=seed, similarity=similarity)
    _say(split_lines(found))
    _say(_note(report.note))
    _say(bad_lines(report))
    typer.echo(f"written: {output}")
    _next("train", source.recipe or "RECIPE", *of_output(source, output))


@data_app.command("convert")
def convert_command(
    path: Place,
    output: Output,
    to: Annotated[
        str,
        typer.Option(
            "--to", help="pairs, pick_a_pic, folders (w/ and l/ with .txt), jsonl, ranked_jsonl, trl; llava: answers."
        ),
    ],
    seed: Seed = 0,
    format: Format = "auto",
    split: Split = None,
    columns: Columns = None,
    rejected: Rejected = None,
    limit: Limit = None,
) -> None:
    """Writes the pairs in another layout.

    Images are copied byte for byte.
    pick_a_pic swaps the sides at random (--seed), since tools that read it expect either side to win; its columns
    jpg_0 and jpg_1 hold the image files as they are, also where they are PNG. folders become one couple w/ and l/ per
    split where the pairs have several splits. ranked_jsonl keeps whole ranked lists and ties; every other layout takes
    the best and the worst image of a list. trl has the columns prompt, chosen, rejected and no others.
    """
    source = locate(path, format=format, split=split, columns=columns or [], rejected=rejected, limit=limit)
    if to != "llava":
        refuse_answers(source, "convert", f" --to {to}")
    from pipelines.data_convert import convert_lines, convert_pairs

    counts, report = convert_pairs(source, output, to=to, seed=seed)
    _say(convert_lines(counts, to))
    _say(_note(report.note))
    _say(bad_lines(report))
    typer.echo(f"written: {output}")
    if to != "llava":
        _next("data", "inspect", output)


@data_app.command("pair")
def pair_command(
    path: Dataset,
    labels: Labels,
    output: NewFolder = None,
    reward: Rewards = None,
    by: By = None,
    select: Annotated[str, typer.Option("--select", help="best_worst, all, random or layers.")] = "best_worst",
    margin: Annotated[float, typer.Option("--margin", help="The chosen one's value is higher by more.")] = 0.0,
    agreement: Annotated[
        float, typer.Option("--agreement", help="So large a share of the rewards prefers the chosen one.")
    ] = 0.0,
    floor: Annotated[
        list[str] | None,
        typer.Option("--floor", metavar="COLUMN=X", help="The chosen one has at least this score; may be repeated."),
    ] = None,
    max_pairs: Annotated[int | None, typer.Option("--max-pairs", min=1, help="So many pairs of one group.")] = None,
    seed: Seed = 0,
    keep_near_duplicates: Annotated[
        bool, typer.Option("--keep-near-duplicates", help="Also pairs of nearly the same picture.")
    ] = False,
    scale: Scales = None,
    write_statistics: Annotated[
        Path | None, typer.Option("--write-statistics", help="A file for each reward's mean and deviation.")
    ] = None,
    dry_run: DryRun = False,
    format: Format = "auto",
    split: Split = None,
    columns: Columns = None,
    rejected: Rejected = None,
) -> None:
    """Makes pairs from labels.

    Scores become one value a candidate (--by): by default the one reward's score, or with several the win rate, the
    share of the other candidates that a candidate beats. Ties are never paired; nearly the same pictures, pairs within
    the margin and pairs that the rewards disagree on are left out and counted.
    """
    source = locate(path, format=format, split=split, columns=columns or [], rejected=rejected)
    from mmpo.data.pair_choice import Choice
    from pipelines.data_pair_plan import plan

    choice = Choice(select, margin, agreement, limit=max_pairs, seed=seed)
    if output is None and not dry_run:
        raise ValueError("--output: name a new folder for the pairs, or give --dry-run to count only")
    job = plan(
        labels,
        rewards=reward or [],
        by=by,
        scales=scale or [],
        floors=floor or [],
        choice=choice,
        keep_near=keep_near_duplicates,
        statistics_to=write_statistics,
    )
    from pipelines.data_pair import agreement_lines, count_lines, count_pairs, write_pairs

    counts, shares = count_pairs(job) if dry_run or output is None else write_pairs(job, source, output)
    _say(count_lines(job, counts))
    _say(agreement_lines(shares))
    if write_statistics is not None:
        typer.echo(f"written: {write_statistics}")
    if dry_run or output is None:
        typer.echo("counted only: pictures that are nearly the same are found when pairs are written")
        return
    typer.echo(f"written: {output}")
    answers = ["method.adapter=autoregressive"] if counts["answers"] else []
    _next("train", source.recipe or "RECIPE", *of_output(source, output), *answers)


@data_app.command("rank")
def rank_command(
    path: Dataset,
    labels: Labels,
    output: NewFolder = None,
    reward: Rewards = None,
    by: By = None,
    scale: Scales = None,
    floor: Annotated[
        list[str] | None,
        typer.Option("--floor", metavar="COLUMN=X", help="The best one has at least this score; may be repeated."),
    ] = None,
    min_candidates: Annotated[int, typer.Option("--min-candidates", help="A list has at least so many.")] = 2,
    drop_equal: Annotated[
        bool, typer.Option("--drop-equal/--keep-equal", help="Leave out lists whose values are all equal.")
    ] = True,
    drop_near_duplicates: Annotated[
        bool, typer.Option("--drop-near-duplicates", help="Nearly the same pictures of a group count once.")
    ] = False,
    to: Annotated[str, typer.Option("--to", help="parquet (with images) or jsonl (without reading any).")] = "parquet",
    dry_run: DryRun = False,
    format: Format = "auto",
    split: Split = None,
    columns: Columns = None,
    rejected: Rejected = None,
) -> None:
    """Makes ranked lists from labels.

    Each group of candidates becomes one list, the best first, with the value that the rank comes from (--by, as in
    `mmpo data pair`). Copies of one image or answer count once. jsonl names images by their hashes and needs the labels
    alone.
    """
    source = locate(path, format=format, split=split, columns=columns or [], rejected=rejected)
    from pipelines.data_pair import agreement_lines
    from pipelines.data_rank import count_lists, list_lines, plan_lists, write_lists

    if output is None and not dry_run:
        raise ValueError("--output: name a new folder for the lists, or give --dry-run to count only")
    job = plan_lists(
        labels,
        rewards=reward or [],
        by=by,
        scales=scale or [],
        floors=floor or [],
        least=min_candidates,
        drop_equal=drop_equal,
        drop_near=drop_near_duplicates,
        to=to,
    )
    counts, shares = count_lists(job) if dry_run or output is None else write_lists(job, source, output)
    _say(list_lines(job, counts))
    _say(agreement_lines(shares))
    if dry_run or output is None:
        typer.echo("counted only: pictures that are nearly the same are found when lists are written")
        return
    typer.echo(f"written: {output}")
    if counts["answers"]:
        typer.echo("next: these are lists of answers, for trainers of VLMs; mmpo train takes pairs of them (data pair)")
    elif to == "parquet":
        _next("train", source.recipe or "RECIPE", *of_output(source, output), "method.loss=rank_dpo")


def _model_of(source: Source, model: str | None, resolution: int | None) -> tuple[dict, int, list[str]]:
    """Tokenizers, resolution and what could not be had. What --model names must be there; a recipe's model may be."""
    from pipelines.data_tokens import load_tokenizers, resolution_of

    name, revision = (model, None) if model else (source.model, source.revision)
    tokenizers, notes = {}, []
    if name:
        try:
            tokenizers = load_tokenizers(name, revision)
        except ValueError as error:
            if model:
                raise
            notes.append(f"captions are not held against the model's limit: {error}")
    pixels = resolution or source.resolution or (resolution_of(name, revision) if name else None)
    if pixels is None and name:
        notes.append(f"{name} does not say its resolution; shown at 512")
    if source.buckets:
        notes.append("shown as the centre square; with data.buckets training keeps more, see docs/images.md")
    return tokenizers, pixels or 512, notes


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


def _note(text: str) -> list[str]:
    return [f"note: {text}"] if text else []


def _next(*arguments: object) -> None:
    typer.echo(f"next: {command(*arguments)}")
