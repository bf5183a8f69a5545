"""What `mmpo respond` would do, and what it did, in lines for a terminal. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmpo.data.licences import licence_of
from mmpo.data.questions import open_questions
from mmpo.data.shards import read_done
from mmpo.data.source_paths import is_here, is_local
from mmpo.respond_recipe import RespondRecipe
from pipelines.data_next import command
from rewards.weight_places import check_place, local_place

SHOWN = 5


def plan_lines(recipe: RespondRecipe) -> Iterator[str]:
    """Who is asked what, and what is missing.

    Raises:
        ValueError: a model or data that can only be here and are not, or columns that fit nothing.
    """
    model, data, drawn = recipe.model, recipe.data, recipe.responses
    check_place(model.path)
    place = local_place(model.path)
    licence = model.licence or licence_of(model.path, revision=model.revision)
    where = "on this machine" if place is not None else "of the hub; downloaded when it is first needed"
    yield f"model       {model.path}, {where}; {model.dtype}; licence {licence or 'not known here'}"
    yield f"questions   {_questions(recipe)}"
    drawing = "greedy" if drawn.temperature == 0 else f"temperature {drawn.temperature:g}, top_p {drawn.top_p:g}"
    yield f"responses   {drawn.count} each, {drawing}, at most {drawn.max_new_tokens} tokens, seed {drawn.seed}"
    yield f"output      {recipe.output}: {folder_state(Path(recipe.output))}"
    if data.question is not None:
        yield f"asked       {data.question!r} of every image"


def _questions(recipe: RespondRecipe) -> str:
    data = recipe.data
    if not is_here(data.path):
        where = "still to be put there" if is_local(data.path) else "a data set on the hub, or still to be put there"
        return f"{data.path}: not on this machine ({where})"
    opened = open_questions(
        data.path,
        question=data.question,
        images=data.images,
        format=data.format,
        split=data.split,
        columns=data.columns,
        streaming=data.streaming,
    ).opened
    rows = f", {opened.source.total:,} rows" if opened.source.total is not None else ""
    limit = f"; the first {data.limit:,} that can be read" if data.limit is not None else ""
    return f"{data.path}: {opened.source.layout}{rows}, read as {opened.kind}{limit}"


def folder_state(folder: Path) -> str:
    """What is in an output folder already."""
    if read_done(folder) is not None:
        return "finished; nothing is asked again"
    shards = len(list(folder.glob("shard-*.parquet")))
    return f"{shards:,} shards are there and are kept" if shards else "new"


def done_lines(recipe: RespondRecipe, done: Mapping[str, Any]) -> Iterator[str]:
    """What came out, what was left out, and what to run next."""
    found = done["summary"]
    cut = f", {found['cut']:,} of them cut at {recipe.responses.max_new_tokens} tokens" if found.get("cut") else ""
    yield f"{found['responses']:,} answers to {found['rows']:,} questions{cut}"
    if found.get("unusable"):
        yield f"left out, answers: {found['unusable']:,} (empty, or holding what no text has)"
    if found["repeated"]:
        yield f"left out, repeated questions: {found['repeated']:,}"
    if found["bad"]:
        yield f"left out, bad rows: {found['bad']:,}"
        yield from (f"  {line}" for line in found["first_bad"][:SHOWN])
    yield f"written: {recipe.output}"
    yield f"next: {command('label', recipe.output, '--reward', 'vqascore', '--output', 'LABELS')}"
