"""What `mmpo retrieve` would do, and what it did, in lines for a terminal. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmpo.data.answered import open_answered
from mmpo.data.licences import licence_of
from mmpo.data.source_paths import is_here, is_local
from mmpo.retrieve_recipe import RetrieveRecipe
from pipelines.data_next import command
from pipelines.respond_plan import SHOWN, folder_state
from rewards.weight_places import check_place, local_place


def plan_lines(recipe: RetrieveRecipe) -> Iterator[str]:
    """Who completes what, and what is missing.

    Raises:
        ValueError: a model or data that can only be here and are not, or columns that fit nothing.
    """
    model, settings = recipe.model, recipe.retrieval
    check_place(model.path)
    licence = model.licence or licence_of(model.path, revision=model.revision)
    yield f"model       {model.path}, {_where(model.path)}; {model.dtype}; licence {licence or 'not known here'}"
    yield f"answers     {_answers(recipe)}"
    pool = "the images of these answers" if settings.images is None else settings.images
    yield f"images      {pool}, of which the {settings.neighbours} nearest are tried, by {settings.search}"
    if settings.search == "faiss" and find_spec("faiss") is None:
        yield "  faiss is missing: pip install 'mmpo[retrieval]', or retrieval.search=torch"
    who = "the model" if settings.mask == "model" else "a list of English words"
    yield f"masks       by {who}, each a {settings.mask_unit}"
    if settings.similarity == "words":
        how = "counts of words, which know no meaning"
    else:
        check_place(settings.similarity)
        how = f"{settings.similarity}, {_where(settings.similarity)}"
    yield f"accepted    below {settings.tau:g} by {how}"
    yield f"output      {recipe.output}: {folder_state(Path(recipe.output))}"


def _where(path: str) -> str:
    return "on this machine" if local_place(path) is not None else "of the hub; downloaded when it is first needed"


def _answers(recipe: RetrieveRecipe) -> str:
    data = recipe.data
    if not is_here(data.path):
        where = "still to be put there" if is_local(data.path) else "a data set on the hub, or still to be put there"
        return f"{data.path}: not on this machine ({where})"
    source = open_answered(
        data.path, images=data.images, split=data.split, columns=data.columns, streaming=data.streaming
    ).opened.source
    rows = f", {source.total:,} rows" if source.total is not None else ""
    limit = f"; the first {data.limit:,} that can be read" if data.limit is not None else ""
    return f"{data.path}: {source.layout}{rows}{limit}"


def done_lines(recipe: RetrieveRecipe, done: Mapping[str, Any]) -> Iterator[str]:
    """What came out, what was left out, and what to run next."""
    found = done["summary"]
    cut = f", {found['cut']:,} of them cut" if found.get("cut") else ""
    yield f"{found['rows']:,} pairs{cut}, of {found['completions']:,} completions and {found['images']:,} images"
    left = {
        "repeated questions": found["repeated"],
        "answers with nothing to mask": found.get("unmaskable"),
        "answers without another image": found.get("alone"),
        f"answers without a completion below {recipe.retrieval.tau:g}": found.get("exhausted"),
        "bad rows": found["bad"],
    }
    yield from (f"left out, {what}: {count:,}" for what, count in left.items() if count)
    yield from (f"  {line}" for line in found["first_bad"][:SHOWN])
    yield f"written: {recipe.output}"
    yield f"next: {command('data', 'inspect', recipe.output)}"
