"""The command vote. Nothing heavy is imported before its input is valid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.data_cli import Columns, Format, Rejected, Split

if TYPE_CHECKING:
    from pipelines.vote_data import VoteData


def vote(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="What mmpo label takes: a folder of images with captions, tables with an image or an answer a row, "
            "samples of a training, preferences of any format.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the votes; default: DATA-votes beside the data.")
    ] = None,
    voter: Annotated[str, typer.Option("--voter", help="Your name in the votes; each voter answers all.")] = "me",
    per_prompt: Annotated[
        int | None, typer.Option("--per-prompt", min=1, help="So many questions of a prompt; default: every pair.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed, another order and other sides.")] = 0,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of the page; default: a free one.")] = 0,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Ask nothing: write what the votes so far say, for training.")
    ] = False,
    format: Format = "auto",
    split: Split = None,
    columns: Columns = None,
    rejected: Rejected = None,
) -> None:
    """Asks you which of two images is better, on a page of your own.

    Keys 1, 2, and 0 for neither; each answer is on the disk before the next question. Stopped, the same command goes
    on. The page is served on 127.0.0.1 alone. Finish writes pairs (for DPO), ranked lists (for RankDPO) and scores.
    """
    from pipelines.data_source import locate

    source = locate(dataset, format=format, split=split, columns=columns or [], rejected=rejected)
    place = output if output is not None else _beside(source.path)
    _check_place(place, [source.path, *([rejected] if rejected else [])])
    if not voter.strip() or len(voter) > 100:
        raise ValueError("--voter: expected a name of 1 to 100 letters")
    from mmpo.data.candidates import open_candidates

    opened = open_candidates(source.path, **{name: x for name, x in source.options.items() if name != "limit"})
    from pipelines.vote_data import vote_data

    with _folder(place), vote_data(opened, source.path, place) as data:
        _say(data)
        if write:
            lines = _write(data, place, source.path)
        else:
            lines = _ask(data, place, source.path, voter.strip(), per_prompt, seed, port, open_browser)
        for line in lines:
            typer.echo(line)
        if not (place / "pairs").is_dir() or not lines:
            return
    from pipelines.data_next import command, override

    if data.kind == "answers":
        typer.echo("next: these are pairs of answers, for trainers of VLMs; `mmpo train` takes pairs of images so far")
        return
    typer.echo(f"next: {command('train', 'RECIPE', override('data.path', str(place / 'pairs')))}")


def _write(data: VoteData, place: Path, path: str) -> list[str]:
    from mmpo.data.vote_wins import VOTES, read_votes
    from pipelines.vote_ballot import check_votes
    from pipelines.vote_write import write_votes

    votes = read_votes(place / VOTES)
    check_votes(votes, data, place / VOTES)
    return [*write_votes(data, votes, place, path).lines()]


def _ask(
    data: VoteData, place: Path, path: str, voter: str, per_prompt: int | None, seed: int, port: int, open_browser: bool
) -> list[str]:
    """Serves the page; what was written, or nothing where the voter did not finish."""
    from mmpo.data.vote_log import open_log
    from mmpo.data.vote_schedule import schedule, unseen
    from mmpo.data.vote_wins import VOTES
    from pipelines.vote_ballot import Ballot, check_votes
    from pipelines.vote_http import VotePage, new_token
    from pipelines.vote_server import VoteServer, serve
    from pipelines.vote_write import Finish

    few = unseen(data.named(), per_prompt)
    if few:
        typer.echo(f"note: {few:,} prompts have more candidates than {per_prompt} questions show")
    with open_log(place) as log:
        check_votes(log.votes, data, place / VOTES)
        ballot = Ballot(data, schedule(data.named(), seed=seed, voter=voter, per_prompt=per_prompt), log, voter)
        finish = Finish(data, ballot, place, path)

        def ready(address: str) -> None:
            state = ballot.state()
            typer.echo(f"{state['total']:,} questions, {state['done']:,} answered; open this page (Ctrl-C stops):")
            typer.echo(f"\n    {address}\n")
            if open_browser:
                import webbrowser

                webbrowser.open(address)

        if serve(VoteServer(VotePage(ballot, data.images, new_token(), finish), port), ready):
            return list(finish.lines)
        given = ballot.state()["done"]
    typer.echo(f"stopped; {given:,} answers of {voter} are kept: {place / VOTES}")
    typer.echo("next: the same command goes on; with --write it writes what there is")
    return []


def _say(data: VoteData) -> None:
    candidates = sum(len(group) for group in data.groups)
    typer.echo(f"{len(data.groups):,} prompts with {candidates:,} candidates")
    if data.alone:
        typer.echo(f"left out, a single candidate: {data.alone:,} prompts")
    if data.bad:
        typer.echo(f"left out, cannot be shown: {len(data.bad):,}")
        for message in data.bad[:5]:
            typer.echo(f"  {message}")


@contextmanager
def _folder(place: Path) -> Iterator[None]:
    """The folder while votes are taken; where nothing came of it, none is left."""
    place.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # it holds votes
            place.rmdir()


def _beside(path: str) -> Path:
    """DATA-votes beside the data.

    Raises:
        ValueError: the data are no place on this machine.
    """
    from mmpo.data.source_paths import is_local, is_pattern, local_path

    here = local_path(path)
    if not is_local(path) or is_pattern(path):
        raise ValueError(f"--output: {path} is no single place on this machine; name a folder for the votes")
    here = here if here.name not in ("", "..") else here.resolve()
    return here.with_name(f"{here.stem if here.is_file() else here.name}-votes")


def _check_place(place: Path, sources: list[str]) -> None:
    for source in sources:
        read, ours = Path(source).expanduser().resolve(), place.resolve()
        if read.is_dir() and (ours == read or read in ours.parents):
            raise ValueError(f"--output {place}: is or lies inside {source}, which is read; give a folder elsewhere")
    if place.exists() and not place.is_dir():
        raise ValueError(f"--output {place}: is a file; give the name of a folder")
