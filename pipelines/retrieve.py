"""The retrieval pipeline of Re-Align: to each good answer about an image, another image and an answer that is wrong.

An answer's words of content are masked, the VLM fills the masks while it sees a similar image, and what says something
else than the answer becomes the rejected one, with that image as the rejected image.

DIR/shard-NNNNN.parquet        pairs in our layout of answers, with rejected_images
DIR/.work/                     what each shard is of, and `index/`: the images that are searched; may go when done
DIR/retrieve.yaml, done.json   the resolved recipe, and the marker, written last
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmpo.data.answered import open_answered
from mmpo.data.candidates import DataCandidate
from mmpo.data.licences import licence_of
from mmpo.data.questions import open_questions
from mmpo.data.shards import mark_done, read_done, shard_file, write_shard
from mmpo.files import drop_partials, write_bytes
from mmpo.recipe_files import dump
from mmpo.retrieve_recipe import RetrieveRecipe
from mmpo.training.metrics import Console
from pipelines.respond import NAMED, chunks
from pipelines.respond_files import WORK, check_folder, is_whole, read_side, side_file, write_side
from pipelines.retrieve_index import PER_SHARD, ImageIndex, distinct, write_index_shard
from pipelines.retrieve_rows import RowMaker, pair_schema
from pipelines.retrieve_steps import Steps, default_steps
from rewards.weight_places import check_place
from rewards.weights_hash import weights_identity

RECIPE = "retrieve.yaml"
INDEX = "index"


def retrieve(recipe: RetrieveRecipe, steps: Steps | None = None) -> dict[str, Any] | None:
    """Fills the output folder; shards that are there are kept. This process does its share of them.

    Args:
        steps: in place of the recipe's own; `dataclasses.replace(default_steps(recipe), ...)` changes some. What
            their `identity` says is a setting of the folder.
    Returns:
        The marker's content, on the main process; None on the others.
    Raises:
        ValueError: no answers or model there, a folder of other settings, or not one pair.
    """
    rank, world = _place()
    folder = Path(recipe.output)
    made, held = _settings(recipe, steps), _Held(recipe, steps)
    if not folder.exists():  # data or a model that is not there must not leave a folder of its settings
        open_data(recipe)
        held.load()
    check_folder(folder, made, command="mmpo retrieve")
    done = read_done(folder)
    if done is not None:
        return done if rank == 0 else None
    if rank == 0:
        drop_partials(folder)
        write_bytes(folder / RECIPE, dump(recipe).encode())
    index = _index(recipe, held)
    answers = open_data(recipe)
    maker = None
    shards = asked = 0
    total = recipe.data.limit or answers.opened.source.total
    with Console(total, start=0, enabled=rank == 0, title="retrieve") as console:
        for number, chunk in enumerate(chunks(answers.read(), recipe.retrieval.rows_per_shard, recipe.data.limit)):
            if number % world == rank and not is_whole(folder, number, chunk):
                maker = maker or RowMaker(recipe, held.steps, index, made)
                _write(folder, number, chunk, maker, recipe.data.on_bad_row == "error")
            asked, shards = asked + len(chunk), number + 1
            console.advance(asked, "answers")
    return _finish(recipe, shards, made, answers.counts["repeated"], len(index)) if rank == 0 else None


def open_data(recipe: RetrieveRecipe) -> Any:
    """The answers of a recipe."""
    data = recipe.data
    return open_answered(
        data.path, images=data.images, split=data.split, columns=data.columns, streaming=data.streaming
    )


class _Held:
    """The steps, made when the first is needed."""

    def __init__(self, recipe: RetrieveRecipe, steps: Steps | None) -> None:
        self._recipe, self._steps = recipe, steps

    @property
    def steps(self) -> Steps:
        return self.load()

    def load(self) -> Steps:
        self._steps = self._steps or default_steps(self._recipe)
        return self._steps


def _place() -> tuple[int, int]:
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _settings(recipe: RetrieveRecipe, steps: Steps | None) -> dict[str, Any]:
    """What pairs depend on: model, data, how they are made. Not on batches, the device, or where the folder is."""
    tree = recipe.model_dump(mode="json", exclude={"output": True, "model": {"device", "licence"}})
    tree["retrieval"].pop("batch_size")
    tree["data"].pop("on_bad_row")
    weights = {"model": recipe.model.path} | (
        {} if recipe.retrieval.similarity == "words" else {"similarity": recipe.retrieval.similarity}
    )
    for path in weights.values():
        check_place(path)
    revisions = {"model": recipe.model.revision}
    found = {name: weights_identity(path, revisions.get(name)) for name, path in weights.items()}
    licence = recipe.model.licence or licence_of(recipe.model.path, revision=recipe.model.revision)
    said = {"licence": licence} if licence else {}
    return {**tree, "weights": found, **said, "steps": dict(steps.identity) if steps is not None else {}}


def _index(recipe: RetrieveRecipe, held: _Held) -> ImageIndex:
    """Every image that can be retrieved, with its features: this process's share of the shards, then all of them."""
    rank, world = _place()
    folder = Path(recipe.output) / WORK / INDEX
    number = -1
    with Console(None, start=0, enabled=rank == 0, title="index") as console:
        for number, chunk in enumerate(chunks(distinct(_images(recipe)), PER_SHARD, None)):
            if number % world == rank and not is_whole(folder, number, chunk):
                write_index_shard(folder, number, chunk, held.steps.embed)
            console.advance(number + 1, "shards of images")
    _wait(folder, number + 1)
    return ImageIndex(folder, number + 1)


def _images(recipe: RetrieveRecipe) -> Iterator[DataCandidate]:
    place, data = recipe.retrieval.images, recipe.data
    if place is not None:
        yield from open_questions(place, question="an image").read()
        return
    good = 0
    for row in open_data(recipe).read():
        yield row
        good += row.error is None
        if good == data.limit:
            return


def _wait(folder: Path, shards: int) -> None:
    for number in range(shards):
        while not shard_file(folder, number).is_file():
            time.sleep(0.2)  # where another process fails, the launcher ends this one too


def _write(folder: Path, number: int, chunk: Sequence[DataCandidate], maker: RowMaker, fatal: bool) -> None:
    """The pairs of one shard, and beside them what was asked and which rows are bad."""
    bad: list[str] = []
    counts: Counter[str] = Counter()
    rows = maker.rows(chunk, bad, counts)
    if bad and fatal:
        raise ValueError(f"{bad[0]} (data.on_bad_row is error)")
    write_side(folder, number, chunk, bad, counts)
    write_shard(folder, number, rows, pair_schema())


def _finish(recipe: RetrieveRecipe, shards: int, made: dict[str, Any], repeated: int, images: int) -> dict[str, Any]:
    """Waits for other processes' shards, counts what was written, and marks it."""
    folder = Path(recipe.output)
    _wait(folder, shards)
    sides = [read_side(side_file(folder, number)) for number in range(shards)]
    counts: Counter[str] = Counter()
    for side in sides:
        counts.update(side["counts"])
    bad = [line for side in sides for line in side["bad"]]
    summary: dict[str, Any] = {**counts, "bad": len(bad), "repeated": repeated, "first_bad": bad[:NAMED]}
    summary |= {"shards": shards, "images": images, "licence": made.get("licence")}
    summary["data_licence"] = licence_of(recipe.data.path, kind="dataset")
    if not counts["rows"]:
        first = f"; the first: {bad[0]}" if bad else ""
        raise ValueError(
            f"data.path {recipe.data.path}: not one pair was made; bad rows: {len(bad):,}{first}; nothing to mask: "
            f"{counts['unmaskable']:,}; no other image: {counts['alone']:,}; no completion below tau: "
            f"{counts['exhausted']:,}"
        )
    mark_done(folder, made, summary)
    return {"settings": made, "summary": summary}
